//! Removes segments, and replaces several segments by one, so that a crash leaves either the old state or the new one.
//!
//! ```text
//! removal      the new log start is durable in the checkpoint → files are removed → directory synced
//!              startup removes segments that are completely below the log start
//! replacement  <start>-<end>.swap appears by rename → directory synced: from here on the replacement counts
//!              → replaced files are removed → directory synced → .swap is renamed to the name of the first → directory synced
//!              startup finishes the replacement of a .swap that it finds
//! ```
//!
//! Readers can finish with a segment that they hold. A reader that wants to open a removed segment looks into the list
//! again. This module touches neither the active segment nor one that is not settled.
//!
//! Some file systems need space to remove or rename a file. A replacement that a full disk interrupts counts all the
//! same: readers use the `.swap` file, and the next removal or replacement finishes it.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::{PartitionLog, Slot};
use crate::Offset;
use crate::format::swap_file_name;
use crate::state_file::is_full;

/// A replacement that counts and is not finished.
#[derive(Clone, Debug)]
pub(crate) struct Replacement {
    /// The file of the new segment, until it is renamed to the name of the first segment.
    pub(crate) swap: PathBuf,
    /// First offset of the new segment.
    pub(crate) start: Offset,
    /// The segments that it replaces, by their first offsets.
    pub(crate) replaced: Vec<Offset>,
}

/// Removals and replacements that a full disk interrupted.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// Segments that are not in the log any more and whose files are, by their first offsets.
    pub(crate) removed: Vec<Offset>,
    pub(crate) replacements: Vec<Replacement>,
}

impl Leftovers {
    /// The slot of the segment at `base`.
    pub(super) fn slot(&self, base: Offset) -> Slot {
        match self.replacements.iter().find(|replacement| replacement.start == base) {
            Some(replacement) => Slot::in_swap_file(base, replacement.swap.clone()),
            None => Slot::new(base),
        }
    }
}

/// The right to remove and replace segments, and the unfinished work.
#[derive(Debug)]
pub(super) struct Maintenance(Leftovers);

impl Maintenance {
    pub(super) fn of(leftovers: Leftovers) -> Self {
        Self(leftovers)
    }

    fn is_done(&self) -> bool {
        self.0.removed.is_empty() && self.0.replacements.is_empty()
    }
}

impl PartitionLog {
    pub(super) fn maintenance(&self) -> MutexGuard<'_, Maintenance> {
        self.maintenance.lock()
    }

    /// Whether removals or replacements wait for space.
    pub(super) fn has_leftovers(&self) -> bool {
        !self.maintenance().is_done()
    }

    /// Moves the log start up to `to`, at most to the durable offset, durably: from then on offsets below it cannot be
    /// read, after a crash neither. Returns the log start.
    pub(super) fn raise_log_start(&self, to: Offset) -> io::Result<Offset> {
        let mut flush_state = self.flushing.state.lock();
        self.check_changeable()?;
        let to = to.min(self.durable_offset());
        if to > self.log_start_offset() {
            // Writes both slots of the checkpoint: if the newer one is damaged later, the older one must not bring back
            // a log start whose records are gone.
            self.persist(&mut flush_state, to)?;
            self.persist(&mut flush_state, to)?;
            self.offsets.log_start.fetch_max(to.0, Ordering::AcqRel);
        }
        Ok(self.log_start_offset())
    }

    /// Removes the segments that are completely below the log start, and finishes earlier removals and replacements.
    /// Returns how many it removed. If a segment is being written, synced or replaced, it and all later ones stay until
    /// the next call.
    pub(super) fn remove_slots_below_start(&self) -> io::Result<usize> {
        let mut maintenance = self.maintenance();
        self.check_changeable()?;
        let finished = self.finish_replacements(&mut maintenance);
        let start = self.log_start_offset();
        {
            let mut slots = self.slots_mut();
            let below = slots.windows(2).take_while(|pair| match pair {
                [slot, next] => next.base() <= start && slot.is_at_rest(),
                _ => false,
            });
            let count = below.count();
            maintenance.0.removed.extend(slots.drain(..count).map(|slot| slot.base()));
        }
        let before = maintenance.0.removed.len();
        let mut first_error = None;
        // A segment that cannot be removed must not keep the others from being removed.
        maintenance.0.removed.retain(|base| match self.remove_files(*base) {
            Ok(()) => false,
            Err(error) => {
                first_error.get_or_insert(error);
                true
            }
        });
        if before > 0 {
            self.dir.sync_dir(&self.directory)?;
            self.forget_damage_below(start);
        }
        finished?;
        first_error.map_or(Ok(before - maintenance.0.removed.len()), Err)
    }

    /// Replaces the segments from the one that starts at `run.start` up to the one that starts at `run.end` by the file
    /// `staged`. That file is durable and in the partition's directory. If this fails before the replacement counts,
    /// the log is unchanged and `staged` may still exist. After that point, an error takes the log directory offline
    /// and the next start finishes the replacement; a full disk is no error then, because the replacement counts.
    pub(crate) fn replace_slots(&self, run: Range<Offset>, staged: &Path) -> io::Result<()> {
        let mut maintenance = self.maintenance();
        self.check_changeable()?;
        let replaced = self.slots_at_rest(&run)?;
        let swap = self.directory.join(swap_file_name(&run));
        self.dir.disk.rename(staged, &swap)?;
        self.dir.sync_dir(&self.directory)?;
        {
            let mut slots = self.slots_mut();
            let first = slots.partition_point(|slot| slot.base() < run.start);
            let after = slots.partition_point(|slot| slot.base() < run.end);
            slots.splice(first..after, [Arc::new(Slot::in_swap_file(run.start, swap.clone()))]);
        }
        maintenance.0.replacements.push(Replacement { swap, start: run.start, replaced });
        match self.finish_replacements(&mut maintenance) {
            Err(error) if is_full(&error) && !self.is_offline() => {
                tracing::warn!(partition = %self.name, %error, "cannot finish a replacement of segments until there is space");
                Ok(())
            }
            finished => finished.inspect_err(|error| self.dir.take_offline_after("replacing segments", error)),
        }
    }

    /// Finishes the replacements that count already, in their order.
    fn finish_replacements(&self, maintenance: &mut Maintenance) -> io::Result<()> {
        while let Some(replacement) = maintenance.0.replacements.first() {
            self.finish_replacement(replacement)?;
            maintenance.0.replacements.remove(0);
        }
        Ok(())
    }

    fn finish_replacement(&self, Replacement { swap, start, replaced }: &Replacement) -> io::Result<()> {
        let disk = &self.dir.disk;
        for base in replaced {
            disk.remove_file(&self.index_path(*base))?;
            if base != start {
                disk.remove_file(&self.segment_path(*base))?;
            }
        }
        self.dir.sync_dir(&self.directory)?;
        // Until the file is renamed, the slot is not at rest and stays in the list.
        let slot = self.slot_of(*start).map(|(slot, _)| slot).filter(|slot| slot.base() == *start);
        {
            // A thread that opens the segment must see the file under its old or its new name.
            let _opening = slot.as_ref().map(|slot| slot.lock_opening());
            disk.rename(swap, &self.segment_path(*start))?;
            if let Some(slot) = &slot {
                slot.note_renamed();
            }
        }
        self.dir.sync_dir(&self.directory)
    }

    /// The first offsets of the segments in a run, if segments begin at its start and its end and no work is left for
    /// any of them.
    fn slots_at_rest(&self, run: &Range<Offset>) -> io::Result<Vec<Offset>> {
        let slots = self.slots();
        let first = slots.partition_point(|slot| slot.base() < run.start);
        let after = slots.partition_point(|slot| slot.base() < run.end);
        let whole = |at: usize, base| slots.get(at).is_some_and(|slot| slot.base() == base);
        let found = slots.get(first..after).unwrap_or_default();
        if found.is_empty()
            || !whole(first, run.start)
            || !whole(after, run.end)
            || !found.iter().all(|it| it.is_at_rest())
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a run of segments at rest"));
        }
        Ok(found.iter().map(|slot| slot.base()).collect())
    }

    fn remove_files(&self, base: Offset) -> io::Result<()> {
        self.dir.disk.remove_file(&self.index_path(base))?;
        self.dir.disk.remove_file(&self.segment_path(base))
    }

    /// Whether files of the partition may be changed.
    fn check_changeable(&self) -> io::Result<()> {
        if let Some(reason) = self.offline_reason() {
            return Err(io::Error::other(reason));
        }
        if self.is_deleted() { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use uuid::Uuid;

    use super::*;

    use crate::{DiskCall, LocateError, LogDir, LogOptions, PartitionName, PartitionOptions};

    fn batch(tag: u8) -> Vec<u8> {
        crate::test_batches::batch(tag, 40)
    }

    /// A partition of `count` segments with one record each.
    fn filled(path: &Path, count: u8) -> (Arc<crate::FaultyDisk>, LogDir, Arc<PartitionLog>) {
        let disk = crate::FaultyDisk::new();
        let (log, _) = LogDir::open_on(disk.clone(), path, LogOptions::default()).unwrap();
        let name = PartitionName::new("t", 0).unwrap();
        let options = PartitionOptions { segment_bytes: 1, ..PartitionOptions::default() };
        let partition = log.create_partition(&name, Uuid::nil(), options).unwrap();
        for tag in 0..count {
            partition.append(&mut batch(tag)).unwrap();
        }
        partition.flush().unwrap();
        (disk, log, partition)
    }

    fn again(path: &Path) -> (LogDir, Arc<PartitionLog>) {
        let (log, _) = LogDir::open(path, LogOptions::default()).unwrap();
        let partition = log.partition(&PartitionName::new("t", 0).unwrap()).unwrap();
        (log, partition)
    }

    fn read(partition: &PartitionLog, from: i64) -> Vec<u8> {
        let (mut bytes, mut next) = (Vec::new(), Offset(from));
        while let Some((more, range)) = partition.read_batches(next, 1, partition.end_offset()).unwrap() {
            bytes.extend(more);
            next = range.next_offset;
        }
        bytes
    }

    fn segments(path: &Path) -> usize {
        let files = fs::read_dir(path.join("t-0")).unwrap().flatten();
        files.filter(|file| file.file_name().to_str().unwrap().contains(".log")).count()
    }

    #[test]
    fn removed_segments_stay_removed_and_readers_keep_the_segments_that_they_hold() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, log, partition) = filled(directory.path(), 10);
        let (all, held) = (read(&partition, 0), partition.locate(Offset(1), 1, Offset(10)).unwrap().unwrap());
        assert_eq!(partition.raise_log_start(Offset(4)).unwrap(), Offset(4));
        assert_eq!(partition.remove_slots_below_start().unwrap(), 4);
        assert!(matches!(partition.locate(Offset(3), 1, Offset(10)), Err(LocateError::OutOfRange { .. })));
        let mut bytes = vec![0; held.bytes as usize];
        held.segment.read_exact_at(held.position, &mut bytes).unwrap();
        assert_eq!(bytes, all[held.bytes as usize..][..held.bytes as usize]);
        assert_eq!(segments(directory.path()), 6);
        // The log start is durable before the first file is removed: after a crash in between, the next start removes
        // the files.
        partition.raise_log_start(Offset(7)).unwrap();
        disk.fail(DiskCall::Remove, 0, 1, libc::EIO);
        partition.remove_slots_below_start().unwrap_err();
        drop((log, held));
        let (_log, partition) = again(directory.path());
        assert_eq!((partition.log_start_offset(), segments(directory.path())), (Offset(7), 3));
        assert_eq!(read(&partition, 7), all[all.len() / 10 * 7..]);
    }

    #[test]
    fn replacement_is_all_or_nothing_wherever_it_stops() {
        for call in [DiskCall::Rename, DiskCall::SyncDir, DiskCall::Remove] {
            for after in 0.. {
                let directory = tempfile::tempdir().unwrap();
                let (disk, log, partition) = filled(directory.path(), 10);
                let all = read(&partition, 0);
                let staged = directory.path().join("t-0/some.staged");
                let each = all.len() / 10;
                fs::write(&staged, &all[each * 2..each * 6]).unwrap();
                disk.fail(call, after, 1, libc::EIO);
                let replaced = partition.replace_slots(Offset(2)..Offset(6), &staged);
                let done = replaced.is_ok();
                disk.clear_faults();
                if !partition.is_offline() {
                    assert_eq!(read(&partition, 0), all);
                    partition.append(&mut batch(10)).unwrap();
                }
                let end = partition.end_offset();
                drop((log, partition));
                let (_log, partition) = again(directory.path());
                assert_eq!((partition.end_offset(), &read(&partition, 0)[..all.len()]), (end, &all[..]));
                let names = fs::read_dir(directory.path().join("t-0")).unwrap().flatten();
                let rubbish = |name: &str| [".staged", ".swap"].iter().any(|end| name.ends_with(end));
                assert!(!names.map(|it| it.file_name()).any(|name| rubbish(name.to_str().unwrap())));
                if done {
                    assert_eq!(segments(directory.path()), 8);
                    break;
                }
            }
        }
    }

    #[test]
    fn listeners_of_a_failed_replacement_can_read_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, log, partition) = filled(directory.path(), 4);
        let staged = directory.path().join("t-0/some.staged");
        fs::write(&staged, read(&partition, 0)).unwrap();
        let (read, is_read) = std::sync::mpsc::channel();
        let listening = Arc::downgrade(&partition);
        partition.on_advance(Box::new(move |_| {
            let Some(partition) = listening.upgrade().filter(|it| it.is_offline()) else { return };
            // The read may fail: the file may be renamed or not.
            drop(partition.read_batches(Offset(1), 1, partition.end_offset()));
            read.send(()).ok();
        }));
        disk.fail(DiskCall::Remove, 0, 1, libc::EIO);
        std::thread::spawn(move || partition.replace_slots(Offset(0)..Offset(3), &staged).unwrap_err());
        if is_read.recv_timeout(std::time::Duration::from_secs(20)).is_err() {
            // Closing the log would wait for the listener.
            std::mem::forget(log);
            panic!("the listener never comes back");
        }
    }

    #[test]
    fn replacement_that_a_full_disk_interrupts_counts_and_is_finished_later() {
        for (call, after) in [(DiskCall::Remove, 0), (DiskCall::Remove, 3), (DiskCall::Rename, 1)] {
            for is_restarted in [false, true] {
                let case = format!("{call:?} {after}, restarted {is_restarted}");
                let directory = tempfile::tempdir().unwrap();
                let (disk, log, partition) = filled(directory.path(), 10);
                let all = read(&partition, 0);
                let staged = directory.path().join("t-0/some.staged");
                let each = all.len() / 10;
                fs::write(&staged, &all[each * 2..each * 6]).unwrap();
                disk.fail(call, after, usize::MAX, libc::ENOSPC);
                partition.replace_slots(Offset(2)..Offset(6), &staged).unwrap();
                assert_eq!(partition.offline_reason(), None, "{case}");
                assert_eq!(read(&partition, 0), all, "{case}");
                assert_eq!(partition.quarantined(), [], "{case}");
                // This segment and the ones behind it cannot be removed; the ones before it can.
                partition.finish_removals().unwrap_err();
                partition.append(&mut batch(10)).unwrap();
                let (log, partition) = if is_restarted {
                    drop(log);
                    // A start needs no space for that either.
                    let (log, _) = LogDir::open_on(disk.clone(), directory.path(), LogOptions::default()).unwrap();
                    let partition = log.partition(partition.name()).unwrap();
                    assert_eq!(&read(&partition, 0)[..all.len()], &all[..], "{case}");
                    assert_eq!(partition.quarantined(), [], "{case}");
                    partition.finish_removals().unwrap_err();
                    (log, partition)
                } else {
                    (log, partition)
                };
                disk.clear_faults();
                partition.finish_removals().unwrap();
                assert_eq!(&read(&partition, 0)[..all.len()], &all[..], "{case}");
                assert_eq!(segments(directory.path()), 8, "{case}");
                let swap = directory.path().join("t-0").join(swap_file_name(&(Offset(2)..Offset(6))));
                assert!(!swap.exists(), "{case}");
                drop((log, partition));
                let (_log, partition) = again(directory.path());
                assert_eq!(&read(&partition, 0)[..all.len()], &all[..], "{case}");
            }
        }
    }

    #[test]
    fn retention_goes_up_to_a_replacement_that_is_not_finished() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, _log, partition) = filled(directory.path(), 10);
        let all = read(&partition, 0);
        let staged = directory.path().join("t-0/some.staged");
        let each = all.len() / 10;
        fs::write(&staged, &all[each * 2..each * 6]).unwrap();
        disk.fail(DiskCall::Rename, 1, usize::MAX, libc::ENOSPC);
        partition.replace_slots(Offset(2)..Offset(6), &staged).unwrap();
        partition.raise_log_start(Offset(8)).unwrap();
        partition.remove_slots_below_start().unwrap_err();
        assert!(!directory.path().join("t-0/00000000000000000000.log").exists());
        disk.clear_faults();
        assert_eq!(partition.remove_slots_below_start().unwrap(), 3);
        assert_eq!((segments(directory.path()), read(&partition, 8)), (2, all[each * 8..].to_vec()));
    }

    #[test]
    fn only_whole_runs_of_closed_segments_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (_, _log, partition) = filled(directory.path(), 4);
        let staged = directory.path().join("t-0/some.staged");
        for run in [0..4, 3..4, 1..1, 7..9, 0..9] {
            let run = Offset(run.start)..Offset(run.end);
            assert_eq!(partition.replace_slots(run, &staged).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
