//! Retention: which segments are removed, which stay, and what a restart finds.

mod support;

use ottla_log::{LocateError, LogDir, Offset, PartitionLog, PartitionOptions, RetainError, Retention};
use ottla_wire::record::Codec;
use support::{batch, batch_at, create, name, open, quick_directory, read_all, tags, wait_durable};

const SMALL: PartitionOptions =
    PartitionOptions { durability: ottla_log::Durability::Fsync, segment_bytes: 1000, index_interval_bytes: 100 };

fn fill(log: &PartitionLog, tags: std::ops::Range<u64>) {
    for tag in tags {
        log.append(&mut batch(1, tag, 200)).unwrap();
    }
    wait_durable(log, log.end_offset());
    log.flush().unwrap();
}

fn segment_files(log: &PartitionLog) -> usize {
    let files = std::fs::read_dir(log.directory()).unwrap().flatten();
    files.filter(|file| file.path().extension().is_some_and(|it| it == "log")).count()
}

fn assert_start(log: &PartitionLog, start: i64) {
    assert_eq!(log.log_start_offset(), Offset(start));
    for offset in [0, start - 1].into_iter().filter(|offset| (0..start).contains(offset)) {
        let located = log.locate(Offset(offset), 1 << 20, log.end_offset());
        assert!(matches!(located, Err(LocateError::OutOfRange { start: s, .. }) if s == Offset(start)), "{located:?}");
    }
}

fn reopened(directory: &std::path::Path, log: LogDir, clean: bool) -> (LogDir, std::sync::Arc<PartitionLog>) {
    if clean {
        log.shutdown().unwrap();
    } else {
        drop(log);
    }
    let (log, report) = open(directory);
    assert!(report.quarantined.is_empty() && report.truncated.is_empty(), "{report:?}");
    let partition = log.partition(&name("t", 0)).unwrap();
    (log, partition)
}

#[test]
fn deleted_records_stay_deleted_and_all_others_stay() {
    for clean in [true, false] {
        let directory = quick_directory();
        let (log, _) = open(directory.path());
        let partition = create(&log, "t", SMALL);
        fill(&partition, 0..20);
        let before = segment_files(&partition);
        assert!(matches!(partition.delete_records(Offset(21)), Err(RetainError::OutOfRange { .. })));
        assert!(matches!(partition.delete_records(Offset(-1)), Err(RetainError::OutOfRange { .. })));
        // The new log start is in the middle of a segment.
        assert_eq!(partition.delete_records(Offset(6)).unwrap(), Offset(6));
        assert_eq!(partition.delete_records(Offset(3)).unwrap(), Offset(6));
        assert_start(&partition, 6);
        assert!(segment_files(&partition) < before);
        let kept: Vec<u64> = tags(&read_all(&partition)).into_iter().map(|(_, tag)| tag).collect();
        assert_eq!(kept, (6..20).collect::<Vec<_>>());
        let (log, partition) = reopened(directory.path(), log, clean);
        assert_start(&partition, 6);
        assert_eq!(tags(&read_all(&partition)).len(), 14);
        // All records.
        assert_eq!(partition.delete_records(Offset(20)).unwrap(), Offset(20));
        assert_start(&partition, 20);
        let (_log, partition) = reopened(directory.path(), log, clean);
        assert_start(&partition, 20);
        assert_eq!((partition.end_offset(), segment_files(&partition)), (Offset(20), 1));
        fill(&partition, 20..21);
        assert_eq!(tags(&read_all(&partition)), [(20, 20)]);
    }
}

#[test]
fn segments_are_removed_by_their_greatest_timestamp_in_any_order() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", SMALL);
    for (at, timestamp) in [5_000, 100, 200, 300, 400, 9_000, 10, 20, 30, 40, 50, 60].into_iter().enumerate() {
        partition.append(&mut batch_at(Codec::None, &[timestamp], at as u64, 200)).unwrap();
    }
    partition.flush().unwrap();
    let old = |retention_ms| Retention { retention_ms, retention_bytes: -1 };
    let forever = partition.delete_old_segments(&old(-1), Offset(i64::MAX), i64::MAX).unwrap();
    assert_eq!(forever.segments, 0);
    // The first segment holds a record with timestamp 5000.
    assert_eq!(partition.delete_old_segments(&old(1_000), Offset(i64::MAX), 6_000).unwrap().segments, 0);
    assert_eq!(partition.delete_old_segments(&old(1_000), Offset(2), 6_001).unwrap().segments, 0);
    let removed = partition.delete_old_segments(&old(1_000), Offset(i64::MAX), 6_001).unwrap();
    assert_eq!(removed.segments, 1);
    let start = partition.log_start_offset();
    assert!(start > Offset(0) && start <= Offset(5), "the segment of 9000 stays and with it all behind it");
    assert_start(&partition, start.0);
    // All segments are older than that, the active one included.
    partition.delete_old_segments(&old(1_000), Offset(i64::MAX), 20_000).unwrap();
    assert_start(&partition, 12);
    assert_eq!((partition.end_offset(), segment_files(&partition)), (Offset(12), 1));
    fill(&partition, 12..15);
    let (_log, partition) = reopened(directory.path(), log, false);
    assert_eq!(tags(&read_all(&partition)).len(), 3);
}

#[test]
fn the_oldest_segments_are_removed_as_long_as_enough_bytes_remain() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", SMALL);
    fill(&partition, 0..40);
    let size = |retention_bytes| Retention { retention_ms: -1, retention_bytes };
    let all = partition.size_bytes().unwrap();
    assert_eq!(partition.delete_old_segments(&size(all as i64), Offset(i64::MAX), 0).unwrap().segments, 0);
    let removed = partition.delete_old_segments(&size(3_000), Offset(i64::MAX), 0).unwrap();
    let left = partition.size_bytes().unwrap();
    assert_eq!(left + removed.bytes, all);
    assert!((3_000..4_000).contains(&left), "{left}");
    let start = partition.log_start_offset();
    assert_start(&partition, start.0);
    partition.delete_old_segments(&size(0), Offset(i64::MAX), 0).unwrap();
    assert_start(&partition, 40);
    assert_eq!(partition.size_bytes().unwrap(), 0);
}

#[test]
fn a_segment_that_is_old_enough_is_sealed_without_an_append() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", SMALL);
    assert!(!partition.roll_if_due(0, i64::MAX).unwrap(), "an empty segment stays");
    fill(&partition, 0..1);
    assert!(!partition.roll_if_due(1_000, 0).unwrap());
    assert!(partition.roll_if_due(1_000, i64::MAX).unwrap());
    assert!(!partition.roll_if_due(1_000, i64::MAX).unwrap());
    assert_eq!(segment_files(&partition), 2);
    let (_log, partition) = reopened(directory.path(), log, true);
    fill(&partition, 1..2);
    assert_eq!(tags(&read_all(&partition)), [(0, 0), (1, 1)]);
}

#[test]
fn reader_of_a_removed_segment_goes_on() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", SMALL);
    fill(&partition, 0..20);
    let held = partition.locate(Offset(0), 1 << 20, partition.end_offset()).unwrap().unwrap();
    partition.delete_records(Offset(20)).unwrap();
    let mut bytes = vec![0; held.bytes as usize];
    held.segment.read_exact_at(held.position, &mut bytes).unwrap();
    assert_eq!(tags(&bytes).first(), Some(&(0, 0)));
}
