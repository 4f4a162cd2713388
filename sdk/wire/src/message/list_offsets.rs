//! ListOffsets, key 2, versions 1-11, flexible from 6.
//!
//! v2 isolation level, v4 leader epochs (KIP-320), v7 the record with the largest timestamp (KIP-734), v8 and v9 tiered
//! storage (KIP-405, KIP-1005), v10 a timeout for it, v11 what it still lacks (KIP-1023).

use crate::{ErrorCode, Str, Wire};

/// In place of a timestamp: the end of what is visible.
pub const TIMESTAMP_LATEST: i64 = -1;
/// In place of a timestamp: the first offset.
pub const TIMESTAMP_EARLIEST: i64 = -2;
/// In place of a timestamp: the record with the largest timestamp.
pub const TIMESTAMP_MAX: i64 = -3;
/// In place of a timestamp: the first offset on local disk.
pub const TIMESTAMP_EARLIEST_LOCAL: i64 = -4;
/// In place of a timestamp: the last offset in tiered storage.
pub const TIMESTAMP_LATEST_TIERED: i64 = -5;

/// In place of a timestamp: the first offset that tiered storage is still to get.
pub const TIMESTAMP_EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Finds offsets by timestamp.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 2, versions = 1..=11, flexible = 6.., response = ListOffsetsResponse<'a>)]
pub struct ListOffsetsRequest<'a> {
    /// The broker id of a follower, −1 for a consumer.
    pub replica_id: i32,
    /// 0: all records, 1: only those of committed transactions.
    #[wire(versions = 2..)]
    pub isolation_level: i8,
    /// The topics.
    pub topics: Vec<ListOffsetsTopic<'a>>,
    /// How long to wait for tiered storage.
    #[wire(versions = 10..)]
    pub timeout_ms: i32,
}

/// A topic asked about.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ListOffsetsTopic<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// Its partitions.
    pub partitions: Vec<ListOffsetsPartition>,
}

/// A partition asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct ListOffsetsPartition {
    /// Its number.
    pub partition_index: i32,
    /// The leader epoch the client knows, −1 for none.
    #[wire(versions = 4.., default = -1)]
    pub current_leader_epoch: i32,
    /// The time in milliseconds, or one of the `TIMESTAMP_` constants.
    pub timestamp: i64,
}

/// The offsets found.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 2, versions = 1..=11, flexible = 6..)]
pub struct ListOffsetsResponse<'a> {
    /// How long the request was held back by a quota.
    #[wire(versions = 2..)]
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<ListOffsetsTopicResponse<'a>>,
}

/// The answer for one topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ListOffsetsTopicResponse<'a> {
    /// The name of the topic.
    pub name: Str<'a>,
    /// Its partitions.
    pub partitions: Vec<ListOffsetsPartitionResponse>,
}

/// The answer for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct ListOffsetsPartitionResponse {
    /// The partition.
    pub partition_index: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The timestamp of the record found, −1 if there is none.
    #[wire(default = -1)]
    pub timestamp: i64,
    /// The offset found, −1 if there is none.
    #[wire(default = -1)]
    pub offset: i64,
    /// The leader epoch of that record, −1 if it is not known.
    #[wire(versions = 4.., default = -1)]
    pub leader_epoch: i32,
}
