//! ListPartitionReassignments, key 46, versions 0-0, flexible from 0.
//!
//! KIP-455.

use crate::{ErrorCode, Str, Wire};

/// Asks which replicas are moving.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 46, versions = 0..=0, flexible = 0.., response = ListPartitionReassignmentsResponse<'a>)]
pub struct ListPartitionReassignmentsRequest<'a> {
    /// How long the broker may take.
    #[wire(default = 60000)]
    pub timeout_ms: i32,
    /// Which partitions, `None` for all.
    pub topics: Option<Vec<ListPartitionReassignmentsTopic<'a>>>,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ListPartitionReassignmentsTopic<'a> {
    /// The topic.
    pub name: Str<'a>,
    /// Partitions.
    pub partition_indexes: Vec<i32>,
}

/// Which replicas are moving.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 46, versions = 0..=0, flexible = 0..)]
pub struct ListPartitionReassignmentsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// Topics.
    pub topics: Vec<OngoingTopicReassignment<'a>>,
}

/// Moves in a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OngoingTopicReassignment<'a> {
    /// The topic.
    pub name: Str<'a>,
    /// Partitions.
    pub partitions: Vec<OngoingPartitionReassignment>,
}

/// A move.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OngoingPartitionReassignment {
    /// The partition.
    pub partition_index: i32,
    /// The brokers that hold the partition.
    pub replicas: Vec<i32>,
    /// Those that are joining.
    pub adding_replicas: Vec<i32>,
    /// Those that are leaving.
    pub removing_replicas: Vec<i32>,
}
