//! Checks batches that this process has not seen yet before the log delivers them, and quarantines damaged ones. Also
//! handles a disk that fails during a read.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::{FileRange, PartitionLog, QuarantinedRange, Slot};
use crate::Offset;
use crate::canary::{Canary, broken};
use crate::checked::CHUNK_BYTES;
use crate::error::LocateError;
use crate::scan::check_batches;

/// How long a segment answers an error after its disk failed during a read; then the next read tries again.
const READ_ERROR_HOLD: Duration = Duration::from_secs(10);
/// Bytes per read of a short walk through headers.
const LOOK_BYTES: u64 = 4096;

/// The known damage of a partition.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// Damaged ranges, by the base offset of their segment.
    pub(super) quarantined: Mutex<BTreeMap<i64, Vec<QuarantinedRange>>>,
    /// Segments whose disk failed during a read a short time ago.
    failures: Mutex<Vec<ReadFailure>>,
}

/// A segment whose disk failed during a read.
#[derive(Debug)]
pub(super) struct ReadFailure {
    slot: Arc<Slot>,
    since: Instant,
    reason: String,
}

impl FileRange {
    /// Whether this process knows that these bytes are sound. Cheap. If not, the caller has to call
    /// [`PartitionLog::check`] before it delivers them.
    pub fn is_checked(&self) -> bool {
        self.segment.checked().covers(self.position, self.bytes.into()) || broken(Canary::NoReadCheck)
    }

    /// Reports to the partition that the disk failed while these bytes were being sent: see
    /// [`PartitionLog::report_read_error`]. Does nothing if the partition is gone.
    pub fn report_read_error(&self, error: &io::Error) {
        if let Some(log) = self.log.upgrade() {
            log.report_read_error(self, error);
        }
    }
}

impl PartitionLog {
    /// Checks batches, including their CRCs, that this process has not seen yet. Waits for the disk, so do not call it
    /// in a thread that serves connections. Quarantines damaged batches and reports them once: this call and every
    /// later [`locate`](Self::locate) answer them with [`LocateError::Corrupt`]. To read the sound batches before them,
    /// locate again.
    pub fn check(&self, range: &FileRange) -> Result<(), LocateError> {
        if range.is_checked() {
            return Ok(());
        }
        if self.check_around(range)? {
            return Ok(());
        }
        let segment = &range.segment;
        let lost = LocateError::Corrupt { from: range.base_offset, to: range.next_offset };
        let Some((slot, next_base)) = self.slot_of(segment.base_offset()) else { return Err(lost) };
        if !slot.opened().is_some_and(|open| Arc::ptr_eq(&open, segment)) {
            // The segment was removed or replaced: the next call finds the new one.
            return Err(lost);
        }
        self.rebuild_index(&slot, segment, next_base)?;
        let index = segment.index();
        let hit = index
            .quarantined()
            .iter()
            .map(|damage| damage.offsets.clone())
            .find(|damaged| damaged.start < range.next_offset.0 && damaged.end > range.base_offset.0);
        hit.map_or(Ok(()), |damaged| Err(LocateError::Corrupt { from: Offset(damaged.start), to: Offset(damaged.end) }))
    }

    /// Checks the chunks that the range touches, up to the nearest known damage. Returns false if a batch there is not
    /// sound.
    fn check_around(&self, range: &FileRange) -> io::Result<bool> {
        let (segment, end) = (&range.segment, range.position + u64::from(range.bytes));
        let (mut start, limit) = {
            let index = segment.index();
            let chunk = range.position / CHUNK_BYTES * CHUNK_BYTES;
            let limit = index.barrier_after(range.position).map_or(segment.bytes(), |damage| damage.positions.start);
            let before = index.floor_position(chunk, Offset(i64::MAX)).filter(|entry| {
                index.barrier_after(entry.position).is_none_or(|damage| damage.positions.start >= range.position)
            });
            (before.map_or((range.base_offset, range.position), |entry| (entry.offset, entry.position)), limit)
        };
        let meta = self.meta();
        let until = end.next_multiple_of(CHUNK_BYTES).min(limit);
        let mut reached = check_batches(segment.disk(), segment.file(), &meta.epochs, start, until, limit)?;
        if reached < until && start.1 < range.position {
            // The index may have been wrong about the batches before the range.
            start = (range.base_offset, range.position);
            reached = check_batches(segment.disk(), segment.file(), &meta.epochs, start, until, limit)?;
        }
        segment.checked().note(start.1, reached);
        Ok(reached >= until)
    }

    /// Whether a lookup of `offset` would wait for the disk, because the segment is not open or its headers are not in
    /// memory. This is a cheap guess: it opens and reads nothing.
    pub fn is_cold(&self, offset: Offset) -> bool {
        let Some(segment) = self.slot_of(offset).and_then(|(slot, _)| slot.opened()) else {
            return offset < self.end_offset();
        };
        let Some(entry) = segment.index().floor_offset(offset) else { return false };
        let bytes = segment.bytes().saturating_sub(entry.position).min(LOOK_BYTES);
        segment.cold_bytes(entry.position, bytes).unwrap_or(0) > 0
    }

    /// Reports that the disk failed while `range` was being sent: its segment answers an error for ten seconds; after
    /// that the next read checks it again.
    pub fn report_read_error(&self, range: &FileRange, error: &io::Error) {
        if broken(Canary::PeerGone) {
            return;
        }
        let base = range.segment.base_offset();
        let Some((slot, _)) = self.slot_of(base).filter(|(slot, _)| slot.base() == base) else { return };
        let offset = range.base_offset.0;
        tracing::error!(partition = %self.name, segment = base.0, offset, %error, "the disk refused records that were being sent");
        range.segment.checked().forget(range.segment.bytes());
        slot.set_failing(true);
        let failure = ReadFailure { slot, since: Instant::now(), reason: error.to_string() };
        let mut failures = self.failures();
        failures.retain(|known| !Arc::ptr_eq(&known.slot, &failure.slot));
        failures.push(failure);
    }

    /// Why a part of the partition cannot be read at the moment, if that is so.
    pub fn read_failure(&self) -> Option<String> {
        self.failures().iter().find(|failure| failure.since.elapsed() < READ_ERROR_HOLD).map(|it| it.reason.clone())
    }

    /// Fails if the disk failed during a read of this segment in the last ten seconds.
    pub(super) fn check_readable(&self, slot: &Arc<Slot>) -> io::Result<()> {
        if !slot.is_failing() {
            return Ok(());
        }
        let mut failures = self.failures();
        let held = failures.iter().find(|it| Arc::ptr_eq(&it.slot, slot) && it.since.elapsed() < READ_ERROR_HOLD);
        if let Some(failure) = held {
            return Err(io::Error::other(failure.reason.clone()));
        }
        failures.retain(|failure| !Arc::ptr_eq(&failure.slot, slot));
        slot.set_failing(false);
        Ok(())
    }

    fn failures(&self) -> MutexGuard<'_, Vec<ReadFailure>> {
        self.damage.failures.lock()
    }

    /// Marks the segments that recovery scanned, from the one at `base` on.
    pub(crate) fn note_scanned(&self, base: Offset) {
        let slots = self.slots();
        let scanned = slots.iter().filter(|slot| slot.base() >= base);
        scanned.for_each(|slot| slot.checked().note_all());
    }
}
