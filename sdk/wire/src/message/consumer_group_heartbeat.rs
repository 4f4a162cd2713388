//! ConsumerGroupHeartbeat, key 68, versions 0-1, flexible from 0.
//!
//! The consumer group protocol (KIP-848): membership, subscription and assignment in one call. v1 regular expressions, and the
//! member chooses its id (KIP-1082). After the first heartbeat a field that has not changed is null, or -1.

use crate::{ErrorCode, Str, Uuid, Wire};

/// `member_epoch` of a member that joins.
pub const MEMBER_EPOCH_JOIN: i32 = 0;
/// `member_epoch` of a member that leaves.
pub const MEMBER_EPOCH_LEAVE: i32 = -1;
/// `member_epoch` of a static member that leaves and means to come back.
pub const MEMBER_EPOCH_LEAVE_STATIC: i32 = -2;

/// Joins, stays in or leaves a group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 68, versions = 0..=1, flexible = 0.., response = ConsumerGroupHeartbeatResponse<'a>)]
pub struct ConsumerGroupHeartbeatRequest<'a> {
    /// The group.
    pub group_id: Str<'a>,
    /// The member's id.
    pub member_id: Str<'a>,
    /// The member's epoch, or one of the `MEMBER_EPOCH_` constants.
    pub member_epoch: i32,
    /// The instance id of a static member.
    pub instance_id: Option<Str<'a>>,
    /// The rack of the member, if it has one.
    pub rack_id: Option<Str<'a>>,
    /// How long the coordinator waits for revoked partitions, or -1: unchanged.
    #[wire(default = -1)]
    pub rebalance_timeout_ms: i32,
    /// The topics subscribed to by name.
    pub subscribed_topic_names: Option<Vec<Str<'a>>>,
    /// The regular expression (RE2) of topics subscribed to.
    #[wire(versions = 1..)]
    pub subscribed_topic_regex: Option<Str<'a>>,
    /// The assignor that the member wants: `uniform`, `range`, or `None` for the broker's default.
    pub server_assignor: Option<Str<'a>>,
    /// The partitions that the member owns, or `None`: unchanged.
    pub topic_partitions: Option<Vec<ConsumerGroupTopicPartitions>>,
}

/// Where the member stands.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 68, versions = 0..=1, flexible = 0..)]
pub struct ConsumerGroupHeartbeatResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// The id that the coordinator gave it.
    pub member_id: Option<Str<'a>>,
    /// The member's epoch.
    pub member_epoch: i32,
    /// When to send the next heartbeat.
    pub heartbeat_interval_ms: i32,
    /// The partitions that it may own now, or `None`: unchanged.
    pub assignment: Option<ConsumerGroupAssignment>,
}

/// Partitions by topic id.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupAssignment {
    /// Partitions by topic.
    pub topic_partitions: Vec<ConsumerGroupTopicPartitions>,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupTopicPartitions {
    /// Its id.
    pub topic_id: Uuid,
    /// Partitions.
    pub partitions: Vec<i32>,
}

nullable_struct!(ConsumerGroupAssignment);
