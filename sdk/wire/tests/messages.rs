//! Messages as kafka-clients 4.4 writes them, in the versions that the differential test has no other implementation for.

use ottla_wire::message::*;
use ottla_wire::{ErrorCode, Message, Reader, Uuid, Wire, Writer};

const TOPIC_ID: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);

fn check<'a, M: Message<'a> + PartialEq + std::fmt::Debug>(name: &str, bytes: &'a mut Vec<u8>, expected: &M) {
    let text = include_str!("../vectors/messages_java.hex");
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    let mut words = line.split(' ').skip(1);
    let version: i16 = words.next().unwrap().parse().unwrap();
    let hex = words.next().unwrap();
    bytes.extend((0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()));
    let mut ours = Vec::new();
    expected.encode(&mut Writer::new(&mut ours, version, true));
    assert_eq!(ours, *bytes, "{name}");
    let read: M = Wire::decode(&mut Reader::new(bytes, version, true)).unwrap();
    assert_eq!(read, *expected, "{name}");
}

#[test]
fn offsets_are_committed_and_fetched_by_topic_id_as_kafka_does() {
    let partition = OffsetCommitRequestPartition {
        partition_index: 3,
        committed_offset: 42,
        committed_leader_epoch: 7,
        committed_metadata: Some("note".into()),
    };
    let request = OffsetCommitRequest {
        group_id: "orders".into(),
        generation_id_or_member_epoch: 8,
        member_id: "m-1".into(),
        group_instance_id: Some("i-1".into()),
        topics: vec![OffsetCommitRequestTopic {
            topic_id: TOPIC_ID,
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    check("OffsetCommitRequest", &mut Vec::new(), &request);

    let partition = OffsetCommitResponsePartition { partition_index: 3, error_code: ErrorCode::StaleMemberEpoch };
    let topic = OffsetCommitResponseTopic { topic_id: TOPIC_ID, partitions: vec![partition], ..Default::default() };
    check("OffsetCommitResponse", &mut Vec::new(), &OffsetCommitResponse { throttle_time_ms: 5, topics: vec![topic] });

    let topic = OffsetFetchRequestTopics { topic_id: TOPIC_ID, partition_indexes: vec![3], ..Default::default() };
    let group = OffsetFetchRequestGroup {
        group_id: "orders".into(),
        member_id: Some("m-1".into()),
        member_epoch: 8,
        topics: Some(vec![topic]),
    };
    let request = OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
    check("OffsetFetchRequest", &mut Vec::new(), &request);

    let partition = OffsetFetchResponsePartitions {
        partition_index: 3,
        committed_offset: 42,
        committed_leader_epoch: 7,
        metadata: Some("note".into()),
        ..Default::default()
    };
    let topic = OffsetFetchResponseTopics { topic_id: TOPIC_ID, partitions: vec![partition], ..Default::default() };
    let group =
        OffsetFetchResponseGroup { group_id: "orders".into(), topics: vec![topic], error_code: ErrorCode::None };
    let response = OffsetFetchResponse { throttle_time_ms: 5, groups: vec![group], ..Default::default() };
    check("OffsetFetchResponse", &mut Vec::new(), &response);
}

#[test]
fn offsets_are_listed_as_kafka_does() {
    let partition = ListOffsetsPartition {
        partition_index: 3,
        current_leader_epoch: 7,
        timestamp: TIMESTAMP_EARLIEST_PENDING_UPLOAD,
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: 1,
        topics: vec![ListOffsetsTopic { name: "orders".into(), partitions: vec![partition] }],
        timeout_ms: 500,
    };
    check("ListOffsetsRequest", &mut Vec::new(), &request);

    let partition = ListOffsetsPartitionResponse {
        partition_index: 3,
        offset: 42,
        leader_epoch: 7,
        ..ListOffsetsPartitionResponse::default()
    };
    let topic = ListOffsetsTopicResponse { name: "orders".into(), partitions: vec![partition] };
    check("ListOffsetsResponse", &mut Vec::new(), &ListOffsetsResponse { throttle_time_ms: 5, topics: vec![topic] });
}
