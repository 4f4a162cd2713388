//! DescribeProducers, key 61, versions 0-0, flexible from 0.
//!
//! KIP-664.

use crate::{ErrorCode, Str, Wire};

/// Asks which producers are known in partitions.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 61, versions = 0..=0, flexible = 0.., response = DescribeProducersResponse<'a>)]
pub struct DescribeProducersRequest<'a> {
    /// Topics.
    pub topics: Vec<DescribeProducersRequestTopic<'a>>,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeProducersRequestTopic<'a> {
    /// The topic.
    pub name: Str<'a>,
    /// Partitions.
    pub partition_indexes: Vec<i32>,
}

/// Which producers are known.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 61, versions = 0..=0, flexible = 0..)]
pub struct DescribeProducersResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// Topics.
    pub topics: Vec<DescribeProducersResponseTopic<'a>>,
}

/// Producers in a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeProducersResponseTopic<'a> {
    /// The topic.
    pub name: Str<'a>,
    /// Partitions.
    pub partitions: Vec<DescribeProducersResponsePartition<'a>>,
}

/// Producers in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeProducersResponsePartition<'a> {
    /// The partition.
    pub partition_index: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// The producers.
    pub active_producers: Vec<ProducerState>,
}

/// What is known about a producer.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ProducerState {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i32,
    /// The last sequence, or -1.
    #[wire(default = -1)]
    pub last_sequence: i32,
    /// When it last wrote, in ms since 1970, or -1.
    #[wire(default = -1)]
    pub last_timestamp: i64,
    /// The epoch of the coordinator that wrote the last marker.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins, or -1.
    #[wire(default = -1)]
    pub current_txn_start_offset: i64,
}
