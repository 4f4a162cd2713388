//! Retention: raises the log start and removes the segments below it.
//!
//! The new log start is durable before any segment below it is removed, and only then do readers see it. After a crash
//! the partition has either all segments or the new log start; startup removes the segments below it (`replace`).

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use parking_lot::Mutex;

use super::{PartitionLog, Slot};
use crate::Offset;
use crate::clean::CleanState;
use crate::disk::Disk;
use crate::error::{AppendError, RetainError};

/// How much of a partition is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A segment is removed when its greatest timestamp is older than this; negative: never.
    pub retention_ms: i64,
    /// The oldest segments are removed as long as the others have at least this many bytes; negative: no limit.
    pub retention_bytes: i64,
}

/// The result of a retention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Number of segments removed.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// The segments that the retention removes.
struct TooOld {
    /// The log start after the removal.
    start: Offset,
    bytes: u64,
    /// Base offset and bytes of the active segment, if it is too old as well.
    active: Option<(Offset, u64)>,
}

impl PartitionLog {
    /// Raises the log start to `before`, at most to the high watermark. When this returns, no reader can read the
    /// records below it, after a crash neither. Returns the log start, which may have been higher before. Waits for the
    /// disk.
    pub fn delete_records(&self, before: Offset) -> Result<Offset, RetainError> {
        let (start, high_watermark) = (self.log_start_offset(), self.high_watermark());
        if before.0 < 0 || before > high_watermark {
            return Err(RetainError::OutOfRange { requested: before, high_watermark });
        }
        if before > start {
            self.move_log_start(before)?;
        }
        if before > start || self.has_leftovers() {
            self.check_removable()?;
            self.remove_slots_below_start()?;
        }
        Ok(self.log_start_offset())
    }

    /// The log start that the retention would lead to now: see [`delete_old_segments`](Self::delete_old_segments).
    pub fn retained_from(&self, retention: &Retention, upto: Offset, now_ms: i64) -> Result<Offset, RetainError> {
        Ok(self.too_old(retention, upto, now_ms)?.start)
    }

    /// Removes the oldest segments that the retention does not keep, but none with records at or above `upto`. A
    /// segment without timestamps is as old as its file. If the whole active segment is too old, starts a new one.
    /// Waits for the disk.
    pub fn delete_old_segments(
        &self,
        retention: &Retention,
        upto: Offset,
        now_ms: i64,
    ) -> Result<Removed, RetainError> {
        let TooOld { mut start, mut bytes, active } = self.too_old(retention, upto, now_ms)?;
        if let Some((base, active_bytes)) = active
            && !self.roll_from(base, start)?
        {
            // The active segment got records meanwhile.
            (start, bytes) = (base, bytes - active_bytes);
        }
        if start > self.log_start_offset() {
            self.move_log_start(start)?;
        }
        self.check_removable()?;
        let segments = self.remove_slots_below_start()?;
        Ok(Removed { segments, bytes })
    }

    /// Continues removals and replacements of segments that a full disk interrupted; cheap if there are none. Waits for
    /// the disk.
    pub fn finish_removals(&self) -> Result<(), RetainError> {
        if self.has_leftovers() {
            self.check_removable()?;
            self.remove_slots_below_start()?;
        }
        Ok(())
    }

    fn too_old(&self, retention: &Retention, upto: Offset, now_ms: i64) -> Result<TooOld, RetainError> {
        let upto = upto.min(self.high_watermark());
        let mut left_bytes = if retention.retention_bytes < 0 { 0 } else { self.size_bytes()? };
        let mut found = TooOld { start: self.log_start_offset(), bytes: 0, active: None };
        for (slot, next_base) in self.all_slots() {
            let end = next_base.unwrap_or_else(|| self.end_offset());
            if end > upto || end == slot.base() {
                break;
            }
            let bytes = self.slot_bytes(&slot)?;
            let too_much = retention.retention_bytes >= 0
                && bytes > 0
                && left_bytes.saturating_sub(bytes) >= retention.retention_bytes as u64;
            if !too_much && !self.is_too_old(&slot, retention, now_ms)? {
                break;
            }
            left_bytes = left_bytes.saturating_sub(bytes);
            found.bytes += bytes;
            found.start = end.max(found.start);
            found.active = next_base.is_none().then(|| (slot.base(), bytes));
        }
        Ok(found)
    }

    /// Starts a new segment if the active one has records and its file is older than `segment_ms`. Waits for the disk.
    pub fn roll_if_due(&self, segment_ms: i64, now_ms: i64) -> Result<bool, RetainError> {
        let Some(active) = self.slots().last().cloned() else { return Ok(false) };
        let end = self.end_offset();
        if end <= active.base() || self.is_deleted() {
            return Ok(false);
        }
        let file = fs::metadata(self.segment_path(active.base()))?;
        let born_ms = file.created().or_else(|_| file.modified()).map_or(now_ms, unix_ms);
        if now_ms.saturating_sub(born_ms) < segment_ms {
            return Ok(false);
        }
        self.roll_from(active.base(), end)
    }

    /// Bytes of all segments, without the space that is reserved for later appends.
    pub fn size_bytes(&self) -> io::Result<u64> {
        let slots = self.slots().clone();
        slots.iter().map(|slot| self.slot_bytes(slot)).sum()
    }

    /// Bytes of one segment, without opening it.
    pub(crate) fn slot_bytes(&self, slot: &Slot) -> io::Result<u64> {
        match slot.opened() {
            Some(segment) => Ok(segment.bytes()),
            // The file of the active segment may be longer than its content.
            None if self.is_last(slot) => Ok(self.active().position()),
            None => match fs::metadata(self.slot_path(slot)) {
                Ok(file) => Ok(file.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
                Err(error) => Err(error),
            },
        }
    }

    fn is_last(&self, slot: &Slot) -> bool {
        self.slots().last().is_some_and(|last| last.base() == slot.base())
    }

    fn is_too_old(&self, slot: &Arc<Slot>, retention: &Retention, now_ms: i64) -> Result<bool, RetainError> {
        if retention.retention_ms < 0 {
            return Ok(false);
        }
        let Some(segment) = self.open_listed(slot)? else { return Ok(false) };
        let mut newest_ms = segment.index().max_timestamp();
        if newest_ms < 0 {
            newest_ms = segment.file().metadata()?.modified().map_or(now_ms, unix_ms);
        }
        Ok(now_ms.saturating_sub(newest_ms) > retention.retention_ms)
    }

    /// Starts a new segment if the active one has the start and end that the caller saw.
    fn roll_from(&self, base: Offset, end: Offset) -> Result<bool, RetainError> {
        let rolled = self.roll_active(base, end)?;
        if rolled {
            self.flush()?;
        }
        Ok(rolled)
    }

    fn move_log_start(&self, to: Offset) -> Result<(), RetainError> {
        if to > self.durable_offset() {
            // The log start must not be above the end that a power cut leaves.
            self.flush()?;
        }
        self.check_removable()?;
        self.raise_log_start(to)?;
        Ok(())
    }

    fn check_removable(&self) -> Result<(), RetainError> {
        if let Some(reason) = self.offline_reason() {
            return Err(RetainError::Offline { reason });
        }
        if self.is_deleted() {
            return Err(RetainError::Deleted);
        }
        if self.dir.is_closed() { Err(RetainError::Closed) } else { Ok(()) }
    }

    /// Runs `write` and returns its result, or `None` if the partition was deleted. A deletion waits for `write`, so
    /// that it does not write into a later partition of the same name.
    pub fn unless_deleted<T>(&self, write: impl FnOnce() -> T) -> Option<T> {
        let _one = self.maintenance();
        (!self.is_deleted()).then(write)
    }

    pub(crate) fn clean_state(&self) -> &Mutex<CleanState> {
        &self.clean
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.dir.disk)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.dir.is_closed()
    }

    pub(crate) fn take_offline_after(&self, what: &str, error: &io::Error) {
        self.dir.take_offline_after(what, error);
    }
}

fn unix_ms(time: std::time::SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl From<AppendError> for RetainError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Offline { reason } => Self::Offline { reason },
            AppendError::Deleted => Self::Deleted,
            AppendError::Closed => Self::Closed,
            AppendError::NoSpace => Self::NoSpace,
            AppendError::Io { source } => Self::Io { source },
            other => Self::Io { source: io::Error::other(other) },
        }
    }
}
