//! DescribeGroups, key 15, versions 0-6, flexible from 5.
//!
//! v3 authorized operations (KIP-430), v4 static members (KIP-345), v6 `GROUP_ID_NOT_FOUND` with a message (KIP-1043).

use super::OPERATIONS_NOT_ASKED_FOR;
use crate::{ErrorCode, Str, Wire};

/// Asks what classic groups are like.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 15, versions = 0..=6, flexible = 5.., response = DescribeGroupsResponse<'a>)]
pub struct DescribeGroupsRequest<'a> {
    /// Groups.
    pub groups: Vec<Str<'a>>,
    /// Whether to tell which operations are allowed.
    #[wire(versions = 3..)]
    pub include_authorized_operations: bool,
}

/// What classic groups are like.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 15, versions = 0..=6, flexible = 5..)]
pub struct DescribeGroupsResponse<'a> {
    /// How long the request was held back by a quota.
    #[wire(versions = 1..)]
    pub throttle_time_ms: i32,
    /// Groups.
    pub groups: Vec<DescribedGroup<'a>>,
}

/// A classic group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribedGroup<'a> {
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    #[wire(versions = 6..)]
    pub error_message: Option<Str<'a>>,
    /// The group.
    pub group_id: Str<'a>,
    /// Kafka's name of its state: `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty`, `Dead`.
    pub group_state: Str<'a>,
    /// The protocol type, `consumer` for consumers.
    pub protocol_type: Str<'a>,
    /// The protocol chosen, where the group is stable.
    pub protocol_data: Str<'a>,
    /// Its members.
    pub members: Vec<DescribedGroupMember<'a>>,
    /// A bit per operation allowed on the group.
    #[wire(versions = 3.., default = OPERATIONS_NOT_ASKED_FOR)]
    pub authorized_operations: i32,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribedGroupMember<'a> {
    /// The member's id.
    pub member_id: Str<'a>,
    /// The instance id of a static member.
    #[wire(versions = 4..)]
    pub group_instance_id: Option<Str<'a>>,
    /// What the client calls itself.
    pub client_id: Str<'a>,
    /// Where its connection comes from.
    pub client_host: Str<'a>,
    /// What it joined with, where the group is stable.
    pub member_metadata: &'a [u8],
    /// What it was assigned, where the group is stable.
    pub member_assignment: &'a [u8],
}
