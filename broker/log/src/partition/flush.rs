//! Flush: makes appended bytes durable, then moves the durable offset, finishes sealed segments and writes the
//! checkpoint.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::PartitionLog;
use crate::Offset;
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::commit::FlushTicket;
use crate::error::FlushError;
use crate::format::INDEX_WORTH_BYTES;
use crate::options::Durability;
use crate::segment::Segment;

/// The flush lock, and the counters that decide when to flush.
#[derive(Debug)]
pub(super) struct Flushing {
    /// The flush lock: held by the running flush; a deletion waits for it.
    pub(super) state: Mutex<FlushState>,
    pub(super) ticket: FlushTicket,
    /// The next flush has to write the checkpoint, even if there is nothing to sync.
    checkpoint_due: AtomicBool,
    /// Bytes appended since the directory was opened.
    pub(super) appended_bytes: AtomicU64,
    /// The bytes of these that a flush has covered.
    pub(super) flushed_bytes: AtomicU64,
    /// Bytes that the last flush covered.
    pub(super) recent_bytes: AtomicU64,
}

impl Flushing {
    pub(super) fn new(state: FlushState) -> Self {
        Self {
            state: Mutex::new(state),
            ticket: FlushTicket::default(),
            checkpoint_due: AtomicBool::new(false),
            appended_bytes: AtomicU64::new(0),
            flushed_bytes: AtomicU64::new(0),
            recent_bytes: AtomicU64::new(0),
        }
    }
}

/// The state that the running flush holds.
#[derive(Debug)]
pub(super) struct FlushState {
    checkpoint: CheckpointFile,
    /// The content of the checkpoint file.
    persisted: Option<Checkpoint>,
    /// Bytes made durable since the last checkpoint.
    since_bytes: u64,
}

impl FlushState {
    pub(super) fn new(checkpoint: CheckpointFile, persisted: Option<Checkpoint>) -> Self {
        Self { checkpoint, persisted, since_bytes: 0 }
    }
}

impl PartitionLog {
    /// Makes everything durable that was appended before the call, in the calling thread. Returns the durable offset.
    pub fn flush(&self) -> Result<Offset, FlushError> {
        let mut flush_state = self.flushing.state.lock();
        self.check_online()?;
        // The end is read first: a segment with an offset below it is in the list by then.
        let end = self.end_offset();
        let reached = self.checkpoint_at(end, self.log_start_offset());
        let appended = self.flushing.appended_bytes.load(Ordering::Acquire);
        let synced = self.durable_offset() >= end && !self.has_unsynced() && !self.has_unsettled();
        if self.is_deleted() || (synced && !self.flushing.checkpoint_due.load(Ordering::Acquire)) {
            return Ok(end);
        }
        let overdue = self.flushing.checkpoint_due.swap(false, Ordering::AcqRel);
        let unsettled = self.unsettled();
        // Read before the sync: a segment that is sealed later may have taken an append that the sync did not cover.
        let sealed: Vec<bool> = unsettled.iter().map(|segment| segment.is_sealed()).collect();
        for segment in &unsettled {
            self.sync_segment(segment)?;
        }
        self.offsets.durable.fetch_max(end.0, Ordering::AcqRel);
        if self.durability() == Durability::Fsync {
            self.raise_watermark(end);
        }
        let before = self.flushing.flushed_bytes.swap(appended, Ordering::AcqRel);
        let covered = appended.saturating_sub(before);
        self.flushing.recent_bytes.store(covered, Ordering::Relaxed);
        self.dir.counters.note_group(covered);
        flush_state.since_bytes += covered;
        let mut due = overdue || flush_state.since_bytes >= self.dir.options.checkpoint_interval_bytes;
        for (segment, _) in unsettled.iter().zip(sealed).filter(|(_, sealed)| *sealed) {
            self.settle(segment);
            due = true;
        }
        if due {
            // The log start may have moved, and a checkpoint must not go back.
            let reached = Checkpoint { log_start: self.log_start_offset(), ..reached };
            self.write_checkpoint(&mut flush_state, reached)?;
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
        let synced = self.dir.disk.sync_data(segment.file());
        self.dir.counters.note_sync(begun.elapsed(), synced.is_ok());
        let synced = synced.and_then(|()| {
            if !segment.is_entry_durable() {
                self.dir.disk.sync_dir(&self.directory)?;
                segment.note_entry_durable();
            }
            Ok(())
        });
        // A deletion waits for the running flush and may fail: then the partition goes on and needs all its promises.
        synced.or_else(|error| {
            self.dir.take_offline_after("fdatasync of a segment", &error);
            self.check_online()
        })
    }

    /// Trims a sealed segment and writes its index file. The next start can do both again.
    fn settle(&self, segment: &Segment) {
        let bytes = segment.bytes();
        let trimmed = segment.file().metadata().and_then(|metadata| {
            if metadata.len() > bytes { self.dir.disk.set_len(segment.file(), bytes) } else { Ok(()) }
        });
        if let Err(error) = trimmed {
            tracing::warn!(partition = %self.name, segment = segment.base_offset().0, %error, "cannot trim a segment");
        }
        let mut index = segment.index_mut();
        if self.store_index(segment.base_offset(), &index) {
            segment.note_indexed(index.end_position());
        }
        index.thin();
        drop(index);
        segment.settle();
    }

    /// Persists the durable offset, after the sync that makes it true. An error here means that the directory is
    /// offline.
    fn write_checkpoint(&self, flush_state: &mut FlushState, checkpoint: Checkpoint) -> Result<(), FlushError> {
        match flush_state.checkpoint.write(checkpoint) {
            Ok(unsynced) => {
                if let Err(error) = unsynced.iter().try_for_each(|path| self.dir.disk.sync_path(path)) {
                    self.dir.take_offline_after("fdatasync of a checkpoint", &error);
                }
                flush_state.persisted = Some(checkpoint);
                flush_state.since_bytes = 0;
            }
            // The older checkpoint is still true. The next flush tries again: if the checkpoint lags behind, recovery
            // after a crash would cut off more at a bad batch.
            Err(error) => {
                tracing::warn!(partition = %self.name, %error, "cannot write the checkpoint");
                self.flushing.checkpoint_due.store(true, Ordering::Release);
            }
        }
        self.check_online()
    }

    /// Writes a checkpoint behind damage that ends at `behind`, so that recovery after a crash quarantines it and does
    /// not take it for the end. This never waits for a flush, because the flush may have called the listener that found
    /// the damage; in that case the flusher writes the checkpoint.
    pub(super) fn checkpoint_behind_damage(&self, behind: Offset) {
        if self.is_offline() || self.is_deleted() {
            return;
        }
        let Some(mut flush_state) = self.flushing.state.try_lock() else { return self.checkpoint_soon() };
        if flush_state.persisted.is_some_and(|persisted| persisted.durable >= behind) {
            return;
        }
        // Damage above the durable offset is only the end of the log.
        if self.durable_offset() < behind || self.persist(&mut flush_state, self.log_start_offset()).is_err() {
            drop(flush_state);
            self.checkpoint_soon();
        }
    }

    fn checkpoint_soon(&self) {
        self.flushing.checkpoint_due.store(true, Ordering::Release);
        self.flush_soon();
    }

    /// Persists `log_start` together with the durable offset, before readers see the new log start.
    pub(super) fn persist(&self, flush_state: &mut FlushState, log_start: Offset) -> io::Result<()> {
        let checkpoint = self.checkpoint_at(self.durable_offset(), log_start);
        let unsynced = flush_state.checkpoint.write(checkpoint)?;
        let synced = unsynced.iter().try_for_each(|path| self.dir.disk.sync_path(path));
        synced.inspect_err(|error| self.dir.take_offline_after("fdatasync of a checkpoint", error))?;
        flush_state.persisted = Some(checkpoint);
        flush_state.since_bytes = 0;
        Ok(())
    }

    /// The checkpoint for `durable`. Called before the sync, while `durable` is still the end of the log: later the
    /// segment has grown, or there is a new one.
    fn checkpoint_at(&self, durable: Offset, log_start: Offset) -> Checkpoint {
        let slots = self.slots();
        let last = slots.last();
        let active_base = last.map_or(Offset(0), |slot| slot.base());
        let active_bytes = last.and_then(|slot| slot.opened()).map_or(u64::MAX, |segment| {
            let index = segment.index();
            // Appends go on during this call: the position is valid only if it is the one of `durable`.
            if index.end_offset() == durable { index.end_position() } else { u64::MAX }
        });
        Checkpoint { durable, log_start, active_base, active_bytes }
    }

    /// Prepares the partition for a start without a scan: flushed, trimmed, indexed, checkpointed. Returns the files
    /// that the caller has to sync. Called after the last append.
    pub(crate) fn finish(&self) -> io::Result<Vec<PathBuf>> {
        let offline = |FlushError::Offline { reason }| io::Error::other(reason);
        // Waits for an append that began before the log was closed.
        drop(self.active());
        // A failed deferred write must not keep the other bytes from being synced. It has to prevent the marker,
        // though: with a marker, the next start would trust files that are incomplete.
        let settled = self.write_deferred();
        self.flush().map_err(offline)?;
        settled?;
        let mut flush_state = self.flushing.state.lock();
        let mut unsynced = Vec::new();
        let mut checkpoint = self.checkpoint_at(self.end_offset(), self.log_start_offset());
        if let Some(segment) = self.trim_active()? {
            if segment.bytes() >= INDEX_WORTH_BYTES {
                self.store_index(segment.base_offset(), &segment.index());
            }
            unsynced.push(self.segment_path(segment.base_offset()));
        } else {
            // The active segment is not open, but its file may have reserved space.
            let active_bytes = self.active().position();
            checkpoint.active_bytes = active_bytes;
            let path = self.segment_path(checkpoint.active_base);
            if std::fs::metadata(&path)?.len() > active_bytes {
                let file = self.dir.disk.open(&path, true)?;
                self.dir.disk.set_len(&file, active_bytes)?;
                unsynced.push(path);
            }
        }
        if flush_state.persisted != Some(checkpoint) {
            unsynced.extend(flush_state.checkpoint.write(checkpoint)?);
            flush_state.persisted = Some(checkpoint);
        }
        Ok(unsynced)
    }
}
