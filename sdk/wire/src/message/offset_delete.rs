//! OffsetDelete, key 47, versions 0-0, never flexible.
//!
//! KIP-496. Never flexible.

use crate::{ErrorCode, Str, Wire};

/// Deletes single offsets of a group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 47, versions = 0..=0, flexible = 1.., response = OffsetDeleteResponse<'a>)]
pub struct OffsetDeleteRequest<'a> {
    /// The group.
    pub group_id: Str<'a>,
    /// Topics.
    pub topics: Vec<OffsetDeleteRequestTopic<'a>>,
}

/// Offsets of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetDeleteRequestTopic<'a> {
    /// The topic.
    pub name: Str<'a>,
    /// Partitions.
    pub partitions: Vec<OffsetDeleteRequestPartition>,
}

/// The offset of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetDeleteRequestPartition {
    /// The partition.
    pub partition_index: i32,
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 47, versions = 0..=0, flexible = 1..)]
pub struct OffsetDeleteResponse<'a> {
    /// The error, if any.
    pub error_code: ErrorCode,
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// Topics.
    pub topics: Vec<OffsetDeleteResponseTopic<'a>>,
}

/// What became of the offsets of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetDeleteResponseTopic<'a> {
    /// The topic.
    pub name: Str<'a>,
    /// Partitions.
    pub partitions: Vec<OffsetDeleteResponsePartition>,
}

/// What became of one offset.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetDeleteResponsePartition {
    /// The partition.
    pub partition_index: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
}
