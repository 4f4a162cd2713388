//! Acks, error codes, and what the broker fills in.

use ottla_broker::broker::Broker;
use ottla_broker::config::Config;
use ottla_wire::message::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic, InitProducerIdRequest,
    InitProducerIdResponse, PartitionProduceData, ProduceRequest, ProduceResponse,
};
use ottla_wire::record::{Codec, TimestampType, batches, check_crc, set_create_time, set_log_append_time};
use ottla_wire::{ErrorCode, Uuid};

use ottla_test_broker::{Answered, Client, NEWEST, TestBroker, produce_request, said};

#[tokio::test(flavor = "multi_thread")]
async fn every_version_and_codec_is_taken_and_kept_as_sent() {
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[]).await;
    let mut client = home.client().await;
    let mut offset = 0;
    for version in 3..=NEWEST {
        for codec in Codec::ALL.into_iter().filter(|codec| *codec != Codec::Zstd || version >= 7) {
            let batch = said("abc").codec(codec).bytes();
            let answer = client.produce_as(version, -1, "t", 0, &batch).await;
            assert_eq!(answer.offset(), offset);
            assert_eq!(answer.log_append_time_ms, -1);
            assert_eq!(answer.log_start_offset, if version >= 5 { 0 } else { -1 });
            let stored = home.stored("t", 0).await.pop().unwrap();
            assert_eq!(stored[16..], batch[16..], "everything but offset and leader epoch");
            assert_eq!(stored[..8], offset.to_be_bytes());
            offset += 3;
        }
    }
}

/// From version 13 on topics are named by id: a topic that was deleted and created again is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_produced_to_by_its_id() {
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[]).await;
    let topic_id = home.broker.topics.get("t").unwrap().id;
    let mut client = home.client().await;
    let batch = said("abc").bytes();
    let ask = async |client: &mut Client, topic_id: Uuid, partition: i32| {
        let mut request = produce_request(-1, "", &[(partition, &batch)]);
        request.topic_data[0].topic_id = topic_id;
        let answer = client.ask(13, &request).await;
        let response: ProduceResponse<'_> = answer.read();
        assert_eq!(response.responses[0].topic_id, topic_id);
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    };
    assert_eq!(ask(&mut client, topic_id, 0).await, (ErrorCode::None, 0));
    assert_eq!(ask(&mut client, topic_id, 0).await, (ErrorCode::None, 3));
    assert_eq!(ask(&mut client, topic_id, 1).await, (ErrorCode::UnknownTopicOrPartition, -1));
    assert_eq!(ask(&mut client, Uuid::from_u128(7), 0).await, (ErrorCode::UnknownTopicId, -1));
    assert_eq!(ask(&mut client, Uuid::nil(), 0).await, (ErrorCode::UnknownTopicId, -1));
    let topic = home.broker.topics.get("t").unwrap();
    home.broker.topics.delete(&topic).unwrap();
    home.create_topic("t", 1, &[]).await;
    assert_eq!(ask(&mut client, topic_id, 0).await, (ErrorCode::UnknownTopicId, -1));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_where_the_log_starts_after_records_were_deleted() {
    let home = TestBroker::start().await;
    home.create_topic("t", 2, &[]).await;
    let mut client = home.client().await;
    for _ in 0..3 {
        client.produce("t", 0, &said("abc")).await.offset();
    }
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 4 }];
    let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
    let answer = client.ask(2, &DeleteRecordsRequest { topics, timeout_ms: 30_000 }).await;
    let response: DeleteRecordsResponse<'_> = answer.read();
    assert_eq!(response.topics[0].partitions[0].low_watermark, 4);
    for version in 3..=NEWEST {
        for (partition, start) in [(0, 4), (1, 0)] {
            let answer = client.produce_as(version, -1, "t", partition, &said("d").bytes()).await;
            assert_eq!(answer.error_code, ErrorCode::None);
            assert_eq!(answer.log_start_offset, if version >= 5 { start } else { -1 });
        }
    }
    let home = home.restart().await;
    assert_eq!(home.client().await.produce("t", 0, &said("d")).await.log_start_offset, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_acks_all_means_readable() {
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[]).await;
    let mut client = home.client().await;
    for round in 1..=20 {
        client.produce("t", 0, &said("a")).await.offset();
        let topic = home.broker.topics.get("t").unwrap();
        assert!(topic.partition(0).unwrap().watermark.high().get() >= round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_partitions_and_pipelined_requests_keep_their_order() {
    let home = TestBroker::start().await;
    home.create_topic("t", 3, &[]).await;
    let mut client = home.client().await;
    for round in 0..50 {
        let batches: Vec<_> =
            (0..3).map(|partition| said("ab").tagged(&format!("{round}/{partition}:")).bytes()).collect();
        let pieces: Vec<_> = (0..).zip(batches.iter().map(Vec::as_slice)).collect();
        client.send(9, &produce_request(if round % 2 == 0 { 1 } else { -1 }, "t", &pieces)).await;
    }
    for round in 0..50 {
        let answers = client.receive_produced(9).await;
        assert_eq!(answers.iter().map(Answered::offset).collect::<Vec<_>>(), [round * 2; 3]);
    }
    for partition in 0..3 {
        let values: Vec<_> = home.records("t", partition).await.into_iter().map(|(_, value)| value).collect();
        let expected = (0..50).flat_map(|round| said("ab").tagged(&format!("{round}/{partition}:")).values());
        assert_eq!(values, expected.collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_0_is_never_answered_and_a_failure_ends_the_connection() {
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[]).await;
    let mut client = home.client().await;
    let batch = said("a").bytes();
    client.send(9, &produce_request(0, "t", &[(0, &batch)])).await;
    let answer = client.produce_as(9, -1, "t", 0, &batch).await;
    assert_eq!(answer.offset(), 1, "the first answer is that of the second request");
    client.send(9, &produce_request(0, "t", &[(7, &batch)])).await;
    assert!(client.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_is_refused_with_its_code() {
    let home = TestBroker::start_with(&["message.max.bytes=1000"]).await;
    home.create_topic("t", 2, &[]).await;
    home.create_topic("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let mut client = home.client().await;
    let good = said("abc").bytes();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let large = said("a").tagged(&"x".repeat(2000)).bytes();
    let zstd = said("a").codec(Codec::Zstd).bytes();
    let twice = [good.clone(), good.clone()].concat();
    let transactional = {
        let mut bytes = Vec::new();
        said("a").by(1, 0, 0).builder().transactional().finish(&mut bytes).unwrap();
        bytes
    };
    let reserved = said("a").by(i64::MAX, 0, 0).bytes();
    for (version, acks, topic, partition, batch, code) in [
        (9, -1, "t", 0, &flipped, ErrorCode::CorruptMessage),
        (9, -1, "t", 2, &good, ErrorCode::UnknownTopicOrPartition),
        (9, -1, "t", -1, &good, ErrorCode::UnknownTopicOrPartition),
        (9, -1, "unknown", 0, &good, ErrorCode::UnknownTopicOrPartition),
        (9, 2, "t", 0, &good, ErrorCode::InvalidRequiredAcks),
        (9, -1, "t", 0, &large, ErrorCode::MessageTooLarge),
        (6, -1, "t", 0, &zstd, ErrorCode::UnsupportedCompressionType),
        (9, -1, "t", 0, &twice, ErrorCode::InvalidRecord),
        (9, -1, "t", 0, &Vec::new(), ErrorCode::InvalidRecord),
        (9, -1, "t", 0, &transactional, ErrorCode::InvalidTxnState),
        (9, -1, "t", 0, &reserved, ErrorCode::InvalidRecord),
    ] {
        let answer = client.produce_as(version, acks, topic, partition, batch).await;
        assert_eq!((answer.error_code, answer.base_offset), (code, -1), "{}", answer.message);
        assert_eq!(answer.message.is_empty(), version < 8);
    }
    let keyless = said("abc").keyless();
    let answer = client.produce("compacted", 0, &keyless).await;
    assert_eq!((answer.error_code, answer.record_errors), (ErrorCode::InvalidRecord, vec![0, 1, 2]));
    // Nothing of all this was stored, and the connection still works.
    assert_eq!(client.produce("t", 0, &said("abc")).await.offset(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_batch_and_a_transactional_request_are_refused() {
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[]).await;
    let mut client = home.client().await;
    let batch = said("a").bytes();
    let mut request: ProduceRequest<'_> = produce_request(-1, "t", &[(0, &batch)]);
    request.transactional_id = Some("tx".into());
    client.send(9, &request).await;
    assert_eq!(client.receive_produced(9).await[0].error_code, ErrorCode::InvalidTxnState);
    request.transactional_id = None;
    request.topic_data[0].partition_data = vec![PartitionProduceData { index: 0, records: None }];
    client.send(9, &request).await;
    assert_eq!(client.receive_produced(9).await[0].error_code, ErrorCode::InvalidRecord);
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_topics_are_not_for_clients() {
    let home = TestBroker::start().await;
    home.create_topic("__consumer_offsets", 1, &[("cleanup.policy", "compact")]).await;
    let answer = home.client().await.produce("__consumer_offsets", 0, &said("a")).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidTopicException);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_stamps_where_the_topic_says_so() {
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let answer = home.client().await.produce("t", 0, &said("abc").codec(Codec::Gzip)).await;
    assert!(answer.log_append_time_ms > 1_700_000_000_000);
    let stored = home.stored("t", 0).await.remove(0);
    check_crc(&stored).unwrap();
    let header = batches(&stored).next().unwrap().unwrap().header;
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(header.max_timestamp, answer.log_append_time_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_out_of_bounds_are_refused_record_by_record() {
    let home = TestBroker::start().await;
    let bounds = [("message.timestamp.before.max.ms", "60000"), ("message.timestamp.after.max.ms", "60000")];
    home.create_topic("t", 1, &bounds).await;
    let mut client = home.client().await;
    for codec in Codec::ALL {
        let answer = client.produce("t", 0, &said("abc").codec(codec)).await;
        assert_eq!((answer.error_code, answer.record_errors), (ErrorCode::InvalidTimestamp, vec![0, 1, 2]));
    }
    // Where the broker stamps, the client's clock does not matter, and its claim to be the broker is refused.
    home.set_topic("t", "message.timestamp.type", "LogAppendTime").await;
    assert!(client.produce("t", 0, &said("abc")).await.log_append_time_ms > 0);
    let mut marked = said("abc").bytes();
    set_log_append_time(&mut marked, 1_700_000_000_000);
    let answer = client.produce_as(NEWEST, -1, "t", 0, &marked).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidTimestamp);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_largest_timestamp_left_out_of_a_compressed_batch_is_filled_in() {
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[]).await;
    for codec in Codec::ALL {
        let mut batch = said("abc").codec(codec).bytes();
        let largest = batches(&batch).next().unwrap().unwrap().header.max_timestamp;
        set_create_time(&mut batch, -1);
        home.client().await.produce_as(NEWEST, -1, "t", 0, &batch).await.offset();
        let stored = home.stored("t", 0).await.pop().unwrap();
        check_crc(&stored).unwrap();
        assert_eq!(batches(&stored).next().unwrap().unwrap().header.max_timestamp, largest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_cache_topics_answer_without_a_sync() {
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[("ottla.durability", "page-cache")]).await;
    assert_eq!(home.client().await.produce("t", 0, &said("abc")).await.offset(), 0);
    assert_eq!(home.records("t", 0).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_are_new_each_time_and_transactions_are_refused_clearly() {
    let home = TestBroker::start().await;
    let mut client = home.client().await;
    let first = client.producer_id().await;
    assert_eq!(client.producer_id().await, first + 1);
    let raise = InitProducerIdRequest { producer_id: first, producer_epoch: 3, ..Default::default() };
    let answer = client.ask(4, &raise).await;
    let raised: InitProducerIdResponse = answer.read();
    assert_eq!((raised.error_code, raised.producer_id, raised.producer_epoch), (ErrorCode::None, first, 4));
    let foreign = InitProducerIdRequest { producer_id: 1 << 40, producer_epoch: 3, ..Default::default() };
    let answer = client.ask(4, &foreign).await;
    let given: InitProducerIdResponse = answer.read();
    assert_eq!((given.producer_id, given.producer_epoch), (first + 2, 0));
    let transactional = InitProducerIdRequest { transactional_id: Some("tx".into()), ..Default::default() };
    let answer = client.ask(4, &transactional).await;
    let refused: InitProducerIdResponse = answer.read();
    assert_eq!((refused.error_code, refused.producer_id), (ErrorCode::UnsupportedVersion, -1));
    let home = home.crash().await;
    assert!(home.client().await.producer_id().await > first + 2);
}

#[tokio::test]
async fn a_broker_whose_settings_contradict_each_other_does_not_start() {
    let data_dir = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: data_dir.path().join("data"),
        num_partitions: 11,
        topic_partitions_max: 10,
        ..Config::default()
    };
    let refused = Broker::open(config, Vec::new()).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("num.partitions=11") && refused.contains("ottla.topic.partitions.max=10"), "{refused}");
    assert!(!data_dir.path().join("data").exists(), "nothing was touched");
}
