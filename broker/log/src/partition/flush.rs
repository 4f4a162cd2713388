//! Making appended bytes durable, and what follows from it: the durable offset, sealed segments, the checkpoint.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::PartitionLog;
use crate::Offset;
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::error::FlushError;
use crate::format::INDEX_WORTH_BYTES;
use crate::options::Durability;
use crate::segment::Segment;

/// What the flush that holds the lock knows.
#[derive(Debug)]
pub(super) struct Flushed {
    checkpoint: CheckpointFile,
    /// What the checkpoint file says.
    persisted: Option<Checkpoint>,
    /// Bytes made durable since it says so.
    since_bytes: u64,
}

impl Flushed {
    pub(super) fn new(checkpoint: CheckpointFile, persisted: Option<Checkpoint>) -> Self {
        Self { checkpoint, persisted, since_bytes: 0 }
    }
}

impl PartitionLog {
    /// Makes everything appended before the call durable, in the calling thread, and says how far.
    pub fn flush(&self) -> Result<Offset, FlushError> {
        let mut flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_online()?;
        // The end comes first: a segment that holds an offset below it is in the list by then.
        let end = self.end_offset();
        let reached = self.checkpoint_at(end, self.log_start_offset());
        let appended = self.appended_bytes.load(Ordering::Acquire);
        let synced = self.durable_offset() >= end && !self.has_unsynced() && !self.has_unsettled();
        if self.is_deleted() || (synced && !self.checkpoint_due.load(Ordering::Acquire)) {
            return Ok(end);
        }
        let overdue = self.checkpoint_due.swap(false, Ordering::AcqRel);
        let unsettled = self.unsettled();
        // Asked before the sync: a segment that is sealed only now may have taken an append that the sync missed.
        let sealed: Vec<bool> = unsettled.iter().map(|segment| segment.is_sealed()).collect();
        for segment in &unsettled {
            self.sync_segment(segment)?;
        }
        self.durable.fetch_max(end.0, Ordering::AcqRel);
        if self.durability() == Durability::Fsync {
            self.raise_watermark(end);
        }
        let before = self.flushed_bytes.swap(appended, Ordering::AcqRel);
        let covered = appended.saturating_sub(before);
        self.recent_flush_bytes.store(covered, Ordering::Relaxed);
        self.shared.counters.note_group(covered);
        flushed.since_bytes += covered;
        let mut due = overdue || flushed.since_bytes >= self.shared.options.checkpoint_interval_bytes;
        for (segment, _) in unsettled.iter().zip(sealed).filter(|(_, sealed)| *sealed) {
            self.settle(segment);
            due = true;
        }
        if due {
            // The log may start later by now, and nowhere may a checkpoint fall behind the one before.
            let reached = Checkpoint { log_start: self.log_start_offset(), ..reached };
            self.write_checkpoint(&mut flushed, reached)?;
        }
        Ok(end)
    }

    fn check_online(&self) -> Result<(), FlushError> {
        self.offline_reason().map_or(Ok(()), |reason| Err(FlushError::Offline { reason }))
    }

    /// Segments whose bytes may not be durable, oldest first.
    fn unsettled(&self) -> Vec<Arc<Segment>> {
        let slots = self.slots();
        let newest_first =
            slots.iter().rev().map_while(|slot| slot.opened()).take_while(|segment| !segment.is_settled());
        let mut unsettled: Vec<_> = newest_first.collect();
        unsettled.reverse();
        unsettled
    }

    fn has_unsynced(&self) -> bool {
        self.slots().last().and_then(|slot| slot.opened()).is_some_and(|segment| !segment.is_entry_durable())
    }

    fn sync_segment(&self, segment: &Segment) -> Result<(), FlushError> {
        let begun = Instant::now();
        let synced = self.shared.disk.sync_data(segment.file());
        self.shared.counters.note_sync(begun.elapsed(), synced.is_ok());
        let synced = synced.and_then(|()| {
            if !segment.is_entry_durable() {
                self.shared.disk.sync_dir(&self.directory)?;
                segment.note_entry_durable();
            }
            Ok(())
        });
        // A deletion waits for the flush that runs, and may still fail: then the partition is there with all it promised.
        synced.or_else(|error| {
            self.shared.poison("fdatasync of a segment", &error);
            self.check_online()
        })
    }

    /// Trims a sealed segment and writes its index file. Both can be done again at the next start.
    fn settle(&self, segment: &Segment) {
        let bytes = segment.bytes();
        let trimmed = segment.file().metadata().and_then(|metadata| {
            if metadata.len() > bytes { self.shared.disk.set_len(segment.file(), bytes) } else { Ok(()) }
        });
        if let Err(error) = trimmed {
            tracing::warn!(partition = %self.name, segment = segment.base_offset().0, %error, "segment not trimmed");
        }
        let mut index = segment.index_mut();
        if self.store_index(segment.base_offset(), &index) {
            segment.note_indexed(index.end_position());
        }
        index.thin();
        drop(index);
        segment.settle();
    }

    /// Persists the durable offset. The sync that makes it true lies behind; this one may fail only by poisoning.
    fn write_checkpoint(&self, flushed: &mut Flushed, checkpoint: Checkpoint) -> Result<(), FlushError> {
        match flushed.checkpoint.write(checkpoint) {
            Ok(unsynced) => {
                if let Err(error) = unsynced.iter().try_for_each(|path| self.shared.disk.sync_path(path)) {
                    self.shared.poison("fdatasync of a checkpoint", &error);
                }
                flushed.persisted = Some(checkpoint);
                flushed.since_bytes = 0;
            }
            // The older checkpoint is still true. The next flush tries again: the further it lags behind, the more would be
            // cut off at a bad batch after a crash.
            Err(error) => {
                tracing::warn!(partition = %self.name, %error, "checkpoint not written");
                self.checkpoint_due.store(true, Ordering::Release);
            }
        }
        self.check_online()
    }

    /// Persists the durable offset behind damage that ends at `behind`: a start after a crash must quarantine it, and not
    /// take it for the end. Never waits for a flush, which may have called the listener that came upon the damage; then the
    /// flusher does it.
    pub(super) fn secure_damage(&self, behind: Offset) {
        if self.is_offline() || self.is_deleted() {
            return;
        }
        let Ok(mut flushed) = self.flushed.try_lock() else { return self.secure_damage_soon() };
        if flushed.persisted.is_some_and(|persisted| persisted.durable >= behind) {
            return;
        }
        // What is damaged before it is durable is no more than the end.
        if self.durable_offset() < behind || self.persist(&mut flushed, self.log_start_offset()).is_err() {
            drop(flushed);
            self.secure_damage_soon();
        }
    }

    fn secure_damage_soon(&self) {
        self.checkpoint_due.store(true, Ordering::Release);
        self.flush_soon();
    }

    /// Persists `log_start` together with the durable offset, before it is shown to anybody.
    pub(super) fn persist(&self, flushed: &mut Flushed, log_start: Offset) -> io::Result<()> {
        let checkpoint = self.checkpoint_at(self.durable_offset(), log_start);
        let unsynced = flushed.checkpoint.write(checkpoint)?;
        let synced = unsynced.iter().try_for_each(|path| self.shared.disk.sync_path(path));
        synced.inspect_err(|error| self.shared.poison("fdatasync of a checkpoint", error))?;
        flushed.persisted = Some(checkpoint);
        flushed.since_bytes = 0;
        Ok(())
    }

    /// What a checkpoint says once everything below `durable` is synced. Asked before the sync, while that is still the
    /// end of the log: later the segment has grown, or another one has begun.
    fn checkpoint_at(&self, durable: Offset, log_start: Offset) -> Checkpoint {
        let slots = self.slots();
        let last = slots.last();
        let active_base = last.map_or(Offset(0), |slot| slot.base());
        let active_bytes = last.and_then(|slot| slot.opened()).map_or(u64::MAX, |segment| {
            let index = segment.index();
            // Appends go on meanwhile: the position is stated only where it is that of `durable`.
            if index.end_offset() == durable { index.end_position() } else { u64::MAX }
        });
        Checkpoint { durable, log_start, active_base, active_bytes }
    }

    /// Leaves the partition so that the next start needs no scan: flushed, trimmed, indexed, checkpointed. Returns the
    /// files that still have to be synced. Called when no append can come any more.
    pub(crate) fn finish(&self) -> io::Result<Vec<PathBuf>> {
        let offline = |FlushError::Offline { reason }| io::Error::other(reason);
        // An append that began before the log was closed ends first.
        drop(self.tail());
        // What cannot be written must not keep from being synced what is. The next start believes what it finds: where
        // that lacks something there must not be a marker.
        let settled = self.settle_debt();
        self.flush().map_err(offline)?;
        settled?;
        let mut flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unsynced = Vec::new();
        let mut checkpoint = self.checkpoint_at(self.end_offset(), self.log_start_offset());
        if let Some(segment) = self.trim_active()? {
            if segment.bytes() >= INDEX_WORTH_BYTES {
                self.store_index(segment.base_offset(), &segment.index());
            }
            unsynced.push(self.segment_path(segment.base_offset()));
        } else {
            // Nothing was appended since the start or since it was closed; there may be reserved space.
            let active_bytes = self.tail().position();
            checkpoint.active_bytes = active_bytes;
            let path = self.segment_path(checkpoint.active_base);
            if std::fs::metadata(&path)?.len() > active_bytes {
                let file = self.shared.disk.open(&path, true)?;
                self.shared.disk.set_len(&file, active_bytes)?;
                unsynced.push(path);
            }
        }
        if flushed.persisted != Some(checkpoint) {
            unsynced.extend(flushed.checkpoint.write(checkpoint)?);
            flushed.persisted = Some(checkpoint);
        }
        Ok(unsynced)
    }
}
