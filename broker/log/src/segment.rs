//! One file of batches: appended by `pwritev`, read by `pread`, mapped read-only as a source for the kernel.
//!
//! Promises: bytes below [`Segment::bytes`] never change or disappear while a caller holds the segment. User code never
//! writes or reads through a mapping.

#![allow(unsafe_code, reason = "mapping a file, and cachestat(2), which rustix does not cover")]

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::{Mmap, MmapOptions};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::Offset;
use crate::checked::Checked;
use crate::disk::Disk;
use crate::handles::{Permit, maps_max};
use crate::index::Index;

/// The number of mappings. When the kernel's limit is reached, segments are read by `pread` instead.
static MAPS: AtomicUsize = AtomicUsize::new(0);

/// One file of batches.
#[derive(Debug)]
pub struct Segment {
    base_offset: Offset,
    file: File,
    disk: Arc<dyn Disk>,
    checked: Arc<Checked>,
    /// Its index knows damage that the index file does not contain.
    has_unsaved_damage: AtomicBool,
    /// The published length, stored with Release after the write.
    bytes: AtomicU64,
    index: RwLock<Index>,
    map: OnceLock<Option<Mapping>>,
    /// The address space of the mapping, so that one mapping is enough for the whole life of the segment.
    map_bytes: u64,
    /// The segment takes no more appends.
    sealed: AtomicBool,
    /// Sealed, synced and trimmed: no work is left for it.
    settled: AtomicBool,
    /// The directory entry has been synced.
    entry_durable: AtomicBool,
    /// Used since the last turn of the clock.
    used: AtomicBool,
    /// The index file covers the segment up to here.
    indexed_bytes: AtomicU64,
    /// The right to be open; given back when the segment is closed.
    _permit: Permit,
}

#[derive(Debug)]
struct Mapping(Mmap);

impl Drop for Mapping {
    fn drop(&mut self) {
        MAPS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Segment {
    /// Creates the file of a segment that starts where `index` does. The caller has to sync its directory entry.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        path: &Path,
        index: Index,
        map_bytes: u64,
        permit: Permit,
    ) -> io::Result<Self> {
        let file = disk.create(path)?;
        let segment = Self::open(disk, file, index, Arc::new(Checked::all()), map_bytes, permit);
        segment.entry_durable.store(false, Ordering::Release);
        Ok(segment)
    }

    /// A segment whose content is known.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        file: File,
        index: Index,
        checked: Arc<Checked>,
        map_bytes: u64,
        permit: Permit,
    ) -> Self {
        Self {
            base_offset: index.base_offset(),
            file,
            disk,
            checked,
            has_unsaved_damage: AtomicBool::new(false),
            bytes: AtomicU64::new(index.end_position()),
            map_bytes: map_bytes.max(index.end_position()),
            index: RwLock::new(index),
            map: OnceLock::new(),
            sealed: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            entry_durable: AtomicBool::new(true),
            used: AtomicBool::new(true),
            indexed_bytes: AtomicU64::new(0),
            _permit: permit,
        }
    }

    /// Offset of its first record.
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Its published length: all bytes below are written and stay.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// The file, as a source for `sendfile`.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reads `buffer.len()` bytes at `position` by `pread`; fails if the segment ends before.
    pub fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.disk.read_at(&self.file, buffer, position)? {
            read if read == buffer.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// A piece of the mapping, as a source for `writev`. `None` if a part of it is not published or the process has no
    /// room for another mapping; then use [`read_exact_at`](Self::read_exact_at).
    pub fn slice(self: &Arc<Self>, position: u64, bytes: usize) -> Option<MappedSlice> {
        let end = position.checked_add(bytes as u64)?;
        if end > self.bytes() {
            return None;
        }
        let mapping = self.map.get_or_init(|| self.map_file()).as_ref()?;
        (end <= mapping.0.len() as u64).then(|| MappedSlice {
            segment: Arc::clone(self),
            from: position as usize,
            bytes,
        })
    }

    fn map_file(&self) -> Option<Mapping> {
        if MAPS.fetch_add(1, Ordering::Relaxed) >= maps_max() {
            MAPS.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        // SAFETY: the mapping is read-only and shared. This process holds the directory's lock and never writes or cuts
        // off bytes below the published length. `slice` lends only such bytes, and only for the kernel, which answers
        // EFAULT, without a signal, if a page is gone.
        match unsafe { MmapOptions::new().len(self.map_bytes.max(1) as usize).map(&self.file) } {
            Ok(map) => Some(Mapping(map)),
            Err(error) => {
                MAPS.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(segment = self.base_offset.0, %error, "cannot map a segment, reading it instead");
                None
            }
        }
    }

    /// How many bytes of a range are not in the page cache, in whole pages. `None` if the kernel cannot tell.
    pub fn cold_bytes(&self, position: u64, bytes: u64) -> Option<u64> {
        #[repr(C)]
        struct Range {
            offset: u64,
            bytes: u64,
        }
        #[repr(C)]
        #[derive(Default)]
        struct Stat {
            cached: u64,
            dirty: u64,
            writeback: u64,
            evicted: u64,
            recently_evicted: u64,
        }
        const CACHESTAT: libc::c_long = 451;
        const PAGE_BYTES: u64 = 4096;
        if bytes == 0 {
            return Some(0);
        }
        let (range, mut stat) = (Range { offset: position, bytes }, Stat::default());
        // SAFETY: both structures have the layout of the kernel's `cachestat_range` and `cachestat` and outlive the
        // call; an older kernel answers ENOSYS and writes nothing.
        let result = unsafe { libc::syscall(CACHESTAT, self.file.as_raw_fd(), &raw const range, &raw mut stat, 0) };
        let pages = (position + bytes).div_ceil(PAGE_BYTES) - position / PAGE_BYTES;
        (result == 0).then(|| pages.saturating_sub(stat.cached) * PAGE_BYTES)
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(crate) fn write_at(&self, pieces: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.disk.write_at(&self.file, pieces, position)
    }

    /// Makes everything below `bytes` visible to readers.
    pub(crate) fn publish(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Release);
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read()
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write()
    }

    pub(crate) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// The parts of it that this process knows to be sound.
    pub(crate) fn checked(&self) -> &Arc<Checked> {
        &self.checked
    }

    /// Whether its index knows damage that the index file does not contain.
    pub(crate) fn has_unsaved_damage(&self) -> bool {
        self.has_unsaved_damage.load(Ordering::Acquire)
    }

    pub(crate) fn set_unsaved_damage(&self, has_unsaved_damage: bool) {
        self.has_unsaved_damage.store(has_unsaved_damage, Ordering::Release);
    }

    /// Marks it as used: the clock skips it once.
    pub(crate) fn touch(&self) {
        // The load first keeps the cache line of a busy segment shared between processors.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was used since the last call.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// The index file covers the segment up to here.
    pub(crate) fn indexed_bytes(&self) -> u64 {
        self.indexed_bytes.load(Ordering::Acquire)
    }

    pub(crate) fn note_indexed(&self, bytes: u64) {
        self.indexed_bytes.store(bytes, Ordering::Release);
    }

    pub(crate) fn is_entry_durable(&self) -> bool {
        self.entry_durable.load(Ordering::Acquire)
    }

    pub(crate) fn note_entry_durable(&self) {
        self.entry_durable.store(true, Ordering::Release);
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A piece of a segment's mapping: a source for `writev` and similar calls. Hand it to the kernel; never read its
/// bytes, because a bad sector under them would raise a signal in the reading thread.
#[derive(Clone, Debug)]
pub struct MappedSlice {
    segment: Arc<Segment>,
    from: usize,
    bytes: usize,
}

impl AsRef<[u8]> for MappedSlice {
    fn as_ref(&self) -> &[u8] {
        let mapping = self.segment.map.get().and_then(Option::as_ref);
        mapping.and_then(|mapping| mapping.0.get(self.from..self.from + self.bytes)).unwrap_or_default()
    }
}
