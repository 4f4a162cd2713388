//! Slots: the segments of a partition by base offset. The log opens a segment at its first use and closes it when the
//! budget is used up: ten thousand idle partitions hold no descriptors.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::locate::Walk;
use super::{Meta, PartitionLog};
use crate::Offset;
use crate::canary::{Canary, broken};
use crate::checked::Checked;
use crate::disk::Disk;
use crate::format::{INDEX_SUFFIX, INDEX_WORTH_BYTES, SEGMENT_SUFFIX, UNFINISHED_INDEX_SUFFIX, segment_file_name};
use crate::handles::CloseResult;
use crate::index::Index;
use crate::scan::{Bounds, Ending, HeaderCursor, Survey, extend, survey};
use crate::segment::Segment;

/// A segment of a partition, open or not.
#[derive(Debug)]
pub(crate) struct Slot {
    base: Offset,
    segment: RwLock<Option<Arc<Segment>>>,
    checked: Arc<Checked>,
    /// The `.swap` file of the segment, until it is renamed.
    swap: Mutex<Option<PathBuf>>,
    /// Its disk failed during a read a short time ago.
    failing: AtomicBool,
    /// Greatest timestamp in it, once it was asked for and the segment takes no appends any more.
    newest_ms: OnceLock<i64>,
    /// The opening lock: held while the segment is opened or closed.
    opening: Mutex<()>,
}

impl Slot {
    /// A slot whose segment is opened when needed.
    pub(crate) fn new(base: Offset) -> Self {
        Self::of(base, Arc::new(Checked::none()))
    }

    /// A slot whose segment is open.
    pub(crate) fn with(segment: Arc<Segment>) -> Self {
        let slot = Self::of(segment.base_offset(), Arc::clone(segment.checked()));
        Self { segment: RwLock::new(Some(segment)), ..slot }
    }

    /// A slot whose segment is still in a `.swap` file.
    pub(super) fn in_swap_file(base: Offset, swap: PathBuf) -> Self {
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
        self.segment.read().clone()
    }

    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    /// Keeps other threads from opening the segment until the guard is dropped.
    pub(super) fn lock_opening(&self) -> MutexGuard<'_, ()> {
        self.opening.lock()
    }

    /// Whether no work is left for it. A segment that is not open is durable and trimmed, unless it is the active one.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.swap().is_none() && self.opened().is_none_or(|segment| segment.is_settled())
    }

    /// The `.swap` file of the segment, until it is renamed.
    fn swap(&self) -> Option<PathBuf> {
        self.swap.lock().clone()
    }

    /// Notes that the file was renamed. The caller holds the opening lock.
    pub(super) fn note_renamed(&self) {
        *self.swap.lock() = None;
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

    /// Lets go of the segment if only this slot and `others` hold it. A holder can only get the segment from another
    /// holder, so there is never a second open segment of the same file.
    fn release(&self, others: usize) -> Option<Arc<Segment>> {
        let mut segment = self.segment.write();
        if segment.as_ref().is_some_and(|open| Arc::strong_count(open) == 1 + others) { segment.take() } else { None }
    }
}

impl PartitionLog {
    pub(crate) fn slots(&self) -> RwLockReadGuard<'_, Vec<Arc<Slot>>> {
        self.slots.read()
    }

    pub(super) fn slots_mut(&self) -> RwLockWriteGuard<'_, Vec<Arc<Slot>>> {
        self.slots.write()
    }

    /// The slot that covers `offset`, and the base offset of the next one.
    pub(super) fn slot_of(&self, offset: Offset) -> Option<(Arc<Slot>, Option<Offset>)> {
        let slots = self.slots();
        let after = slots.partition_point(|slot| slot.base() <= offset);
        let slot = slots.get(after.checked_sub(1)?)?;
        Some((Arc::clone(slot), slots.get(after).map(|next| next.base())))
    }

    /// Does the same, or returns the first slot if that begins behind `offset`. `None` only if there are no slots. This
    /// is one look at the list; between two looks the list may change.
    pub(super) fn slot_from(&self, offset: Offset) -> Option<(Arc<Slot>, Option<Offset>)> {
        let slots = self.slots();
        let after = slots.partition_point(|slot| slot.base() <= offset).max(1);
        let slot = slots.get(after - 1)?;
        Some((Arc::clone(slot), slots.get(after).map(|next| next.base())))
    }

    /// Every slot with the base offset of the next one.
    pub(crate) fn all_slots(&self) -> Vec<(Arc<Slot>, Option<Offset>)> {
        let slots = self.slots();
        let nexts = slots.iter().skip(1).map(|slot| Some(slot.base())).chain([None]);
        slots.iter().cloned().zip(nexts).collect()
    }

    /// The base offset of the slot after `slot`; `Some(None)` if it is the last one, `None` if it is not in the list
    /// any more.
    #[expect(clippy::option_option, reason = "there may be no such slot, and none after it")]
    pub(super) fn next_base(&self, slot: &Arc<Slot>) -> Option<Option<Offset>> {
        let slots = self.slots();
        let at = slots.partition_point(|other| other.base() < slot.base());
        slots.get(at).is_some_and(|found| Arc::ptr_eq(found, slot)).then(|| slots.get(at + 1).map(|next| next.base()))
    }

    /// The segment of `slot`; opens it if needed. A segment that is not open is durable, and ends where the next one
    /// begins or at the end of the log. Fails with `NotFound` if the slot was removed.
    pub(crate) fn open_slot(&self, slot: &Arc<Slot>) -> io::Result<Arc<Segment>> {
        if let Some(segment) = slot.opened() {
            segment.touch();
            return Ok(segment);
        }
        let _one = slot.lock_opening();
        if let Some(segment) = slot.opened() {
            return Ok(segment);
        }
        // While this segment is not open, no append goes to it and no new segment begins behind it.
        let next_base = self.next_base(slot).ok_or(io::ErrorKind::NotFound)?;
        let end = next_base.unwrap_or_else(|| self.end_offset());
        let segment = Arc::new(self.open_segment(slot, end, next_base.is_none())?);
        if self.is_deleted() {
            // The opened file may belong to a later partition of the same name.
            return Err(io::ErrorKind::NotFound.into());
        }
        *slot.segment.write() = Some(Arc::clone(&segment));
        self.dir.handles.enter(&self.me, slot);
        Ok(segment)
    }

    /// Does the same for a slot of an older list: `None` if the slot was removed since.
    pub(crate) fn open_listed(&self, slot: &Arc<Slot>) -> io::Result<Option<Arc<Segment>>> {
        match self.open_slot(slot) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.next_base(slot).is_none() => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// The greatest timestamp of a slot at rest; opens the segment for the first call only. `None` if the slot was
    /// removed.
    pub(crate) fn newest_ms(&self, slot: &Arc<Slot>) -> io::Result<Option<i64>> {
        if let Some(newest_ms) = slot.newest_ms.get() {
            return Ok(Some(*newest_ms));
        }
        let Some(segment) = self.open_listed(slot)? else { return Ok(None) };
        let newest_ms = segment.index().max_timestamp();
        Ok(Some(*slot.newest_ms.get_or_init(|| newest_ms)))
    }

    /// Closes the segment of `slot` if no reader holds it and no knowledge is lost. Never waits.
    pub(crate) fn close_slot(&self, slot: &Arc<Slot>) -> CloseResult {
        let Some(_one) = slot.opening.try_lock() else { return CloseResult::Busy };
        let Some(segment) = slot.opened() else { return CloseResult::Closed };
        if segment.take_used() {
            return CloseResult::Busy;
        }
        if segment.has_unsaved_damage() && !self.store_damage(&segment) {
            return CloseResult::Busy;
        }
        if !segment.is_settled() {
            return self.close_active(slot, segment);
        }
        drop(segment);
        if slot.release(0).is_some() { CloseResult::Closed } else { CloseResult::Busy }
    }

    /// Closes the active segment if it is durable. The next append opens it again.
    fn close_active(&self, slot: &Arc<Slot>, segment: Arc<Segment>) -> CloseResult {
        // The locks keep appends, flushes and deletions away.
        let Some(_flushing) = self.flushing.state.try_lock() else { return CloseResult::Busy };
        let Some(mut active) = self.active.try_lock() else { return CloseResult::Busy };
        let durable = self.durable_offset() >= self.end_offset() && segment.is_entry_durable();
        if !durable || segment.is_sealed() || self.has_unsettled() || active.has_partial_write() {
            return CloseResult::Dirty;
        }
        let bytes = segment.bytes();
        if bytes >= segment.indexed_bytes() + INDEX_WORTH_BYTES {
            // Without the index file, the next opening has to read the segment.
            self.store_index_of(&segment);
        }
        let holders = usize::from(active.holds(&segment));
        drop(segment);
        match slot.release(holders) {
            Some(_closed) => {
                active.close();
                CloseResult::Closed
            }
            None => CloseResult::Busy,
        }
    }

    fn open_segment(&self, slot: &Slot, end: Offset, active: bool) -> io::Result<Segment> {
        let base = slot.base();
        let permit = self.dir.handles.admit()?;
        let file = self.dir.disk.open(&self.slot_path(slot), active)?;
        let file_bytes = file.metadata()?.len();
        let meta = self.meta();
        let Meta { options, epochs, .. } = &*meta;
        let interval_bytes = options.index_interval_bytes;
        // The damage that recovery found may be unreadable sectors.
        let unreadable_is_damage = self.is_damaged(base);
        let bounds = Bounds {
            epochs,
            base,
            durable: end,
            next_base: Some(end),
            file_bytes,
            interval_bytes,
            unreadable_is_damage,
        };
        // Until the file is renamed, the index file of that name belongs to another segment.
        let is_renamed = slot.swap().is_none();
        let stored = is_renamed.then(|| read_index(&self.index_path(base), base, interval_bytes)).flatten();
        let trusted = broken(Canary::TrustIndex);
        let fits = |index: &Index| index.end_offset() <= end && index.end_position() <= file_bytes;
        let stored = stored.filter(|index| trusted || fits(index));
        let indexed_bytes = stored.as_ref().map_or(0, Index::end_position);
        // Appends go on at the end that the index names, so that has to be right.
        let stored = match stored {
            Some(index) if active && !trusted && !self.reaches_end(&file, &index)? => None,
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
                    let index = survey(&*self.dir.disk, &file, bounds)?.index;
                    slot.checked.note_all();
                    (index, 0)
                }
            }
        };
        let stale = indexed_bytes < index.end_position();
        if is_renamed && stale && (indexed_bytes == 0 || !active) {
            self.report_rebuilt(base, &index, active);
        }
        if let Some(behind) = index.damage_end() {
            self.note_damage(&index);
            self.checkpoint_behind_damage(behind);
        }
        if !active {
            index.thin();
        }
        let map_bytes = if active { self.map_bytes() } else { index.end_position() };
        slot.checked.set_length(index.end_position());
        let (disk, checked) = (Arc::clone(&self.dir.disk), Arc::clone(&slot.checked));
        let segment = Segment::open(disk, file, index, checked, map_bytes, permit);
        segment.note_indexed(indexed_bytes);
        if !active {
            segment.seal();
            segment.settle();
        }
        Ok(segment)
    }

    /// Whether the batches from the last entry on lead to the end that the index names.
    fn reaches_end(&self, file: &File, index: &Index) -> io::Result<bool> {
        if index.ends_damaged() {
            return Ok(true);
        }
        let (end_offset, end_position) = (index.end_offset(), index.end_position());
        let Some(last) = index.floor_position(end_position, end_offset) else { return Ok(end_position == 0) };
        let mut window = [0; 4096];
        let cursor = HeaderCursor::new(&*self.dir.disk, file, &mut window);
        let mut walk = Walk { cursor, at: last };
        while walk.at.offset < end_offset && walk.step(end_position)?.is_some() {}
        Ok(walk.at.offset == end_offset && walk.at.position == end_position)
    }

    /// Extends an index file that ends before the segment does. `None` if the index is not of this segment.
    fn complete_index(&self, file: &File, bounds: Bounds<'_>, stored: Index) -> io::Result<Option<Index>> {
        let known = stored.quarantined().len();
        let Survey { index, ending, .. } = extend(&*self.dir.disk, file, bounds, stored)?;
        Ok((ending == Ending::Clean && index.quarantined().len() == known).then_some(index))
    }

    fn report_rebuilt(&self, base: Offset, index: &Index, active: bool) {
        if !active || index.end_position() >= INDEX_WORTH_BYTES {
            tracing::warn!(partition = %self.name, segment = base.0, "index rebuilt from the log");
            self.store_index(base, index);
        }
    }

    /// Writes the damage that the index of an open segment knows to the index file, so that closing the segment keeps
    /// it.
    fn store_damage(&self, segment: &Segment) -> bool {
        // A deletion waits for the maintenance lock, so it removes the file that is written here.
        let Some(_maintenance) = self.maintenance.try_lock() else { return false };
        self.is_deleted() || self.store_index_of(segment)
    }

    /// Writes the index file of an open segment. Returns whether that worked.
    pub(crate) fn store_index_of(&self, segment: &Segment) -> bool {
        let index = segment.index();
        let stored = self.store_index(segment.base_offset(), &index);
        if stored {
            segment.note_indexed(index.end_position());
            segment.set_unsaved_damage(false);
        }
        stored
    }

    /// Writes an index file. Returns whether that worked. It is derived data: a failure costs only time at the next
    /// start.
    pub(crate) fn store_index(&self, base: Offset, index: &Index) -> bool {
        let written = write_index(&*self.dir.disk, &self.index_path(base), index);
        if let Err(error) = &written {
            tracing::warn!(partition = %self.name, segment = base.0, %error, "cannot write an index file");
        }
        written.is_ok()
    }

    pub(super) fn segment_path(&self, base: Offset) -> PathBuf {
        self.directory.join(segment_file_name(base, SEGMENT_SUFFIX))
    }

    /// The path of the file of a slot.
    pub(super) fn slot_path(&self, slot: &Slot) -> PathBuf {
        slot.swap().unwrap_or_else(|| self.segment_path(slot.base()))
    }

    pub(super) fn index_path(&self, base: Offset) -> PathBuf {
        self.directory.join(segment_file_name(base, INDEX_SUFFIX))
    }
}

/// Writes an index file without a sync: its CRC shows whether it is complete.
pub(crate) fn write_index(disk: &dyn Disk, path: &Path, index: &Index) -> io::Result<()> {
    // `ottla log verify` may read the directory meanwhile: an index appears with all its bytes.
    let unfinished = path.with_extension(UNFINISHED_INDEX_SUFFIX.trim_start_matches('.'));
    let file = disk.create(&unfinished)?;
    disk.write_at(&file, &mut [IoSlice::new(&index.encode())], 0)?;
    disk.rename(&unfinished, path)
}

fn read_index(path: &Path, base: Offset, interval_bytes: u32) -> Option<Index> {
    Index::decode(&fs::read(path).ok()?, base, interval_bytes)
}
