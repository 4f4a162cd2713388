//! LeaveGroup, key 13, versions 0-5, flexible from 4.
//!
//! v3 several members at once, static ones by instance id (KIP-345), v5 reasons (KIP-800).

use crate::{ErrorCode, Str, Wire};

/// Leaves a group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 13, versions = 0..=5, flexible = 4.., response = LeaveGroupResponse<'a>)]
pub struct LeaveGroupRequest<'a> {
    /// The group.
    pub group_id: Str<'a>,
    /// The member's id.
    #[wire(versions = 0..=2)]
    pub member_id: Str<'a>,
    /// Those that leave.
    #[wire(versions = 3..)]
    pub members: Vec<LeavingMember<'a>>,
}

/// A member that leaves.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct LeavingMember<'a> {
    /// Its id; may be empty for a static member.
    #[wire(versions = 3..)]
    pub member_id: Str<'a>,
    /// The instance id of a static member.
    #[wire(versions = 3..)]
    pub group_instance_id: Option<Str<'a>>,
    /// Why, in words, for the log.
    #[wire(versions = 5..)]
    pub reason: Option<Str<'a>>,
}

/// The members that have left.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 13, versions = 0..=5, flexible = 4..)]
pub struct LeaveGroupResponse<'a> {
    /// How long the request was held back by a quota.
    #[wire(versions = 1..)]
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// One answer per member.
    #[wire(versions = 3..)]
    pub members: Vec<LeavingMemberResponse<'a>>,
}

/// What became of one member.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct LeavingMemberResponse<'a> {
    /// The member's id.
    #[wire(versions = 3..)]
    pub member_id: Str<'a>,
    /// The instance id of a static member.
    #[wire(versions = 3..)]
    pub group_instance_id: Option<Str<'a>>,
    /// The error, if any.
    #[wire(versions = 3..)]
    pub error_code: ErrorCode,
}
