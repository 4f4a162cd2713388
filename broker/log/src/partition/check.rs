//! The first read of what this process has not seen yet: every batch is checked before it is given out, and what is
//! damaged is kept out of reads from then on. Also what becomes of a disk that fails under a reader.

use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{FileRange, PartitionLog, Slot};
use crate::Offset;
use crate::canary::{Canary, broken};
use crate::checked::CHUNK_BYTES;
use crate::error::LocateError;
use crate::scan::check_batches;

/// How long a segment answers an error after its disk failed under a reader; then somebody may try again.
const READ_ERROR_HOLD: Duration = Duration::from_secs(10);
/// How much a short walk through headers reads.
const LOOK_BYTES: u64 = 4096;

/// A segment whose disk failed under a reader.
#[derive(Debug)]
pub(super) struct ReadFailure {
    slot: Arc<Slot>,
    since: Instant,
    reason: String,
}

impl FileRange {
    /// Whether this process has seen these bytes to be sound. Cheap. If not, [`PartitionLog::check`] is due before they are
    /// given out.
    pub fn is_checked(&self) -> bool {
        self.segment.checked().covers(self.position, self.bytes.into()) || broken(Canary::NoReadCheck)
    }
}

impl PartitionLog {
    /// Checks batches that this process has not seen yet, their CRCs and all. Waits for the disk: not for a thread that
    /// others wait for. What is damaged is quarantined, reported once, and answered here and by every later
    /// [`locate`](Self::locate) with [`LocateError::Corrupt`]; what lies before it can be had by locating it again.
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
            // Removed or replaced since: whoever asks again gets what is there now.
            return Err(lost);
        }
        self.remake_index(&slot, segment, next_base)?;
        let index = segment.index();
        let hit = index
            .quarantined()
            .iter()
            .map(|damage| damage.offsets.clone())
            .find(|damaged| damaged.start < range.next_offset.0 && damaged.end > range.base_offset.0);
        hit.map_or(Ok(()), |damaged| Err(LocateError::Corrupt { from: Offset(damaged.start), to: Offset(damaged.end) }))
    }

    /// Checks the chunks that the range touches, as far as no known damage lies in between. False if a batch there is not
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
            // Perhaps it was the index that led astray, before the range.
            start = (range.base_offset, range.position);
            reached = check_batches(segment.disk(), segment.file(), &meta.epochs, start, until, limit)?;
        }
        segment.checked().note(start.1, reached);
        Ok(reached >= until)
    }

    /// Whether finding `offset` would wait for the disk: its segment is not open, or the place in it is not in memory. A
    /// guess, and a cheap one: nothing is opened or read.
    pub fn is_cold(&self, offset: Offset) -> bool {
        let Some(segment) = self.slot_of(offset).and_then(|(slot, _)| slot.opened()) else {
            return offset < self.end_offset();
        };
        let Some(entry) = segment.index().floor_offset(offset) else { return false };
        let bytes = segment.bytes().saturating_sub(entry.position).min(LOOK_BYTES);
        segment.cold_bytes(entry.position, bytes).unwrap_or(0) > 0
    }

    /// The disk failed while `range` was being sent: its segment answers an error from now on, for ten seconds, and is
    /// checked anew by whoever reads it after that.
    pub fn report_read_error(&self, range: &FileRange, error: &io::Error) {
        if broken(Canary::PeerGone) {
            return;
        }
        let base = range.segment.base_offset();
        let Some((slot, _)) = self.slot_of(base).filter(|(slot, _)| slot.base() == base) else { return };
        tracing::error!(partition = %self.name, segment = base.0, %error, "the disk failed under a reader");
        range.segment.checked().forget(range.segment.bytes());
        slot.set_failing(true);
        let failure = ReadFailure { slot, since: Instant::now(), reason: error.to_string() };
        let mut failures = self.failures();
        failures.retain(|known| !Arc::ptr_eq(&known.slot, &failure.slot));
        failures.push(failure);
    }

    /// Why some of the partition cannot be read just now, if that is so.
    pub fn read_failure(&self) -> Option<String> {
        self.failures().iter().find(|failure| failure.since.elapsed() < READ_ERROR_HOLD).map(|it| it.reason.clone())
    }

    /// An error if the disk failed under a reader of this segment not long ago.
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
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What recovery scanned: the segments from the one at `base` on.
    pub(crate) fn note_scanned(&self, base: Offset) {
        let slots = self.slots();
        let scanned = slots.iter().filter(|slot| slot.base() >= base);
        scanned.for_each(|slot| slot.checked().note_whole());
    }
}
