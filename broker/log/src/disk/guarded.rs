//! The disk of one log directory. The first failed sync of any file takes the directory offline, and so does the first
//! change that the disk itself refuses. After that, nothing in the directory is synced or changed: a further sync would
//! report success for bytes that are lost. A full disk and a failed read are not such failures.
//!
//! Two syncs of one file never run at the same time. The kernel reports a failed write-back once per open file: it
//! tells one of two syncs, and the other one could report success for lost bytes before this process knows about the
//! failure.

use std::fs::{File, Metadata};
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{Disk, has_failed};
use crate::dir_state::DirState;

/// A disk that remembers its first failure.
#[derive(Debug)]
pub(crate) struct GuardedDisk {
    disk: Arc<dyn Disk>,
    failed: AtomicBool,
    syncing: Syncing,
    dir: OnceLock<Weak<DirState>>,
}

/// The files and directories that are being synced, by device and inode: a few, one per thread.
#[derive(Debug, Default)]
struct Syncing {
    files: Mutex<Vec<FileId>>,
    one_is_done: Condvar,
}

type FileId = (u64, u64);

/// The right to sync one file; other syncs of the file wait until it is dropped.
struct SyncTurn<'a> {
    syncing: &'a Syncing,
    file: FileId,
}

impl Syncing {
    fn files(&self) -> MutexGuard<'_, Vec<FileId>> {
        self.files.lock()
    }

    /// Waits until no other thread syncs the file.
    fn wait_turn(&self, file: &Metadata) -> SyncTurn<'_> {
        let file = (file.dev(), file.ino());
        let taken = |files: &mut Vec<FileId>| files.contains(&file);
        let mut files = self.files();
        self.one_is_done.wait_while(&mut files, taken);
        files.push(file);
        SyncTurn { syncing: self, file }
    }
}

impl Drop for SyncTurn<'_> {
    fn drop(&mut self) {
        self.syncing.files().retain(|file| *file != self.file);
        self.syncing.one_is_done.notify_all();
    }
}

impl GuardedDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, failed: AtomicBool::new(false), syncing: Syncing::default(), dir: OnceLock::new() }
    }

    /// Sets the directory that a failure takes offline.
    pub(crate) fn set_directory(&self, dir: &Arc<DirState>) {
        // A second call would come from another start of the same directory.
        let _ = self.dir.set(Arc::downgrade(dir));
    }

    /// Syncs `file`, or the whole file system if `file` is `None`. The kernel reports errors of a file system sync
    /// separately; it takes no error away from a file.
    fn sync(
        &self,
        what: &str,
        file: Option<io::Result<Metadata>>,
        sync: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        // For a missing file the sync itself reports the error.
        let _turn = file.and_then(Result::ok).map(|file| self.syncing.wait_turn(&file));
        let dir = self.dir.get().and_then(Weak::upgrade);
        if dir.is_some_and(|dir| dir.offline_reason().is_some()) {
            return Err(refusal());
        }
        // A missing file was not synced: it was removed with its partition, or its owner handles the error.
        self.guard(what, sync, |error| error.kind() != io::ErrorKind::NotFound)
    }

    fn change<T>(&self, what: &str, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.guard(what, change, has_failed)
    }

    fn guard<T>(
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
                if let Some(dir) = self.dir.get().and_then(Weak::upgrade) {
                    dir.take_offline_after(what, error);
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
            return self.guard("opening a file", || self.disk.open(path, true), super::is_read_only);
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
