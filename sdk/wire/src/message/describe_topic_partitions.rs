//! DescribeTopicPartitions, key 75, versions 0-0, flexible from 0.
//!
//! KIP-966: partitions in pages, for clusters whose metadata does not fit one answer.

use super::OPERATIONS_NOT_ASKED_FOR;
use crate::{ErrorCode, Str, Uuid, Wire};

/// Asks for partitions, page by page.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 75, versions = 0..=0, flexible = 0.., response = DescribeTopicPartitionsResponse<'a>)]
pub struct DescribeTopicPartitionsRequest<'a> {
    /// Which topics; empty: all.
    pub topics: Vec<DescribeTopicPartitionsRequestTopic<'a>>,
    /// How many partitions the answer may have.
    #[wire(default = 2000)]
    pub response_partition_limit: i32,
    /// Where to go on.
    pub cursor: Option<TopicPartitionCursor<'a>>,
}

/// A topic asked for.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeTopicPartitionsRequestTopic<'a> {
    /// The topic.
    pub name: Str<'a>,
}

/// A page of partitions.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 75, versions = 0..=0, flexible = 0..)]
pub struct DescribeTopicPartitionsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// Topics.
    pub topics: Vec<DescribeTopicPartitionsResponseTopic<'a>>,
    /// Where the next page begins, `None` behind the last.
    pub next_cursor: Option<TopicPartitionCursor<'a>>,
}

/// The first partition of the next page.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct TopicPartitionCursor<'a> {
    /// Its topic.
    pub topic_name: Str<'a>,
    /// Its number.
    pub partition_index: i32,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeTopicPartitionsResponseTopic<'a> {
    /// The error, if any.
    pub error_code: ErrorCode,
    /// Its name.
    pub name: Option<Str<'a>>,
    /// Its id.
    pub topic_id: Uuid,
    /// Whether the broker keeps its own state in it.
    pub is_internal: bool,
    /// Its partitions on this page.
    pub partitions: Vec<DescribeTopicPartitionsResponsePartition>,
    /// A bit per operation allowed on the topic.
    #[wire(default = OPERATIONS_NOT_ASKED_FOR)]
    pub topic_authorized_operations: i32,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeTopicPartitionsResponsePartition {
    /// The error, if any.
    pub error_code: ErrorCode,
    /// Its number.
    pub partition_index: i32,
    /// The broker that leads it.
    pub leader_id: i32,
    /// The epoch of that leader.
    #[wire(default = -1)]
    pub leader_epoch: i32,
    /// The brokers that hold it.
    pub replica_nodes: Vec<i32>,
    /// Those of them that are in sync.
    pub isr_nodes: Vec<i32>,
    /// Those that may lead though they are not in sync.
    pub eligible_leader_replicas: Option<Vec<i32>>,
    /// The last such that were known.
    pub last_known_elr: Option<Vec<i32>>,
    /// Those that are offline.
    pub offline_replicas: Vec<i32>,
}

nullable_struct!(TopicPartitionCursor<'a>);
