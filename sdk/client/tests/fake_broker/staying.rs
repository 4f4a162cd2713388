//! A consumer that must neither skip, nor spin, nor wait in silence.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ottla_client::{Assignment, Classify, ConsumeError, Consumer, Isolation, OffsetReset, StartFrom};
use ottla_wire::message::{
    AbortedTransaction, EpochEndOffset, FetchRecords, FetchRequest, FetchResponse, FetchableTopicResponse,
    PartitionData,
};
use ottla_wire::record::{Codec, set_base_offset, set_leader_epoch, set_producer};
use ottla_wire::{ApiKey, ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::broker::{FakeBroker, Reply, Request, metadata, metadata_of};
use crate::consuming::{PATIENCE, batch, broker, good, offsets, read};

fn assignment(partition: i32, start: StartFrom) -> Assignment {
    Assignment { topic: "t".into(), partition, start }
}

/// An answer about partition 0.
fn fetched(request: &Request, data: PartitionData<'_>) -> Reply {
    let topic = FetchableTopicResponse { topic: "t".into(), partitions: vec![data], ..Default::default() };
    request.answer(&FetchResponse { responses: vec![topic], ..FetchResponse::default() })
}

fn offset_asked(request: &Request) -> i64 {
    let asked: FetchRequest<'_> = request.read();
    asked.topics[0].partitions[0].fetch_offset
}

#[tokio::test]
async fn an_answer_to_a_partition_that_was_unassigned_moves_none_that_is_assigned_again() {
    let stale = Arc::new(Notify::new());
    let gate = Arc::clone(&stale);
    let broker = FakeBroker::start(1, move |request| {
        if request.key != ApiKey::Fetch {
            return None;
        }
        let offset = offset_asked(request);
        let records = if offset < 2_500 { batch(Codec::None, offset, 100) } else { Vec::new() };
        let data =
            PartitionData { high_watermark: 2_500, records: FetchRecords::Bytes(&records), ..PartitionData::default() };
        let answer = fetched(request, data);
        Some(if offset == 2_500 { answer.after(&gate) } else { answer })
    })
    .await;
    let mut config = broker.consumer();
    config.buffer_bytes = 1;
    config.partition_bytes_max = 1;
    let consumer = Consumer::new(config).unwrap();
    consumer.assign(&[assignment(0, StartFrom::Offset(2_500))]).await.unwrap();
    broker.saw(ApiKey::Fetch, 1).await;
    consumer.unassign("t", 0);
    consumer.assign(&[assignment(0, StartFrom::Offset(0))]).await.unwrap();
    while consumer.high_watermark("t", 0).unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The long poll of before is answered while the first records wait to be polled.
    stale.notify_one();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(read(&consumer, 2_500).await.unwrap(), (0..2_500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_leader_out_of_reach_costs_its_own_partitions_only_and_poll_says_so() {
    let dead: SocketAddr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let broker = FakeBroker::start(2, move |request| match request.key {
        ApiKey::Metadata => Some(request.answer(&metadata_of(&[(1, request.address), (2, dead)], &[1, 2]))),
        ApiKey::ListOffsets => Some(offsets(request)),
        ApiKey::Fetch if offset_asked(request) < 120 => {
            let records = batch(Codec::None, offset_asked(request), 20);
            Some(fetched(request, PartitionData { records: FetchRecords::Bytes(&records), ..Default::default() }))
        }
        _ => None,
    })
    .await;
    let mut config = broker.consumer();
    config.unreachable_ms_max = 200;
    let consumer = Consumer::new(config).unwrap();
    consumer.assign_topic("t", StartFrom::Earliest).await.unwrap();
    assert_eq!(read(&consumer, 20).await.unwrap(), (100..120).collect::<Vec<_>>());
    let error = consumer.poll(1, PATIENCE).await.unwrap_err();
    assert!(matches!(&error, ConsumeError::Connection(_)) && error.to_string().contains(&dead.to_string()), "{error}");
}

#[tokio::test]
async fn damaged_lengths_are_told_and_do_not_spin() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("a length beyond the answer", |bytes| {
            let length = bytes.len() as i32 - 12 + 40;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        }),
        ("an enormous length", |bytes| bytes[8..12].copy_from_slice(&i32::MAX.to_be_bytes())),
        ("10 bytes of a batch", |bytes| bytes.truncate(10)),
        ("a message of an old format", |bytes| {
            bytes.truncate(40);
            bytes[8..12].copy_from_slice(&28_i32.to_be_bytes());
            bytes[16] = 1;
        }),
    ];
    for (what, damage) in damages {
        let broker = broker(1, move |_, offset| {
            let mut bytes = batch(Codec::None, offset, 5);
            if offset == 105 {
                damage(&mut bytes);
            }
            good(bytes)
        })
        .await;
        let consumer = Consumer::new(broker.consumer()).unwrap();
        consumer.assign_topic("t", StartFrom::Earliest).await.unwrap();
        assert_eq!(read(&consumer, 5).await.unwrap(), [100, 101, 102, 103, 104], "{what}");
        let told = tokio::time::timeout(PATIENCE, read(&consumer, 1)).await.unwrap();
        let error = told.unwrap_err();
        let is_told = matches!(
            error,
            ConsumeError::Corrupt { offset: 105, .. } | ConsumeError::BatchTooLarge { offset: 105, .. }
        );
        assert!(is_told, "{what}: {error}");
        let asked = broker.count(ApiKey::Fetch);
        assert!(asked < 10, "{what}: {asked} fetches");
    }
}

#[tokio::test]
async fn a_broker_that_does_not_wait_for_data_is_asked_with_pauses() {
    let broker = FakeBroker::start(1, |request| {
        (request.key == ApiKey::Fetch).then(|| fetched(request, PartitionData::default()))
    })
    .await;
    let mut config = broker.consumer();
    config.client.retry_backoff_ms = 50;
    config.client.retry_backoff_ms_max = 50;
    let consumer = Consumer::new(config).unwrap();
    consumer.assign(&[assignment(0, StartFrom::Offset(0))]).await.unwrap();
    assert!(consumer.poll(1, Duration::from_secs(1)).await.unwrap().is_empty());
    let asked = broker.count(ApiKey::Fetch);
    assert!((3..200).contains(&asked), "{asked} fetches in a second");
}

#[tokio::test]
async fn what_the_cluster_refuses_for_good_is_told() {
    for code in [ErrorCode::TopicAuthorizationFailed, ErrorCode::InvalidTopicException] {
        let asked = AtomicUsize::new(0);
        let broker = FakeBroker::start(1, move |request| match request.key {
            ApiKey::Metadata => {
                let mut answer = metadata(request.address, 1);
                if asked.fetch_add(1, Ordering::Relaxed) > 0 {
                    answer.topics[0].error_code = code;
                    answer.topics[0].partitions.clear();
                }
                Some(request.answer(&answer))
            }
            ApiKey::Fetch => {
                let error_code = ErrorCode::NotLeaderOrFollower;
                Some(fetched(request, PartitionData { error_code, ..PartitionData::default() }))
            }
            _ => None,
        })
        .await;
        let consumer = Consumer::new(broker.consumer()).unwrap();
        consumer.assign(&[assignment(0, StartFrom::Offset(0))]).await.unwrap();
        let polled = tokio::time::timeout(PATIENCE, consumer.poll(1, PATIENCE)).await.unwrap();
        assert_eq!(polled.unwrap_err().code(), Some(code));
        let error = consumer.assign_topic("t", StartFrom::Earliest).await.unwrap_err();
        assert_eq!(error.code(), Some(code));
    }
}

#[tokio::test]
async fn answers_that_do_not_decode_are_told_after_a_while() {
    let broker = FakeBroker::start(1, |request| {
        let garbage = [&100_i32.to_be_bytes()[..], &request.correlation_id.to_be_bytes(), &[0xff; 96]].concat();
        (request.key == ApiKey::Fetch).then_some(Reply::Bytes(garbage))
    })
    .await;
    let mut config = broker.consumer();
    config.unreachable_ms_max = 100;
    let consumer = Consumer::new(config).unwrap();
    consumer.assign(&[assignment(0, StartFrom::Offset(0))]).await.unwrap();
    let error = consumer.poll(1, PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("malformed Fetch response"), "{error}");
}

#[tokio::test]
async fn the_reader_of_a_partition_that_vanished_is_told() {
    let asked = AtomicUsize::new(0);
    let broker = FakeBroker::start(1, move |request| match request.key {
        ApiKey::Metadata => {
            let partitions = if asked.fetch_add(1, Ordering::Relaxed) == 0 { 2 } else { 1 };
            Some(request.answer(&metadata(request.address, partitions)))
        }
        ApiKey::Fetch => {
            let (error_code, partition_index) = (ErrorCode::UnknownTopicOrPartition, 1);
            Some(fetched(request, PartitionData { error_code, partition_index, ..PartitionData::default() }))
        }
        _ => None,
    })
    .await;
    let consumer = Consumer::new(broker.consumer()).unwrap();
    consumer.assign(&[assignment(1, StartFrom::Offset(0))]).await.unwrap();
    let error = consumer.poll(1, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConsumeError::NoSuchPartition { partition: 1, count: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_topic_that_was_away_is_read_on_if_the_reader_takes_what_there_is() {
    for (policy, goes_on) in [(OffsetReset::Earliest, true), (OffsetReset::Fail, false)] {
        let (asked, fetches) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let broker = FakeBroker::start(1, move |request| match request.key {
            ApiKey::Metadata => {
                let away = (1..40).contains(&asked.fetch_add(1, Ordering::Relaxed));
                Some(request.answer(&metadata(request.address, i32::from(!away))))
            }
            ApiKey::Fetch => {
                let away = fetches.fetch_add(1, Ordering::Relaxed) == 0;
                let error_code = if away { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::None };
                let records = if away { Vec::new() } else { batch(Codec::None, offset_asked(request), 1) };
                let records = FetchRecords::Bytes(&records);
                Some(fetched(request, PartitionData { error_code, records, ..PartitionData::default() }))
            }
            _ => None,
        })
        .await;
        let mut config = broker.consumer();
        config.offset_reset = policy;
        let consumer = Consumer::new(config).unwrap();
        consumer.assign(&[assignment(0, StartFrom::Offset(7))]).await.unwrap();
        match read(&consumer, 2).await {
            Ok(offsets) => assert!(goes_on && offsets == [7, 8], "{offsets:?}"),
            Err(error) => assert!(!goes_on && matches!(error, ConsumeError::UnknownTopic { .. }), "{error}"),
        }
    }
}

/// Three transactions: of producer 1, aborted; of producer 2, committed; of producer 1 again, open at the end.
fn transactions() -> Vec<u8> {
    let sent = |producer: i64, base_offset: i64, count| {
        let mut bytes = batch(Codec::None, base_offset, count);
        set_producer(&mut bytes, ProducerId(producer), ProducerEpoch(0), Sequence(0));
        with_attributes(bytes, 1 << 4)
    };
    let marker = |producer: i64, base_offset: i64, kind: i16| {
        let mut builder = ottla_wire::record::BatchBuilder::new(Codec::None);
        let key = [[0, 0], kind.to_be_bytes()].concat();
        builder.append(0, Some(&key), Some(&[0; 6]), std::iter::empty()).unwrap();
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        set_base_offset(&mut bytes, Offset(base_offset));
        set_producer(&mut bytes, ProducerId(producer), ProducerEpoch(0), Sequence(-1));
        with_attributes(bytes, 1 << 4 | 1 << 5)
    };
    [sent(1, 100, 3), sent(2, 103, 2), marker(1, 105, 0), sent(1, 106, 1), marker(2, 107, 1), marker(1, 108, 1)]
        .concat()
}

fn with_attributes(mut bytes: Vec<u8>, flags: u8) -> Vec<u8> {
    bytes[22] |= flags;
    let crc = ottla_wire::record::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[tokio::test]
async fn records_of_aborted_transactions_are_read_only_by_those_who_want_them() {
    for (isolation, expected) in
        [(None, &[103, 104, 106][..]), (Some(Isolation::ReadUncommitted), &[100, 101, 102, 103, 104, 106])]
    {
        let broker = FakeBroker::start(1, move |request| {
            if request.key != ApiKey::Fetch || offset_asked(request) != 100 {
                return None;
            }
            let asked: FetchRequest<'_> = request.read();
            assert_eq!(asked.isolation_level, i8::from(isolation.is_none()));
            let records = transactions();
            let aborted = AbortedTransaction { producer_id: 1, first_offset: 100 };
            let data = PartitionData {
                high_watermark: 109,
                last_stable_offset: 109,
                aborted_transactions: (asked.isolation_level == 1).then(|| vec![aborted]),
                records: FetchRecords::Bytes(&records),
                ..PartitionData::default()
            };
            Some(fetched(request, data))
        })
        .await;
        let mut config = broker.consumer();
        config.isolation = isolation.unwrap_or(config.isolation);
        let consumer = Consumer::new(config).unwrap();
        consumer.assign(&[assignment(0, StartFrom::Offset(100))]).await.unwrap();
        assert_eq!(read(&consumer, expected.len()).await.unwrap(), expected);
        assert_eq!(consumer.position("t", 0).unwrap(), Some(109), "markers behind the last record count");
    }
}

/// After an unclean election the log may be shorter than what was read (KIP-320).
#[tokio::test]
async fn a_log_that_was_cut_back_is_told_or_read_on_from_there_as_configured() {
    for (policy, expected) in [(OffsetReset::Fail, None), (OffsetReset::Earliest, Some([102, 103, 104]))] {
        let broker = FakeBroker::start(1, move |request| {
            if request.key != ApiKey::Fetch {
                return None;
            }
            let asked: FetchRequest<'_> = request.read();
            let asked = asked.topics[0].partitions[0];
            let mut records = batch(Codec::None, asked.fetch_offset, 5);
            set_leader_epoch(&mut records, LeaderEpoch(3));
            let cut = asked.last_fetched_epoch == 3 && asked.fetch_offset == 105;
            let data = PartitionData {
                diverging_epoch: if cut {
                    EpochEndOffset { epoch: 2, end_offset: 102 }
                } else {
                    EpochEndOffset::default()
                },
                records: if cut { FetchRecords::Null } else { FetchRecords::Bytes(&records) },
                ..PartitionData::default()
            };
            Some(fetched(request, data))
        })
        .await;
        let mut config = broker.consumer();
        config.offset_reset = policy;
        config.buffer_bytes = 1;
        config.partition_bytes_max = 1;
        let consumer = Consumer::new(config).unwrap();
        consumer.assign(&[assignment(0, StartFrom::Offset(100))]).await.unwrap();
        assert_eq!(read(&consumer, 5).await.unwrap(), [100, 101, 102, 103, 104]);
        let next = read(&consumer, 3).await;
        if let Some(offsets) = expected {
            assert_eq!(next.unwrap(), offsets);
        } else {
            let error = next.unwrap_err();
            assert!(matches!(error, ConsumeError::Truncated { offset: 105, end: 102, .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn a_log_whose_start_is_not_told_is_not_said_to_start_at_minus_one() {
    let broker = FakeBroker::start(1, |request| {
        let error_code = ErrorCode::OffsetOutOfRange;
        let data = PartitionData { error_code, log_start_offset: -1, ..PartitionData::default() };
        (request.key == ApiKey::Fetch).then(|| fetched(request, data))
    })
    .await;
    let consumer = Consumer::new(broker.consumer()).unwrap();
    consumer.assign(&[assignment(0, StartFrom::Offset(5))]).await.unwrap();
    let error = consumer.poll(1, PATIENCE).await.unwrap_err().to_string();
    assert_eq!(error, "t-0 holds no offset 5; seek, or choose an `offset_reset`");
}
