//! Segments by base offset, opened when they are first needed and closed again when others need the room: ten thousand
//! idle partitions hold no descriptors.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::locate::Walk;
use super::{Meta, PartitionLog};
use crate::Offset;
use crate::canary::{Canary, broken};
use crate::checked::Checked;
use crate::disk::Disk;
use crate::format::{INDEX_SUFFIX, INDEX_WORTH_BYTES, SEGMENT_SUFFIX, segment_file_name};
use crate::handles::Closing;
use crate::index::Index;
use crate::scan::{Bounds, Ending, HeaderCursor, Survey, extend, survey};
use crate::segment::Segment;

/// A segment of a partition, open or not.
#[derive(Debug)]
pub(crate) struct Slot {
    base: Offset,
    segment: RwLock<Option<Arc<Segment>>>,
    checked: Arc<Checked>,
    /// Where its file is, as long as that has not its name.
    swap: Mutex<Option<PathBuf>>,
    /// Its disk failed under a reader not long ago.
    failing: AtomicBool,
    /// Greatest timestamp in it, once somebody asked and no append reaches it any more.
    newest_ms: OnceLock<i64>,
    /// Held while it is opened or closed.
    opening: Mutex<()>,
}

impl Slot {
    /// A segment that is opened when needed.
    pub(crate) fn new(base: Offset) -> Self {
        Self::of(base, Arc::new(Checked::nothing()))
    }

    /// A segment that is open.
    pub(crate) fn with(segment: Arc<Segment>) -> Self {
        let slot = Self::of(segment.base_offset(), Arc::clone(segment.checked()));
        Self { segment: RwLock::new(Some(segment)), ..slot }
    }

    /// A segment whose file has another name yet.
    pub(super) fn unplaced(base: Offset, swap: PathBuf) -> Self {
        Self { swap: Mutex::new(Some(swap)), ..Self::new(base) }
    }

    fn of(base: Offset, checked: Arc<Checked>) -> Self {
        Self {
            base,
            segment: RwLock::default(),
            checked,
            swap: Mutex::default(),
            failing: AtomicBool::new(false),
            newest_ms: OnceLock::new(),
            opening: Mutex::default(),
        }
    }

    /// The segment, if it is open.
    pub(crate) fn opened(&self) -> Option<Arc<Segment>> {
        self.segment.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    /// Keeps everybody from opening it until the guard is dropped.
    pub(super) fn hold(&self) -> MutexGuard<'_, ()> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is left to do for it: one that is not open is durable and trimmed, unless it takes appends.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.swap().is_none() && self.opened().is_none_or(|segment| segment.is_settled())
    }

    /// Where its file is, as long as that has not its name.
    fn swap(&self) -> Option<PathBuf> {
        self.swap.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its file has its name. Said by whoever holds it.
    pub(super) fn note_placed(&self) {
        *self.swap.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn checked(&self) -> &Arc<Checked> {
        &self.checked
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    pub(super) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Release);
    }

    /// Lets go of the segment if nobody but this slot and `others` hold it: then there is never a second one of the same
    /// file, since a segment is handed on only by those who hold it.
    fn release(&self, others: usize) -> Option<Arc<Segment>> {
        let mut segment = self.segment.write().unwrap_or_else(PoisonError::into_inner);
        if segment.as_ref().is_some_and(|open| Arc::strong_count(open) == 1 + others) { segment.take() } else { None }
    }
}

impl PartitionLog {
    pub(crate) fn slots(&self) -> RwLockReadGuard<'_, Vec<Arc<Slot>>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slots_mut(&self) -> RwLockWriteGuard<'_, Vec<Arc<Slot>>> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot that covers `offset`, and where the one after it begins.
    pub(super) fn slot_of(&self, offset: Offset) -> Option<(Arc<Slot>, Option<Offset>)> {
        let slots = self.slots();
        let after = slots.partition_point(|slot| slot.base() <= offset);
        let slot = slots.get(after.checked_sub(1)?)?;
        Some((Arc::clone(slot), slots.get(after).map(|next| next.base())))
    }

    /// The same, or the first slot of all where that begins behind `offset`: none only if there are none. One look at the
    /// list, which may change between two.
    pub(super) fn slot_from(&self, offset: Offset) -> Option<(Arc<Slot>, Option<Offset>)> {
        let slots = self.slots();
        let after = slots.partition_point(|slot| slot.base() <= offset).max(1);
        let slot = slots.get(after - 1)?;
        Some((Arc::clone(slot), slots.get(after).map(|next| next.base())))
    }

    /// Every slot with the base of the one after it.
    pub(crate) fn all_slots(&self) -> Vec<(Arc<Slot>, Option<Offset>)> {
        let slots = self.slots();
        let nexts = slots.iter().skip(1).map(|slot| Some(slot.base())).chain([None]);
        slots.iter().cloned().zip(nexts).collect()
    }

    /// Where the slot after `slot` begins, `Some(None)` if it is the last one; `None` if it is not of the log any more.
    #[expect(clippy::option_option, reason = "there may be no such slot, and none after it")]
    pub(super) fn next_base(&self, slot: &Arc<Slot>) -> Option<Option<Offset>> {
        let slots = self.slots();
        let at = slots.partition_point(|other| other.base() < slot.base());
        slots.get(at).is_some_and(|found| Arc::ptr_eq(found, slot)).then(|| slots.get(at + 1).map(|next| next.base()))
    }

    /// The segment of `slot`, opened if it is not open. All of a segment that is not open is durable, and it ends where
    /// the next one begins, or at the end of the log. An error of kind `NotFound` if the slot was removed meanwhile.
    pub(crate) fn open_slot(&self, slot: &Arc<Slot>) -> io::Result<Arc<Segment>> {
        if let Some(segment) = slot.opened() {
            segment.touch();
            return Ok(segment);
        }
        let _one = slot.hold();
        if let Some(segment) = slot.opened() {
            return Ok(segment);
        }
        // While this one is not open nothing is appended to it, and no other one begins behind it.
        let next_base = self.next_base(slot).ok_or(io::ErrorKind::NotFound)?;
        let end = next_base.unwrap_or_else(|| self.end_offset());
        let segment = Arc::new(self.open_segment(slot, end, next_base.is_none())?);
        if self.is_deleted() {
            // What was opened may belong to a later partition of the same name.
            return Err(io::ErrorKind::NotFound.into());
        }
        *slot.segment.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&segment));
        self.shared.handles.enter(&self.me, slot);
        Ok(segment)
    }

    /// The same for one of a list taken earlier: `None` if it was removed since.
    pub(crate) fn open_listed(&self, slot: &Arc<Slot>) -> io::Result<Option<Arc<Segment>>> {
        match self.open_slot(slot) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.next_base(slot).is_none() => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// The greatest timestamp of a slot at rest: opened for it once, not at every question. `None` if it was removed.
    pub(crate) fn newest_ms(&self, slot: &Arc<Slot>) -> io::Result<Option<i64>> {
        if let Some(newest_ms) = slot.newest_ms.get() {
            return Ok(Some(*newest_ms));
        }
        let Some(segment) = self.open_listed(slot)? else { return Ok(None) };
        let newest_ms = segment.index().max_timestamp();
        Ok(Some(*slot.newest_ms.get_or_init(|| newest_ms)))
    }

    /// Closes the segment of `slot` if nobody needs it and nothing is lost with it. Never waits.
    pub(crate) fn close_slot(&self, slot: &Arc<Slot>) -> Closing {
        let Ok(_one) = slot.opening.try_lock() else { return Closing::Busy };
        let Some(segment) = slot.opened() else { return Closing::Closed };
        if segment.take_used() {
            return Closing::Busy;
        }
        if segment.is_unstored() && !self.store_damage(&segment) {
            return Closing::Busy;
        }
        if !segment.is_settled() {
            return self.close_active(slot, segment);
        }
        drop(segment);
        if slot.release(0).is_some() { Closing::Closed } else { Closing::Busy }
    }

    /// Closes the segment that takes appends, if all of it is durable. The next append opens it again.
    fn close_active(&self, slot: &Arc<Slot>, segment: Arc<Segment>) -> Closing {
        // No append, no flush, no deletion meanwhile.
        let Ok(_flushing) = self.flushed.try_lock() else { return Closing::Busy };
        let Ok(mut tail) = self.tail.try_lock() else { return Closing::Busy };
        let durable = self.durable_offset() >= self.end_offset() && segment.is_entry_durable();
        if !durable || segment.is_sealed() || self.has_unsettled() || tail.is_littered() {
            return Closing::Dirty;
        }
        let bytes = segment.bytes();
        if bytes >= segment.indexed_bytes() + INDEX_WORTH_BYTES {
            // Without it the next opening reads what the file lacks.
            self.store_index_of(&segment);
        }
        let holders = usize::from(tail.holds(&segment));
        drop(segment);
        match slot.release(holders) {
            Some(_closed) => {
                tail.close();
                Closing::Closed
            }
            None => Closing::Busy,
        }
    }

    fn open_segment(&self, slot: &Slot, end: Offset, active: bool) -> io::Result<Segment> {
        let base = slot.base();
        let permit = self.shared.handles.admit()?;
        let file = self.shared.disk.open(&self.slot_path(slot), active)?;
        let file_bytes = file.metadata()?.len();
        let meta = self.meta();
        let Meta { options, epochs, .. } = &*meta;
        let interval_bytes = options.index_interval_bytes;
        // What the start found to be damaged may be what cannot be read.
        let salvages = self.is_damaged(base);
        let bounds = Bounds { epochs, base, durable: end, next_base: Some(end), file_bytes, interval_bytes, salvages };
        // Until its file has its name, the index file of that name is another segment's.
        let is_placed = slot.swap().is_none();
        let stored = is_placed.then(|| read_index(&self.index_path(base), base, interval_bytes)).flatten();
        let trusted = broken(Canary::TrustIndex);
        let fits = |index: &Index| index.end_offset() <= end && index.end_position() <= file_bytes;
        let stored = stored.filter(|index| trusted || fits(index));
        let indexed_bytes = stored.as_ref().map_or(0, Index::end_position);
        // Appends go on where the index says that the segment ends: there it must be right.
        let stored = match stored {
            Some(index) if active && !trusted && !self.leads_to_its_end(&file, &index)? => None,
            stored => stored,
        };
        let indexed_bytes = if stored.is_some() { indexed_bytes } else { 0 };
        let (mut index, indexed_bytes) = match stored {
            Some(index) if trusted || index.end_offset() == end => (index, indexed_bytes),
            stored => {
                if let Some(index) =
                    stored.map(|index| self.complete_index(&file, bounds, index)).transpose()?.flatten()
                {
                    (index, indexed_bytes)
                } else {
                    let index = survey(&*self.shared.disk, &file, bounds)?.index;
                    slot.checked.note_whole();
                    (index, 0)
                }
            }
        };
        let stale = indexed_bytes < index.end_position();
        if is_placed && stale && (indexed_bytes == 0 || !active) {
            self.report_rebuilt(base, &index, active);
        }
        if let Some(behind) = index.damage_end() {
            self.note_damage(&index);
            self.secure_damage(behind);
        }
        if !active {
            index.thin();
        }
        let map_bytes = if active { self.map_bytes() } else { index.end_position() };
        slot.checked.found(index.end_position());
        let (disk, checked) = (Arc::clone(&self.shared.disk), Arc::clone(&slot.checked));
        let segment = Segment::open(disk, file, index, checked, map_bytes, permit);
        segment.note_indexed(indexed_bytes);
        if !active {
            segment.seal();
            segment.settle();
        }
        Ok(segment)
    }

    /// Whether the batches from the last entry on end where the index says that the segment does.
    fn leads_to_its_end(&self, file: &File, index: &Index) -> io::Result<bool> {
        if index.ends_damaged() {
            return Ok(true);
        }
        let (end_offset, end_position) = (index.end_offset(), index.end_position());
        let Some(last) = index.floor_position(end_position, end_offset) else { return Ok(end_position == 0) };
        let mut window = [0; 4096];
        let cursor = HeaderCursor::new(&*self.shared.disk, file, &mut window);
        let mut walk = Walk { cursor, at: last };
        while walk.at.offset < end_offset && walk.step(end_position)?.is_some() {}
        Ok(walk.at.offset == end_offset && walk.at.position == end_position)
    }

    /// Brings an index file that ends before the segment does up to its end; `None` if it does not belong to it.
    fn complete_index(&self, file: &File, bounds: Bounds<'_>, stored: Index) -> io::Result<Option<Index>> {
        let known = stored.quarantined().len();
        let Survey { index, ending, .. } = extend(&*self.shared.disk, file, bounds, stored)?;
        Ok((ending == Ending::Clean && index.quarantined().len() == known).then_some(index))
    }

    fn report_rebuilt(&self, base: Offset, index: &Index, active: bool) {
        if !active || index.end_position() >= INDEX_WORTH_BYTES {
            tracing::warn!(partition = %self.name, segment = base.0, "index made again from the log");
            self.store_index(base, index);
        }
    }

    /// Writes down what the index of an open segment knows of damage, so that it is not forgotten with it.
    fn store_damage(&self, segment: &Segment) -> bool {
        // A deletion waits until the file is written, and then takes it along.
        let Ok(_upkeep) = self.upkeep.try_lock() else { return false };
        self.is_deleted() || self.store_index_of(segment)
    }

    /// Writes the index file of an open segment, and says whether it could.
    pub(crate) fn store_index_of(&self, segment: &Segment) -> bool {
        let index = segment.index();
        let stored = self.store_index(segment.base_offset(), &index);
        if stored {
            segment.note_indexed(index.end_position());
            segment.set_unstored(false);
        }
        stored
    }

    /// Writes an index file, and says whether it could. It is derived data: a failure costs time at the next start, nothing else.
    pub(crate) fn store_index(&self, base: Offset, index: &Index) -> bool {
        let written = write_index(&*self.shared.disk, &self.index_path(base), index);
        if let Err(error) = &written {
            tracing::warn!(partition = %self.name, segment = base.0, %error, "index file not written");
        }
        written.is_ok()
    }

    pub(super) fn segment_path(&self, base: Offset) -> PathBuf {
        self.directory.join(segment_file_name(base, SEGMENT_SUFFIX))
    }

    /// Where the file of a slot is.
    pub(super) fn slot_path(&self, slot: &Slot) -> PathBuf {
        slot.swap().unwrap_or_else(|| self.segment_path(slot.base()))
    }

    pub(super) fn index_path(&self, base: Offset) -> PathBuf {
        self.directory.join(segment_file_name(base, INDEX_SUFFIX))
    }
}

/// Writes an index file, unsynced: its CRC says whether it arrived.
pub(crate) fn write_index(disk: &dyn Disk, path: &Path, index: &Index) -> io::Result<()> {
    let file = disk.create(path)?;
    disk.write_at(&file, &mut [IoSlice::new(&index.encode())], 0)
}

fn read_index(path: &Path, base: Offset, interval_bytes: u32) -> Option<Index> {
    Index::decode(&fs::read(path).ok()?, base, interval_bytes)
}
