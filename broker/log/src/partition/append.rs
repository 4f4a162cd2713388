//! Appends: assigns offsets and epoch in the caller's buffer, and writes the buffer to its position with one `pwritev`.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_wire::record::{BATCH_HEADER_BYTES, BatchHeader, set_base_offset, set_leader_epoch};

use super::{PartitionLog, Slot};
use crate::canary::{Canary, broken};
use crate::error::AppendError;
use crate::format::{ALLOCATE_MAX_BYTES, ALLOCATE_MIN_BYTES, SEGMENT_MAX_BYTES};
use crate::index::Index;
use crate::options::Durability;
use crate::scan::batch_bytes;
use crate::segment::Segment;
use crate::{LeaderEpoch, Offset};

/// The result of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Offset after the last record: `acks=all` is due once the high watermark reaches it.
    pub end_offset: Offset,
    /// Base offset of the segment that holds it.
    pub segment_base: Offset,
    /// Its position in that segment.
    pub position: u64,
    /// Number of bytes.
    pub bytes: u64,
    /// Number of batches.
    pub batches: u32,
}

/// The active segment, as the append sees it that holds the lock.
#[derive(Debug)]
pub(super) struct ActiveSegment {
    /// The active segment; none before the first append after a start.
    segment: Option<Arc<Segment>>,
    /// The position of the next batch.
    position: u64,
    /// The length of the file: space is reserved up to here.
    allocated_bytes: u64,
    /// How much space to reserve next time.
    step_bytes: u64,
    /// How much of the directory's reserve this partition uses.
    reserved_bytes: u64,
    /// A failed write may have left bytes above the end; the next append has to cut them off first.
    has_partial_write: bool,
    /// The segment ends in damage: the next append goes into a new segment.
    damaged: bool,
}

impl ActiveSegment {
    /// The state for a log whose last segment has `position` bytes.
    pub(super) fn new(position: u64) -> Self {
        Self {
            segment: None,
            position,
            allocated_bytes: 0,
            step_bytes: ALLOCATE_MIN_BYTES,
            reserved_bytes: 0,
            has_partial_write: false,
            damaged: false,
        }
    }

    /// Length of the last segment, whether it is open or not.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn has_partial_write(&self) -> bool {
        self.has_partial_write
    }

    pub(super) fn holds(&self, segment: &Arc<Segment>) -> bool {
        self.segment.as_ref().is_some_and(|active| Arc::ptr_eq(active, segment))
    }

    /// Lets go of the segment. The space behind its end stays reserved.
    pub(super) fn close(&mut self) {
        self.segment = None;
    }

    pub(super) fn take_reserved(&mut self) -> u64 {
        std::mem::take(&mut self.reserved_bytes)
    }

    /// Goes on in `segment`, whose file has `allocated_bytes` bytes.
    fn resume(&mut self, segment: Arc<Segment>, allocated_bytes: u64) {
        self.position = segment.bytes();
        self.damaged = segment.index().ends_damaged();
        self.allocated_bytes = allocated_bytes;
        self.has_partial_write = false;
        self.segment = Some(segment);
    }
}

/// The totals of the batches of one append.
struct Plan {
    next: Offset,
    bytes: u64,
    batches: u32,
}

impl PartitionLog {
    /// Appends one or more consecutive v2 batches whose CRCs the caller has checked: sets their offsets and the leader
    /// epoch in place and writes them. After an error nothing was appended, but the buffer may have changed.
    pub fn append(&self, batches: &mut [u8]) -> Result<Appended, AppendError> {
        self.append_gathered(&mut [batches])
    }

    /// Does the same for batches in several buffers, still with one write. Each buffer holds whole batches. Afterwards
    /// the first eight bytes of a buffer hold its base offset.
    pub fn append_gathered(&self, buffers: &mut [&mut [u8]]) -> Result<Appended, AppendError> {
        let (appended, durability) = {
            let mut active = self.active();
            // Read under the lock: a thread that changes the durability later covers this append itself.
            (self.append_locked(&mut active, buffers)?, self.durability())
        };
        self.announce(&appended, durability);
        Ok(appended)
    }

    /// Makes the appended batches visible, as far as `durability` allows, and asks for a sync. It shows no later
    /// batches, because they may have been appended under a stricter durability.
    fn announce(&self, appended: &Appended, durability: Durability) {
        if durability == Durability::PageCache || broken(Canary::EarlyWatermark) {
            self.raise_watermark(appended.end_offset);
        }
        self.wake_flusher(appended.bytes, durability);
    }

    fn append_locked(&self, active: &mut ActiveSegment, buffers: &mut [&mut [u8]]) -> Result<Appended, AppendError> {
        self.check_writable()?;
        let base = self.end_offset();
        let plan = assign(buffers, base, self.leader_epoch())?;
        self.dir.remove_marker().and_then(|()| self.write_deferred()).map_err(|error| self.append_error(error))?;
        let segment = self.writable_segment(active, base, &plan)?;
        let position = active.position;
        self.reserve_space(active, &segment, position + plan.bytes);
        if let Err(error) = write(&segment, buffers, position) {
            // The end has not moved. After a crash, recovery could take the bytes above it for batches, so the next
            // append has to cut them off. If the file ends with the log there are none, and a full disk must not cost a
            // sync per attempt.
            if broken(Canary::GiveUpWhenFull) {
                self.dir.take_offline_after("an append", &error);
            }
            active.has_partial_write = segment.file().metadata().map_or(true, |file| file.len() > position);
            return Err(self.append_error(error));
        }
        publish(&segment, buffers, position);
        active.position += plan.bytes;
        active.allocated_bytes = active.allocated_bytes.max(active.position);
        self.offsets.end.store(plan.next.0, Ordering::Release);
        Ok(Appended {
            base_offset: base,
            last_offset: Offset(plan.next.0 - 1),
            end_offset: plan.next,
            segment_base: segment.base_offset(),
            position,
            bytes: plan.bytes,
            batches: plan.batches,
        })
    }

    /// The error for a failed system call: offline if the failure took the directory offline.
    fn append_error(&self, error: io::Error) -> AppendError {
        self.offline_reason().map_or_else(|| failure(error), |reason| AppendError::Offline { reason })
    }

    fn check_writable(&self) -> Result<(), AppendError> {
        if let Some(reason) = self.offline_reason() {
            return Err(AppendError::Offline { reason });
        }
        if self.is_deleted() {
            return Err(AppendError::Deleted);
        }
        if self.dir.is_closed() {
            return Err(AppendError::Closed);
        }
        Ok(())
    }

    /// The segment that takes `plan`: the active one, after opening, cutting or rolling it where needed.
    fn writable_segment(
        &self,
        active: &mut ActiveSegment,
        base: Offset,
        plan: &Plan,
    ) -> Result<Arc<Segment>, AppendError> {
        if plan.bytes > SEGMENT_MAX_BYTES {
            return Err(AppendError::TooLarge { bytes: plan.bytes, max: SEGMENT_MAX_BYTES });
        }
        let segment = match &active.segment {
            Some(segment) => {
                segment.touch();
                Arc::clone(segment)
            }
            None => self.open_active(active).map_err(|error| self.append_error(error))?,
        };
        if active.has_partial_write {
            self.cut_partial_write(active, &segment)?;
        }
        let relative_max = plan.next.0 - 1 - segment.base_offset().0;
        let limit = self.settings.segment_bytes().min(SEGMENT_MAX_BYTES);
        let full = active.position + plan.bytes > limit || relative_max > i64::from(i32::MAX);
        if (full && active.position > 0) || active.damaged {
            self.roll(active, &segment, base).map_err(|error| self.append_error(error))
        } else {
            Ok(segment)
        }
    }

    fn open_active(&self, active: &mut ActiveSegment) -> io::Result<Arc<Segment>> {
        let last = self.slots().last().cloned().ok_or(io::ErrorKind::NotFound)?;
        let segment = self.open_slot(&last)?;
        let file_bytes = segment.file().metadata()?.len();
        active.resume(Arc::clone(&segment), file_bytes);
        let reserved_bytes = file_bytes.saturating_sub(active.position);
        active.reserved_bytes = self.dir.reserve.trade(active.take_reserved(), reserved_bytes);
        Ok(segment)
    }

    /// Cuts off the bytes that a failed write left above the end, durably: a batch in them must not come back behind a
    /// later, shorter one.
    fn cut_partial_write(&self, active: &mut ActiveSegment, segment: &Segment) -> Result<(), AppendError> {
        self.dir.disk.set_len(segment.file(), active.position).map_err(|error| self.append_error(error))?;
        active.allocated_bytes = active.position;
        self.dir.disk.sync_data(segment.file()).map_err(|error| {
            self.dir.take_offline_after("fdatasync after a failed write", &error);
            self.append_error(error)
        })?;
        active.has_partial_write = false;
        Ok(())
    }

    /// Starts the next segment. The old one stays as it is until the flusher has synced and trimmed it.
    fn roll(&self, active: &mut ActiveSegment, old: &Segment, base: Offset) -> io::Result<Arc<Segment>> {
        let interval_bytes = self.meta().options.index_interval_bytes;
        let disk = self.dir.disk.clone();
        let (index, permit) = (Index::new(base, interval_bytes), self.dir.handles.admit()?);
        let segment = Segment::create(disk, &self.segment_path(base), index, self.map_bytes(), permit)?;
        let segment = Arc::new(segment);
        let slot = Arc::new(Slot::with(Arc::clone(&segment)));
        self.slots_mut().push(Arc::clone(&slot));
        old.seal();
        self.dir.handles.enter(&self.me, &slot);
        self.dir.reserve.trade(active.take_reserved(), 0);
        active.step_bytes = ALLOCATE_MIN_BYTES;
        active.resume(Arc::clone(&segment), 0);
        Ok(segment)
    }

    /// Starts the next segment if the active one has records and has the start and end that the caller saw.
    pub(super) fn roll_active(&self, base: Offset, end: Offset) -> Result<bool, AppendError> {
        {
            let mut active = self.active();
            self.check_writable()?;
            if self.end_offset() != end || self.slots().last().is_none_or(|last| last.base() != base) || end <= base {
                return Ok(false);
            }
            self.dir.remove_marker().map_err(|error| self.append_error(error))?;
            let segment = match &active.segment {
                Some(segment) => Arc::clone(segment),
                None => self.open_active(&mut active).map_err(|error| self.append_error(error))?,
            };
            if active.has_partial_write {
                self.cut_partial_write(&mut active, &segment)?;
            }
            self.roll(&mut active, &segment, end).map_err(|error| self.append_error(error))?;
        }
        self.wake_flusher(0, self.durability());
        Ok(true)
    }

    /// The address space for the mapping of a segment: enough for its whole life.
    pub(crate) fn map_bytes(&self) -> u64 {
        self.settings.segment_bytes().min(SEGMENT_MAX_BYTES)
    }

    /// Reserves space up to `need` and a step beyond. This is only an optimisation: without it the write extends the
    /// file, and the write reports a full disk.
    fn reserve_space(&self, active: &mut ActiveSegment, segment: &Segment, need: u64) {
        if need <= active.allocated_bytes {
            return;
        }
        let room = self.map_bytes().saturating_sub(need);
        // The first reservation is not filled: most small partitions never need a second one.
        let filled = active.step_bytes > ALLOCATE_MIN_BYTES && self.fills_with_zeros();
        let step_bytes =
            if filled { active.step_bytes.min(self.dir.options.zeroed_step_bytes) } else { active.step_bytes };
        let mut slack = self.dir.reserve.trade(active.take_reserved(), step_bytes.min(room));
        while slack >= ALLOCATE_MIN_BYTES.min(room) && slack > 0 {
            let from = active.allocated_bytes;
            let reserved = if filled {
                // The append writes the bytes below `need` itself.
                let from = from.max(need);
                self.dir.disk.fill(segment.file(), from, need + slack - from)
            } else {
                self.dir.disk.allocate(segment.file(), from, need + slack - from)
            };
            match reserved {
                Ok(()) => {
                    active.allocated_bytes = need + slack;
                    active.reserved_bytes = slack;
                    active.step_bytes = (active.step_bytes * 2).min(ALLOCATE_MAX_BYTES);
                    return;
                }
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    self.dir.reserve.note_unsupported();
                    break;
                }
                // The disk has not enough space: ask for less.
                Err(_) => {
                    let less = slack / 2;
                    self.dir.reserve.trade(slack - less, 0);
                    slack = less;
                }
            }
        }
        self.dir.reserve.trade(slack, 0);
    }

    /// Whether to fill reserved space with zeros: worth it where syncs are many and small.
    fn fills_with_zeros(&self) -> bool {
        self.durability() == Durability::Fsync
            && self.flushing.recent_bytes.load(Ordering::Relaxed) < self.dir.options.zeroed_step_bytes / 8
    }

    fn wake_flusher(&self, bytes: u64, durability: Durability) {
        let appended = self.flushing.appended_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let waiting = appended.saturating_sub(self.flushing.flushed_bytes.load(Ordering::Acquire));
        let due = match durability {
            Durability::Fsync => true,
            Durability::PageCache => waiting >= self.dir.options.page_cache_flush_bytes || self.has_unsettled(),
        };
        if due {
            self.flush_soon();
        }
    }

    /// Asks for a flush and does not wait for it.
    pub(crate) fn flush_soon(&self) {
        if let Some(me) = self.me.upgrade() {
            self.dir.commit.submit(&me);
        }
    }

    /// Whether the segment before the active one still waits for the flusher.
    pub(super) fn has_unsettled(&self) -> bool {
        let slots = self.slots();
        let before_last = slots.len().checked_sub(2).and_then(|at| slots.get(at));
        before_last.and_then(|slot| slot.opened()).is_some_and(|segment| !segment.is_settled())
    }

    /// Cuts off the reserved space of the active segment. Called at shutdown, after the last append.
    pub(super) fn trim_active(&self) -> io::Result<Option<Arc<Segment>>> {
        let mut active = self.active();
        let Some(segment) = active.segment.clone() else { return Ok(None) };
        if active.allocated_bytes != active.position || active.has_partial_write {
            self.dir.disk.set_len(segment.file(), active.position)?;
            active.allocated_bytes = active.position;
        }
        self.dir.reserve.trade(active.take_reserved(), 0);
        Ok(Some(segment))
    }
}

/// Sets offset and epoch of every batch.
fn assign(buffers: &mut [&mut [u8]], base: Offset, epoch: LeaderEpoch) -> Result<Plan, AppendError> {
    let mut plan = Plan { next: base, bytes: 0, batches: 0 };
    for buffer in buffers.iter_mut() {
        let mut at = 0;
        while at < buffer.len() {
            let malformed = AppendError::Malformed { position: plan.bytes as usize + at };
            let rest = buffer.get_mut(at..).unwrap_or_default();
            let Ok(header) = BatchHeader::parse(rest) else { return Err(malformed) };
            let bytes = batch_bytes(&header) as usize;
            let Some(batch) = rest.get_mut(..bytes).filter(|_| bytes >= BATCH_HEADER_BYTES) else {
                return Err(malformed);
            };
            let next =
                plan.next.0.checked_add(i64::from(header.last_offset_delta)).and_then(|last| last.checked_add(1));
            let Some(next) = next.filter(|next| *next < i64::MAX) else { return Err(AppendError::OffsetsExhausted) };
            set_base_offset(batch, plan.next);
            set_leader_epoch(batch, epoch);
            plan.next = Offset(next);
            plan.batches += 1;
            at += bytes;
        }
        plan.bytes += buffer.len() as u64;
    }
    if plan.batches == 0 { Err(AppendError::Malformed { position: 0 }) } else { Ok(plan) }
}

fn write(segment: &Segment, buffers: &[&mut [u8]], position: u64) -> io::Result<()> {
    #[cfg(feature = "canary")]
    if broken(Canary::AckBeforeWrite) {
        return crate::canary::write_later(segment.file(), buffers.concat(), position);
    }
    match buffers {
        [one] => segment.write_at(&mut [IoSlice::new(one)], position),
        many => segment.write_at(&mut many.iter().map(|it| IoSlice::new(it)).collect::<Vec<_>>(), position),
    }
}

/// Adds the new batches to the segment's index and makes them visible in one step: a thread that holds the index sees
/// exactly the batches that the segment has published.
fn publish(segment: &Segment, buffers: &[&mut [u8]], mut position: u64) {
    let mut index = segment.index_mut();
    for buffer in buffers {
        let mut rest: &[u8] = buffer;
        while let Ok(header) = BatchHeader::parse(rest) {
            let bytes = batch_bytes(&header);
            let next = header.next_offset();
            index.push(header.base_offset, position, next, position + bytes, header.max_timestamp);
            position += bytes;
            rest = rest.get(bytes as usize..).unwrap_or_default();
        }
    }
    segment.publish(position);
}

fn failure(source: io::Error) -> AppendError {
    match source.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => AppendError::NoSpace,
        _ => AppendError::Io { source },
    }
}

#[cfg(test)]
mod tests {
    use crate::faulty_disk_tests::start;
    use crate::test_batches::batch;
    use crate::{Durability, Offset, PartitionOptions};

    #[test]
    fn an_append_makes_only_its_own_records_visible() {
        let directory = tempfile::tempdir().unwrap();
        let lax = PartitionOptions { durability: Durability::PageCache, ..PartitionOptions::default() };
        let (disk, _log, partition) = start(directory.path(), lax);
        // The appending thread stops between the append and the announcement.
        let (first, durability) = {
            let mut active = partition.active();
            let mut bytes = batch(1, 10);
            (partition.append_locked(&mut active, &mut [&mut bytes]).unwrap(), partition.durability())
        };
        partition.set_options(PartitionOptions::default()).unwrap();
        disk.hold_syncs(true);
        partition.append(&mut batch(2, 10)).unwrap();
        partition.announce(&first, durability);
        let shown = partition.high_watermark();
        disk.hold_syncs(false);
        assert_eq!(shown, Offset(1));
    }
}
