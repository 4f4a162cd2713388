//! Compaction is stopped at any call to the disk, then the power is cut. The next start finds the last record of every
//! key and no record that was never written.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_wire::Offset;
use ottla_wire::record::{BatchBuilder, Codec, batches};
use uuid::Uuid;

use super::{CleanError, CleanOptions, CleanReport};
use crate::{DiskCall, FaultyDisk, LogDir, LogOptions, PartitionLog, PartitionName, PartitionOptions};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn compact(log: &PartitionLog) -> Result<CleanReport, CleanError> {
    log.compact(&CleanOptions {
        upto: Offset(i64::MAX),
        now_ms: 1_000,
        delete_retention_ms: 0,
        min_compaction_lag_ms: 0,
        key_map_bytes_max: 1 << 20,
        unpacked_bytes_max: 1 << 20,
        io_bytes_per_second: 0,
        is_producer_end: &|_| false,
        should_stop: &|| false,
    })
}

/// Keys and values by offset.
fn read(log: &PartitionLog) -> BTreeMap<i64, (Vec<u8>, Vec<u8>)> {
    let (mut records, mut offset) = (BTreeMap::new(), Offset(0));
    while let Some((bytes, range)) = log.read_batches(offset, 1 << 20, log.end_offset()).unwrap() {
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            for record in &batch.records(1 << 20).unwrap() {
                let record = record.unwrap();
                let (key, value) = (record.key.unwrap().to_vec(), record.value.unwrap().to_vec());
                records.insert(batch.header.offset_of(&record).0, (key, value));
            }
        }
        offset = range.next_offset;
    }
    assert_eq!(offset, log.end_offset());
    records
}

/// Segments of a few batches each; the last one is active.
fn filled(path: &std::path::Path) -> (Arc<FaultyDisk>, LogDir, Arc<PartitionLog>) {
    let disk = FaultyDisk::new();
    let (log, _) = LogDir::open_on(disk.clone(), path, LogOptions::default()).unwrap();
    let options = PartitionOptions { segment_bytes: 330, ..PartitionOptions::default() };
    let partition = log.create_partition(&PartitionName::new("t", 0).unwrap(), Uuid::nil(), options).unwrap();
    for round in 0..24_u8 {
        let mut builder = BatchBuilder::new(Codec::Lz4);
        for key in [round % 5, round % 3 + 10] {
            builder.append(1, Some(&[key]), Some(&[round; 20]), std::iter::empty()).unwrap();
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        partition.append(&mut bytes).unwrap();
    }
    partition.flush().unwrap();
    (disk, log, partition)
}

fn again(path: &std::path::Path) -> (LogDir, Arc<PartitionLog>) {
    let (log, report) = LogDir::open(path, LogOptions::default()).unwrap();
    assert!(report.quarantined.is_empty() && report.truncated.is_empty(), "{report:?}");
    let partition = log.partition(&PartitionName::new("t", 0).unwrap()).unwrap();
    (log, partition)
}

fn check(all: &BTreeMap<i64, (Vec<u8>, Vec<u8>)>, left: &BTreeMap<i64, (Vec<u8>, Vec<u8>)>) {
    assert!(left.iter().all(|(offset, record)| all.get(offset) == Some(record)));
    let last: BTreeMap<&[u8], i64> = all.iter().map(|(offset, (key, _))| (&key[..], *offset)).collect();
    assert!(last.values().all(|offset| left.contains_key(offset)));
}

#[test]
fn compaction_that_stops_at_any_call_leaves_every_last_record() {
    let calls = [
        DiskCall::Create,
        DiskCall::Write,
        DiskCall::Sync,
        DiskCall::SyncDir,
        DiskCall::Rename,
        DiskCall::Remove,
        DiskCall::Read,
    ];
    let wanted = {
        let directory = tempfile::tempdir().unwrap();
        let (_, _log, partition) = filled(directory.path());
        assert!(compact(&partition).unwrap().segments_replaced > 3);
        read(&partition)
    };
    let mut stopped = 0;
    for errno in [EIO, ENOSPC] {
        for call in calls {
            for after in 0.. {
                let directory = tempfile::tempdir().unwrap();
                let (disk, log, partition) = filled(directory.path());
                let all = read(&partition);
                let staged = || {
                    let files = std::fs::read_dir(partition.directory()).unwrap().flatten();
                    files.filter(|file| file.file_name().to_str().unwrap().ends_with(".staged")).count()
                };
                // This call and all later ones fail, as after a crash.
                disk.fail(call, after, usize::MAX, errno);
                let counted = disk.count(call);
                let compacted = compact(&partition);
                let reached = disk.count(call) - counted > after;
                disk.clear_faults();
                stopped += usize::from(compacted.is_err());
                // A failed removal is what leaves a file behind.
                if call != DiskCall::Remove && matches!(compacted, Err(CleanError::NoSpace)) && !partition.is_offline()
                {
                    assert_eq!(staged(), 0, "nothing is left behind on a full disk");
                    check(&all, &read(&partition));
                }
                disk.power_cut(after as u64).unwrap();
                drop((log, partition));
                let (_log, partition) = again(directory.path());
                check(&all, &read(&partition));
                // The next round finishes this one.
                compact(&partition).unwrap();
                assert_eq!(read(&partition), wanted);
                let rubbish = |name: &str| [".staged", ".swap"].iter().any(|end| name.ends_with(end));
                let names = std::fs::read_dir(partition.directory()).unwrap().flatten().map(|it| it.file_name());
                assert!(!names.into_iter().any(|name| rubbish(name.to_str().unwrap())));
                if !reached {
                    break;
                }
            }
        }
    }
    assert!(stopped > 50, "{stopped}");
}

#[test]
fn the_date_of_a_compacted_segment_goes_through_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, _log, partition) = filled(directory.path());
    disk.fail(DiskCall::SetModified, 0, 1, ENOSPC);
    compact(&partition).unwrap();
    assert!(disk.count(DiskCall::SetModified) > 0 && !partition.is_offline());
    let directory = tempfile::tempdir().unwrap();
    let (disk, _log, partition) = filled(directory.path());
    disk.fail(DiskCall::SetModified, 0, 1, EIO);
    compact(&partition).unwrap_err();
    assert!(partition.is_offline());
}
