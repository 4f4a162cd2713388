//! Compaction against a model: a reader sees the last record of every key and the records that have to stay, in order
//! and at their old offsets.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_log::{
    BatchHeader, CleanOptions, CleanReport, Durability, LogDir, LogOptions, Offset, PartitionLog, PartitionOptions,
};
use ottla_wire::record::{BatchBuilder, Codec, Header, batches};
use ottla_wire::{ProducerEpoch, ProducerId, Sequence};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{create, image, name, open, quick_directory};

const SMALL: PartitionOptions =
    PartitionOptions { durability: Durability::Fsync, segment_bytes: 900, index_interval_bytes: 100 };

/// How long deletion markers stay.
const MARKERS_MS: i64 = 1_000;

#[derive(Clone, Debug, PartialEq)]
struct Seen {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

type Records = BTreeMap<i64, Seen>;

/// Reads as a consumer does. Checks that the batches have no gap and that a read of any offset finds a record.
fn read(log: &PartitionLog) -> Records {
    let (mut records, mut offset, end) = (Records::new(), log.log_start_offset(), log.high_watermark());
    while let Some((bytes, range)) = log.read_batches(offset, 400, end).unwrap() {
        assert!(range.next_offset > offset, "no answer without progress");
        let mut next = None;
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            assert!(next.is_none_or(|next| next == batch.header.base_offset));
            next = Some(batch.header.next_offset());
            let mut newest = -1;
            for record in &batch.records(64 << 20).unwrap() {
                let record = record.unwrap();
                let timestamp = batch.header.timestamp_of(&record);
                newest = newest.max(timestamp);
                let headers: Vec<_> = record.headers.iter().map(|it| it.key).collect();
                assert_eq!(headers, [b"\xFFh".as_slice(), b"\xFFh"]);
                let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
                let at = batch.header.offset_of(&record);
                assert!(records.insert(at.0, Seen { timestamp, key, value }).is_none());
            }
            assert_eq!(batch.header.max_timestamp, newest);
        }
        offset = range.next_offset;
    }
    assert_eq!(offset, end);
    let start = log.log_start_offset().0;
    records.retain(|offset, _| *offset >= start);
    records
}

fn put(log: &PartitionLog, codec: Codec, records: &[(Option<u8>, Option<u8>, i64)], producer: Option<i32>) -> Records {
    let mut builder = BatchBuilder::new(codec);
    if let Some(sequence) = producer {
        builder = builder.producer(ProducerId(5), ProducerEpoch(0), Sequence(sequence));
    }
    let mut seen = Vec::new();
    for (key, value, timestamp) in records {
        let key = key.map(|key| vec![b'k', key]);
        let value = value.map(|value| vec![value; 40]);
        let twice = [Header { key: b"\xFFh", value: None }, Header { key: b"\xFFh", value: Some(b"v") }];
        builder.append(*timestamp, key.as_deref(), value.as_deref(), twice.into_iter()).unwrap();
        seen.push(Seen { timestamp: *timestamp, key, value });
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    let appended = log.append(&mut bytes).unwrap();
    (appended.base_offset.0..).zip(seen).collect()
}

fn no(_: &BatchHeader) -> bool {
    false
}

fn compact_with(log: &PartitionLog, now_ms: i64, upto: Offset, key_map_bytes_max: usize) -> CleanReport {
    log.compact(&CleanOptions {
        upto,
        now_ms,
        delete_retention_ms: MARKERS_MS,
        min_compaction_lag_ms: 0,
        key_map_bytes_max,
        unpacked_bytes_max: 1 << 20,
        io_bytes_per_second: 0,
        is_producer_end: &no,
        should_stop: &|| false,
    })
    .unwrap()
}

fn compact(log: &PartitionLog, now_ms: i64) -> CleanReport {
    compact_with(log, now_ms, Offset(i64::MAX), 1 << 20)
}

fn close_segment(log: &PartitionLog) {
    log.flush().unwrap();
    log.roll_if_due(0, i64::MAX).unwrap();
    log.flush().unwrap();
}

/// Checks what is left of `all` once everything below `upto` is compacted: exactly the last record of each key; a
/// deletion marker may be gone as well.
fn check(all: &Records, left: &Records, upto: i64, start: i64) {
    let last: BTreeMap<&Vec<u8>, i64> =
        all.range(..upto).filter_map(|(offset, record)| Some((record.key.as_ref()?, *offset))).collect();
    for (offset, record) in left {
        assert_eq!(all.get(offset), Some(record), "nothing but what was written, where it was written");
        let newest = record.key.as_ref().is_none_or(|key| *offset >= upto || last[key] == *offset);
        assert!(newest, "offset {offset} should be gone");
    }
    for (offset, record) in all.range(start..) {
        let superseded = record.key.as_ref().is_some_and(|key| *offset < upto && last[key] > *offset);
        let marker = record.key.is_some() && record.value.is_none() && *offset < upto;
        assert!(superseded || marker || left.contains_key(offset), "offset {offset} is missing: {record:?}");
    }
}

#[test]
fn last_record_of_every_key_stays_at_its_offset() {
    for codec in Codec::ALL {
        let directory = quick_directory();
        let (log, _) = open(directory.path());
        let partition = create(&log, "t", SMALL);
        let mut all = Records::new();
        for round in 0..40_u8 {
            let records: Vec<_> = (0..4).map(|at| (Some(round * at % 7), Some(round), i64::from(round) * 10)).collect();
            all.extend(put(&partition, codec, &records, None));
        }
        close_segment(&partition);
        let before = partition.size_bytes().unwrap();
        let report = compact(&partition, 0);
        assert_eq!(report.clean_upto, partition.end_offset());
        let left = read(&partition);
        check(&all, &left, report.clean_upto.0, 0);
        assert_eq!((left.len(), report.keys), (7, 7));
        assert_eq!(report.records_removed as usize, all.len() - 7);
        assert_eq!(partition.size_bytes().unwrap(), before - report.bytes_freed);
        // A read at the offset of a removed record returns the next record that is there.
        for offset in 0..partition.end_offset().0 {
            let Some((next, _)) = left.range(offset..).next() else { continue };
            let found = partition.locate(Offset(offset), 1, partition.end_offset()).unwrap().unwrap();
            assert!(found.base_offset.0 <= *next && *next < found.next_offset.0, "{offset}: {found:?}, {next}");
        }
        // A second compaction has nothing to do.
        assert_eq!(compact(&partition, 0).records_removed, 0);
        drop(log);
        let (log, report) = open(directory.path());
        assert!(report.quarantined.is_empty() && report.truncated.is_empty());
        assert_eq!(read(&log.partition(&name("t", 0)).unwrap()), left);
    }
}

#[test]
fn deletion_markers_stay_for_their_time_and_are_then_removed() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", SMALL);
    let mut all = put(&partition, Codec::Lz4, &[(Some(1), Some(1), 10), (Some(2), Some(1), 11)], None);
    all.extend(put(&partition, Codec::Lz4, &[(Some(1), None, 20), (Some(3), Some(1), 21)], None));
    close_segment(&partition);
    compact(&partition, 100_000);
    let left = read(&partition);
    assert_eq!(left.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(left[&2], all[&2], "the timestamps count from the horizon now and say the same");
    let dirtiness = |now_ms| {
        let options = CleanOptions {
            upto: Offset(i64::MAX),
            now_ms,
            delete_retention_ms: MARKERS_MS,
            min_compaction_lag_ms: 0,
            key_map_bytes_max: 1 << 20,
            unpacked_bytes_max: 1 << 20,
            io_bytes_per_second: 0,
            is_producer_end: &no,
            should_stop: &|| false,
        };
        partition.dirtiness(&options).unwrap()
    };
    assert_eq!(dirtiness(0).next_horizon_ms, Some(101_000));
    assert!(dirtiness(0).ratio() < f64::EPSILON);
    compact(&partition, 101_000);
    assert_eq!(read(&partition).len(), 3);
    compact(&partition, 101_001);
    assert_eq!(read(&partition).keys().copied().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(dirtiness(0).next_horizon_ms, None);
    // A deleted key can come back.
    put(&partition, Codec::None, &[(Some(1), Some(9), 30)], None);
    close_segment(&partition);
    compact(&partition, 200_000);
    assert_eq!(read(&partition).keys().copied().collect::<Vec<_>>(), [1, 3, 4]);
}

#[test]
fn the_last_batch_of_a_producer_stays_even_if_it_is_empty() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", SMALL);
    put(&partition, Codec::Zstd, &[(Some(1), Some(1), 10)], Some(0));
    put(&partition, Codec::Zstd, &[(Some(1), Some(2), 10), (Some(2), Some(2), 10)], Some(1));
    put(&partition, Codec::None, &[(Some(1), Some(3), 10), (Some(2), Some(3), 10)], None);
    close_segment(&partition);
    let is_end = |header: &BatchHeader| header.last_sequence() == Sequence(2);
    for _ in 0..2 {
        partition
            .compact(&CleanOptions {
                upto: Offset(i64::MAX),
                now_ms: 0,
                delete_retention_ms: 0,
                min_compaction_lag_ms: 0,
                key_map_bytes_max: 1 << 20,
                unpacked_bytes_max: 1 << 20,
                io_bytes_per_second: 0,
                is_producer_end: &is_end,
                should_stop: &|| false,
            })
            .unwrap();
        let mut seen = Vec::new();
        partition
            .scan_batches(Offset(0), |header| {
                let sequence = header.is_idempotent().then(|| header.base_sequence.get());
                seen.push((header.base_offset.0, header.next_offset().0, header.record_count, sequence));
            })
            .unwrap();
        assert_eq!(seen, [(0, 1, 0, None), (1, 3, 0, Some(1)), (3, 5, 2, None)]);
    }
    assert_eq!(read(&partition).len(), 2);
    // The read skips the empty batches before the records.
    let found = partition.locate(Offset(0), 1, partition.end_offset()).unwrap().unwrap();
    assert_eq!(found.base_offset, Offset(3));
}

#[test]
fn damaged_segment_stays_as_it_is_with_every_marker_behind_it() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", SMALL);
    for round in 0..10_u8 {
        put(&partition, Codec::None, &[(Some(1), Some(round), 10), (Some(2), Some(round), 10)], None);
        close_segment(&partition);
    }
    put(&partition, Codec::None, &[(Some(1), None, 10)], None);
    close_segment(&partition);
    let path = partition.directory().join(format!("{:020}.log", 4));
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    for now_ms in [1_000_000, 2_000_000] {
        let report = compact(&partition, now_ms);
        assert_eq!(report.damaged_segments, [Offset(4)]);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    // The marker deletes records that may be in the damaged segment.
    let (tail, _) = partition.read_batches(Offset(20), 1, partition.end_offset()).unwrap().unwrap();
    assert_eq!(batches(&tail).next().unwrap().unwrap().header.record_count, 1);
}

#[test]
fn young_records_stay_and_a_stop_leaves_everything_whole() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", SMALL);
    for round in 0..20_u8 {
        put(&partition, Codec::None, &[(Some(1), Some(round), i64::from(round) * 100)], None);
        close_segment(&partition);
    }
    let options = CleanOptions {
        upto: Offset(i64::MAX),
        now_ms: 2_000,
        delete_retention_ms: 0,
        min_compaction_lag_ms: 1_000,
        key_map_bytes_max: 1 << 20,
        unpacked_bytes_max: 1 << 20,
        io_bytes_per_second: 0,
        is_producer_end: &no,
        should_stop: &|| false,
    };
    let stopped = partition.compact(&CleanOptions { should_stop: &|| true, ..options });
    assert!(matches!(stopped, Err(ottla_log::CleanError::Stopped)));
    assert_eq!(read(&partition).len(), 20);
    let report = partition.compact(&options).unwrap();
    assert_eq!(report.clean_upto, Offset(11), "the record of 1000 is old enough, that of 1100 is not");
    assert_eq!(read(&partition).keys().copied().collect::<Vec<_>>(), (10..20).collect::<Vec<_>>());
}

#[test]
fn more_segments_than_may_be_open_are_compacted_one_after_another() {
    let directory = quick_directory();
    let few = LogOptions { open_segments_max: 4, ..LogOptions::default() };
    let (log, _) = LogDir::open(directory.path(), few.clone()).unwrap();
    let partition = create(&log, "t", SMALL);
    let mut all = Records::new();
    for round in 0..60_u8 {
        all.extend(put(&partition, Codec::None, &[(Some(round % 7), Some(round), 10)], None));
        close_segment(&partition);
    }
    log.shutdown().unwrap();
    drop(partition);
    let (log, _) = LogDir::open(directory.path(), few).unwrap();
    let partition = log.partition(&name("t", 0)).unwrap();
    let options = CleanOptions {
        upto: Offset(i64::MAX),
        now_ms: 1_000_000,
        delete_retention_ms: MARKERS_MS,
        min_compaction_lag_ms: 0,
        key_map_bytes_max: 1 << 20,
        unpacked_bytes_max: 1 << 20,
        io_bytes_per_second: 0,
        is_producer_end: &no,
        should_stop: &|| false,
    };
    let before = log.open_segments();
    let dirtiness = partition.dirtiness(&options).unwrap();
    assert_eq!((dirtiness.dirty_bytes, dirtiness.oldest_dirty_ms), (partition.size_bytes().unwrap(), Some(10)));
    assert!(log.open_segments() <= before + 1, "only the first one is asked for its time");
    // With a lag, each dirty segment is asked once.
    partition.dirtiness(&CleanOptions { min_compaction_lag_ms: 5, ..options }).unwrap();
    let report = partition.compact(&options).unwrap();
    assert_eq!((report.clean_upto, report.segments_replaced), (Offset(60), 60));
    check(&all, &read(&partition), 60, 0);
    assert_eq!(dirtiness.dirty_bytes - report.bytes_freed, partition.size_bytes().unwrap());
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize, Vec<(Option<u8>, Option<u8>, i64)>),
    Close,
    Compact { memory: usize },
    Delete(usize),
    Restart { clean: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let record = (proptest::option::weighted(0.95, 0_u8..6), proptest::option::weighted(0.7, 0_u8..9), 0_i64..5_000);
    prop_oneof![
        8 => (0_usize..5, vec(record, 1..6)).prop_map(|(codec, records)| Step::Put(codec, records)),
        2 => Just(Step::Close),
        2 => prop_oneof![Just(40_usize), Just(100), Just(1 << 20)].prop_map(|memory| Step::Compact { memory }),
        1 => (0_usize..100).prop_map(Step::Delete),
        1 => any::<bool>().prop_map(|clean| Step::Restart { clean }),
    ]
}

fn restart(path: &std::path::Path, log: LogDir, clean: bool) -> (LogDir, Arc<PartitionLog>) {
    if clean {
        log.shutdown().unwrap();
    } else {
        log.partitions().iter().for_each(|partition| {
            partition.flush().unwrap();
        });
        drop(log);
    }
    let (log, report) = LogDir::open(path, LogOptions::default()).unwrap();
    assert!(report.quarantined.is_empty() && report.truncated.is_empty(), "{report:?}");
    let partition = log.partition(&name("t", 0)).unwrap();
    (log, partition)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_history_reads_back_as_the_model_says(steps in vec(step(), 1..60)) {
        let directory = quick_directory();
        let (mut log, _) = open(directory.path());
        let mut partition = create(&log, "t", SMALL);
        let (mut all, mut upto, mut now_ms) = (Records::new(), 0, 10_000);
        for step in steps {
            match step {
                Step::Put(codec, records) => all.extend(put(&partition, Codec::ALL[codec], &records, None)),
                Step::Close => close_segment(&partition),
                Step::Compact { memory } => {
                    partition.flush().unwrap();
                    now_ms += 600;
                    let report = compact_with(&partition, now_ms, Offset(i64::MAX), memory);
                    prop_assert!(report.clean_upto.0 >= upto && report.damaged_segments.is_empty());
                    upto = report.clean_upto.0;
                }
                Step::Delete(percent) => {
                    partition.flush().unwrap();
                    let before = partition.high_watermark().0 * percent as i64 / 100;
                    if percent < 20 {
                        partition.delete_records(Offset(before)).unwrap();
                    }
                }
                Step::Restart { clean } => (log, partition) = restart(directory.path(), log, clean),
            }
        }
        partition.flush().unwrap();
        let left = read(&partition);
        check(&all, &left, upto, partition.log_start_offset().0);
        for timestamp in [0, 1, 2_500, 4_999] {
            let wanted = left.iter().find(|(_, record)| record.timestamp >= timestamp).map(|(at, it)| (Offset(*at), it.timestamp));
            prop_assert_eq!(partition.find_by_timestamp(timestamp, partition.high_watermark()).unwrap(), wanted);
        }
        let newest = left.values().map(|record| record.timestamp).max();
        let wanted = newest.and_then(|newest| left.iter().find(|(_, it)| it.timestamp == newest)).map(|(at, it)| (Offset(*at), it.timestamp));
        prop_assert_eq!(partition.max_timestamp(partition.high_watermark()).unwrap(), wanted);
        let files = image(partition.directory());
        let unfinished = |path: &std::path::Path| path.extension().is_some_and(|it| it == "cleaned" && path.file_name() != Some("cleaned".as_ref()) || it == "swap");
        prop_assert!(!files.keys().any(|path| unfinished(path)));
        drop(log);
    }
}
