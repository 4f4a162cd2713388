//! Request frames for the load generator, made once before a run.

use std::time::SystemTime;

use anyhow::Result;
use ottla_wire::message::{
    ApiVersionsRequest, FetchPartition, FetchRequest, FetchTopic, OffsetCommitRequest, OffsetCommitRequestPartition,
    OffsetCommitRequestTopic, PartitionProduceData, ProduceRequest, TopicProduceData,
};
use ottla_wire::record::{BatchBuilder, Codec};
use ottla_wire::{RequestHeader, encode_request};

/// Produce with record batches, classic encoding.
const PRODUCE_VERSION: i16 = 8;
/// Fetch with leader epochs and racks, without topic ids.
const FETCH_VERSION: i16 = 4;

/// `OffsetCommit` with leader epochs, the last classic encoding.
const OFFSET_COMMIT_VERSION: i16 = 7;

/// The name of every topic under test: its length decides where error codes stand.
pub(crate) const TOPIC: &str = "bench";
/// Where the error code stands in the answer to [`produce`], behind the length.
pub(crate) const PRODUCE_ERROR_AT: usize = 4 + 4 + 2 + TOPIC.len() + 4 + 4;
/// Where the error code stands in the answer to [`fetch`], behind the length.
pub(crate) const FETCH_ERROR_AT: usize = 4 + 4 + 4 + 2 + TOPIC.len() + 4 + 4;
/// Where the error code stands in the answer to [`offset_commit`], behind the length.
pub(crate) const OFFSET_COMMIT_ERROR_AT: usize = 4 + 4 + 4 + 2 + TOPIC.len() + 4 + 4;
/// Where the error code stands in the answer to [`api_versions`], behind the length.
pub(crate) const API_VERSIONS_ERROR_AT: usize = 4;

/// A batch of `records` records that takes about `bytes` bytes without compression; never more.
pub(crate) fn batch(bytes: usize, records: usize, codec: Codec) -> Result<Vec<u8>> {
    batch_from(0, bytes, records, codec)
}

/// The same with keys that count from `first` on.
pub(crate) fn batch_from(first: usize, bytes: usize, records: usize, codec: Codec) -> Result<Vec<u8>> {
    let each = bytes.saturating_sub(61) / records;
    // Not the past: retention would take it.
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
    let mut builder = BatchBuilder::new(codec);
    for record in first..first + records {
        let key = format!("key-{record:08}");
        // Room for the record's own length, attributes, timestamp and offset deltas.
        let value = stanza_like(record, each.saturating_sub(key.len() + 20).max(1));
        builder.append(now_ms, Some(key.as_bytes()), Some(&value), [].into_iter())?;
    }
    let mut out = Vec::with_capacity(bytes);
    builder.finish(&mut out)?;
    Ok(out)
}

/// Text of `bytes` bytes in the shape of a package stanza, so that codecs and plugins see what they would in earnest.
fn stanza_like(number: usize, bytes: usize) -> Vec<u8> {
    const SECTIONS: [&str; 8] = ["libs", "net", "python", "devel", "doc", "games", "utils", "web"];
    let section = SECTIONS[number % SECTIONS.len()];
    let mut text = format!("Section: {section}\nPackage: package-{number}\nDescription: ").into_bytes();
    let mut state = number as u64 + 1;
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(format!("{:x} of the ", state >> 48).as_bytes());
    }
    text.truncate(bytes);
    text
}

/// A produce request with one batch for one partition.
pub(crate) fn produce(partition: i32, acks: i16, batch: &[u8]) -> Vec<u8> {
    produce_to(TOPIC, partition, acks, batch)
}

/// The same to another topic, whose name is as long as [`TOPIC`].
pub(crate) fn produce_to(topic: &str, partition: i32, acks: i16, batch: &[u8]) -> Vec<u8> {
    let partition_data = vec![PartitionProduceData { index: partition, records: Some(batch) }];
    let request = ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { name: topic.into(), partition_data, ..Default::default() }],
        ..ProduceRequest::default()
    };
    frame(PRODUCE_VERSION, &request)
}

/// A fetch request for up to `bytes` bytes from `offset` of partition 0.
pub(crate) fn fetch(offset: i64, bytes: i32) -> Vec<u8> {
    let partition =
        FetchPartition { partition: 0, fetch_offset: offset, partition_max_bytes: bytes, ..FetchPartition::default() };
    let request = FetchRequest {
        max_wait_ms: 10_000,
        min_bytes: 1,
        max_bytes: bytes,
        topics: vec![FetchTopic { topic: TOPIC.into(), partitions: vec![partition], ..FetchTopic::default() }],
        ..FetchRequest::default()
    };
    frame(FETCH_VERSION, &request)
}

/// A commit of one offset of a group without members.
pub(crate) fn offset_commit(group: &str, offset: i64) -> Vec<u8> {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_leader_epoch: -1,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    frame(OFFSET_COMMIT_VERSION, &request)
}

/// An `ApiVersions` request of about 100 bytes, the smallest question there is.
pub(crate) fn api_versions() -> Vec<u8> {
    let client = "x".repeat(86);
    let header = RequestHeader::of::<ApiVersionsRequest<'_>>(0, 1, Some(client.as_str().into()));
    let mut out = Vec::new();
    encode_request(&header, &ApiVersionsRequest::default(), &mut out);
    out
}

fn frame<'a, M: ottla_wire::Message<'a>>(version: i16, message: &M) -> Vec<u8> {
    let mut out = Vec::new();
    encode_request(&RequestHeader::of::<M>(version, 1, Some("ottla-bench".into())), message, &mut out);
    out
}
