//! Fetch, key 1, versions 4-18, flexible from 12.
//!
//! v5 log start offset, v7 sessions (KIP-227), v9 leader epochs (KIP-320), v10 zstd, v11 racks (KIP-392), v12 diverging
//! epochs (KIP-595), v13 topic ids (KIP-516), v15 replica state (KIP-903), v16 leader endpoints (KIP-951), v17 directory ids, v18 the
//! high watermark that a follower knows (KIP-1166).
//!
//! Records in a response are [`FetchRecords`]: a slice of the frame where it is read, bytes or a region of a file where
//! it is written. A broker writes responses as a [`FetchFrame`](super::FetchFrame), with holes for such regions.

use super::{FetchRecords, LeaderIdAndEpoch, NodeEndpoint};
use crate::{ErrorCode, Str, Uuid, Wire};

/// Reads batches from partitions.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 1, versions = 4..=18, flexible = 12.., response = FetchResponse<'a>)]
pub struct FetchRequest<'a> {
    /// The cluster the follower believes to be in.
    #[wire(versions = 12.., tag = 0)]
    pub cluster_id: Option<Str<'a>>,
    /// The broker id of a follower, −1 for a consumer.
    #[wire(versions = 0..=14, default = -1)]
    pub replica_id: i32,
    /// The state of a follower.
    #[wire(versions = 15.., tag = 1)]
    pub replica_state: ReplicaState,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// How many bytes to wait for.
    pub min_bytes: i32,
    /// How many bytes to answer with at most; the first batch is answered even if it is larger (KIP-74).
    #[wire(default = i32::MAX)]
    pub max_bytes: i32,
    /// 0: all records, 1: only those of committed transactions.
    pub isolation_level: i8,
    /// The session, or 0 for none.
    #[wire(versions = 7..)]
    pub session_id: i32,
    /// The epoch of the session, −1 for none.
    #[wire(versions = 7.., default = -1)]
    pub session_epoch: i32,
    /// The topics.
    pub topics: Vec<FetchTopic<'a>>,
    /// Partitions to take out of the session.
    #[wire(versions = 7..)]
    pub forgotten_topics_data: Vec<ForgottenTopic<'a>>,
    /// The rack of the consumer.
    #[wire(versions = 11..)]
    pub rack_id: Str<'a>,
}

/// The state of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct ReplicaState {
    /// Its broker id, −1 for a consumer.
    #[wire(default = -1)]
    pub replica_id: i32,
    /// Its epoch, −1 if there is none.
    #[wire(default = -1)]
    pub replica_epoch: i64,
}

/// A topic to read.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct FetchTopic<'a> {
    /// Its name.
    #[wire(versions = 0..=12)]
    pub topic: Str<'a>,
    /// Its id.
    #[wire(versions = 13..)]
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// A partition to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct FetchPartition {
    /// Its number.
    pub partition: i32,
    /// The leader epoch the client knows, −1 for none.
    #[wire(versions = 9.., default = -1)]
    pub current_leader_epoch: i32,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The leader epoch of the last record read, −1 for none.
    #[wire(versions = 12.., default = -1)]
    pub last_fetched_epoch: i32,
    /// The first offset a follower holds.
    #[wire(versions = 5.., default = -1)]
    pub log_start_offset: i64,
    /// How many bytes to answer with at most.
    pub partition_max_bytes: i32,
    /// The directory of the follower.
    #[wire(versions = 17.., tag = 0)]
    pub replica_directory_id: Uuid,
    /// The high watermark that a follower knows, the largest number for a consumer.
    #[wire(versions = 18.., tag = 1, default = i64::MAX)]
    pub high_watermark: i64,
}

/// Partitions to take out of a session.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ForgottenTopic<'a> {
    /// The name of the topic.
    #[wire(versions = 7..=12)]
    pub topic: Str<'a>,
    /// The id of the topic.
    #[wire(versions = 13..)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Batches from partitions.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 1, versions = 4..=18, flexible = 12..)]
pub struct FetchResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// An error of the whole request.
    #[wire(versions = 7..)]
    pub error_code: ErrorCode,
    /// The session, 0 for none.
    #[wire(versions = 7..)]
    pub session_id: i32,
    /// The topics.
    pub responses: Vec<FetchableTopicResponse<'a>>,
    /// Where the leaders named in `current_leader` listen.
    #[wire(versions = 16.., tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint<'a>>,
}

/// Batches of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct FetchableTopicResponse<'a> {
    /// The name of the topic.
    #[wire(versions = 0..=12)]
    pub topic: Str<'a>,
    /// The id of the topic.
    #[wire(versions = 13..)]
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<PartitionData<'a>>,
}

/// Batches of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct PartitionData<'a> {
    /// The partition.
    pub partition_index: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The offset up to which records are visible.
    pub high_watermark: i64,
    /// The offset up to which every transaction is decided.
    #[wire(default = -1)]
    pub last_stable_offset: i64,
    /// The first offset of the partition.
    #[wire(versions = 5.., default = -1)]
    pub log_start_offset: i64,
    /// Where the client's history and the log's part ways (KIP-595).
    #[wire(versions = 12.., tag = 0)]
    pub diverging_epoch: EpochEndOffset,
    /// The leader of the partition, after `NOT_LEADER_OR_FOLLOWER` or `FENCED_LEADER_EPOCH`.
    #[wire(versions = 12.., tag = 1)]
    pub current_leader: LeaderIdAndEpoch,
    /// The snapshot a follower should load.
    #[wire(versions = 12.., tag = 2)]
    pub snapshot_id: SnapshotId,
    /// Transactions whose records are to be skipped. `None` for a reader of all records.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The replica to read from next, −1 for the leader.
    #[wire(versions = 11.., default = -1)]
    pub preferred_read_replica: i32,
    /// The batches.
    pub records: FetchRecords<'a>,
}

/// Where an epoch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct EpochEndOffset {
    /// The epoch.
    #[wire(default = -1)]
    pub epoch: i32,
    /// The offset behind its last record.
    #[wire(default = -1)]
    pub end_offset: i64,
}

/// A snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct SnapshotId {
    /// The offset behind it.
    #[wire(default = -1)]
    pub end_offset: i64,
    /// Its epoch.
    #[wire(default = -1)]
    pub epoch: i32,
}

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: i64,
    /// Its first offset in the partition.
    pub first_offset: i64,
}
