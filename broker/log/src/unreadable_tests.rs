//! Unreadable sectors at startup: where no acknowledged record can be lost, they are damage; elsewhere they take
//! one partition offline and nothing in it changes. Other partitions are never affected.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::{AppendError, FaultyDisk, LocateError, LogDir, LogOptions, Offset, PartitionLog, PartitionName};
use crate::{PartitionOptions, RecoveryReport};

const PAGE_BYTES: u64 = 4096;
const BATCHES: i64 = 12;

fn batch(tag: u8) -> Vec<u8> {
    crate::test_batches::batch(tag, 3000)
}

fn name(topic: &str) -> PartitionName {
    PartitionName::new(topic, 0).unwrap()
}

fn start(disk: &Arc<FaultyDisk>, path: &Path) -> (LogDir, RecoveryReport) {
    LogDir::open_on(disk.clone(), path, LogOptions::default()).unwrap()
}

/// Two partitions after a crash, every batch synced; the checkpoint of the first one is at `durable`.
fn crashed(path: &Path, durable: i64) -> (Arc<FaultyDisk>, PathBuf) {
    let disk = FaultyDisk::new();
    let (log, _) = LogDir::open_on(disk.clone(), path, LogOptions::default()).unwrap();
    for topic in ["bad", "good"] {
        let partition = log.create_partition(&name(topic), Uuid::from_u128(7), PartitionOptions::default()).unwrap();
        for tag in 0..BATCHES {
            partition.append(&mut batch(tag as u8)).unwrap();
            partition.flush().unwrap();
            if topic == "bad" && tag + 1 == durable {
                // A shutdown starts with this call.
                partition.finish().unwrap();
            }
        }
    }
    (disk, path.join("bad-0/00000000000000000000.log"))
}

fn partition(log: &LogDir, topic: &str) -> Arc<PartitionLog> {
    log.partition(&name(topic)).unwrap()
}

/// The offsets that can be read; all others are damaged.
fn readable(partition: &PartitionLog) -> Vec<i64> {
    let end = partition.end_offset();
    let read = |offset: &i64| match partition.read_batches(Offset(*offset), 1, end) {
        Ok(Some((bytes, range))) => bytes == batch_at(*offset, &bytes) && range.base_offset.0 == *offset,
        Err(LocateError::Corrupt { .. }) => false,
        other => panic!("{other:?}"),
    };
    (0..end.0).filter(read).collect()
}

fn batch_at(offset: i64, like: &[u8]) -> Vec<u8> {
    let mut bytes = batch(offset as u8);
    bytes[..16].copy_from_slice(&like[..16]);
    bytes
}

#[test]
fn an_unreadable_sector_below_the_durable_offset_costs_its_own_batches_and_nothing_else() {
    let each = batch(0).len() as u64;
    for page in [0, 2, 4] {
        let directory = tempfile::tempdir().unwrap();
        let (disk, segment) = crashed(directory.path(), 10);
        let bad = page * PAGE_BYTES..(page + 1) * PAGE_BYTES;
        disk.make_unreadable(&segment, bad.clone()).unwrap();
        let touched = |offset: &i64| (*offset as u64 * each) < bad.end && (*offset as u64 + 1) * each > bad.start;
        let expected: Vec<i64> = (0..BATCHES).filter(|offset| !touched(offset)).collect();
        for clean in [false, true] {
            let (log, report) = start(&disk, directory.path());
            assert!(report.truncated.is_empty() && report.unreadable.is_empty(), "{report}");
            assert_eq!(report.quarantined.len(), 1, "{report}");
            let (named, range) = &report.quarantined[0];
            assert_eq!((named, range.segment_base), (&name("bad"), Offset(0)));
            assert!(range.positions.start <= bad.start && range.positions.end >= bad.end);
            let partition = partition(&log, "bad");
            assert_eq!(readable(&partition), expected);
            assert_eq!(readable(&super::unreadable_tests::partition(&log, "good")), (0..BATCHES).collect::<Vec<_>>());
            if clean {
                partition.append(&mut batch(BATCHES as u8)).unwrap();
                partition.flush().unwrap();
                assert_eq!(readable(&partition).len(), expected.len() + 1);
            }
        }
    }
}

#[test]
fn an_unreadable_sector_that_may_hold_acknowledged_records_takes_its_partition_offline_and_nothing_is_cut() {
    // Above the checkpoint, and at the durable offset itself.
    for (durable, page) in [(2, 5), (2, 8), (10, 8)] {
        let directory = tempfile::tempdir().unwrap();
        let (disk, segment) = crashed(directory.path(), durable);
        let before = fs::read(&segment).unwrap();
        disk.make_unreadable(&segment, page * PAGE_BYTES..(page + 1) * PAGE_BYTES).unwrap();
        let end = before.len() as u64;
        if durable == 10 {
            disk.make_unreadable(&segment, page * PAGE_BYTES..end).unwrap();
        }
        for _ in 0..2 {
            let (log, report) = start(&disk, directory.path());
            assert_eq!(report.unreadable.len(), 1, "{report}");
            let text = report.to_string();
            assert!(text.contains("bad-0: OFFLINE") && text.contains("00000000000000000000.log: the bytes from"));
            assert!(report.truncated.is_empty());
            let bad = partition(&log, "bad");
            assert!(bad.is_offline() && log.offline_reason().is_none());
            assert_eq!(bad.topic_id(), Uuid::from_u128(7));
            assert!(matches!(bad.append(&mut batch(1)), Err(AppendError::Offline { .. })));
            bad.flush().unwrap_err();
            let good = partition(&log, "good");
            assert_eq!(good.append(&mut batch(12)).unwrap().base_offset.0, good.end_offset().0 - 1);
            good.flush().unwrap();
            log.shutdown().unwrap();
            assert!(fs::read(&segment).unwrap() == before, "nothing of it is changed");
        }
        // When the disk can be read again, no record is lost.
        disk.clear_faults();
        let (log, report) = start(&disk, directory.path());
        assert!(!report.clean && report.unreadable.is_empty() && report.truncated.is_empty(), "{report}");
        assert_eq!(readable(&partition(&log, "bad")), (0..BATCHES).collect::<Vec<_>>());
    }
}

#[test]
fn an_unreadable_sector_behind_the_end_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, segment) = crashed(directory.path(), 10);
    let written = batch(0).len() as u64 * BATCHES as u64;
    let from = (written / PAGE_BYTES + 2) * PAGE_BYTES;
    fs::File::options().write(true).open(&segment).unwrap().set_len(from + PAGE_BYTES).unwrap();
    // Other bytes than zeros, so that the scan reads them.
    std::os::unix::fs::FileExt::write_all_at(&fs::File::options().write(true).open(&segment).unwrap(), &[1], from)
        .unwrap();
    disk.make_unreadable(&segment, from..from + PAGE_BYTES).unwrap();
    let (log, report) = start(&disk, directory.path());
    assert_eq!(
        (report.truncated.len(), report.truncated[0].end_offset, report.unreadable.len()),
        (1, Offset(BATCHES), 0)
    );
    assert_eq!(readable(&partition(&log, "bad")), (0..BATCHES).collect::<Vec<_>>());
}
