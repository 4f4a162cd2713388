//! SyncGroup, key 14, versions 0-5, flexible from 4.
//!
//! v3 static members (KIP-345), v5 protocol type and name on both sides (KIP-559).

use crate::{ErrorCode, Str, Wire};

/// Hands in the assignment (the leader) or asks for it (the others).
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 14, versions = 0..=5, flexible = 4.., response = SyncGroupResponse<'a>)]
pub struct SyncGroupRequest<'a> {
    /// The group.
    pub group_id: Str<'a>,
    /// The generation that the member takes the group to be in.
    pub generation_id: i32,
    /// The member's id.
    pub member_id: Str<'a>,
    /// The instance id of a static member.
    #[wire(versions = 3..)]
    pub group_instance_id: Option<Str<'a>>,
    /// The protocol type, `consumer` for consumers.
    #[wire(versions = 5..)]
    pub protocol_type: Option<Str<'a>>,
    /// The protocol chosen.
    #[wire(versions = 5..)]
    pub protocol_name: Option<Str<'a>>,
    /// One assignment per member, from the leader alone.
    pub assignments: Vec<SyncGroupRequestAssignment<'a>>,
}

/// The assignment of one member.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct SyncGroupRequestAssignment<'a> {
    /// The member's id.
    pub member_id: Str<'a>,
    /// The assignment, opaque to the broker.
    pub assignment: &'a [u8],
}

/// The member's assignment.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 14, versions = 0..=5, flexible = 4..)]
pub struct SyncGroupResponse<'a> {
    /// How long the request was held back by a quota.
    #[wire(versions = 1..)]
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The protocol type, `consumer` for consumers.
    #[wire(versions = 5..)]
    pub protocol_type: Option<Str<'a>>,
    /// The protocol chosen.
    #[wire(versions = 5..)]
    pub protocol_name: Option<Str<'a>>,
    /// The assignment, opaque to the broker.
    pub assignment: &'a [u8],
}
