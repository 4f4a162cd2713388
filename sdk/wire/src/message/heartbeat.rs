//! Heartbeat, key 12, versions 0-4, flexible from 4.
//!
//! v3 static members (KIP-345).

use crate::{ErrorCode, Str, Wire};

/// Says that a member is alive.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 12, versions = 0..=4, flexible = 4.., response = HeartbeatResponse)]
pub struct HeartbeatRequest<'a> {
    /// The group.
    pub group_id: Str<'a>,
    /// The generation that the member takes the group to be in.
    pub generation_id: i32,
    /// The member's id.
    pub member_id: Str<'a>,
    /// The instance id of a static member.
    #[wire(versions = 3..)]
    pub group_instance_id: Option<Str<'a>>,
}

/// Says whether the group still stands.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 12, versions = 0..=4, flexible = 4..)]
pub struct HeartbeatResponse {
    /// How long the request was held back by a quota.
    #[wire(versions = 1..)]
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
}
