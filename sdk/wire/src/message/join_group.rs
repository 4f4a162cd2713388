//! JoinGroup, key 11, versions 0-9, flexible from 6.
//!
//! v1 rebalance timeout, v4 the member id comes from the coordinator first (KIP-394), v5 static members (KIP-345),
//! v7 protocol type in the response (KIP-559), v8 reasons (KIP-800), v9 `skip_assignment` (KIP-814).

use crate::{ErrorCode, Str, Wire};

/// Joins a group, or rejoins it for the next generation.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 11, versions = 0..=9, flexible = 6.., response = JoinGroupResponse<'a>)]
pub struct JoinGroupRequest<'a> {
    /// The group.
    pub group_id: Str<'a>,
    /// How long the coordinator waits for a heartbeat.
    pub session_timeout_ms: i32,
    /// How long the coordinator waits for the member to rejoin. -1, as in v0: the session timeout.
    #[wire(versions = 1.., default = -1)]
    pub rebalance_timeout_ms: i32,
    /// The id that the coordinator gave the member, or empty.
    pub member_id: Str<'a>,
    /// The instance id of a static member.
    #[wire(versions = 5..)]
    pub group_instance_id: Option<Str<'a>>,
    /// The protocol type, `consumer` for consumers.
    pub protocol_type: Str<'a>,
    /// What the member can do, what it likes best first.
    pub protocols: Vec<JoinGroupRequestProtocol<'a>>,
    /// Why, in words, for the log.
    #[wire(versions = 8..)]
    pub reason: Option<Str<'a>>,
}

/// A way to assign partitions.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct JoinGroupRequestProtocol<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// The metadata, opaque to the broker.
    pub metadata: &'a [u8],
}

/// The group as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 11, versions = 0..=9, flexible = 6..)]
pub struct JoinGroupResponse<'a> {
    /// How long the request was held back by a quota.
    #[wire(versions = 2..)]
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The generation of the group, or -1.
    #[wire(default = -1)]
    pub generation_id: i32,
    /// The protocol type, `consumer` for consumers.
    #[wire(versions = 7..)]
    pub protocol_type: Option<Str<'a>>,
    /// The protocol chosen.
    #[wire(nullable = 7..)]
    pub protocol_name: Option<Str<'a>>,
    /// The member that assigns partitions.
    pub leader: Str<'a>,
    /// Whether the leader keeps the assignment there is: a static member that came back.
    #[wire(versions = 9..)]
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: Str<'a>,
    /// All members, for the leader alone.
    pub members: Vec<JoinGroupResponseMember<'a>>,
}

/// A member, for the leader.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct JoinGroupResponseMember<'a> {
    /// The member's id.
    pub member_id: Str<'a>,
    /// The instance id of a static member.
    #[wire(versions = 5..)]
    pub group_instance_id: Option<Str<'a>>,
    /// The metadata, opaque to the broker.
    pub metadata: &'a [u8],
}
