//! The file under the metadata database. Space for it is taken when it grows, not when it is written: on a full disk only
//! growing fails, and what is there can be opened, repaired and written.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{BackendError, StorageBackend};
use rustix::fs::FallocateFlags;

/// A range of bytes that is locked.
type Edge = Bound<u64>;

/// The file, and whether a sync of it has failed.
#[derive(Debug)]
pub(super) struct MetaFile {
    inner: FileBackend,
    /// The same file, for what `inner` does not do.
    file: File,
    sync_failed: Arc<AtomicBool>,
}

impl MetaFile {
    pub(super) fn open(path: &Path, sync_failed: Arc<AtomicBool>) -> Result<Self, redb::Error> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let this = Self { inner: FileBackend::new(file.try_clone()?)?, file, sync_failed };
        // Written by a release that left holes; where there is no room for them they stay.
        let _ = this.allocate(0, this.inner.len()?);
        Ok(this)
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, from, to - from) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            allocated => allocated.map_err(io::Error::from),
        }
    }
}

impl StorageBackend for MetaFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.inner.len()?;
        if let Err(error) = self.allocate(before, len) {
            // What it did get behind the end goes back.
            let _ = self.inner.set_len(before);
            return Err(error);
        }
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// What the file holds, in memory.
pub(super) fn copy_of(path: &Path) -> io::Result<InMemoryBackend> {
    let bytes = std::fs::read(path)?;
    let copy = InMemoryBackend::new();
    copy.set_len(bytes.len() as u64)?;
    copy.write(0, &bytes)?;
    Ok(copy)
}
