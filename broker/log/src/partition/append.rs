//! The way in: offsets and epoch are assigned in the caller's buffer, and one `pwritev` puts it at an exact place.

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

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Offset after the last record: what the high watermark has to reach before an `acks=all` is due.
    pub end_offset: Offset,
    /// The segment that took it.
    pub segment_base: Offset,
    /// Where in that segment.
    pub position: u64,
    /// How many bytes.
    pub bytes: u64,
    /// How many batches.
    pub batches: u32,
}

/// The end of the log, as the append that holds the lock sees it.
#[derive(Debug)]
pub(super) struct Tail {
    /// The active segment; none before the first append after a start.
    active: Option<Arc<Segment>>,
    /// Where the next batch goes.
    position: u64,
    /// How long the file is: up to here space is reserved.
    allocated_bytes: u64,
    /// How much to reserve next time.
    step_bytes: u64,
    /// What this partition holds of the directory's reserve.
    reserved_bytes: u64,
    /// A failed write may have left bytes beyond the end: they go before anything else is written there.
    littered: bool,
    /// The segment ends in damage: the log goes on in another one.
    damaged: bool,
}

impl Tail {
    /// The end of a log whose last segment is `position` bytes long.
    pub(super) fn new(position: u64) -> Self {
        Self {
            active: None,
            position,
            allocated_bytes: 0,
            step_bytes: ALLOCATE_MIN_BYTES,
            reserved_bytes: 0,
            littered: false,
            damaged: false,
        }
    }

    /// Length of the last segment, whether it is open or not.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn is_littered(&self) -> bool {
        self.littered
    }

    pub(super) fn holds(&self, segment: &Arc<Segment>) -> bool {
        self.active.as_ref().is_some_and(|active| Arc::ptr_eq(active, segment))
    }

    /// Lets go of the segment. What is reserved behind its end stays reserved.
    pub(super) fn close(&mut self) {
        self.active = None;
    }

    pub(super) fn take_reserved(&mut self) -> u64 {
        std::mem::take(&mut self.reserved_bytes)
    }

    /// The log goes on in `segment`, whose file is `allocated_bytes` long.
    fn resume(&mut self, segment: Arc<Segment>, allocated_bytes: u64) {
        self.position = segment.bytes();
        self.damaged = segment.index().ends_damaged();
        self.allocated_bytes = allocated_bytes;
        self.littered = false;
        self.active = Some(segment);
    }
}

/// What the batches of one append amount to.
struct Plan {
    next: Offset,
    bytes: u64,
    batches: u32,
}

impl PartitionLog {
    /// Appends one or more consecutive v2 batches whose CRCs the caller has checked: gives them offsets and the leader
    /// epoch in place and writes them. On an error nothing was appended, though the buffer may have been changed.
    pub fn append(&self, batches: &mut [u8]) -> Result<Appended, AppendError> {
        self.append_gathered(&mut [batches])
    }

    /// The same for batches that lie in several buffers: still one write. Each buffer holds whole batches; its own base
    /// offset stands in its first eight bytes afterwards.
    pub fn append_gathered(&self, buffers: &mut [&mut [u8]]) -> Result<Appended, AppendError> {
        let (appended, durability) = {
            let mut tail = self.tail();
            // Read while no change of it is possible: whoever changes it afterwards covers this append.
            (self.append_locked(&mut tail, buffers)?, self.durability())
        };
        self.announce(&appended, durability);
        Ok(appended)
    }

    /// Shows what was appended while `durability` held, as far as that allows, and has it synced. Never more than that: what
    /// was appended since may be under a stricter promise.
    fn announce(&self, appended: &Appended, durability: Durability) {
        if durability == Durability::PageCache || broken(Canary::EarlyWatermark) {
            self.raise_watermark(appended.end_offset);
        }
        self.wake_flusher(appended.bytes, durability);
    }

    fn append_locked(&self, tail: &mut Tail, buffers: &mut [&mut [u8]]) -> Result<Appended, AppendError> {
        self.check_writable()?;
        let base = self.end_offset();
        let plan = assign(buffers, base, self.leader_epoch())?;
        self.shared.unmark().and_then(|()| self.settle_debt()).map_err(|error| self.refused(error))?;
        let segment = self.writable_segment(tail, base, &plan)?;
        let position = tail.position;
        self.reserve_space(tail, &segment, position + plan.bytes);
        if let Err(error) = write(&segment, buffers, position) {
            // The end has not moved. What the write left beyond it could pass for batches after a crash.
            // A file that ends where the log ends has none, and a full disk must not cost a sync per attempt.
            if broken(Canary::GiveUpWhenFull) {
                self.shared.poison("an append", &error);
            }
            tail.littered = segment.file().metadata().map_or(true, |file| file.len() > position);
            return Err(self.refused(error));
        }
        publish(&segment, buffers, position);
        tail.position += plan.bytes;
        tail.allocated_bytes = tail.allocated_bytes.max(tail.position);
        self.end.store(plan.next.0, Ordering::Release);
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

    /// What a failure amounts to: it may have taken the directory offline.
    fn refused(&self, error: io::Error) -> AppendError {
        self.offline_reason().map_or_else(|| failure(error), |reason| AppendError::Offline { reason })
    }

    fn check_writable(&self) -> Result<(), AppendError> {
        if let Some(reason) = self.offline_reason() {
            return Err(AppendError::Offline { reason });
        }
        if self.is_deleted() {
            return Err(AppendError::Deleted);
        }
        if self.shared.is_closed() {
            return Err(AppendError::Closed);
        }
        Ok(())
    }

    /// The segment that takes `plan`: the active one, opened, cleaned of litter, or rolled.
    fn writable_segment(&self, tail: &mut Tail, base: Offset, plan: &Plan) -> Result<Arc<Segment>, AppendError> {
        if plan.bytes > SEGMENT_MAX_BYTES {
            return Err(AppendError::TooLarge { bytes: plan.bytes, max: SEGMENT_MAX_BYTES });
        }
        let segment = match &tail.active {
            Some(segment) => {
                segment.touch();
                Arc::clone(segment)
            }
            None => self.open_active(tail).map_err(|error| self.refused(error))?,
        };
        if tail.littered {
            self.clear_litter(tail, &segment)?;
        }
        let relative_max = plan.next.0 - 1 - segment.base_offset().0;
        let limit = self.segment_bytes.load(Ordering::Acquire).min(SEGMENT_MAX_BYTES);
        let full = tail.position + plan.bytes > limit || relative_max > i64::from(i32::MAX);
        if (full && tail.position > 0) || tail.damaged {
            self.roll(tail, &segment, base).map_err(|error| self.refused(error))
        } else {
            Ok(segment)
        }
    }

    fn open_active(&self, tail: &mut Tail) -> io::Result<Arc<Segment>> {
        let last = self.slots().last().cloned().ok_or(io::ErrorKind::NotFound)?;
        let segment = self.open_slot(&last)?;
        let file_bytes = segment.file().metadata()?.len();
        tail.resume(Arc::clone(&segment), file_bytes);
        let reserved_bytes = file_bytes.saturating_sub(tail.position);
        tail.reserved_bytes = self.shared.reserve.trade(tail.take_reserved(), reserved_bytes);
        Ok(segment)
    }

    /// Cuts off what a failed write left beyond the end, durably: a batch of it must not come back behind a later,
    /// shorter one.
    fn clear_litter(&self, tail: &mut Tail, segment: &Segment) -> Result<(), AppendError> {
        self.shared.disk.set_len(segment.file(), tail.position).map_err(|error| self.refused(error))?;
        tail.allocated_bytes = tail.position;
        self.shared.disk.sync_data(segment.file()).map_err(|error| {
            self.shared.poison("fdatasync after a failed write", &error);
            self.refused(error)
        })?;
        tail.littered = false;
        Ok(())
    }

    /// Starts the next segment. The old one stays as it is until the flusher has synced and trimmed it.
    fn roll(&self, tail: &mut Tail, old: &Segment, base: Offset) -> io::Result<Arc<Segment>> {
        let interval_bytes = self.meta().options.index_interval_bytes;
        let disk = self.shared.disk.clone();
        let (index, permit) = (Index::new(base, interval_bytes), self.shared.handles.admit()?);
        let segment = Segment::create(disk, &self.segment_path(base), index, self.map_bytes(), permit)?;
        let segment = Arc::new(segment);
        let slot = Arc::new(Slot::with(Arc::clone(&segment)));
        self.slots_mut().push(Arc::clone(&slot));
        old.seal();
        self.shared.handles.enter(&self.me, &slot);
        self.shared.reserve.trade(tail.take_reserved(), 0);
        tail.step_bytes = ALLOCATE_MIN_BYTES;
        tail.resume(Arc::clone(&segment), 0);
        Ok(segment)
    }

    /// Starts the next segment, if the active one has records and begins and ends where the caller saw it.
    pub(super) fn roll_active(&self, base: Offset, end: Offset) -> Result<bool, AppendError> {
        {
            let mut tail = self.tail();
            self.check_writable()?;
            if self.end_offset() != end || self.slots().last().is_none_or(|last| last.base() != base) || end <= base {
                return Ok(false);
            }
            self.shared.unmark().map_err(|error| self.refused(error))?;
            let segment = match &tail.active {
                Some(segment) => Arc::clone(segment),
                None => self.open_active(&mut tail).map_err(|error| self.refused(error))?,
            };
            if tail.littered {
                self.clear_litter(&mut tail, &segment)?;
            }
            self.roll(&mut tail, &segment, end).map_err(|error| self.refused(error))?;
        }
        self.wake_flusher(0, self.durability());
        Ok(true)
    }

    /// Address space for mapping a segment of this partition, whatever it grows to.
    pub(crate) fn map_bytes(&self) -> u64 {
        self.segment_bytes.load(Ordering::Acquire).min(SEGMENT_MAX_BYTES)
    }

    /// Reserves space up to `need` and a step beyond. It is an optimisation: without it the write extends the file, and
    /// the write is what reports a full disk.
    fn reserve_space(&self, tail: &mut Tail, segment: &Segment, need: u64) {
        if need <= tail.allocated_bytes {
            return;
        }
        let room = self.map_bytes().saturating_sub(need);
        // Not the first time: most small partitions never need a second.
        let filled = tail.step_bytes > ALLOCATE_MIN_BYTES && self.fills_with_zeros();
        let step_bytes =
            if filled { tail.step_bytes.min(self.shared.options.zeroed_step_bytes) } else { tail.step_bytes };
        let mut slack = self.shared.reserve.trade(tail.take_reserved(), step_bytes.min(room));
        while slack >= ALLOCATE_MIN_BYTES.min(room) && slack > 0 {
            let from = tail.allocated_bytes;
            let reserved = if filled {
                // The append itself needs no zeros under it.
                let from = from.max(need);
                self.shared.disk.fill(segment.file(), from, need + slack - from)
            } else {
                self.shared.disk.allocate(segment.file(), from, need + slack - from)
            };
            match reserved {
                Ok(()) => {
                    tail.allocated_bytes = need + slack;
                    tail.reserved_bytes = slack;
                    tail.step_bytes = (tail.step_bytes * 2).min(ALLOCATE_MAX_BYTES);
                    return;
                }
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    self.shared.reserve.note_unsupported();
                    break;
                }
                // The disk is short: ask for less.
                Err(_) => {
                    let less = slack / 2;
                    self.shared.reserve.trade(slack - less, 0);
                    slack = less;
                }
            }
        }
        self.shared.reserve.trade(slack, 0);
    }

    /// Whether space is filled with zeros beforehand: worth it where syncs are many and small.
    fn fills_with_zeros(&self) -> bool {
        self.durability() == Durability::Fsync
            && self.recent_flush_bytes.load(Ordering::Relaxed) < self.shared.options.zeroed_step_bytes / 8
    }

    fn wake_flusher(&self, bytes: u64, durability: Durability) {
        let appended = self.appended_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let waiting = appended.saturating_sub(self.flushed_bytes.load(Ordering::Acquire));
        let due = match durability {
            Durability::Fsync => true,
            Durability::PageCache => waiting >= self.shared.options.page_cache_flush_bytes || self.has_unsettled(),
        };
        if due {
            self.flush_soon();
        }
    }

    /// Asks for a flush that nobody waits for.
    pub(crate) fn flush_soon(&self) {
        if let Some(me) = self.me.upgrade() {
            self.shared.commit.submit(&me);
        }
    }

    /// Whether the last roll still waits for the flusher.
    pub(super) fn has_unsettled(&self) -> bool {
        let slots = self.slots();
        let before_last = slots.len().checked_sub(2).and_then(|at| slots.get(at));
        before_last.and_then(|slot| slot.opened()).is_some_and(|segment| !segment.is_settled())
    }

    /// Cuts off the reserved space of the active segment: at shutdown, when no append can come any more.
    pub(super) fn trim_active(&self) -> io::Result<Option<Arc<Segment>>> {
        let mut tail = self.tail();
        let Some(segment) = tail.active.clone() else { return Ok(None) };
        if tail.allocated_bytes != tail.position || tail.littered {
            self.shared.disk.set_len(segment.file(), tail.position)?;
            tail.allocated_bytes = tail.position;
        }
        self.shared.reserve.trade(tail.take_reserved(), 0);
        Ok(Some(segment))
    }
}

/// Gives every batch its offset and epoch.
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

/// Enters the batches just written into the segment's index and makes them visible, in one step: whoever holds the index
/// sees as many batches in it as the segment has published.
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
    use crate::faulty_disk_tests::{batch, start};
    use crate::{Durability, Offset, PartitionOptions};

    #[test]
    fn an_append_shows_itself_and_nothing_that_came_under_a_stricter_promise() {
        let directory = tempfile::tempdir().unwrap();
        let lax = PartitionOptions { durability: Durability::PageCache, ..PartitionOptions::default() };
        let (disk, _log, partition) = start(directory.path(), lax);
        // Its thread is held up between the append and what follows from it.
        let (first, durability) = {
            let mut tail = partition.tail();
            let mut bytes = batch(1, 10);
            (partition.append_locked(&mut tail, &mut [&mut bytes]).unwrap(), partition.durability())
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
