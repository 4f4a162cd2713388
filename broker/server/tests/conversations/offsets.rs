//! ListOffsets: ends, beginnings, and times. `OffsetForLeaderEpoch`: where epochs end. `DeleteRecords`: other beginnings.

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopic, FetchResponse, LeaderEpochEndOffset, ListOffsetsPartition, ListOffsetsPartitionResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_wire::record::Codec;

use ottla_test_broker::{TestBroker, batch, fetch};

fn asking(partition_index: i32, timestamp: i64) -> ListOffsetsPartition {
    ListOffsetsPartition { partition_index, timestamp, current_leader_epoch: -1 }
}

async fn ask(
    broker: &TestBroker,
    version: i16,
    topic: &str,
    partitions: Vec<ListOffsetsPartition>,
) -> Vec<ListOffsetsPartitionResponse> {
    let topics = vec![ListOffsetsTopic { name: topic.into(), partitions }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let answer = broker.client().await.ask(version, &request).await;
    answer.read::<ListOffsetsResponse<'_>>().topics[0].partitions.clone()
}

#[tokio::test]
async fn a_time_finds_the_first_record_at_or_after_it_also_inside_compressed_batches() {
    let broker = TestBroker::start().await;
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let name = format!("t-{codec:?}");
        broker.create_topic(&name, 1, &[]).await;
        // Offsets 0-2 at 1000-1002, 3-5 at 5000-5002, 6-7 at 3000-3001: times go back as they like.
        for start in [1000, 5000, 3000] {
            let values: &[&[u8]] = if start == 3000 { &[b"a", b"b"] } else { &[b"a", b"b", b"c"] };
            broker.append(&name, 0, batch(codec, start, values)).await;
        }
        for (timestamp, offset, found) in [
            (0, 0, 1000),
            (1001, 1, 1001),
            (1003, 3, 5000),
            (3001, 3, 5000),
            (5002, 5, 5002),
            (5003, -1, -1),
            (-1, 8, -1),
            (-2, 0, -1),
            (-3, 5, 5002),
            (-4, 0, -1),
            (-5, -1, -1),
        ] {
            let answer = ask(&broker, 10, &name, vec![asking(0, timestamp)]).await;
            assert_eq!(answer[0].error_code, ErrorCode::None);
            assert_eq!((answer[0].offset, answer[0].timestamp), (offset, found), "{codec:?} {timestamp}");
        }
    }
}

#[tokio::test]
async fn every_version_answers() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker.append("t", 0, batch(Codec::None, 7, &[b"x"])).await;
    for version in 1..=11 {
        let answer = ask(&broker, version, "t", vec![asking(0, -1)]).await;
        assert_eq!((answer[0].offset, answer[0].error_code), (1, ErrorCode::None));
        if version >= 4 {
            assert_eq!(answer[0].leader_epoch, 0);
        }
    }
}

#[tokio::test]
async fn tiered_storage_has_nothing_and_wants_nothing() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker.append("t", 0, batch(Codec::None, 7, &[b"x"])).await;
    for (version, timestamp, error_code) in [
        (9, -5, ErrorCode::None),
        (8, -5, ErrorCode::UnsupportedVersion),
        (11, -6, ErrorCode::None),
        (10, -6, ErrorCode::UnsupportedVersion),
        (11, -7, ErrorCode::UnsupportedVersion),
    ] {
        let answer = ask(&broker, version, "t", vec![asking(0, timestamp)]).await;
        let told = (answer[0].error_code, answer[0].offset, answer[0].timestamp, answer[0].leader_epoch);
        assert_eq!(told, (error_code, -1, -1, -1), "version {version}, {timestamp}");
    }
}

#[tokio::test]
async fn an_empty_partition_has_ends_and_no_times() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    for (timestamp, offset) in [(-1, 0), (-2, 0), (-3, -1), (0, -1)] {
        let answer = ask(&broker, 8, "t", vec![asking(0, timestamp)]).await;
        assert_eq!((answer[0].offset, answer[0].timestamp), (offset, -1), "{timestamp}");
    }
}

/// The epoch told with an offset is the one its record was written in, not the one of today.
#[tokio::test]
async fn offsets_carry_the_epoch_they_were_written_in() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[("ottla.durability", "page-cache")]).await;
    broker.append("t", 0, batch(Codec::None, 100, &[b"a", b"b"])).await;
    let broker = broker.crash().await;
    broker.append("t", 0, batch(Codec::None, 200, &[b"c"])).await;
    for (timestamp, offset, leader_epoch) in [(-2, 0, 0), (101, 1, 0), (200, 2, 1), (-3, 2, 1), (-1, 3, 1)] {
        let answer = ask(&broker, 7, "t", vec![asking(0, timestamp)]).await;
        assert_eq!((answer[0].offset, answer[0].leader_epoch), (offset, leader_epoch), "{timestamp}");
    }
    let fenced = ListOffsetsPartition { current_leader_epoch: 0, ..asking(0, -1) };
    let answer = ask(&broker, 7, "t", vec![fenced]).await;
    assert_eq!(answer[0].error_code, ErrorCode::FencedLeaderEpoch);
}

#[tokio::test]
async fn what_cannot_be_answered_has_a_code_of_its_own() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let fenced = |partition_index, current_leader_epoch| ListOffsetsPartition {
        partition_index,
        timestamp: -1,
        current_leader_epoch,
    };
    let code = |answer: &[ListOffsetsPartitionResponse]| answer[0].error_code;
    assert_eq!(code(&ask(&broker, 5, "nobody", vec![asking(0, -1)]).await), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(&ask(&broker, 5, "t", vec![asking(9, -1)]).await), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(&ask(&broker, 5, "t", vec![fenced(0, 7)]).await), ErrorCode::UnknownLeaderEpoch);
    assert_eq!(code(&ask(&broker, 5, "t", vec![asking(0, -9)]).await), ErrorCode::UnsupportedVersion);
    for (timestamp, version) in [(-3, 6), (-4, 7), (-5, 8)] {
        let answer = ask(&broker, version, "t", vec![asking(0, timestamp)]).await;
        assert_eq!(code(&answer), ErrorCode::UnsupportedVersion, "{timestamp}");
    }
    let twice = ask(&broker, 5, "t", vec![asking(0, -1), asking(0, -1)]).await;
    assert_eq!((twice[0].error_code, twice[1].error_code), (ErrorCode::InvalidRequest, ErrorCode::InvalidRequest));
}

async fn ask_epoch(
    broker: &TestBroker,
    version: i16,
    topic: &str,
    partition: i32,
    current_leader_epoch: i32,
    leader_epoch: i32,
) -> LeaderEpochEndOffset {
    let partitions = vec![OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch }];
    let topics = vec![OffsetForLeaderTopic { topic: topic.into(), partitions }];
    let request = OffsetForLeaderEpochRequest { replica_id: -1, topics };
    let answer = broker.client().await.ask(version, &request).await;
    answer.read::<OffsetForLeaderEpochResponse<'_>>().topics[0].partitions[0]
}

#[tokio::test]
async fn every_epoch_ends_where_the_next_one_began() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[("ottla.durability", "page-cache")]).await;
    broker.append("t", 0, batch(Codec::None, 100, &[b"a", b"b"])).await;
    let broker = broker.crash().await;
    // Epoch 1 gets no record and leaves no trace.
    let broker = broker.crash().await;
    broker.append("t", 0, batch(Codec::None, 200, &[b"c"])).await;
    for version in 2..=4 {
        for (asked, epoch, end) in [(0, 0, 2), (1, 0, 2), (2, 2, 3), (3, -1, -1), (-1, -1, -1)] {
            let answer = ask_epoch(&broker, version, "t", 0, 2, asked).await;
            assert_eq!(answer.error_code, ErrorCode::None);
            assert_eq!((answer.leader_epoch, answer.end_offset), (epoch, end), "v{version} epoch {asked}");
        }
    }
}

#[tokio::test]
async fn an_epoch_is_answered_only_to_who_believes_in_the_same_leader() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[("ottla.durability", "page-cache")]).await;
    let broker = broker.crash().await;
    let leader_epoch = ask(&broker, 5, "t", vec![asking(0, -1)]).await[0].leader_epoch;
    for (topic, partition, current, code) in [
        ("t", 0, leader_epoch, ErrorCode::None),
        ("t", 0, -1, ErrorCode::None),
        ("t", 0, leader_epoch - 1, ErrorCode::FencedLeaderEpoch),
        ("t", 0, leader_epoch + 1, ErrorCode::UnknownLeaderEpoch),
        ("t", 1, -1, ErrorCode::UnknownTopicOrPartition),
        ("nobody", 0, -1, ErrorCode::UnknownTopicOrPartition),
    ] {
        let answer = ask_epoch(&broker, 4, topic, partition, current, leader_epoch).await;
        assert_eq!(answer.error_code, code, "{topic}-{partition} {current}");
        if code != ErrorCode::None {
            assert_eq!((answer.leader_epoch, answer.end_offset), (-1, -1));
        }
    }
}

async fn delete(
    broker: &TestBroker,
    version: i16,
    topic: &str,
    partition_index: i32,
    offset: i64,
) -> DeleteRecordsPartitionResult {
    let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
    let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
    let request = DeleteRecordsRequest { topics, timeout_ms: 60_000 };
    let answer = broker.client().await.ask(version, &request).await;
    answer.read::<DeleteRecordsResponse<'_>>().topics[0].partitions[0]
}

#[tokio::test]
async fn records_that_were_deleted_are_gone_for_readers_and_after_a_crash() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    for start in [1000, 2000, 3000] {
        broker.append("t", 0, batch(Codec::Gzip, start, &[b"a", b"b", b"c"])).await;
    }
    // In the middle of a batch, backwards (nothing happens), and again.
    for (version, offset, low) in [(0, 4, 4), (1, 2, 4), (2, 0, 4), (2, 5, 5)] {
        let answer = delete(&broker, version, "t", 0, offset).await;
        assert_eq!((answer.error_code, answer.low_watermark), (ErrorCode::None, low), "v{version} {offset}");
    }
    let broker = broker.crash().await;
    for (timestamp, offset) in [(-2, 5), (-4, 5), (-1, 9), (0, 5), (1001, 5), (3000, 6)] {
        let answer = ask(&broker, 8, "t", vec![asking(0, timestamp)]).await;
        assert_eq!(answer[0].offset, offset, "{timestamp}");
    }
    for (offset, code) in [(4, ErrorCode::OffsetOutOfRange), (5, ErrorCode::None), (9, ErrorCode::None)] {
        let answer = broker.client().await.ask(12, &fetch("t", &[(0, offset)])).await;
        let response: FetchResponse<'_> = answer.read();
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.log_start_offset), (code, 5), "{offset}");
    }
    // -1 is everything that can be seen.
    assert_eq!(delete(&broker, 2, "t", 0, -1).await.low_watermark, 9);
    let answer = ask(&broker, 8, "t", vec![asking(0, -2)]).await;
    assert_eq!(answer[0].offset, 9);
}

#[tokio::test]
async fn what_cannot_be_deleted_has_a_code_of_its_own() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker.create_topic("compacted", 1, &[("cleanup.policy", "compact")]).await;
    broker.create_topic("both", 1, &[("cleanup.policy", "compact,delete")]).await;
    broker.append("t", 0, batch(Codec::None, 1000, &[b"a"])).await;
    for (topic, partition, offset, code) in [
        ("t", 0, 2, ErrorCode::OffsetOutOfRange),
        ("t", 0, -2, ErrorCode::OffsetOutOfRange),
        ("t", 1, 0, ErrorCode::UnknownTopicOrPartition),
        ("nobody", 0, 0, ErrorCode::UnknownTopicOrPartition),
        ("compacted", 0, 0, ErrorCode::PolicyViolation),
        ("both", 0, 0, ErrorCode::None),
    ] {
        let answer = delete(&broker, 2, topic, partition, offset).await;
        let low = if code == ErrorCode::None { 0 } else { -1 };
        assert_eq!((answer.error_code, answer.low_watermark), (code, low), "{topic}-{partition} {offset}");
    }
}
