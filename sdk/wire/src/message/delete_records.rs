//! `DeleteRecords`, key 21, versions 0-2, flexible from 2.

use crate::{ErrorCode, Str, Wire};

/// In place of an offset: everything that is visible.
pub const OFFSET_HIGH_WATERMARK: i64 = -1;

/// Moves the first offset of partitions up (KIP-107).
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 21, versions = 0..=2, flexible = 2.., response = DeleteRecordsResponse<'a>)]
pub struct DeleteRecordsRequest<'a> {
    /// The topics.
    pub topics: Vec<DeleteRecordsTopic<'a>>,
    /// How long to wait until all replicas have done it.
    pub timeout_ms: i32,
}

/// A topic to delete records from.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DeleteRecordsTopic<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// Its partitions.
    pub partitions: Vec<DeleteRecordsPartition>,
}

/// A partition to delete records from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct DeleteRecordsPartition {
    /// Its number.
    pub partition_index: i32,
    /// The first offset to keep, or [`OFFSET_HIGH_WATERMARK`].
    pub offset: i64,
}

/// What is left.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 21, versions = 0..=2, flexible = 2..)]
pub struct DeleteRecordsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<DeleteRecordsTopicResult<'a>>,
}

/// What is left of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DeleteRecordsTopicResult<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// Its partitions.
    pub partitions: Vec<DeleteRecordsPartitionResult>,
}

/// What is left of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct DeleteRecordsPartitionResult {
    /// The partition.
    pub partition_index: i32,
    /// The first offset that is left, −1 if it is not known.
    pub low_watermark: i64,
    /// The error, if any.
    pub error_code: ErrorCode,
}
