//! The disk of one log directory: the first failed sync of anything on it takes the directory offline, and so does the first
//! change that the disk itself refuses. Nothing on it is synced or changed after that: the system would say yes to what is
//! lost. A full disk is no such failure, nor is a read that fails.
//!
//! Two syncs of one file never run at the same time. The system reports a failed write-back once per open file: of two syncs
//! one is told, and the other one may say yes to what is lost before the failure of the first is known here.

use std::fs::{File, Metadata};
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use super::{Disk, has_failed};
use crate::shared::Shared;

/// A disk with a memory of its first failure.
#[derive(Debug)]
pub(crate) struct GuardedDisk {
    disk: Arc<dyn Disk>,
    failed: AtomicBool,
    syncing: Syncing,
    shared: OnceLock<Weak<Shared>>,
}

/// The files and directories that are being synced, by device and inode: a handful, one per thread.
#[derive(Debug, Default)]
struct Syncing {
    files: Mutex<Vec<FileId>>,
    one_is_done: Condvar,
}

type FileId = (u64, u64);

/// The right to sync one file.
struct Turn<'a> {
    syncing: &'a Syncing,
    file: FileId,
}

impl Syncing {
    fn files(&self) -> MutexGuard<'_, Vec<FileId>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other thread syncs the file.
    fn wait_turn(&self, file: &Metadata) -> Turn<'_> {
        let file = (file.dev(), file.ino());
        let taken = |files: &mut Vec<FileId>| files.contains(&file);
        let mut files = self.one_is_done.wait_while(self.files(), taken).unwrap_or_else(PoisonError::into_inner);
        files.push(file);
        Turn { syncing: self, file }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.syncing.files().retain(|file| *file != self.file);
        self.syncing.one_is_done.notify_all();
    }
}

impl GuardedDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, failed: AtomicBool::new(false), syncing: Syncing::default(), shared: OnceLock::new() }
    }

    /// Whom a failure takes offline.
    pub(crate) fn belongs_to(&self, shared: &Arc<Shared>) {
        // A second time would be the same directory.
        let _ = self.shared.set(Arc::downgrade(shared));
    }

    /// Syncs `file`, or the whole file system where none is named: that asks for errors of its own and takes none away
    /// from the files.
    fn sync(
        &self,
        what: &str,
        file: Option<io::Result<Metadata>>,
        sync: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        // A file that is not there says so itself.
        let _turn = file.and_then(Result::ok).map(|file| self.syncing.wait_turn(&file));
        let shared = self.shared.get().and_then(Weak::upgrade);
        if shared.is_some_and(|shared| shared.offline_reason().is_some()) {
            return Err(refusal());
        }
        // What is not there was not synced: it went with its partition, or its owner knows better.
        self.watched(what, sync, |error| error.kind() != io::ErrorKind::NotFound)
    }

    fn change<T>(&self, what: &str, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.watched(what, change, has_failed)
    }

    fn watched<T>(
        &self,
        what: &str,
        call: impl FnOnce() -> io::Result<T>,
        is_fatal: impl FnOnce(&io::Error) -> bool,
    ) -> io::Result<T> {
        if self.failed.load(Ordering::Acquire) {
            return Err(refusal());
        }
        call().inspect_err(|error| {
            if is_fatal(error) {
                self.failed.store(true, Ordering::Release);
                if let Some(shared) = self.shared.get().and_then(Weak::upgrade) {
                    shared.poison(what, error);
                }
            }
        })
    }
}

fn refusal() -> io::Error {
    io::Error::other("the disk failed before, the log directory is offline")
}

impl Disk for GuardedDisk {
    fn open(&self, path: &Path, writable: bool) -> io::Result<File> {
        if writable {
            return self.watched("opening a file", || self.disk.open(path, true), super::is_read_only);
        }
        self.disk.open(path, false)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.change("creating a file", || self.disk.create(path))
    }

    fn write_once(&self, file: &File, pieces: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.change("a write", || self.disk.write_once(file, pieces, position))
    }

    fn read_once(&self, file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.disk.read_once(file, buffer, position)
    }

    fn next_data(&self, file: &File, position: u64) -> io::Result<Option<u64>> {
        self.disk.next_data(file, position)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.sync("fdatasync of a file", Some(file.metadata()), || self.disk.sync_data(file))
    }

    fn forget_cached(&self, file: &File, position: u64) {
        self.disk.forget_cached(file, position);
    }

    fn sync_path(&self, path: &Path) -> io::Result<()> {
        self.sync("fsync of a file", Some(path.metadata()), || self.disk.sync_path(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync("fsync of a directory", Some(path.metadata()), || self.disk.sync_dir(path))
    }

    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        self.sync("syncfs", None, || self.disk.sync_file_system(path))
    }

    fn allocate(&self, file: &File, from: u64, bytes: u64) -> io::Result<()> {
        self.change("reserving space", || self.disk.allocate(file, from, bytes))
    }

    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.change("cutting a file", || self.disk.set_len(file, bytes))
    }

    fn set_modified(&self, file: &File, time: SystemTime) -> io::Result<()> {
        self.change("dating a file", || self.disk.set_modified(file, time))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("renaming a file", || self.disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change("removing a file", || self.disk.remove_file(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change("making a directory", || self.disk.create_dir(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change("removing a directory", || self.disk.remove_dir_all(path))
    }
}
