//! Segments by base offset, opened when they are first needed: ten thousand idle partitions hold no descriptors.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use super::{Meta, PartitionLog};
use crate::Offset;
use crate::canary::{Canary, broken};
use crate::disk::Disk;
use crate::format::{INDEX_SUFFIX, INDEX_WORTH_BYTES, SEGMENT_SUFFIX, segment_file_name};
use crate::index::Index;
use crate::scan::{Bounds, survey};
use crate::segment::Segment;

/// A segment of a partition, open or not.
#[derive(Debug)]
pub(crate) struct Slot {
    base: Offset,
    segment: OnceLock<Arc<Segment>>,
    opening: Mutex<()>,
}

impl Slot {
    /// A segment that is opened when needed.
    pub(crate) fn new(base: Offset) -> Self {
        Self { base, segment: OnceLock::new(), opening: Mutex::default() }
    }

    /// A segment that is open.
    pub(crate) fn with(segment: Segment) -> Self {
        Self { base: segment.base_offset(), segment: OnceLock::from(Arc::new(segment)), opening: Mutex::default() }
    }

    /// The segment, if it is open.
    pub(crate) fn opened(&self) -> Option<&Arc<Segment>> {
        self.segment.get()
    }

    pub(crate) fn base(&self) -> Offset {
        self.base
    }
}

impl PartitionLog {
    pub(super) fn slots(&self) -> RwLockReadGuard<'_, Vec<Arc<Slot>>> {
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

    /// Every slot with the base of the one after it.
    pub(super) fn all_slots(&self) -> Vec<(Arc<Slot>, Option<Offset>)> {
        let slots = self.slots();
        let nexts = slots.iter().skip(1).map(|slot| Some(slot.base())).chain([None]);
        slots.iter().cloned().zip(nexts).collect()
    }

    /// Opens the segment of `slot`. A segment that is not open has had no append since the start, so it ends where the
    /// next one begins, or at the end of the log, and all of it is durable.
    pub(super) fn open_slot(&self, slot: &Slot, next_base: Option<Offset>) -> io::Result<Arc<Segment>> {
        if let Some(segment) = slot.opened() {
            return Ok(Arc::clone(segment));
        }
        let _one = slot.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = slot.opened() {
            return Ok(Arc::clone(segment));
        }
        let end = next_base.unwrap_or_else(|| self.end_offset());
        let segment = self.open_segment(slot.base(), end, next_base.is_none())?;
        if self.is_deleted() {
            // What was opened may belong to a later partition of the same name.
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Arc::clone(slot.segment.get_or_init(|| Arc::new(segment))))
    }

    fn open_segment(&self, base: Offset, end: Offset, active: bool) -> io::Result<Segment> {
        let path = self.segment_path(base);
        let file = File::options().read(true).write(active).open(&path)?;
        let file_bytes = file.metadata()?.len();
        let Meta { options, epochs, .. } = self.meta().clone();
        let interval_bytes = options.index_interval_bytes;
        let stored = read_index(&self.index_path(base), base, interval_bytes);
        let fits = |index: &Index| {
            index.end_offset() == end && index.end_position() <= file_bytes || broken(Canary::TrustIndex)
        };
        let mut index = if let Some(index) = stored.filter(fits) {
            index
        } else {
            let bounds =
                Bounds { epochs: &epochs, base, durable: end, next_base: Some(end), file_bytes, interval_bytes };
            let index = survey(&self.shared.disk, &file, bounds)?.index;
            self.report_rebuilt(base, &index, active);
            index
        };
        if !active {
            index.thin();
        }
        let map_bytes = if active { self.map_bytes() } else { index.end_position() };
        let segment = Segment::open(self.shared.disk.clone(), file, base, index, map_bytes);
        if !active {
            segment.seal();
            segment.settle();
        }
        Ok(segment)
    }

    fn report_rebuilt(&self, base: Offset, index: &Index, active: bool) {
        for range in index.quarantined() {
            let (from, to) = (range.offsets.start, range.offsets.end);
            tracing::error!(partition = %self.name, from, to, "damaged records, answered with an error");
        }
        if !active || index.end_position() >= INDEX_WORTH_BYTES {
            tracing::warn!(partition = %self.name, segment = base.0, "index made again from the log");
            self.store_index(base, index);
        }
    }

    /// Writes an index file. It is derived data: a failure costs time at the next start, nothing else.
    pub(super) fn store_index(&self, base: Offset, index: &Index) {
        if let Err(error) = write_index(&self.shared.disk, &self.index_path(base), index) {
            tracing::warn!(partition = %self.name, segment = base.0, %error, "index file not written");
        }
    }

    pub(super) fn segment_path(&self, base: Offset) -> PathBuf {
        self.directory.join(segment_file_name(base, SEGMENT_SUFFIX))
    }

    pub(super) fn index_path(&self, base: Offset) -> PathBuf {
        self.directory.join(segment_file_name(base, INDEX_SUFFIX))
    }
}

/// Writes an index file, unsynced: its CRC says whether it arrived.
pub(crate) fn write_index(disk: &Disk, path: &Path, index: &Index) -> io::Result<()> {
    let file = disk.create(path)?;
    disk.write_at(&file, &mut [IoSlice::new(&index.encode())], 0)
}

fn read_index(path: &Path, base: Offset, interval_bytes: u32) -> Option<Index> {
    Index::decode(&fs::read(path).ok()?, base, interval_bytes)
}
