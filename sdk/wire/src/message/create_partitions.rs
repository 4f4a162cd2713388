//! CreatePartitions, key 37, versions 0-3, flexible from 2.
//!
//! KIP-195. v3 `THROTTLING_QUOTA_EXCEEDED` (KIP-599).

use crate::{ErrorCode, Str, Wire};

/// Adds partitions to topics.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 37, versions = 0..=3, flexible = 2.., response = CreatePartitionsResponse<'a>)]
pub struct CreatePartitionsRequest<'a> {
    /// Topics.
    pub topics: Vec<CreatePartitionsTopic<'a>>,
    /// How long the broker may take.
    pub timeout_ms: i32,
    /// Whether to check only.
    pub validate_only: bool,
}

/// A topic to grow.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct CreatePartitionsTopic<'a> {
    /// The topic.
    pub name: Str<'a>,
    /// How many partitions it is to have in the end.
    pub count: i32,
    /// The brokers of the new partitions, `None` to let the broker choose.
    pub assignments: Option<Vec<CreatePartitionsAssignment>>,
}

/// The brokers of one new partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct CreatePartitionsAssignment {
    /// The brokers.
    pub broker_ids: Vec<i32>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 37, versions = 0..=3, flexible = 2..)]
pub struct CreatePartitionsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// One answer per topic.
    pub results: Vec<CreatePartitionsTopicResult<'a>>,
}

/// What became of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct CreatePartitionsTopicResult<'a> {
    /// The topic.
    pub name: Str<'a>,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
}
