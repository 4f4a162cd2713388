//! The disk of one log directory: the first failed sync of anything on it takes the directory offline, and nothing on it is
//! synced after that, because the system would say yes to what is lost.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::Disk;
use crate::shared::Shared;

/// A disk with a memory of its first failed sync.
#[derive(Debug)]
pub(crate) struct GuardedDisk {
    disk: Arc<dyn Disk>,
    failed: AtomicBool,
    shared: OnceLock<Weak<Shared>>,
}

impl GuardedDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, failed: AtomicBool::new(false), shared: OnceLock::new() }
    }

    /// Whom a failed sync takes offline.
    pub(crate) fn belongs_to(&self, shared: &Arc<Shared>) {
        // A second time would be the same directory.
        let _ = self.shared.set(Arc::downgrade(shared));
    }

    fn sync(&self, what: &str, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let shared = self.shared.get().and_then(Weak::upgrade);
        if self.failed.load(Ordering::Acquire) || shared.as_ref().is_some_and(|it| it.offline_reason().is_some()) {
            return Err(io::Error::other("a sync failed before, the log directory is offline"));
        }
        sync().inspect_err(|error| {
            // What is not there was not synced: it went with its partition, or its owner knows better.
            if error.kind() != io::ErrorKind::NotFound {
                self.failed.store(true, Ordering::Release);
                if let Some(shared) = shared {
                    shared.poison(what, error);
                }
            }
        })
    }
}

impl Disk for GuardedDisk {
    fn open(&self, path: &Path, writable: bool) -> io::Result<File> {
        self.disk.open(path, writable)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.disk.create(path)
    }

    fn write_once(&self, file: &File, pieces: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.disk.write_once(file, pieces, position)
    }

    fn read_once(&self, file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.disk.read_once(file, buffer, position)
    }

    fn next_data(&self, file: &File, position: u64) -> io::Result<Option<u64>> {
        self.disk.next_data(file, position)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.sync("fdatasync of a file", || self.disk.sync_data(file))
    }

    fn forget_cached(&self, file: &File, position: u64) {
        self.disk.forget_cached(file, position);
    }

    fn sync_path(&self, path: &Path) -> io::Result<()> {
        self.sync("fsync of a file", || self.disk.sync_path(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync("fsync of a directory", || self.disk.sync_dir(path))
    }

    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        self.sync("syncfs", || self.disk.sync_file_system(path))
    }

    fn allocate(&self, file: &File, from: u64, bytes: u64) -> io::Result<()> {
        self.disk.allocate(file, from, bytes)
    }

    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.disk.set_len(file, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }
}
