//! When the disk fails, the log acknowledges nothing uncertain, and no offset moves for bytes that were not written.

use std::fs;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{EIO, ENOSPC, EOPNOTSUPP};
use ottla_wire::record::batches;
use uuid::Uuid;

use crate::checkpoint::CheckpointFile;
use crate::journal::Journal;
use crate::test_batches::batch;
use crate::{
    AppendError, CreateError, DeleteError, DiskCall, FaultyDisk, FlushError, JournalError, LogDir, LogOptions, Offset,
    PartitionLog, PartitionName, PartitionOptions, ShutdownError,
};

pub(crate) fn start(path: &Path, options: PartitionOptions) -> (Arc<FaultyDisk>, LogDir, Arc<PartitionLog>) {
    let disk = FaultyDisk::new();
    let (log, _) = LogDir::open_on(disk.clone(), path, LogOptions::default()).unwrap();
    let name = PartitionName::new("t", 0).unwrap();
    let partition = log.partition(&name).unwrap_or_else(|| log.create_partition(&name, Uuid::nil(), options).unwrap());
    (disk, log, partition)
}

/// The first byte of the value of every record, in order.
pub(crate) fn tags(partition: &PartitionLog) -> Vec<u8> {
    let (mut tags, mut next) = (Vec::new(), Offset(0));
    while let Some((bytes, range)) = partition.read_batches(next, u32::MAX, partition.end_offset()).unwrap() {
        tags.extend(tags_in(&bytes));
        next = range.next_offset;
    }
    tags
}

fn tags_in(bytes: &[u8]) -> Vec<u8> {
    let mut tags = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        tags.extend(batch.records(1 << 20).unwrap().iter().map(|record| record.unwrap().value.unwrap()[0]));
    }
    tags
}

#[test]
fn short_writes_are_continued_where_they_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, _log, partition) = start(directory.path(), PartitionOptions::default());
    for cut in 1..200 {
        disk.shorten_writes(&[cut, 1, cut / 2 + 1]);
        let (mut one, mut two) = (batch(cut as u8, 60), batch(cut as u8, 30));
        partition.append_gathered(&mut [&mut one, &mut two]).unwrap();
    }
    assert_eq!(tags(&partition), (1..200).flat_map(|tag| [tag as u8; 2]).collect::<Vec<_>>());
}

#[test]
fn failed_write_moves_nothing_and_its_batches_never_come_back() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (disk, log, partition) = start(directory.path(), PartitionOptions::default());
        partition.append(&mut batch(1, 100)).unwrap();
        let size = batch(2, 100).len();
        // The first two of three batches reach the file before the disk is full.
        disk.shorten_writes(&[size, size]);
        disk.fail(DiskCall::Write, 2, 1, ENOSPC);
        let (mut two, mut three, mut four) = (batch(2, 100), batch(3, 100), batch(4, 100));
        let failed = partition.append_gathered(&mut [&mut two, &mut three, &mut four]);
        assert!(matches!(failed, Err(AppendError::NoSpace)), "{failed:?}");
        assert_eq!(partition.end_offset(), Offset(1));
        assert_eq!(tags(&partition), [1]);
        // A batch of the same length replaces the second one: the third would fit behind it.
        assert_eq!(partition.append(&mut batch(5, 100)).unwrap().base_offset, Offset(1));
        drop(log);
    }
    let (_, _log, partition) = start(directory.path(), PartitionOptions::default());
    assert_eq!(tags(&partition), [1, 5]);
}

#[test]
fn appends_go_on_where_space_cannot_be_reserved() {
    for errno in [ENOSPC, EOPNOTSUPP] {
        let directory = tempfile::tempdir().unwrap();
        let (disk, log, partition) = start(directory.path(), PartitionOptions::default());
        disk.fail(DiskCall::Allocate, 0, usize::MAX, errno);
        for tag in 0..50 {
            partition.append(&mut batch(tag, 3000)).unwrap();
        }
        assert_eq!(tags(&partition), (0..50).collect::<Vec<_>>());
        assert_eq!(log.preallocated_bytes(), 0);
    }
}

#[test]
fn full_disk_at_a_roll_is_an_error_that_passes() {
    let directory = tempfile::tempdir().unwrap();
    let options = PartitionOptions { segment_bytes: 500, ..PartitionOptions::default() };
    let (disk, _log, partition) = start(directory.path(), options);
    for tag in 0..20 {
        disk.fail(DiskCall::Create, 0, 1, ENOSPC);
        let mut bytes = batch(tag, 100);
        if let Err(error) = partition.append(&mut bytes) {
            assert!(matches!(error, AppendError::NoSpace));
            partition.append(&mut bytes).unwrap();
        }
    }
    assert_eq!(tags(&partition), (0..20).collect::<Vec<_>>());
}

#[test]
fn reserved_space_grows_with_the_partition_and_goes_with_the_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let (_, log, partition) = start(directory.path(), PartitionOptions::default());
    let segment = directory.path().join("t-0/00000000000000000000.log");
    let length = || fs::metadata(&segment).unwrap().len();
    assert_eq!(length(), 0);
    let bytes = partition.append(&mut batch(0, 1000)).unwrap().bytes;
    assert_eq!(length(), bytes + (64 << 10));
    while length() == bytes + (64 << 10) {
        partition.append(&mut batch(0, 1000)).unwrap();
    }
    let written = partition.end_offset().0 as u64 * bytes;
    assert_eq!(length(), written + (128 << 10));
    for _ in 0..40 {
        partition.append(&mut batch(0, 1 << 20)).unwrap();
    }
    assert!(log.preallocated_bytes() <= 16 << 20);
    let range = partition.locate(Offset(0), u32::MAX, partition.end_offset()).unwrap().unwrap();
    log.shutdown().unwrap();
    assert_eq!(length(), u64::from(range.bytes));
}

#[test]
fn reserved_space_of_all_partitions_together_is_capped() {
    let directory = tempfile::tempdir().unwrap();
    let options = LogOptions { preallocated_bytes_max: 200 << 10, ..LogOptions::default() };
    let (log, _) = LogDir::open(directory.path(), options).unwrap();
    for index in 0..10 {
        let name = PartitionName::new("t", index).unwrap();
        let partition = log.create_partition(&name, Uuid::nil(), PartitionOptions::default()).unwrap();
        partition.append(&mut batch(0, 100)).unwrap();
        assert!(log.preallocated_bytes() <= 200 << 10);
    }
    assert!(log.preallocated_bytes() > 100 << 10);
}

/// Some appends, rolls, and a flush after each append. Stops at the first failure.
fn work(partition: &PartitionLog) -> Result<(), FlushError> {
    for tag in 0..12 {
        if let Err(error) = partition.append(&mut batch(tag, 200)) {
            assert!(matches!(error, AppendError::Offline { .. }), "{error}");
            return Err(FlushError::Offline { reason: String::new() });
        }
        let durable = partition.flush()?;
        assert!(durable <= partition.durable_offset());
    }
    Ok(())
}

#[test]
fn first_failed_sync_takes_the_directory_offline_for_ever() {
    let options = PartitionOptions { segment_bytes: 600, ..PartitionOptions::default() };
    for call in [DiskCall::Sync, DiskCall::SyncDir] {
        for after in 0..40 {
            let directory = tempfile::tempdir().unwrap();
            let (disk, log, partition) = start(directory.path(), options);
            let told = Arc::new(AtomicUsize::new(0));
            let (listener, watched) = (Arc::clone(&told), Arc::downgrade(&partition));
            partition.on_advance(Box::new(move |_| {
                if watched.upgrade().unwrap().is_offline() {
                    listener.fetch_add(1, Ordering::SeqCst);
                }
            }));
            disk.fail(call, after, usize::MAX, EIO);
            if work(&partition).is_ok() {
                // The loop has failed every sync of this kind once.
                assert!(after > 5, "{call:?}");
                break;
            }
            while told.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            let (durable, syncs) = (partition.durable_offset(), disk.count(DiskCall::Sync));
            assert!(partition.high_watermark() <= durable && log.offline_reason().is_some());
            assert!(matches!(partition.append(&mut batch(9, 9)), Err(AppendError::Offline { .. })));
            assert!(matches!(partition.flush(), Err(FlushError::Offline { .. })));
            let name = PartitionName::new("u", 0).unwrap();
            let created = log.create_partition(&name, Uuid::nil(), options);
            assert!(matches!(created, Err(CreateError::Offline { .. })));
            assert!(matches!(log.delete_partition(partition.name()), Err(DeleteError::Offline { .. })));
            assert!(matches!(log.shutdown(), Err(ShutdownError::Offline { .. })));
            // No second sync: the kernel would report success.
            assert_eq!(disk.count(DiskCall::Sync), syncs);
            assert_eq!(partition.durable_offset(), durable);
            // After a restart the log has at least the durable records.
            let (_, _log, partition) = start(directory.path(), options);
            assert!(partition.end_offset() >= durable);
            let count = partition.end_offset().0 as u8;
            assert_eq!(tags(&partition), (0..count).collect::<Vec<_>>());
        }
    }
}

#[test]
fn every_append_wakes_the_flusher_and_one_sync_covers_many() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, _log, partition) = start(directory.path(), PartitionOptions::default());
    partition.append(&mut batch(0, 10)).unwrap();
    while partition.durable_offset() < Offset(1) {
        std::thread::yield_now();
    }
    let before = disk.count(DiskCall::Sync);
    assert!(before > 0);
    disk.hold_syncs(true);
    for tag in 0..2000 {
        partition.append(&mut batch(tag as u8, 10)).unwrap();
    }
    disk.hold_syncs(false);
    while partition.durable_offset() < Offset(2001) {
        std::thread::yield_now();
    }
    // The sync that was held, and the one that covers the later appends.
    assert!(disk.count(DiskCall::Sync) - before <= 3);
}

#[test]
fn journal_goes_offline_with_its_first_failed_sync_and_takes_the_directory_along() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, log, partition) = start(directory.path(), PartitionOptions::default());
    let (journal, _) = log.open_journal("journal").unwrap();
    journal.append(&[IoSlice::new(b"one")]).unwrap();
    assert_eq!(journal.sync().unwrap(), 1);
    journal.append(&[IoSlice::new(b"two")]).unwrap();
    disk.fail(DiskCall::Sync, 0, 1, EIO);
    assert!(matches!(journal.sync(), Err(JournalError::Offline { .. })));
    assert!(matches!(journal.sync(), Err(JournalError::Offline { .. })));
    assert!(matches!(journal.append(&[IoSlice::new(b"three")]), Err(JournalError::Offline { .. })));
    assert_eq!(journal.durable_sequence(), 1);
    assert!(partition.is_offline());
}

#[test]
fn failed_write_to_the_journal_leaves_no_frame_behind() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let (journal, _) = Journal::open_on(disk.clone(), directory.path(), None).unwrap();
    journal.append(&[IoSlice::new(b"one")]).unwrap();
    disk.shorten_writes(&[20]);
    disk.fail(DiskCall::Write, 1, 1, ENOSPC);
    assert!(matches!(journal.append(&[IoSlice::new(&[7; 100])]), Err(JournalError::NoSpace)));
    assert_eq!(journal.append(&[IoSlice::new(b"two")]).unwrap().sequence, 1);
    drop(journal);
    let (journal, entries) = Journal::open(directory.path()).unwrap();
    let payloads: Vec<_> = entries.map(|entry| entry.unwrap().payload).collect();
    assert_eq!(payloads, [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(journal.report().torn_bytes, 0);
}

#[test]
fn full_disk_costs_no_sync_per_attempt_and_appends_resume_with_its_space() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, _log, partition) = start(directory.path(), PartitionOptions::default());
    disk.fail(DiskCall::Allocate, 0, usize::MAX, ENOSPC);
    partition.append(&mut batch(0, 100)).unwrap();
    partition.flush().unwrap();
    disk.fail(DiskCall::Write, 0, usize::MAX, ENOSPC);
    let (syncs, cuts) = (disk.count(DiskCall::Sync), disk.count(DiskCall::SetLen));
    for _ in 0..100 {
        assert!(matches!(partition.append(&mut batch(9, 100)), Err(AppendError::NoSpace)));
        assert_eq!(tags(&partition), [0]);
    }
    // No byte was written, so there is nothing to cut off.
    assert_eq!((disk.count(DiskCall::Sync), disk.count(DiskCall::SetLen)), (syncs, cuts));
    disk.clear_faults();
    partition.append(&mut batch(1, 100)).unwrap();
    // A short write left bytes: the log cuts them off once, before the next write.
    disk.fail(DiskCall::Allocate, 0, usize::MAX, ENOSPC);
    disk.shorten_writes(&[50]);
    disk.fail(DiskCall::Write, 1, 1, ENOSPC);
    let (offline, cuts) = (partition.is_offline(), disk.count(DiskCall::SetLen));
    assert!(matches!(partition.append(&mut batch(9, 100)), Err(AppendError::NoSpace)));
    partition.append(&mut batch(2, 100)).unwrap();
    partition.append(&mut batch(3, 100)).unwrap();
    assert_eq!((disk.count(DiskCall::SetLen) - cuts, offline), (1, false));
    assert_eq!(tags(&partition), [0, 1, 2, 3]);
}

#[test]
fn a_change_to_fsync_is_stored_only_once_it_is_true() {
    let directory = tempfile::tempdir().unwrap();
    let lax = PartitionOptions { durability: crate::Durability::PageCache, ..PartitionOptions::default() };
    let strict = PartitionOptions::default();
    {
        let (disk, _log, partition) = start(directory.path(), lax);
        partition.append(&mut batch(1, 100)).unwrap();
        disk.fail(DiskCall::Sync, 0, 1, EIO);
        partition.set_options(strict).unwrap_err();
        assert_eq!(partition.durability(), crate::Durability::PageCache);
    }
    let (disk, log, partition) = start(directory.path(), lax);
    assert_eq!(partition.options(), lax);
    partition.append(&mut batch(2, 100)).unwrap();
    let end = partition.end_offset();
    partition.set_options(strict).unwrap();
    disk.power_cut(7).unwrap();
    drop((log, partition));
    let (_, _log, partition) = start(directory.path(), lax);
    assert_eq!((partition.options(), partition.end_offset()), (strict, end));
}

#[test]
fn failed_sync_of_a_state_file_takes_the_directory_offline_and_a_full_disk_does_not() {
    for call in [DiskCall::Sync, DiskCall::SyncDir] {
        let directory = tempfile::tempdir().unwrap();
        let (disk, _log, partition) = start(directory.path(), PartitionOptions::default());
        let state = partition.state_file("state", 1);
        disk.fail(DiskCall::Write, 0, 1, ENOSPC);
        state.write(b"one").unwrap_err();
        assert!(!partition.is_offline());
        state.write(b"one").unwrap();
        disk.fail(call, 0, 1, EIO);
        state.write(b"two").unwrap_err();
        assert!(partition.is_offline(), "{call:?}");
    }
}

#[test]
fn no_file_is_synced_after_one_sync_has_failed() {
    let directory = tempfile::tempdir().unwrap();
    let options = PartitionOptions { durability: crate::Durability::PageCache, ..PartitionOptions::default() };
    let (disk, log, partition) = start(directory.path(), options);
    let (journal, _) = log.open_journal("journal").unwrap();
    journal.append(&[IoSlice::new(b"one")]).unwrap();
    partition.append(&mut batch(1, 100)).unwrap();
    disk.fail(DiskCall::Sync, 0, 1, EIO);
    partition.flush().unwrap_err();
    let syncs = || (disk.count(DiskCall::Sync), disk.count(DiskCall::SyncDir));
    let before = syncs();
    partition.flush().unwrap_err();
    journal.sync().unwrap_err();
    partition.set_options(PartitionOptions::default()).unwrap_err();
    partition.state_file("state", 1).write(b"state").unwrap_err();
    partition.delete_records(Offset(1)).unwrap_err();
    log.create_partition(&PartitionName::new("u", 0).unwrap(), Uuid::nil(), options).unwrap_err();
    log.delete_partition(partition.name()).unwrap_err();
    log.close().unwrap_err();
    assert_eq!(syncs(), before);
}

#[test]
fn partition_that_crashed_at_its_first_roll_is_cut_and_not_damaged() {
    let options = PartitionOptions { segment_bytes: 400, ..PartitionOptions::default() };
    let mut cut = 0;
    for seed in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        {
            let (disk, _log, partition) = start(directory.path(), options);
            disk.hold_syncs(true);
            (0..6).for_each(|tag| assert!(partition.append(&mut batch(tag, 100)).is_ok()));
            // The power cut may take bytes of the first segment that were never durable.
            disk.power_cut(seed).unwrap();
            disk.hold_syncs(false);
        }
        let (log, report) = LogDir::open(directory.path(), LogOptions::default()).unwrap();
        assert!(report.quarantined.is_empty(), "{report}");
        cut += report.truncated.len();
        let partition = &log.partitions()[0];
        let kept = partition.end_offset().0 as u8;
        assert_eq!(tags(partition), (0..kept).collect::<Vec<_>>());
    }
    assert!(cut > 0);
}

#[test]
fn recovery_reads_the_disk_and_not_the_page_cache_of_a_failed_sync() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, log, partition) = start(directory.path(), PartitionOptions::default());
    partition.append(&mut batch(1, 60)).unwrap();
    partition.flush().unwrap();
    disk.fail(DiskCall::Sync, 0, 1, EIO);
    partition.append(&mut batch(2, 60)).unwrap();
    partition.flush().unwrap_err();
    drop((log, partition));
    disk.clear_faults();
    let options = LogOptions::default();
    let (log, _) = LogDir::open_on(disk.clone(), directory.path(), options).unwrap();
    let partition = log.partition(&PartitionName::new("t", 0).unwrap()).unwrap();
    assert_eq!((tags(&partition), partition.high_watermark()), (vec![1], Offset(1)));
}

#[test]
fn recovery_of_many_partitions_syncs_once_and_still_reads_the_disk() {
    const PARTITIONS: i32 = 70;
    let directory = tempfile::tempdir().unwrap();
    let (disk, log, partition) = start(directory.path(), PartitionOptions::default());
    partition.append(&mut batch(1, 60)).unwrap();
    partition.flush().unwrap();
    for index in 1..PARTITIONS {
        let name = PartitionName::new("t", index).unwrap();
        log.create_partition(&name, Uuid::nil(), PartitionOptions::default()).unwrap();
    }
    disk.fail(DiskCall::Sync, 0, 1, EIO);
    partition.append(&mut batch(2, 60)).unwrap();
    partition.flush().unwrap_err();
    drop((log, partition));
    disk.clear_faults();
    let before = disk.count(DiskCall::Sync);
    let (log, report) = LogDir::open_on(disk.clone(), directory.path(), LogOptions::default()).unwrap();
    assert_eq!(report.partitions_scanned, PARTITIONS as usize);
    let syncs = disk.count(DiskCall::Sync) - before;
    assert!(syncs < 10, "{syncs} syncs");
    let partition = log.partition(&PartitionName::new("t", 0).unwrap()).unwrap();
    assert_eq!((tags(&partition), partition.high_watermark()), (vec![1], Offset(1)));
}

#[test]
fn a_checkpoint_names_the_position_of_its_offset_when_the_log_grew_during_the_sync() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, log, partition) = start(directory.path(), PartitionOptions::default());
    // Twice the bytes between two checkpoints: the flusher writes one long before the log is dropped.
    for tag in 0..20 {
        disk.hold_syncs(true);
        let before = disk.count(DiskCall::Sync);
        partition.append(&mut batch(tag, 900 << 10)).unwrap();
        let end = partition.end_offset();
        while disk.count(DiskCall::Sync) == before {
            std::thread::yield_now();
        }
        partition.append(&mut batch(tag, 100)).unwrap();
        disk.hold_syncs(false);
        while partition.durable_offset() < end {
            std::thread::yield_now();
        }
    }
    // Stops the flushes.
    drop(log);
    let (_, persisted) = CheckpointFile::open(disk, partition.directory()).unwrap();
    let persisted = persisted.unwrap();
    assert!(persisted.durable > Offset(0));
    let there = partition.locate(persisted.durable, 1, partition.end_offset()).unwrap().unwrap();
    assert_eq!((persisted.active_base, persisted.active_bytes), (Offset(0), there.position));
}

/// Makes every call fail that takes space.
fn fill(disk: &FaultyDisk) {
    for call in [DiskCall::Create, DiskCall::Write, DiskCall::Allocate, DiskCall::Rename] {
        disk.fail(call, 0, usize::MAX, ENOSPC);
    }
}

/// A partition of five durable batches after a crash: with a torn end behind them, or with the last batch damaged.
fn crashed(path: &Path, options: PartitionOptions, torn: bool, damaged: bool) {
    let (log, _) = LogDir::open(path, LogOptions::default()).unwrap();
    let name = PartitionName::new("t", 0).unwrap();
    let partition = log.create_partition(&name, Uuid::nil(), options).unwrap();
    (0..5).for_each(|tag| assert!(partition.append(&mut batch(tag, 100)).is_ok()));
    log.shutdown().unwrap();
    fs::remove_file(path.join(crate::format::MARKER_FILE)).unwrap();
    let segment = path.join("t-0/00000000000000000000.log");
    let mut bytes = fs::read(&segment).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= u8::from(damaged);
    bytes.extend_from_slice(&[7; 50][..if torn { 50 } else { 0 }]);
    fs::write(&segment, &bytes).unwrap();
}

#[test]
fn a_start_on_a_full_disk_serves_everything_and_appends_nothing_before_its_epoch_is_durable() {
    let strict = PartitionOptions::default();
    let lax = PartitionOptions { durability: crate::Durability::PageCache, ..strict };
    for (options, torn, damaged, closed) in [
        (strict, true, false, false),
        (strict, false, true, false),
        (strict, true, true, false),
        (lax, false, false, false),
        (strict, true, false, true),
        (strict, false, true, true),
    ] {
        let case = format!("{:?}, torn {torn}, damaged {damaged}, closed {closed}", options.durability);
        let directory = tempfile::tempdir().unwrap();
        crashed(directory.path(), options, torn, damaged);
        let acknowledged: Vec<u8> = (0..if damaged { 4 } else { 5 }).collect();
        let read = |partition: &PartitionLog| {
            let upto = Offset(acknowledged.len() as i64);
            let (bytes, _) = partition.read_batches(Offset(0), u32::MAX, upto).unwrap().unwrap();
            tags_in(&bytes)
        };
        let disk = FaultyDisk::new();
        fill(&disk);
        let opened = LogDir::open_on(disk.clone(), directory.path(), LogOptions::default());
        let (log, report) = opened.unwrap_or_else(|error| panic!("{case}: {error}"));
        let partition = Arc::clone(&log.partitions()[0]);
        assert_eq!((read(&partition), partition.end_offset()), (acknowledged.clone(), Offset(5)), "{case}");
        let refused = partition.append(&mut batch(9, 100));
        assert!(matches!(refused, Err(AppendError::NoSpace)), "{case}: {refused:?}");
        let raised = partition.leader_epoch();
        assert_eq!(raised.0 > 0, report.epochs_raised > 0, "{case}");
        if closed {
            // A clean shutdown must not forget a deferred write.
            log.close().unwrap_err();
            assert!(!directory.path().join(crate::format::MARKER_FILE).exists(), "{case}");
            continue;
        }
        disk.clear_faults();
        partition.append(&mut batch(5, 100)).unwrap();
        assert_eq!(read(&partition), acknowledged, "{case}");
        disk.power_cut(3).unwrap();
        drop((log, partition));
        // Whether the batch survived or not, the epoch that it was written with is known.
        let (log, _) = LogDir::open(directory.path(), LogOptions::default()).unwrap();
        let partition = &log.partitions()[0];
        assert!(partition.leader_epoch() >= raised, "{case}");
        assert_eq!(read(partition), acknowledged, "{case}");
    }
}

#[test]
fn a_start_without_room_for_another_file_raises_its_epoch_durably() {
    let directory = tempfile::tempdir().unwrap();
    let options = PartitionOptions::default();
    crashed(directory.path(), options, true, false);
    let disk = FaultyDisk::new();
    disk.fail(DiskCall::Create, 0, usize::MAX, ENOSPC);
    let (log, report) = LogDir::open_on(disk.clone(), directory.path(), LogOptions::default()).unwrap();
    assert_eq!(report.epochs_raised, 1);
    let raised = log.partitions()[0].leader_epoch();
    assert!(raised.0 > 0);
    disk.power_cut(5).unwrap();
    drop(log);
    let (_, _log, partition) = start(directory.path(), options);
    assert_eq!((partition.leader_epoch(), tags(&partition)), (raised, (0..5).collect()));
}

#[test]
fn creating_a_partition_on_a_full_disk_fails_and_leaves_no_files() {
    for call in [DiskCall::Create, DiskCall::Write, DiskCall::Rename] {
        let directory = tempfile::tempdir().unwrap();
        let (disk, log, _) = start(directory.path(), PartitionOptions::default());
        let name = PartitionName::new("u", 0).unwrap();
        for after in 0.. {
            disk.fail(call, after, 1, ENOSPC);
            match log.create_partition(&name, Uuid::nil(), PartitionOptions::default()) {
                Ok(_) => break,
                Err(error) => assert!(matches!(error, CreateError::NoSpace { .. }), "{call:?} {after}: {error}"),
            }
            assert!(log.partition(&name).is_none() && !directory.path().join("u-0").exists());
        }
    }
}
