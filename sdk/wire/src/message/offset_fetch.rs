//! OffsetFetch, key 9, versions 1-10, flexible from 6.
//!
//! v2 null asks for all topics, and a group error, v5 leader epochs, v7 `require_stable` (KIP-447), v8 several groups
//! (KIP-709), v9 KIP-848 member epochs, v10 topic ids instead of names.

use crate::{ErrorCode, Str, Uuid, Wire};

/// Asks for committed offsets.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 9, versions = 1..=10, flexible = 6.., response = OffsetFetchResponse<'a>)]
pub struct OffsetFetchRequest<'a> {
    /// The group.
    #[wire(versions = 1..=7)]
    pub group_id: Str<'a>,
    /// Which offsets, `None` for all.
    #[wire(versions = 1..=7, nullable = 2..)]
    pub topics: Option<Vec<OffsetFetchRequestTopic<'a>>>,
    /// Groups.
    #[wire(versions = 8..)]
    pub groups: Vec<OffsetFetchRequestGroup<'a>>,
    /// Whether offsets in open transactions are an error.
    #[wire(versions = 7..)]
    pub require_stable: bool,
}

/// Which offsets of one group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetFetchRequestGroup<'a> {
    /// The group.
    #[wire(versions = 8..)]
    pub group_id: Str<'a>,
    /// The member that asks, with KIP-848.
    #[wire(versions = 9..)]
    pub member_id: Option<Str<'a>>,
    /// Its epoch, or -1 to ask from outside the group.
    #[wire(versions = 9.., default = -1)]
    pub member_epoch: i32,
    /// Which offsets, `None` for all.
    #[wire(versions = 8..)]
    pub topics: Option<Vec<OffsetFetchRequestTopics<'a>>>,
}

/// Partitions of a topic of one of several groups.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetFetchRequestTopics<'a> {
    /// The topic.
    #[wire(versions = 8..=9)]
    pub name: Str<'a>,
    /// Its id.
    #[wire(versions = 10..)]
    pub topic_id: Uuid,
    /// Partitions.
    #[wire(versions = 8..)]
    pub partition_indexes: Vec<i32>,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetFetchRequestTopic<'a> {
    /// The topic.
    #[wire(versions = 1..=7)]
    pub name: Str<'a>,
    /// Partitions.
    #[wire(versions = 1..=7)]
    pub partition_indexes: Vec<i32>,
}

/// Committed offsets.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 9, versions = 1..=10, flexible = 6..)]
pub struct OffsetFetchResponse<'a> {
    /// How long the request was held back by a quota.
    #[wire(versions = 3..)]
    pub throttle_time_ms: i32,
    /// Topics.
    #[wire(versions = 1..=7)]
    pub topics: Vec<OffsetFetchResponseTopic<'a>>,
    /// The error, if any.
    #[wire(versions = 2..=7)]
    pub error_code: ErrorCode,
    /// Groups.
    #[wire(versions = 8..)]
    pub groups: Vec<OffsetFetchResponseGroup<'a>>,
}

/// Offsets of one group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetFetchResponseGroup<'a> {
    /// The group.
    #[wire(versions = 8..)]
    pub group_id: Str<'a>,
    /// Topics.
    #[wire(versions = 8..)]
    pub topics: Vec<OffsetFetchResponseTopics<'a>>,
    /// The error, if any.
    #[wire(versions = 8..)]
    pub error_code: ErrorCode,
}

/// Offsets of a topic of one of several groups.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetFetchResponseTopics<'a> {
    /// The topic.
    #[wire(versions = 8..=9)]
    pub name: Str<'a>,
    /// Its id.
    #[wire(versions = 10..)]
    pub topic_id: Uuid,
    /// Partitions.
    #[wire(versions = 8..)]
    pub partitions: Vec<OffsetFetchResponsePartitions<'a>>,
}

/// The offset of a partition in one of several groups.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetFetchResponsePartitions<'a> {
    /// The partition.
    #[wire(versions = 8..)]
    pub partition_index: i32,
    /// The offset of the next record to read, or -1 where there is none.
    #[wire(versions = 8..)]
    pub committed_offset: i64,
    /// The epoch of the last record read, or -1.
    #[wire(versions = 8.., default = -1)]
    pub committed_leader_epoch: i32,
    /// The client's note.
    #[wire(versions = 8..)]
    pub metadata: Option<Str<'a>>,
    /// The error, if any.
    #[wire(versions = 8..)]
    pub error_code: ErrorCode,
}

/// Offsets of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetFetchResponseTopic<'a> {
    /// The topic.
    #[wire(versions = 1..=7)]
    pub name: Str<'a>,
    /// Partitions.
    #[wire(versions = 1..=7)]
    pub partitions: Vec<OffsetFetchResponsePartition<'a>>,
}

/// The offset of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetFetchResponsePartition<'a> {
    /// The partition.
    #[wire(versions = 1..=7)]
    pub partition_index: i32,
    /// The offset of the next record to read, or -1 where there is none.
    #[wire(versions = 1..=7)]
    pub committed_offset: i64,
    /// The epoch of the last record read, or -1.
    #[wire(versions = 5..=7, default = -1)]
    pub committed_leader_epoch: i32,
    /// The client's note.
    #[wire(versions = 1..=7)]
    pub metadata: Option<Str<'a>>,
    /// The error, if any.
    #[wire(versions = 1..=7)]
    pub error_code: ErrorCode,
}
