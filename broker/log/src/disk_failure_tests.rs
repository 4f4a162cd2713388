//! When the disk itself refuses a change, the log ends all writing in the directory, as after a failed sync. A full
//! disk is a different case.

use std::io::IoSlice;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use libc::{EDQUOT, EIO, ENOSPC, ENXIO, EROFS};
use uuid::Uuid;

use crate::{
    AppendError, DiskCall, Durability, FaultyDisk, JournalError, LeaderEpoch, LogDir, LogOptions, Offset, PartitionLog,
    PartitionName, PartitionOptions,
};

/// Longer than any step here takes, unless it hangs.
const TIMEOUT: Duration = Duration::from_secs(20);

fn batch(value_bytes: usize) -> Vec<u8> {
    crate::test_batches::batch(7, value_bytes)
}

fn start(path: &Path) -> (Arc<FaultyDisk>, LogDir, Arc<PartitionLog>) {
    let disk = FaultyDisk::new();
    let (log, _) = LogDir::open_on(disk.clone(), path, LogOptions::default()).unwrap();
    let name = PartitionName::new("t", 0).unwrap();
    let options = PartitionOptions { segment_bytes: 600, ..PartitionOptions::default() };
    let partition = log.partition(&name).unwrap_or_else(|| log.create_partition(&name, Uuid::nil(), options).unwrap());
    (disk, log, partition)
}

#[test]
fn a_disk_that_refuses_a_change_takes_the_directory_offline_for_ever() {
    // The write, the creation of the next segment, the reservation of space.
    for call in [DiskCall::Write, DiskCall::Create, DiskCall::Allocate] {
        for errno in [EIO, EROFS, ENXIO] {
            let directory = tempfile::tempdir().unwrap();
            let (disk, log, partition) = start(directory.path());
            // No sync in the background: the counts below are those of this thread.
            partition
                .set_options(PartitionOptions { durability: Durability::PageCache, ..partition.options() })
                .unwrap();
            partition.append(&mut batch(100)).unwrap();
            partition.flush().unwrap();
            let (sender, calls) = mpsc::channel();
            log.on_offline(Box::new(move || sender.send(()).unwrap()));
            disk.fail(call, 0, 1, errno);
            let failed = (0..20).find_map(|_| partition.append(&mut batch(100)).err()).expect("it meets the failure");
            assert!(matches!(failed, AppendError::Offline { .. }), "{call:?} {errno}: {failed}");
            calls.recv_timeout(TIMEOUT).expect("the listener is called");
            // Although the disk works again, the log writes and syncs nothing any more.
            let (end, writes, syncs) =
                (partition.end_offset(), disk.count(DiskCall::Write), disk.count(DiskCall::Sync));
            assert!(matches!(partition.append(&mut batch(1)), Err(AppendError::Offline { .. })));
            partition.flush().unwrap_err();
            partition.state_file("state", 1).write(b"one").unwrap_err();
            assert_eq!((disk.count(DiskCall::Write), disk.count(DiskCall::Sync)), (writes, syncs));
            drop((log, partition));
            let (_, _log, partition) = start(directory.path());
            assert_eq!(partition.end_offset(), end);
            partition.append(&mut batch(1)).unwrap();
        }
    }
}

#[test]
fn a_full_disk_and_a_quota_are_no_failure_of_the_disk() {
    for errno in [ENOSPC, EDQUOT] {
        let directory = tempfile::tempdir().unwrap();
        let (disk, _log, partition) = start(directory.path());
        for call in [DiskCall::Write, DiskCall::Create, DiskCall::Allocate, DiskCall::Rename] {
            disk.fail(call, 0, usize::MAX, errno);
            for _ in 0..10 {
                if let Err(error) = partition.append(&mut batch(100)) {
                    assert!(matches!(error, AppendError::NoSpace), "{call:?}: {error}");
                }
                let _ = partition.state_file("state", 1).write(b"one");
            }
            disk.clear_faults();
            assert!(!partition.is_offline(), "{call:?}");
            partition.append(&mut batch(100)).unwrap();
        }
    }
}

#[test]
fn a_disk_that_fails_under_the_journal_takes_the_partitions_along() {
    for call in [DiskCall::Write, DiskCall::SetLen] {
        let directory = tempfile::tempdir().unwrap();
        let (disk, log, partition) = start(directory.path());
        let (journal, _) = log.open_journal("journal").unwrap();
        journal.append(&[IoSlice::new(b"one")]).unwrap();
        if call == DiskCall::SetLen {
            // The log has to cut off the partial write first.
            disk.fail(DiskCall::Write, 0, 1, ENOSPC);
            assert!(matches!(journal.append(&[IoSlice::new(b"two")]), Err(JournalError::NoSpace)));
        }
        disk.fail(call, 0, 1, EIO);
        assert!(matches!(journal.append(&[IoSlice::new(b"two")]), Err(JournalError::Offline { .. })));
        assert!(matches!(journal.sync(), Err(JournalError::Offline { .. })));
        assert!(matches!(partition.append(&mut batch(1)), Err(AppendError::Offline { .. })));
    }
}

/// Asks everything that readers ask of a partition without waiting for another thread.
fn ask(partition: &PartitionLog) {
    assert_eq!(partition.epoch_of(Offset(0)), Some(LeaderEpoch(0)));
    assert_eq!(partition.epoch_end_offset(LeaderEpoch(0)), Some((LeaderEpoch(0), partition.end_offset())));
    assert!(partition.topic_id().is_nil());
    assert_eq!(partition.options().segment_bytes, 600);
    // The read opens segments that are not open yet.
    assert!(partition.read_batches(Offset(0), 1, partition.end_offset()).unwrap().is_some());
}

#[test]
fn readers_never_wait_while_partition_meta_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (_, log, partition) = start(directory.path());
    for _ in 0..10 {
        partition.append(&mut batch(100)).unwrap();
    }
    drop(partition);
    log.shutdown().unwrap();
    let (disk, _log, partition) = start(directory.path());
    let syncs = disk.count(DiskCall::Sync);
    disk.hold_syncs(true);
    let rewriting: Weak<PartitionLog> = Arc::downgrade(&partition);
    let rewriter = std::thread::spawn(move || {
        let partition = rewriting.upgrade().unwrap();
        partition.set_options(PartitionOptions { segment_bytes: 700, ..partition.options() }).unwrap();
    });
    while disk.count(DiskCall::Sync) == syncs {
        std::thread::yield_now();
    }
    let (answered, answers) = mpsc::channel();
    let asking = Arc::clone(&partition);
    let asker = std::thread::spawn(move || {
        ask(&asking);
        answered.send(()).unwrap();
    });
    let in_time = answers.recv_timeout(TIMEOUT);
    disk.hold_syncs(false);
    rewriter.join().unwrap();
    in_time.expect("no reader waits for the disk");
    asker.join().unwrap();
    assert_eq!(partition.options().segment_bytes, 700);
}
