//! OffsetCommit, key 8, versions 2-10, flexible from 8.
//!
//! v5 without a retention time, v6 leader epochs (KIP-320), v7 static members (KIP-345), v9 KIP-848 member epochs, v10 topic ids
//! instead of names.

use crate::{ErrorCode, Str, Uuid, Wire};

/// Commits offsets of a group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 8, versions = 2..=10, flexible = 8.., response = OffsetCommitResponse<'a>)]
pub struct OffsetCommitRequest<'a> {
    /// The group.
    pub group_id: Str<'a>,
    /// The generation or, with KIP-848, the member epoch. -1: a commit from outside the group.
    #[wire(default = -1)]
    pub generation_id_or_member_epoch: i32,
    /// The member's id.
    pub member_id: Str<'a>,
    /// The instance id of a static member.
    #[wire(versions = 7..)]
    pub group_instance_id: Option<Str<'a>>,
    /// How long to keep the offsets, or -1 for as long as the broker likes.
    #[wire(versions = 2..=4, default = -1)]
    pub retention_time_ms: i64,
    /// Topics.
    pub topics: Vec<OffsetCommitRequestTopic<'a>>,
}

/// Offsets of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetCommitRequestTopic<'a> {
    /// The topic.
    #[wire(versions = 2..=9)]
    pub name: Str<'a>,
    /// Its id.
    #[wire(versions = 10..)]
    pub topic_id: Uuid,
    /// Partitions.
    pub partitions: Vec<OffsetCommitRequestPartition<'a>>,
}

/// The offset of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetCommitRequestPartition<'a> {
    /// The partition.
    pub partition_index: i32,
    /// The offset of the next record to read.
    pub committed_offset: i64,
    /// The epoch of the last record read, or -1.
    #[wire(versions = 6.., default = -1)]
    pub committed_leader_epoch: i32,
    /// A note of the client.
    pub committed_metadata: Option<Str<'a>>,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 8, versions = 2..=10, flexible = 8..)]
pub struct OffsetCommitResponse<'a> {
    /// How long the request was held back by a quota.
    #[wire(versions = 3..)]
    pub throttle_time_ms: i32,
    /// Topics.
    pub topics: Vec<OffsetCommitResponseTopic<'a>>,
}

/// What became of the offsets of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetCommitResponseTopic<'a> {
    /// The topic.
    #[wire(versions = 2..=9)]
    pub name: Str<'a>,
    /// Its id.
    #[wire(versions = 10..)]
    pub topic_id: Uuid,
    /// Partitions.
    pub partitions: Vec<OffsetCommitResponsePartition>,
}

/// What became of one offset.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetCommitResponsePartition {
    /// The partition.
    pub partition_index: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
}
