//! AlterPartitionReassignments, key 45, versions 0-1, flexible from 0.
//!
//! KIP-455. v1 may forbid a change of the replication factor (KIP-860).

use crate::{ErrorCode, Str, Wire};

/// Moves replicas to other brokers.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 45, versions = 0..=1, flexible = 0.., response = AlterPartitionReassignmentsResponse<'a>)]
pub struct AlterPartitionReassignmentsRequest<'a> {
    /// How long the broker may take.
    #[wire(default = 60000)]
    pub timeout_ms: i32,
    /// Whether the number of replicas may change.
    #[wire(versions = 1.., default = true)]
    pub allow_replication_factor_change: bool,
    /// Topics.
    pub topics: Vec<ReassignableTopic<'a>>,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ReassignableTopic<'a> {
    /// The topic.
    pub name: Str<'a>,
    /// Partitions.
    pub partitions: Vec<ReassignablePartition>,
}

/// A partition to move.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ReassignablePartition {
    /// The partition.
    pub partition_index: i32,
    /// The brokers that are to hold it, `None` to cancel a move under way.
    pub replicas: Option<Vec<i32>>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 45, versions = 0..=1, flexible = 0..)]
pub struct AlterPartitionReassignmentsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// As in the request.
    #[wire(versions = 1.., default = true)]
    pub allow_replication_factor_change: bool,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// One answer per topic.
    pub responses: Vec<ReassignableTopicResponse<'a>>,
}

/// What became of the partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ReassignableTopicResponse<'a> {
    /// The topic.
    pub name: Str<'a>,
    /// Partitions.
    pub partitions: Vec<ReassignablePartitionResponse<'a>>,
}

/// What became of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ReassignablePartitionResponse<'a> {
    /// The partition.
    pub partition_index: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
}
