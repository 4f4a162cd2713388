//! Produce, key 0, versions 3-13 (advertised from 0, see [`crate::api`]), flexible from 9.
//!
//! v3 record batches (KIP-98), v5 log start offset, v7 zstd (KIP-110), v8 errors per record (KIP-467), v10 current leader
//! (KIP-951), v11 and v12 transactions (KIP-890), v13 topic ids (KIP-516). Records are slices of the frame: nothing is copied.

use super::{LeaderIdAndEpoch, NodeEndpoint};
use crate::{ErrorCode, Str, Uuid, Wire};

/// Appends batches to partitions.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 0, versions = 3..=13, flexible = 9.., response = ProduceResponse<'a>)]
pub struct ProduceRequest<'a> {
    /// The transaction the batches belong to, if any.
    pub transactional_id: Option<Str<'a>>,
    /// When to answer: 0 never, 1 once appended, −1 once durable.
    pub acks: i16,
    /// How long to wait for that.
    pub timeout_ms: i32,
    /// The topics.
    pub topic_data: Vec<TopicProduceData<'a>>,
}

/// Batches for one topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct TopicProduceData<'a> {
    /// The name of the topic.
    #[wire(versions = 0..=12)]
    pub name: Str<'a>,
    /// The id of the topic.
    #[wire(versions = 13..)]
    pub topic_id: Uuid,
    /// Its partitions.
    pub partition_data: Vec<PartitionProduceData<'a>>,
}

/// Batches for one partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct PartitionProduceData<'a> {
    /// The partition.
    pub index: i32,
    /// A record batch, as it goes into the log.
    pub records: Option<&'a [u8]>,
}

/// Where the batches went.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 0, versions = 3..=13, flexible = 9..)]
pub struct ProduceResponse<'a> {
    /// The topics.
    pub responses: Vec<TopicProduceResponse<'a>>,
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// Where the leaders named in `current_leader` listen.
    #[wire(versions = 10.., tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint<'a>>,
}

/// The answer for one topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct TopicProduceResponse<'a> {
    /// The name of the topic.
    #[wire(versions = 0..=12)]
    pub name: Str<'a>,
    /// The id of the topic.
    #[wire(versions = 13..)]
    pub topic_id: Uuid,
    /// Its partitions.
    pub partition_responses: Vec<PartitionProduceResponse<'a>>,
}

/// The answer for one partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct PartitionProduceResponse<'a> {
    /// The partition.
    pub index: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The offset of the first record.
    pub base_offset: i64,
    /// When the batch was appended, or −1 where records keep the producer's time.
    #[wire(default = -1)]
    pub log_append_time_ms: i64,
    /// The first offset of the partition.
    #[wire(versions = 5.., default = -1)]
    pub log_start_offset: i64,
    /// The records for which the batch was refused.
    #[wire(versions = 8..)]
    pub record_errors: Vec<BatchIndexAndErrorMessage<'a>>,
    /// Why the batch was refused, in one sentence.
    #[wire(versions = 8..)]
    pub error_message: Option<Str<'a>>,
    /// The leader of the partition, after `NOT_LEADER_OR_FOLLOWER`.
    #[wire(versions = 10.., tag = 0)]
    pub current_leader: LeaderIdAndEpoch,
    /// Ottla: where the records of a batch went when a partitioner distributed them; runs in batch order. Only for
    /// clients that name themselves `ottla`.
    #[wire(versions = 9.., tag = 20000)]
    pub placements: Vec<Placement>,
}

/// A record that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct BatchIndexAndErrorMessage<'a> {
    /// Its index in the batch.
    pub batch_index: i32,
    /// Why it was refused.
    pub batch_index_error_message: Option<Str<'a>>,
}

/// Ottla: a run of consecutive records of a batch that went to consecutive offsets of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct Placement {
    /// The index of the first of them in the batch as sent.
    pub first_index: i32,
    /// How many there are.
    pub count: i32,
    /// The partition they went to.
    pub partition: i32,
    /// The offset of the first of them.
    pub base_offset: i64,
}
