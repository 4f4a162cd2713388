//! Fetch: what comes, when, and how much of it.

use std::time::{Duration, Instant};

use ottla_wire::message::{
    DeleteTopicsRequest, FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use ottla_wire::record::{Codec, batches};
use ottla_wire::{ErrorCode, Uuid};

use ottla_test_broker::{Answer, TestBroker, batch, fetch};

fn partitions(answer: &Answer) -> Vec<PartitionData<'_>> {
    answer.read::<FetchResponse<'_>>().responses.remove(0).partitions
}

/// The values in an answer's partition, in order.
fn values(partition: &PartitionData<'_>) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for batch in batches(partition.records.bytes()) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        for record in &batch.records(1 << 20).unwrap() {
            values.push(record.unwrap().value.unwrap().to_vec());
        }
    }
    values
}

#[tokio::test]
async fn every_version_brings_the_records_whole_and_unchanged() {
    let broker = TestBroker::start().await;
    let topic_id = broker.create_topic("t", 2, &[]).await;
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        broker.append("t", 0, batch(codec, 1, &[b"a", b"b"])).await;
    }
    for version in 4..=18 {
        let mut request = fetch("t", &[(0, 0), (1, 0)]);
        request.topics[0].topic_id = topic_id;
        let answer = broker.client().await.ask(version, &request).await;
        let partitions = partitions(&answer);
        assert_eq!(values(&partitions[0]), [b"a", b"b"].repeat(5), "version {version}");
        assert_eq!((partitions[0].high_watermark, partitions[0].last_stable_offset), (10, 10));
        assert_eq!(partitions[0].aborted_transactions, None);
        assert_eq!((partitions[1].high_watermark, partitions[1].records.bytes()), (0, &[][..]));
        if version >= 5 {
            assert_eq!(partitions[0].log_start_offset, 0);
        }
    }
}

#[tokio::test]
async fn an_offset_inside_a_batch_brings_the_whole_batch() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker.append("t", 0, batch(Codec::Zstd, 1, &[b"a", b"b", b"c"])).await;
    broker.append("t", 0, batch(Codec::None, 1, &[b"d"])).await;
    let answer = broker.client().await.ask(11, &fetch("t", &[(0, 2)])).await;
    assert_eq!(values(&partitions(&answer)[0]), [b"a", b"b", b"c", b"d"]);
    let answer = broker.client().await.ask(11, &fetch("t", &[(0, 3)])).await;
    assert_eq!(values(&partitions(&answer)[0]), [b"d"]);
}

#[tokio::test]
async fn the_end_is_empty_and_beyond_it_is_an_error_with_the_real_bounds() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker.append("t", 0, batch(Codec::None, 1, &[b"a", b"b"])).await;
    for (offset, error_code) in
        [(2, ErrorCode::None), (3, ErrorCode::OffsetOutOfRange), (-1, ErrorCode::OffsetOutOfRange)]
    {
        let answer = broker.client().await.ask(11, &fetch("t", &[(0, offset)])).await;
        let partition = &partitions(&answer)[0];
        assert_eq!((partition.error_code, partition.records.bytes()), (error_code, &[][..]), "{offset}");
        assert_eq!((partition.high_watermark, partition.log_start_offset), (2, 0));
    }
}

#[tokio::test]
async fn what_is_unknown_is_told_per_partition_and_at_once() {
    let broker = TestBroker::start().await;
    let topic_id = broker.create_topic("t", 1, &[]).await;
    let mut request = fetch("t", &[(0, 0), (5, 0), (-1, 0)]);
    request.max_wait_ms = 60_000;
    request.topics.push(FetchTopic { topic: "nobody".into(), ..request.topics[0].clone() });
    let answer = broker.client().await.ask(12, &request).await;
    let response: FetchResponse<'_> = answer.read();
    let codes =
        |topic: usize| -> Vec<_> { response.responses[topic].partitions.iter().map(|p| p.error_code).collect() };
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(codes(0), [ErrorCode::None, unknown, unknown]);
    assert_eq!(codes(1), [unknown; 3]);

    let by_id = |topic_id| FetchTopic {
        topic_id,
        partitions: vec![FetchPartition { partition_max_bytes: 1000, ..Default::default() }],
        ..Default::default()
    };
    let topics = vec![by_id(topic_id), by_id(Uuid::from_u128(3)), by_id(Uuid::nil())];
    let request = FetchRequest { max_wait_ms: 60_000, min_bytes: 1, topics, ..Default::default() };
    let answer = broker.client().await.ask(13, &request).await;
    let response: FetchResponse<'_> = answer.read();
    let codes: Vec<_> = response.responses.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicId, ErrorCode::UnknownTopicId]);
    assert_eq!(response.responses[1].topic_id, Uuid::from_u128(3));
}

/// A crash may take back what a page-cache topic showed, so the leader that comes after it is another one.
#[tokio::test]
async fn leader_epochs_are_compared_and_a_divergence_is_told() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[("ottla.durability", "page-cache")]).await;
    broker.append("t", 0, batch(Codec::None, 1, &[b"a", b"b"])).await;
    let broker = broker.crash().await;
    broker.append("t", 0, batch(Codec::None, 1, &[b"c"])).await;
    let epoch = broker.broker.topics.get("t").unwrap().partition(0).unwrap().log.leader_epoch().get();
    assert_eq!(epoch, 1);
    for (current_leader_epoch, error_code) in [
        (-1, ErrorCode::None),
        (1, ErrorCode::None),
        (0, ErrorCode::FencedLeaderEpoch),
        (2, ErrorCode::UnknownLeaderEpoch),
    ] {
        let mut request = fetch("t", &[(0, 0)]);
        request.max_wait_ms = 60_000;
        request.topics[0].partitions[0].current_leader_epoch = current_leader_epoch;
        let answer = broker.client().await.ask(12, &request).await;
        let partition = &partitions(&answer)[0];
        assert_eq!(partition.error_code, error_code, "{current_leader_epoch}");
        if error_code == ErrorCode::FencedLeaderEpoch {
            assert_eq!((partition.current_leader.leader_id, partition.current_leader.leader_epoch), (1, 1));
        }
    }
    // A reader that saw an offset 2 in epoch 0 saw something that is not in this log.
    for (fetch_offset, last_fetched_epoch, diverging) in [(2, 0, (-1, -1)), (3, 0, (0, 2)), (3, 1, (-1, -1))] {
        let mut request = fetch("t", &[(0, fetch_offset)]);
        request.topics[0].partitions[0].last_fetched_epoch = last_fetched_epoch;
        let answer = broker.client().await.ask(12, &request).await;
        let partition = &partitions(&answer)[0];
        let told = (partition.diverging_epoch.epoch, partition.diverging_epoch.end_offset);
        assert_eq!((partition.error_code, told), (ErrorCode::None, diverging), "{fetch_offset} {last_fetched_epoch}");
    }
}

#[tokio::test]
async fn a_poll_ends_with_its_connection() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = broker.client().await;
    let mut request = fetch("t", &[(0, 0)]);
    request.max_wait_ms = i32::MAX;
    client.send(12, &request).await;
    broker.wait_for_polls(1).await;
    drop(client);
    broker.wait_for_polls(0).await;
}

#[tokio::test]
async fn a_poll_ends_with_the_time_that_a_connection_may_be_silent() {
    let broker = TestBroker::start_with(&["connections.max.idle.ms=200"]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut request = fetch("t", &[(0, 0)]);
    request.max_wait_ms = i32::MAX;
    let answer = broker.client().await.ask(12, &request).await;
    let partition = &partitions(&answer)[0];
    assert_eq!((partition.error_code, partition.records.bytes()), (ErrorCode::None, &[][..]));
}

#[tokio::test]
async fn a_poll_waits_for_the_bytes_it_wants_and_wakes_when_they_come() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let one = batch(Codec::None, 1, &[b"0123456789"]);
    let mut request = fetch("t", &[(0, 0), (1, 0)]);
    request.max_wait_ms = 60_000;
    request.min_bytes = one.len() as i32 * 2;
    let mut client = broker.client().await;
    client.send(12, &request).await;
    broker.append("t", 0, one.clone()).await;
    // One batch is not enough: nothing comes before the second, which arrives on the other partition.
    let early = tokio::time::timeout(Duration::from_millis(200), client.stream.readable()).await;
    assert!(early.is_err());
    broker.append("t", 1, one).await;
    let answer = client.receive(12).await;
    let partitions = partitions(&answer);
    assert_eq!((values(&partitions[0]).len(), values(&partitions[1]).len()), (1, 1));
}

/// What can be read counts, not what fits: batches seldom fill a limit to the byte, and a reader whose limits equal
/// what it waits for would wait out its time with every poll.
#[tokio::test]
async fn a_poll_does_not_wait_for_bytes_that_its_own_limits_keep_out() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let one = batch(Codec::None, 1, &[&[7; 1000]]);
    for _ in 0..3 {
        broker.append("t", 0, one.clone()).await;
    }
    let one = one.len() as i32;
    for (min_bytes, partition_max_bytes, max_bytes) in [
        (one + one / 2, one + one / 2, i32::MAX),
        (one + one / 2, i32::MAX, one + one / 2),
        (i32::MAX, i32::MAX, 2 * one),
    ] {
        let mut request = fetch("t", &[(0, 0)]);
        (request.min_bytes, request.max_bytes, request.max_wait_ms) = (min_bytes, max_bytes, i32::MAX);
        request.topics[0].partitions[0].partition_max_bytes = partition_max_bytes;
        let answer = broker.client().await.ask(12, &request).await;
        assert!(!values(&partitions(&answer)[0]).is_empty());
    }
}

#[tokio::test]
async fn a_poll_ends_when_its_time_is_up() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut request = fetch("t", &[(0, 0)]);
    request.max_wait_ms = 150;
    let asked = Instant::now();
    let answer = broker.client().await.ask(12, &request).await;
    assert!(asked.elapsed() >= Duration::from_millis(150));
    assert_eq!(partitions(&answer)[0].records.bytes(), b"");
}

#[tokio::test]
async fn a_poll_ends_when_its_topic_is_deleted() {
    let broker = TestBroker::start().await;
    let topic_id = broker.create_topic("t", 1, &[]).await;
    let mut request = fetch("t", &[(0, 0)]);
    request.topics[0].topic_id = topic_id;
    request.max_wait_ms = 60_000;
    let (mut by_name, mut by_id) = (broker.client().await, broker.client().await);
    by_name.send(12, &request).await;
    by_id.send(13, &request).await;
    broker.wait_for_polls(2).await;
    let deletion = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
    broker.client().await.ask(3, &deletion).await;
    let answer = by_name.receive(12).await;
    assert_eq!(partitions(&answer)[0].error_code, ErrorCode::UnknownTopicOrPartition);
    let answer = by_id.receive(13).await;
    assert_eq!(partitions(&answer)[0].error_code, ErrorCode::UnknownTopicId);
}

#[tokio::test]
async fn a_poll_ends_when_the_broker_stops_and_is_answered() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = broker.client().await;
    let mut request = fetch("t", &[(0, 0)]);
    request.max_wait_ms = 60_000;
    client.send(12, &request).await;
    broker.wait_for_polls(1).await;
    broker.stop().await;
    assert_eq!(partitions(&client.receive(12).await)[0].error_code, ErrorCode::None);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn only_the_first_batch_of_an_answer_may_exceed_its_limits() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 3, &[]).await;
    let large = vec![7; 10_000];
    for partition in [0, 1] {
        for _ in 0..3 {
            broker.append("t", partition, batch(Codec::None, 1, &[&large])).await;
        }
    }
    let one = batch(Codec::None, 1, &[&large]).len();
    let lengths =
        |answer: &Answer| -> Vec<usize> { partitions(answer).iter().map(|p| p.records.bytes().len()).collect() };
    let mut request = fetch("t", &[(2, 0), (0, 0), (1, 0)]);
    // Nothing on partition 2; the first batch comes despite the limits, and no other.
    request.max_bytes = 1;
    let answer = broker.client().await.ask(12, &request).await;
    assert_eq!(lengths(&answer), [0, one, 0]);
    request.max_bytes = i32::MAX;
    for partition in &mut request.topics[0].partitions {
        partition.partition_max_bytes = 1;
    }
    let answer = broker.client().await.ask(12, &request).await;
    assert_eq!(lengths(&answer), [0, one, 0]);
    // Room for a batch and a half per partition, and for three and a half together: whole batches only.
    for partition in &mut request.topics[0].partitions {
        partition.partition_max_bytes = (one + one / 2) as i32;
    }
    let answer = broker.client().await.ask(12, &request).await;
    assert_eq!(lengths(&answer), [0, one, one]);
    for partition in &mut request.topics[0].partitions {
        partition.partition_max_bytes = i32::MAX;
    }
    request.max_bytes = (3 * one + one / 2) as i32;
    let answer = broker.client().await.ask(12, &request).await;
    assert_eq!(lengths(&answer), [0, 3 * one, 0]);
}

#[tokio::test]
async fn a_reader_of_committed_records_gets_an_empty_list_of_aborted_transactions() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    broker.append("t", 0, batch(Codec::None, 1, &[b"a"])).await;
    let request = FetchRequest { isolation_level: 1, ..fetch("t", &[(0, 0)]) };
    let answer = broker.client().await.ask(12, &request).await;
    assert_eq!(partitions(&answer)[0].aborted_transactions, Some(Vec::new()));
}

/// Large pieces leave by sendfile, small ones by one gathered write, cold ones from another thread; the bytes are the
/// same.
#[tokio::test]
async fn every_way_out_brings_the_same_bytes() {
    let ways = ["1", "268435456"];
    let mut sums = Vec::new();
    for sendfile_min_bytes in ways {
        let setting = format!("ottla.deliver.sendfile.min.bytes={sendfile_min_bytes}");
        let broker = TestBroker::start_with(&[&setting, "ottla.deliver.step.bytes=4096"]).await;
        broker.create_topic("t", 3, &[]).await;
        for partition in 0..3 {
            for round in 0..20_u8 {
                let value = vec![round; 1 + usize::from(round) * 4000];
                broker.append("t", partition, batch(Codec::None, 1, &[&value])).await;
            }
        }
        let mut request = fetch("t", &[(0, 0), (1, 0), (2, 0)]);
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = 10 << 20;
        }
        let answer = broker.client().await.ask(12, &request).await;
        sums.push(answer.frame);
    }
    assert!(sums[0].len() > 3 * 20 * 19 / 2 * 4000);
    assert!(sums[0] == sums[1]);
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_everything() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let large = vec![3; 1 << 20];
    for _ in 0..24 {
        broker.append("t", 0, batch(Codec::None, 1, &[&large])).await;
    }
    let mut request = fetch("t", &[(0, 0)]);
    request.topics[0].partitions[0].partition_max_bytes = 40 << 20;
    let mut client = broker.client().await;
    client.send(12, &request).await;
    // The answer has begun, and is larger than the buffers between us: it cannot go on before the client reads.
    client.stream.readable().await.unwrap();
    let answer = client.receive(12).await;
    assert_eq!(values(&partitions(&answer)[0]).len(), 24);
}
