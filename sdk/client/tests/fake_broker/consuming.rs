//! The consumer and a broker that sends what it should not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ottla_client::{ConsumeError, Consumer, OffsetReset, StartFrom};
use ottla_wire::message::{
    FetchRecords, FetchRequest, FetchResponse, FetchableTopicResponse, ListOffsetsPartitionResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse, PartitionData,
};
use ottla_wire::record::{BatchBuilder, Codec, Header, set_base_offset};
use ottla_wire::{ApiKey, ErrorCode, Offset};

use crate::broker::{FakeBroker, Reply, Request};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A batch of records whose values are their offsets.
pub(crate) fn batch(codec: Codec, base_offset: i64, count: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for offset in base_offset..base_offset + count {
        let header = Header { key: b"h", value: None };
        let text = offset.to_string();
        builder.append(offset, Some(b"k"), Some(text.as_bytes()), [header].into_iter()).unwrap();
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    set_base_offset(&mut bytes, Offset(base_offset));
    bytes
}

/// What the broker says about a partition, by the offset asked for. Nothing: the poll is left waiting.
type Log = dyn Fn(i32, i64) -> Option<(ErrorCode, Vec<u8>)> + Send + Sync;

fn serve(request: &Request, log: &Log) -> Reply {
    match request.key {
        ApiKey::Fetch => fetch(request, log),
        ApiKey::ListOffsets => offsets(request),
        _ => Reply::Silence,
    }
}

fn fetch(request: &Request, log: &Log) -> Reply {
    let asked: FetchRequest<'_> = request.read();
    let mut found: BTreeMap<i32, (ErrorCode, Vec<u8>)> = BTreeMap::new();
    for partition in asked.topics.iter().flat_map(|topic| &topic.partitions) {
        found.extend(log(partition.partition, partition.fetch_offset).map(|part| (partition.partition, part)));
    }
    if found.is_empty() {
        return Reply::Silence;
    }
    let partitions = found.iter().map(|(partition_index, (error_code, records))| PartitionData {
        partition_index: *partition_index,
        error_code: *error_code,
        high_watermark: 1000,
        log_start_offset: 100,
        records: FetchRecords::Bytes(records),
        ..PartitionData::default()
    });
    let topic = FetchableTopicResponse { topic: "t".into(), partitions: partitions.collect(), ..Default::default() };
    request.answer(&FetchResponse { responses: vec![topic], ..FetchResponse::default() })
}

/// Every log starts at 100 and ends at 1000; the record of time T has offset T.
pub(crate) fn offsets(request: &Request) -> Reply {
    let asked: ListOffsetsRequest<'_> = request.read();
    let topics = asked.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                offset: match partition.timestamp {
                    -2 => 100,
                    -1 => 1000,
                    time if time < 1000 => time,
                    _ => -1,
                },
                ..Default::default()
            })
            .collect(),
    });
    request.answer(&ListOffsetsResponse { topics: topics.collect(), ..Default::default() })
}

pub(crate) async fn broker(
    partitions: i32,
    log: impl Fn(i32, i64) -> Option<(ErrorCode, Vec<u8>)> + Send + Sync + 'static,
) -> FakeBroker {
    FakeBroker::start(partitions, move |request| {
        matches!(request.key, ApiKey::Fetch | ApiKey::ListOffsets).then(|| serve(request, &log))
    })
    .await
}

#[allow(clippy::unnecessary_wraps)] // what a `Log` answers
pub(crate) fn good(bytes: Vec<u8>) -> Option<(ErrorCode, Vec<u8>)> {
    Some((ErrorCode::None, bytes))
}

/// Polls until `count` records are there; their offsets.
pub(crate) async fn read(consumer: &Consumer, count: usize) -> Result<Vec<i64>, ConsumeError> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        let records = consumer.poll(count - offsets.len(), PATIENCE).await?;
        assert!(!records.is_empty(), "only {offsets:?}");
        for record in records.iter() {
            assert_eq!(record.value(), Some(record.offset().to_string().as_bytes()));
            assert_eq!((record.key(), record.timestamp_ms()), (Some(&b"k"[..]), record.offset()));
            assert_eq!(record.headers().collect::<Vec<_>>(), [(&b"h"[..], None)]);
            offsets.push(record.offset());
        }
    }
    Ok(offsets)
}

#[tokio::test]
async fn reading_starts_where_it_was_told_to_even_inside_a_batch() {
    for codec in Codec::ALL {
        let broker = broker(1, move |_, offset| {
            let base = offset / 10 * 10;
            good([batch(codec, base, 10), batch(codec, base + 10, 10)].concat())
        })
        .await;
        for (start, first) in [
            (StartFrom::Earliest, 100),
            (StartFrom::Offset(237), 237),
            (StartFrom::Timestamp(555), 555),
            (StartFrom::Timestamp(1 << 40), 1000),
            (StartFrom::Latest, 1000),
        ] {
            let consumer = Consumer::new(broker.consumer()).unwrap();
            assert_eq!(consumer.assign_topic("t", start).await.unwrap(), [0]);
            let expected: Vec<_> = (first..first + 25).collect();
            assert_eq!(read(&consumer, 25).await.unwrap(), expected, "{start:?}");
            assert_eq!(consumer.position("t", 0).unwrap(), Some(first + 25));
        }
    }
}

#[tokio::test]
async fn gaps_and_control_batches_are_passed_over() {
    let broker = broker(1, |_, offset| match offset {
        100 => good(batch(Codec::None, 150, 5)),
        155 => {
            let mut control = batch(Codec::None, 155, 1);
            control[22] |= 1 << 5;
            let crc = ottla_wire::record::crc32c(&control[21..]);
            control[17..21].copy_from_slice(&crc.to_be_bytes());
            good([control, batch(Codec::None, 160, 5)].concat())
        }
        _ => None,
    })
    .await;
    let consumer = Consumer::new(broker.consumer()).unwrap();
    consumer.assign_topic("t", StartFrom::Earliest).await.unwrap();
    assert_eq!(read(&consumer, 10).await.unwrap(), [150, 151, 152, 153, 154, 160, 161, 162, 163, 164]);
}

#[tokio::test]
async fn a_position_outside_the_log_is_told_or_mended_as_configured() {
    for (policy, expected) in
        [(OffsetReset::Fail, None), (OffsetReset::Earliest, Some(100)), (OffsetReset::Latest, Some(1000))]
    {
        let broker = broker(1, |_, offset| match offset {
            5 => Some((ErrorCode::OffsetOutOfRange, Vec::new())),
            offset => good(batch(Codec::None, offset, 1)),
        })
        .await;
        let mut config = broker.consumer();
        config.offset_reset = policy;
        let consumer = Consumer::new(config).unwrap();
        consumer.assign_topic("t", StartFrom::Offset(5)).await.unwrap();
        let first = read(&consumer, 1).await;
        if let Some(offset) = expected {
            assert_eq!(first.unwrap(), [offset]);
        } else {
            let error = first.unwrap_err();
            assert!(matches!(error, ConsumeError::OffsetOutOfRange { offset: 5, start: 100, .. }), "{error}");
            consumer.seek("t", 0, StartFrom::Offset(200)).unwrap();
            assert_eq!(read(&consumer, 2).await.unwrap(), [200, 201]);
        }
    }
}

#[tokio::test]
async fn damage_is_reported_where_it_is_and_never_skipped_in_silence() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("a flipped bit", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("an old format", |bytes| bytes[16] = 1),
        ("an impossible length", |bytes| bytes[8..12].copy_from_slice(&3_i32.to_be_bytes())),
        ("offsets before the beginning", |bytes| set_base_offset(bytes, Offset(-4))),
        ("a compression that does not exist", |bytes| {
            bytes[22] |= 7;
            let crc = ottla_wire::record::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }),
    ];
    for (what, damage) in damages {
        let broker = broker(1, move |_, offset| {
            let mut bad = batch(Codec::None, 105, 5);
            damage(&mut bad);
            match offset {
                100 => good([batch(Codec::None, 100, 5), bad].concat()),
                105 => good(bad),
                offset => good(batch(Codec::None, offset, 1)),
            }
        })
        .await;
        let consumer = Consumer::new(broker.consumer()).unwrap();
        consumer.assign_topic("t", StartFrom::Earliest).await.unwrap();
        assert_eq!(read(&consumer, 5).await.unwrap(), [100, 101, 102, 103, 104], "{what}");
        let error = read(&consumer, 1).await.unwrap_err();
        assert!(matches!(error, ConsumeError::Corrupt { offset: 105, .. }), "{what}: {error}");
        // Told once; the rest of the consumer lives, and the reader decides how to go on.
        assert!(consumer.try_poll(1).unwrap().is_none(), "{what}");
        consumer.seek("t", 0, StartFrom::Offset(110)).unwrap();
        assert_eq!(read(&consumer, 1).await.unwrap(), [110], "{what}");
    }
}

#[tokio::test]
async fn a_bomb_is_refused_and_a_large_batch_is_not() {
    let bomb = || {
        let mut builder = BatchBuilder::new(Codec::Zstd);
        builder.append(0, None, Some(&vec![0; 8 << 20]), std::iter::empty()).unwrap();
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        set_base_offset(&mut bytes, Offset(100));
        bytes
    };
    let broker = broker(1, move |_, _| good(bomb())).await;
    let mut config = broker.consumer();
    config.batch_bytes_max = 1 << 20;
    let consumer = Consumer::new(config).unwrap();
    consumer.assign_topic("t", StartFrom::Earliest).await.unwrap();
    let error = consumer.poll(1, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConsumeError::BatchTooLarge { setting: "batch_bytes_max", .. }), "{error}");

    let consumer = Consumer::new(broker.consumer()).unwrap();
    consumer.assign_topic("t", StartFrom::Earliest).await.unwrap();
    assert_eq!(consumer.poll(1, PATIENCE).await.unwrap().iter().next().unwrap().value().unwrap().len(), 8 << 20);
}

/// Kafka before KIP-74, and hostile brokers, cut a batch that does not fit.
#[tokio::test]
async fn a_batch_that_does_not_fit_is_asked_for_in_full() {
    let broker = FakeBroker::start(1, |request| {
        if request.key == ApiKey::Fetch {
            let asked: FetchRequest<'_> = request.read();
            let bytes_max = asked.topics[0].partitions[0].partition_max_bytes as usize;
            return Some(fetch(request, &move |_, offset| {
                let mut bytes = batch(Codec::None, offset, 200);
                bytes.truncate(bytes_max);
                good(bytes)
            }));
        }
        (request.key == ApiKey::ListOffsets).then(|| offsets(request))
    })
    .await;
    let mut config = broker.consumer();
    config.partition_bytes_max = 100;
    let consumer = Consumer::new(config).unwrap();
    consumer.assign_topic("t", StartFrom::Earliest).await.unwrap();
    assert_eq!(read(&consumer, 300).await.unwrap().len(), 300);
}

#[tokio::test]
async fn a_leader_that_moved_is_found_again() {
    let count = AtomicUsize::new(0);
    let broker = broker(1, move |_, offset| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Some((ErrorCode::NotLeaderOrFollower, Vec::new())),
        1 => Some((ErrorCode::UnknownTopicOrPartition, Vec::new())),
        _ => good(batch(Codec::None, offset, 3)),
    })
    .await;
    let consumer = Consumer::new(broker.consumer()).unwrap();
    consumer.assign_topic("t", StartFrom::Earliest).await.unwrap();
    assert_eq!(read(&consumer, 4).await.unwrap(), [100, 101, 102, 103]);
}

#[tokio::test]
async fn a_long_poll_for_one_partition_does_not_hold_up_another() {
    let broker = broker(2, |partition, offset| match partition {
        0 => None,
        _ => good(batch(Codec::None, offset, 2)),
    })
    .await;
    let consumer = Consumer::new(broker.consumer()).unwrap();
    let quiet = ottla_client::Assignment { topic: "t".into(), partition: 0, start: StartFrom::Offset(100) };
    consumer.assign(std::slice::from_ref(&quiet)).await.unwrap();
    broker.saw(ApiKey::Fetch, 1).await;
    consumer.assign(&[ottla_client::Assignment { partition: 1, ..quiet }]).await.unwrap();
    assert_eq!(read(&consumer, 2).await.unwrap(), [100, 101]);
}

#[tokio::test]
async fn a_batch_of_the_past_is_not_delivered_again() {
    let count = AtomicUsize::new(0);
    let broker = broker(1, move |_, offset| match count.fetch_add(1, Ordering::Relaxed) {
        0..=3 => good(batch(Codec::None, 100, 5)),
        _ => good(batch(Codec::None, offset, 1)),
    })
    .await;
    let consumer = Consumer::new(broker.consumer()).unwrap();
    consumer.assign_topic("t", StartFrom::Earliest).await.unwrap();
    assert_eq!(read(&consumer, 6).await.unwrap(), [100, 101, 102, 103, 104, 105]);
}

#[tokio::test]
async fn fetching_pauses_while_nobody_polls() {
    let broker = broker(1, |_, offset| good(batch(Codec::None, offset, 100))).await;
    let mut config = broker.consumer();
    config.buffer_bytes = 10_000;
    config.partition_bytes_max = 1000;
    let consumer = Consumer::new(config).unwrap();
    consumer.assign_topic("t", StartFrom::Earliest).await.unwrap();
    assert_eq!(read(&consumer, 5_000).await.unwrap(), (100..5_100).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_does_not_exist_is_said_at_once() {
    let broker = broker(2, |_, _| None).await;
    let consumer = Consumer::new(broker.consumer()).unwrap();
    let error = consumer.assign_topic("u", StartFrom::Earliest).await.unwrap_err();
    assert!(matches!(error, ConsumeError::UnknownTopic { .. }), "{error}");
    let third = ottla_client::Assignment { topic: "t".into(), partition: 2, start: StartFrom::Earliest };
    let error = consumer.assign(&[third]).await.unwrap_err();
    assert_eq!(error.to_string(), "topic t has partitions 0 to 1, not 2");
    assert!(matches!(consumer.seek("t", 0, StartFrom::Latest), Err(ConsumeError::NotAssigned { .. })));
}
