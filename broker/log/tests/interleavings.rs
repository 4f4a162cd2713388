//! Rare pairs of operations at the same time: the promises of both still hold.

mod support;

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ottla_log::{
    BatchHeader, CleanOptions, CleanReport, Durability, LocateError, LogDir, LogOptions, Offset, PartitionLog,
    PartitionOptions, Retention,
};
use ottla_wire::record::{BatchBuilder, Codec, batches};
use support::{batch, create, image, name, open, quick_directory, read_all, tags};
use uuid::Uuid;

const DAY_MS: i64 = 86_400_000;

fn put(log: &PartitionLog, key: u8, value: Option<usize>) -> Offset {
    let mut builder = BatchBuilder::new(Codec::None);
    let value = value.map(|bytes| vec![key; bytes]);
    builder.append(1_000, Some(&[key]), value.as_deref(), std::iter::empty()).unwrap();
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    log.append(&mut bytes).unwrap().base_offset
}

/// Appends the same record to a segment of its own.
fn put_closed(log: &PartitionLog, key: u8, value: Option<usize>) -> Offset {
    let offset = put(log, key, value);
    log.flush().unwrap();
    assert!(log.roll_if_due(0, i64::MAX).unwrap());
    log.flush().unwrap();
    offset
}

fn compact(log: &PartitionLog, now_ms: i64, should_stop: &dyn Fn() -> bool) -> CleanReport {
    log.compact(&CleanOptions {
        upto: Offset(i64::MAX),
        now_ms,
        delete_retention_ms: 1_000,
        min_compaction_lag_ms: 0,
        key_map_bytes_max: 1 << 20,
        unpacked_bytes_max: 1 << 20,
        io_bytes_per_second: 0,
        is_producer_end: &|_: &BatchHeader| false,
        should_stop,
    })
    .unwrap()
}

/// The offsets of all records of `key`.
fn offsets_of(log: &PartitionLog, key: u8) -> Vec<i64> {
    let bytes = read_all(log);
    let mut offsets = Vec::new();
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        let records = batch.records(1 << 20).unwrap();
        let ours = records.iter().map(Result::unwrap).filter(|record| record.key == Some(&[key][..]));
        offsets.extend(ours.map(|record| batch.header.offset_of(&record).0));
    }
    offsets.retain(|offset| *offset >= log.log_start_offset().0);
    offsets
}

#[test]
fn deleted_keys_stay_deleted_when_segments_are_removed_during_compaction() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let options = PartitionOptions { segment_bytes: 900, ..PartitionOptions::default() };
    // `at` selects the read of the compaction during which the old segments are removed.
    for at in 1..12 {
        let partition = log.create_partition(&name("t", at), Uuid::nil(), options).unwrap();
        put_closed(&partition, 1, Some(10));
        let old = put_closed(&partition, 2, Some(10));
        put_closed(&partition, 3, Some(800));
        let marker = put_closed(&partition, 2, None);
        put(&partition, 4, Some(10));
        let reads = Cell::new(0);
        compact(&partition, DAY_MS, &|| {
            reads.set(reads.get() + 1);
            if reads.get() == at {
                partition.delete_records(Offset(1)).unwrap();
            }
            false
        });
        for day in 2..5 {
            compact(&partition, day * DAY_MS, &|| false);
            let left = offsets_of(&partition, 2);
            assert!(!left.contains(&old.0), "read {at}, day {day}: {left:?}, the marker was {marker:?}");
        }
        assert_eq!(offsets_of(&partition, 2), []);
    }
}

#[test]
fn reserved_space_makes_retention_remove_no_segment() {
    let directory = quick_directory();
    let options = LogOptions { open_segments_max: 4, ..LogOptions::default() };
    let (log, _) = LogDir::open(directory.path(), options).unwrap();
    let options = PartitionOptions { segment_bytes: 200_000, ..PartitionOptions::default() };
    let partition = create(&log, "t", options);
    for tag in 0..5 {
        partition.append(&mut batch(1, tag, 40_000)).unwrap();
    }
    partition.flush().unwrap();
    let bytes = partition.size_bytes().unwrap();
    assert_eq!(bytes, read_all(&partition).len() as u64);
    // Other partitions need its file handles.
    for index in 0..40 {
        let other = log.create_partition(&name("other", index), Uuid::nil(), options).unwrap();
        other.append(&mut batch(1, 0, 10)).unwrap();
        other.flush().unwrap();
    }
    let retention = Retention { retention_ms: -1, retention_bytes: bytes as i64 - 1_000 };
    partition.delete_old_segments(&retention, Offset(i64::MAX), 0).unwrap();
    assert_eq!((partition.log_start_offset(), partition.size_bytes().unwrap()), (Offset(0), bytes));
}

#[test]
fn records_written_after_a_loss_are_compacted_from_the_beginning() {
    let directory = quick_directory();
    let options =
        PartitionOptions { durability: Durability::PageCache, segment_bytes: 900, ..PartitionOptions::default() };
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", options);
    let checkpoint = fs::read(directory.path().join("t-0/checkpoint")).unwrap();
    for key in 0..10 {
        put_closed(&partition, key, Some(10));
    }
    assert_eq!(compact(&partition, DAY_MS, &|| false).clean_upto, Offset(10));
    drop((log, partition));
    // The bytes of the segment were lost, and also the checkpoint that would have told.
    for path in image(&directory.path().join("t-0")).into_keys() {
        if path.extension().is_some_and(|it| it == "log" || it == "index") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(directory.path().join("t-0/checkpoint"), checkpoint).unwrap();
    for round in 0..2 {
        let (log, _) = open(directory.path());
        let partition = log.partition(&name("t", 0)).unwrap();
        for _ in 0..6 {
            put_closed(&partition, 7 + round, Some(10));
        }
        if round == 1 {
            compact(&partition, DAY_MS, &|| false);
            assert_eq!(offsets_of(&partition, 7), [5]);
        }
        log.shutdown().unwrap();
    }
}

#[test]
fn scan_misses_no_batch_of_segments_that_are_replaced_meanwhile() {
    let directory = quick_directory();
    let (log, _) =
        LogDir::open(directory.path(), LogOptions { open_segments_max: 64, ..LogOptions::default() }).unwrap();
    let partition = create(&log, "t", PartitionOptions { segment_bytes: 2_000, ..PartitionOptions::default() });
    for round in 0..40 {
        put_closed(&partition, round % 3, Some(10));
    }
    let mut next = Offset(0);
    let scanned = partition
        .scan_batches(Offset(0), |header| {
            if next == Offset(0) {
                assert!(compact(&partition, DAY_MS, &|| false).segments_replaced > 10);
                // Other partitions need the file handles of the replaced segments.
                for index in 0..200 {
                    let other = log.create_partition(&name("other", index), Uuid::nil(), PartitionOptions::default());
                    other.unwrap().append(&mut batch(1, 0, 10)).unwrap();
                }
            }
            assert!(header.base_offset <= next, "nothing between {next:?} and {:?}", header.base_offset);
            next = header.next_offset();
        })
        .unwrap();
    assert_eq!((scanned.next_offset, next), (Offset(40), Offset(40)));
}

/// Positions of fields in an index file: see the layout in `index.rs`.
const END_POSITION_AT: usize = 24;

/// Makes an index file name another end of its segment, with a valid checksum.
fn move_end(path: &Path, by: i64) {
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(bytes.len() - 4);
    let place = &mut bytes[END_POSITION_AT..][..8];
    let end = u64::from_be_bytes(place.try_into().unwrap()).checked_add_signed(by).unwrap();
    place.copy_from_slice(&end.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&bytes);
    bytes.extend(crc.to_be_bytes());
    fs::write(path, bytes).unwrap();
}

fn index_at(directory: &Path, base: i64) -> PathBuf {
    directory.join(format!("t-0/{base:020}.index"))
}

#[test]
fn append_checks_the_end_that_an_index_names() {
    for by in [-1, -61, -20_000, 1, 61] {
        let directory = quick_directory();
        let (log, _) = open(directory.path());
        let partition = create(&log, "t", PartitionOptions::default());
        let mut expected = Vec::new();
        for tag in 0..40 {
            partition.append(&mut batch(1, tag, 10_000)).unwrap();
            expected.push((tag as i64, tag));
        }
        log.shutdown().unwrap();
        move_end(&index_at(directory.path(), 0), by);
        let (log, _) = open(directory.path());
        let partition = log.partition(&name("t", 0)).unwrap();
        partition.append(&mut batch(1, 40, 10_000)).unwrap();
        expected.push((40, 40));
        assert_eq!(tags(&read_all(&partition)), expected, "{by}");
        drop(log);
        let (_log, report) = open(directory.path());
        assert!(report.truncated.is_empty() && report.quarantined.is_empty(), "{by}: {report}");
    }
}

#[test]
fn compaction_ends_even_if_an_index_names_a_later_end() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", PartitionOptions::default());
    for key in [1, 2, 1, 2] {
        put_closed(&partition, key, Some(10));
    }
    let expected = read_all(&partition);
    log.shutdown().unwrap();
    for base in [1, 3] {
        let path = directory.path().join(format!("t-0/{base:020}.log"));
        let mut bytes = fs::read(&path).unwrap();
        bytes.resize(bytes.len() + 100, 0);
        fs::write(&path, bytes).unwrap();
        move_end(&index_at(directory.path(), base), 100);
    }
    let (log, _) = open(directory.path());
    let partition = log.partition(&name("t", 0)).unwrap();
    let report = compact(&partition, DAY_MS, &|| false);
    assert!(!report.damaged_segments.is_empty());
    assert_eq!(read_all(&partition), expected);
}

/// Destroys the header of the batch at `position` of the first segment.
fn spoil_header(directory: &Path, position: u64) {
    let segment = directory.join("t-0/00000000000000000000.log");
    fs::File::options().write(true).open(segment).unwrap().write_all_at(&[0xEE; 8], position).unwrap();
}

#[test]
fn damage_that_a_lookup_finds_in_a_header_does_not_end_the_log_after_a_crash() {
    let by_offset = |log: &PartitionLog| {
        let read = log.read_batches(Offset(3), 1, log.high_watermark());
        assert!(matches!(read, Err(LocateError::Corrupt { .. })), "{read:?}");
    };
    let by_time = |log: &PartitionLog| {
        assert_eq!(log.find_by_timestamp(1_005, log.high_watermark()).unwrap(), Some((Offset(5), 1_005)));
    };
    let by_scan = |log: &PartitionLog| {
        let damaged = log.scan_batches(Offset(0), |_| ()).unwrap().damaged;
        assert_eq!(damaged.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>(), [(3, 4)]);
    };
    let looks: [&dyn Fn(&PartitionLog); 3] = [&by_offset, &by_time, &by_scan];
    for look in looks {
        let directory = quick_directory();
        let acknowledged = {
            let (log, _) = open(directory.path());
            let partition = create(&log, "t", PartitionOptions::default());
            let places: Vec<_> = (0..10).map(|tag| partition.append(&mut batch(1, tag, 100)).unwrap()).collect();
            partition.flush().unwrap();
            spoil_header(directory.path(), places[3].position);
            look(&partition);
            (10..20).for_each(|tag| assert!(partition.append(&mut batch(1, tag, 100)).is_ok()));
            partition.flush().unwrap();
            partition.high_watermark()
        };
        let (log, report) = open(directory.path());
        let end = log.partition(&name("t", 0)).unwrap().end_offset();
        assert_eq!((end, acknowledged), (Offset(20), Offset(20)), "{:?}", report.truncated);
    }
}

#[test]
fn damage_found_when_the_active_segment_is_reopened_does_not_end_the_log_after_a_crash() {
    let directory = quick_directory();
    {
        let options = LogOptions { open_segments_max: 1, ..LogOptions::default() };
        let (log, _) = LogDir::open(directory.path(), options).unwrap();
        let partition = create(&log, "t", PartitionOptions::default());
        let places: Vec<_> = (0..10).map(|tag| partition.append(&mut batch(1, tag, 100)).unwrap()).collect();
        partition.flush().unwrap();
        // Other partitions need its file handle.
        for index in 0..30 {
            let other = log.create_partition(&name("other", index), Uuid::nil(), PartitionOptions::default()).unwrap();
            other.append(&mut batch(1, 0, 10)).unwrap();
            other.flush().unwrap();
        }
        spoil_header(directory.path(), places[3].position);
        partition.append(&mut batch(1, 10, 100)).unwrap();
        assert_eq!(partition.quarantined().len(), 1);
        partition.flush().unwrap();
        assert_eq!(partition.high_watermark(), Offset(11));
    }
    let (log, report) = open(directory.path());
    assert_eq!(log.partition(&name("t", 0)).unwrap().end_offset(), Offset(11), "{:?}", report.truncated);
}

#[test]
fn a_search_by_time_works_while_old_segments_are_removed() {
    let options = PartitionOptions { segment_bytes: 1, ..PartitionOptions::default() };
    for _ in 0..40 {
        let directory = quick_directory();
        let (log, _) = open(directory.path());
        let partition = create(&log, "t", options);
        (0..60).for_each(|tag| assert!(partition.append(&mut batch(1, tag, 10)).is_ok()));
        // The first flush is for the rolls, the second one for the work that the first one left.
        partition.flush().unwrap();
        partition.flush().unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        assert!(partition.find_by_timestamp(0, partition.high_watermark()).unwrap().is_some());
                        assert!(partition.max_timestamp(partition.high_watermark()).unwrap().is_some());
                    }
                });
            }
            for offset in 1..60 {
                partition.delete_records(Offset(offset)).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn the_greatest_timestamp_is_that_of_the_records_that_can_be_read() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", PartitionOptions::default());
    let places: Vec<_> =
        [200, 1, 2, 9, 4, 5].map(|tag| partition.append(&mut batch(1, tag, 100)).unwrap()).into_iter().collect();
    partition.flush().unwrap();
    let upto = partition.high_watermark();
    assert_eq!(partition.max_timestamp(upto).unwrap(), Some((Offset(0), 1_200)));
    // The record with the greatest timestamp is deleted, the one behind it is damaged.
    spoil_header(directory.path(), places[3].position);
    partition.delete_records(Offset(1)).unwrap();
    assert_eq!(partition.max_timestamp(upto).unwrap(), Some((Offset(5), 1_005)));
    // The end is inside the segment, so the search walks the headers, up to the damage and on behind it.
    assert_eq!(partition.max_timestamp(Offset(5)).unwrap(), Some((Offset(4), 1_004)));
}
