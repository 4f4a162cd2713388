//! ElectLeaders, key 43, versions 0-2, flexible from 2.
//!
//! KIP-183. v1 unclean elections (KIP-460).

use crate::{ErrorCode, Str, Wire};

/// `election_type` of the preferred replica.
pub const ELECTION_PREFERRED: i8 = 0;
/// `election_type` of any live replica, though records may be lost.
pub const ELECTION_UNCLEAN: i8 = 1;

/// Elects leaders.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 43, versions = 0..=2, flexible = 2.., response = ElectLeadersResponse<'a>)]
pub struct ElectLeadersRequest<'a> {
    /// One of the `ELECTION_` constants.
    #[wire(versions = 1..)]
    pub election_type: i8,
    /// Which partitions, `None` for all.
    pub topic_partitions: Option<Vec<ElectLeadersTopic<'a>>>,
    /// How long the broker may take.
    #[wire(default = 60000)]
    pub timeout_ms: i32,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ElectLeadersTopic<'a> {
    /// The topic.
    pub topic: Str<'a>,
    /// Partitions.
    pub partitions: Vec<i32>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 43, versions = 0..=2, flexible = 2..)]
pub struct ElectLeadersResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    #[wire(versions = 1..)]
    pub error_code: ErrorCode,
    /// One answer per topic.
    pub replica_election_results: Vec<ElectLeadersTopicResult<'a>>,
}

/// What became of the partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ElectLeadersTopicResult<'a> {
    /// The topic.
    pub topic: Str<'a>,
    /// One answer per partition.
    pub partition_result: Vec<ElectLeadersPartitionResult<'a>>,
}

/// What became of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ElectLeadersPartitionResult<'a> {
    /// The partition.
    pub partition_id: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
}
