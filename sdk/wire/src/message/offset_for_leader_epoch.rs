//! `OffsetForLeaderEpoch`, key 23, versions 2-4, flexible from 4.
//!
//! v2 the leader epoch the client believes in (KIP-320), v3 the replica that asks (KIP-392).

use crate::{ErrorCode, Str, Wire};

/// Asks where leader epochs end, to find out whether a log was cut behind what was read.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 23, versions = 2..=4, flexible = 4.., response = OffsetForLeaderEpochResponse<'a>)]
pub struct OffsetForLeaderEpochRequest<'a> {
    /// The broker id of a follower, −1 for a consumer, −2 for one that wants the answer of any replica.
    #[wire(versions = 3.., default = -2)]
    pub replica_id: i32,
    /// The topics.
    pub topics: Vec<OffsetForLeaderTopic<'a>>,
}

/// A topic asked about.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetForLeaderTopic<'a> {
    /// Its name.
    pub topic: Str<'a>,
    /// Its partitions.
    pub partitions: Vec<OffsetForLeaderPartition>,
}

/// A partition asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct OffsetForLeaderPartition {
    /// Its number.
    pub partition: i32,
    /// The leader epoch the client believes to be in force, −1 for none.
    #[wire(default = -1)]
    pub current_leader_epoch: i32,
    /// The epoch whose end is asked for.
    pub leader_epoch: i32,
}

/// Where the epochs end.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 23, versions = 2..=4, flexible = 4..)]
pub struct OffsetForLeaderEpochResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<OffsetForLeaderTopicResult<'a>>,
}

/// The answer for one topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetForLeaderTopicResult<'a> {
    /// The name of the topic.
    pub topic: Str<'a>,
    /// Its partitions.
    pub partitions: Vec<LeaderEpochEndOffset>,
}

/// The answer for one partition; Kafka's schema calls it `EpochEndOffset`, as it does another one in Fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct LeaderEpochEndOffset {
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The partition.
    pub partition: i32,
    /// The greatest epoch not above the one asked for, −1 if it is not known.
    #[wire(default = -1)]
    pub leader_epoch: i32,
    /// The offset after its last record, −1 if it is not known.
    #[wire(default = -1)]
    pub end_offset: i64,
}
