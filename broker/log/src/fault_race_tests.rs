//! Faults that meet a running operation: another sync, a deletion, a change of settings.

use std::fs;
use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use libc::{EIO, ENOSPC};
use uuid::Uuid;

use crate::faulty_disk_tests::{start, tags};
use crate::journal::Journal;
use crate::test_batches::batch;
use crate::{
    AppendError, DiskCall, Durability, FaultyDisk, LocateError, LogDir, LogOptions, Offset, PartitionName,
    PartitionOptions, Retention, ShutdownError,
};

/// How long a running sync waits for a second sync of the same file. If a second one comes, it comes at once.
const ANOTHER_SYNC_WAIT: Duration = Duration::from_millis(200);

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        thread::yield_now();
    }
}

/// The kernel reports a failed write-back once per open file. This disk reports it to the second sync, while the first
/// one, in a thread whose name starts with `syncer`, is still running; the first one ends after `second_has_failed`.
fn report_to_the_second_sync(disk: &Arc<FaultyDisk>, syncer: &'static str) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (entered, is_entered) = mpsc::channel();
    let (told, second_has_failed) = mpsc::channel();
    let second_has_failed = std::sync::Mutex::new(second_has_failed);
    let failing = Arc::downgrade(disk);
    disk.before(DiskCall::Sync, move || {
        if thread::current().name().is_some_and(|name| name.starts_with(syncer)) {
            entered.send(()).ok();
            second_has_failed.lock().unwrap().recv_timeout(ANOTHER_SYNC_WAIT).ok();
        } else if let Some(disk) = failing.upgrade() {
            disk.fail(DiskCall::Sync, 0, 1, EIO);
        }
    });
    (is_entered, told)
}

#[test]
fn a_flush_reports_no_success_while_another_sync_of_its_file_fails() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, log, partition) = start(directory.path(), PartitionOptions::default());
    let (is_entered, told) = report_to_the_second_sync(&disk, "ottla-flush");
    partition.append(&mut batch(1, 500)).unwrap();
    is_entered.recv().unwrap();
    disk.fail(DiskCall::Write, 0, 1, ENOSPC);
    assert!(matches!(partition.append(&mut batch(2, 500)), Err(AppendError::NoSpace)));
    // The append cuts off the partial write and syncs the cut first.
    assert!(matches!(partition.append(&mut batch(3, 500)), Err(AppendError::Offline { .. })));
    told.send(()).ok();
    log.close().unwrap_err();
    let acknowledged = partition.high_watermark();
    drop((log, partition));
    disk.power_cut(3).unwrap();
    let (_, _log, partition) = start(directory.path(), PartitionOptions::default());
    assert!(partition.end_offset() >= acknowledged, "{acknowledged:?} was acknowledged");
}

#[test]
fn a_sync_of_the_journal_reports_no_success_while_another_one_fails() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("route");
    let disk = FaultyDisk::new();
    let (journal, _) = Journal::open_on(disk.clone(), &path, None).unwrap();
    let (is_entered, told) = report_to_the_second_sync(&disk, "syncer");
    journal.append(&[IoSlice::new(b"first")]).unwrap();
    let durable = thread::scope(|scope| {
        let syncer = thread::Builder::new().name("syncer".to_owned());
        let syncer = syncer.spawn_scoped(scope, || journal.sync().unwrap_or(0)).unwrap();
        is_entered.recv().unwrap();
        disk.shorten_writes(&[5]);
        disk.fail(DiskCall::Write, 1, 1, ENOSPC);
        journal.append(&[IoSlice::new(b"second, longer")]).unwrap_err();
        journal.append(&[IoSlice::new(b"third")]).unwrap_err();
        told.send(()).ok();
        syncer.join().unwrap()
    });
    drop(journal);
    disk.power_cut(3).unwrap();
    let (_, entries) = Journal::open(&path).unwrap();
    assert!(entries.count() as u64 >= durable);
}

#[test]
fn records_shown_before_a_change_to_fsync_are_durable_or_have_another_epoch() {
    let lax = PartitionOptions { durability: Durability::PageCache, ..PartitionOptions::default() };
    for seed in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let (disk, log, partition) = start(directory.path(), lax);
        partition.append(&mut batch(1, 500)).unwrap();
        let epoch = partition.leader_epoch();
        let (seen, cutting) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        // Records arrive when the first flush is over and `partition.meta` is about to be synced; the power fails at
        // the next sync.
        let (appending, saw, cut_next) = (Arc::downgrade(&partition), Arc::clone(&seen), Arc::clone(&cutting));
        disk.before(DiskCall::SyncDir, move || {
            if let Some(partition) = appending.upgrade()
                && !cut_next.load(Ordering::SeqCst)
            {
                partition.append(&mut batch(2, 500)).unwrap();
                partition.append(&mut batch(3, 500)).unwrap();
                saw.store(partition.high_watermark().0, Ordering::SeqCst);
                cut_next.store(true, Ordering::SeqCst);
            }
        });
        let power = Arc::downgrade(&disk);
        disk.before(DiskCall::Sync, move || {
            if cutting.load(Ordering::SeqCst) {
                power.upgrade().unwrap().power_cut(seed).unwrap();
            }
        });
        // The cut may happen before or after this call ends.
        drop(partition.set_options(PartitionOptions::default()));
        drop((log, partition));
        disk.power_cut(seed).ok();
        let (_, _log, partition) = start(directory.path(), lax);
        let kept = partition.end_offset().0 >= seen.load(Ordering::SeqCst);
        assert!(kept || partition.leader_epoch() > epoch, "seed {seed}: lost what consumers saw, in the same epoch");
    }
}

#[test]
fn settings_in_force_equal_the_stored_settings() {
    let directory = tempfile::tempdir().unwrap();
    let strict = PartitionOptions::default();
    let lax = PartitionOptions { durability: Durability::PageCache, ..strict };
    let (_disk, _log, partition) = start(directory.path(), strict);
    for _ in 0..300 {
        thread::scope(|scope| {
            for options in [strict, lax] {
                let partition = &partition;
                scope.spawn(move || partition.set_options(options).unwrap());
            }
        });
        assert_eq!(partition.durability(), partition.options().durability);
    }
}

#[test]
fn a_failed_deletion_repeats_the_flush_that_it_prevented() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, log, partition) = start(directory.path(), PartitionOptions::default());
    let before = disk.count(DiskCall::Sync);
    disk.hold_syncs(true);
    partition.append(&mut batch(1, 10)).unwrap();
    wait_for("the flush begins", || disk.count(DiskCall::Sync) > before);
    partition.append(&mut batch(2, 10)).unwrap();
    let watched = Arc::downgrade(&partition);
    disk.before(DiskCall::Rename, move || {
        // The flush for the second batch finds a partition that is being deleted.
        wait_for("the flusher is through", || watched.upgrade().unwrap().ticket().is_idle());
    });
    disk.fail(DiskCall::Rename, 0, 1, ENOSPC);
    thread::scope(|scope| {
        scope.spawn(|| log.delete_partition(partition.name()).unwrap_err());
        wait_for("the deletion begins", || partition.is_deleted());
        disk.hold_syncs(false);
    });
    assert!(!partition.is_deleted());
    wait_for("the second batch is durable", || partition.durable_offset() == Offset(2));
}

#[test]
fn a_failed_sync_of_a_partition_that_is_being_deleted_acknowledges_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, log, partition) = start(directory.path(), PartitionOptions::default());
    let before = disk.count(DiskCall::Sync);
    disk.hold_syncs(true);
    disk.fail(DiskCall::Sync, 0, 1, EIO);
    partition.append(&mut batch(1, 10)).unwrap();
    wait_for("the flush begins", || disk.count(DiskCall::Sync) > before);
    thread::scope(|scope| {
        scope.spawn(|| log.delete_partition(partition.name()).unwrap_err());
        wait_for("the deletion begins", || partition.is_deleted());
        disk.hold_syncs(false);
    });
    assert_eq!((partition.durable_offset(), partition.high_watermark()), (Offset(0), Offset(0)));
}

#[test]
fn segments_that_a_full_disk_kept_are_removed_later() {
    let directory = tempfile::tempdir().unwrap();
    let options = PartitionOptions { segment_bytes: 1, ..PartitionOptions::default() };
    let (disk, log, partition) = start(directory.path(), options);
    (0..10).for_each(|tag| assert!(partition.append(&mut batch(tag, 400)).is_ok()));
    partition.flush().unwrap();
    let segments = || {
        let files = fs::read_dir(directory.path().join("t-0")).unwrap().flatten();
        files.filter(|file| file.file_name().to_str().unwrap().contains(".log")).count()
    };
    let all_but_two = Retention { retention_ms: -1, retention_bytes: 0 };
    disk.fail(DiskCall::Remove, 0, 1, ENOSPC);
    partition.delete_old_segments(&all_but_two, Offset(8), 0).unwrap_err();
    assert!(!partition.is_offline());
    assert_eq!(partition.log_start_offset(), Offset(8));
    // The leftovers are removed although no segment is too old now.
    partition.finish_removals().unwrap();
    assert_eq!(segments(), 2);
    // DeleteRecords removes leftovers too. A start does so as well, and works on a full disk.
    disk.fail(DiskCall::Remove, 0, usize::MAX, ENOSPC);
    partition.delete_records(Offset(9)).unwrap_err();
    partition.delete_records(Offset(9)).unwrap_err();
    assert_eq!(segments(), 2);
    drop((log, partition));
    let (log, _) = LogDir::open_on(disk.clone(), directory.path(), LogOptions::default()).unwrap();
    let partition = log.partition(&PartitionName::new("t", 0).unwrap()).unwrap();
    assert_eq!((partition.log_start_offset(), partition.end_offset(), segments()), (Offset(9), Offset(10), 2));
    assert!(matches!(partition.locate(Offset(8), 1, Offset(10)), Err(LocateError::OutOfRange { .. })));
    disk.clear_faults();
    partition.delete_records(Offset(9)).unwrap();
    assert_eq!(segments(), 1);
}

#[test]
fn a_renamed_partition_exists_even_if_no_file_can_be_opened_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, log, _) = start(directory.path(), PartitionOptions::default());
    let made = directory.path().join("u-0");
    disk.before(DiskCall::SyncDir, move || {
        // As if the process had no free descriptor from here on.
        if made.is_dir() && made.join("checkpoint").is_file() {
            fs::rename(made.join("checkpoint"), made.join("hidden")).unwrap();
            fs::create_dir(made.join("checkpoint")).unwrap();
        }
    });
    let name = PartitionName::new("u", 0).unwrap();
    let partition = log.create_partition(&name, Uuid::nil(), PartitionOptions::default()).unwrap();
    assert_eq!((partition.end_offset(), log.partition(&name).is_some()), (Offset(0), true));
}

#[test]
fn closing_syncs_every_partition_even_if_one_cannot_be_finished() {
    const PARTITIONS: i32 = 30;
    let lax = PartitionOptions { durability: Durability::PageCache, ..PartitionOptions::default() };
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let (log, _) = LogDir::open_on(disk.clone(), directory.path(), LogOptions::default()).unwrap();
    for index in 0..PARTITIONS {
        let partition = log.create_partition(&PartitionName::new("t", index).unwrap(), Uuid::nil(), lax).unwrap();
        partition.append(&mut batch(7, 100)).unwrap();
    }
    disk.fail(DiskCall::SetLen, 0, 1, ENOSPC);
    assert!(matches!(log.close(), Err(ShutdownError::Io { .. })));
    let unsynced = log.partitions().iter().filter(|partition| partition.durable_offset() < Offset(1)).count();
    assert_eq!(unsynced, 0);
    drop(log);
    disk.power_cut(1).unwrap();
    let (log, report) = LogDir::open(directory.path(), LogOptions::default()).unwrap();
    assert!(!report.clean);
    assert!(log.partitions().iter().all(|partition| tags(partition) == [7]));
}

#[test]
fn damage_does_not_end_the_log_after_a_crash_when_a_full_disk_delayed_the_checkpoint() {
    use std::os::unix::fs::FileExt;
    let options = PartitionOptions { segment_bytes: 1000, ..PartitionOptions::default() };
    let directory = tempfile::tempdir().unwrap();
    let (disk, log, partition) = start(directory.path(), options);
    partition.append(&mut batch(0, 200)).unwrap();
    partition.flush().unwrap();
    // The rolls after this write no checkpoint: where every change takes new space, the checkpoint has none.
    disk.before(DiskCall::Open, {
        let disk = Arc::downgrade(&disk);
        move || disk.upgrade().unwrap().fail(DiskCall::Open, 0, 1, ENOSPC)
    });
    let places: Vec<_> = (1..12).map(|tag| partition.append(&mut batch(tag, 200)).unwrap()).collect();
    partition.flush().unwrap();
    disk.before(DiskCall::Open, || ());
    disk.clear_faults();
    let acknowledged = partition.high_watermark();
    let hit = places[0];
    assert!(places[10].segment_base > hit.segment_base);
    let path = directory.path().join("t-0/00000000000000000000.log");
    fs::File::options().write(true).open(path).unwrap().write_all_at(&[0xEE; 8], hit.position).unwrap();
    let read = partition.read_batches(hit.base_offset, 1, acknowledged);
    assert!(matches!(read, Err(LocateError::Corrupt { .. })), "{read:?}");
    // A crash.
    drop((log, partition));
    let (_, _log, partition) = start(directory.path(), options);
    assert_eq!(partition.end_offset(), acknowledged);
}

#[test]
fn listeners_are_called_once_when_the_directory_goes_offline() {
    for _ in 0..50 {
        let directory = tempfile::tempdir().unwrap();
        let (disk, log, partition) = start(directory.path(), PartitionOptions::default());
        let (told, is_told) = mpsc::channel();
        disk.fail(DiskCall::Sync, 0, 1, EIO);
        thread::scope(|scope| {
            scope.spawn(|| partition.append(&mut batch(1, 10)).map(|_| partition.flush()));
            scope.spawn(|| log.on_offline(Box::new(move || told.send(()).unwrap())));
        });
        is_told.recv_timeout(Duration::from_secs(20)).unwrap();
        // Once the log is dropped, no listener is called.
        drop((log, partition));
        assert_eq!(is_told.iter().count(), 0);
    }
}
