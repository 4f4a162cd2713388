//! `DescribeLogDirs`, key 35, versions 1-4, flexible from 2.
//!
//! v3 an error for the request as a whole, v4 total and usable bytes of the disks (KIP-827).

use crate::{ErrorCode, Str, Wire};

/// Asks for the log directories and what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 35, versions = 1..=4, flexible = 2.., response = DescribeLogDirsResponse<'a>)]
pub struct DescribeLogDirsRequest<'a> {
    /// The partitions of interest, or `None` for all.
    pub topics: Option<Vec<DescribableLogDirTopic<'a>>>,
}

/// Partitions of interest.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribableLogDirTopic<'a> {
    /// The topic.
    pub topic: Str<'a>,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// The log directories.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 35, versions = 1..=4, flexible = 2..)]
pub struct DescribeLogDirsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    #[wire(versions = 3..)]
    pub error_code: ErrorCode,
    /// The directories.
    pub results: Vec<DescribeLogDirsResult<'a>>,
}

/// One log directory.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeLogDirsResult<'a> {
    /// `KafkaStorageError` where it is offline.
    pub error_code: ErrorCode,
    /// Its absolute path.
    pub log_dir: Str<'a>,
    /// What is in it.
    pub topics: Vec<DescribeLogDirsTopic<'a>>,
    /// Size of its disk, −1 where it is not known.
    #[wire(versions = 4.., default = -1)]
    pub total_bytes: i64,
    /// What of that can still be used, −1 where it is not known.
    #[wire(versions = 4.., default = -1)]
    pub usable_bytes: i64,
}

/// The part of a topic that is in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeLogDirsTopic<'a> {
    /// The topic.
    pub name: Str<'a>,
    /// Its partitions.
    pub partitions: Vec<DescribeLogDirsPartition>,
}

/// One partition in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct DescribeLogDirsPartition {
    /// Its number.
    pub partition_index: i32,
    /// Bytes of its segments.
    pub partition_size: i64,
    /// How far it lags behind, where it is being moved.
    pub offset_lag: i64,
    /// Whether it is being moved here.
    pub is_future_key: bool,
}
