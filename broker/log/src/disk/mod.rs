//! Every system call that changes a file, behind one trait, so that tests can inject faults.
//!
//! Promises: a write is complete or an error; an interrupted call is repeated; no code here repeats a failed sync.
//!
//! - [`Disk`] has one method per system call; [`RealDisk`] makes the calls
//! - `guarded` is the disk of a log directory; it goes offline at the first failed sync or refused change
//! - `faulty` is a disk that fails on demand; `volatile` records what a power cut may undo

#[cfg(any(test, feature = "faulty-disk"))]
mod faulty;
mod guarded;
#[cfg(any(test, feature = "faulty-disk"))]
mod volatile;

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Advice, FallocateFlags, SeekFrom};
use rustix::io::Errno;

#[cfg(any(test, feature = "faulty-disk"))]
pub use self::faulty::{DiskCall, FaultyDisk};
pub(crate) use self::guarded::GuardedDisk;

use crate::canary::{Canary, broken};

/// Most pieces of one `pwritev`.
const PIECES_MAX: usize = 1024;

/// The disk under a log directory. Each method is one system call; operations of several calls are below.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens an existing file for reading and, if asked, for writing.
    fn open(&self, path: &Path, writable: bool) -> io::Result<File>;
    /// Creates a file for reading and writing; an existing file is truncated.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes some of the pieces at exactly `position`; returns how many bytes.
    fn write_once(&self, file: &File, pieces: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Reads some bytes at `position`; returns how many, 0 at the end of the file.
    fn read_once(&self, file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// The position of the first byte at or behind `position` that may have been written; `None` if there is none.
    fn next_data(&self, file: &File, position: u64) -> io::Result<Option<u64>>;
    /// Makes the bytes of a file durable. After a failure their state is unknown: never sync the file again.
    fn sync_data(&self, file: &File) -> io::Result<()>;
    /// Drops the page cache of a file from `position` on, so that reads come from the disk. Bytes that were not synced
    /// stay in the cache.
    fn forget_cached(&self, file: &File, position: u64);
    /// Makes a file or directory durable, including its metadata.
    fn sync_path(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes everything on the file system of `path` durable: cheaper than very many single syncs.
    fn sync_file_system(&self, path: &Path) -> io::Result<()>;
    /// Reserves space; the bytes read as zeros. On a full disk it fails and changes nothing.
    fn allocate(&self, file: &File, from: u64, bytes: u64) -> io::Result<()>;
    /// Truncates or extends a file.
    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()>;
    /// Sets the modification time of a file.
    fn set_modified(&self, file: &File, time: SystemTime) -> io::Result<()>;
    /// Renames a file or directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; a missing file is no error.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory; an existing one is no error.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all its content.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
}

impl dyn Disk + '_ {
    /// Writes all pieces at exactly `position`: one `pwritev`, and after a short write another one from there on.
    pub fn write_at(&self, file: &File, mut pieces: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut pieces, 0);
        while !pieces.is_empty() {
            let now = pieces.len().min(PIECES_MAX);
            let written = self.write_once(file, pieces.get(..now).unwrap_or(&[]), position)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            if broken(Canary::IgnoreShortWrite) {
                return Ok(());
            }
            position += written as u64;
            IoSlice::advance_slices(&mut pieces, written);
        }
        Ok(())
    }

    /// Reads until `buffer` is full or the file ends; returns how many bytes it read.
    pub fn read_at(&self, file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_once(file, rest, position + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    /// Fills space with zeros. That is more expensive than reserving it, but later syncs of data there are cheaper.
    pub(crate) fn fill(&self, file: &File, from: u64, bytes: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let (whole, rest) = (bytes as usize / ZEROS.len(), bytes as usize % ZEROS.len());
        let mut pieces = vec![IoSlice::new(&ZEROS); whole];
        pieces.push(IoSlice::new(ZEROS.get(..rest).unwrap_or_default()));
        self.write_at(file, &mut pieces, from)
    }
}

/// The real disk: the system calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, writable: bool) -> io::Result<File> {
        File::options().read(true).write(writable).open(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).create(true).truncate(true).open(path)
    }

    fn write_once(&self, file: &File, pieces: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        uninterrupted(|| rustix::io::pwritev(file, pieces, position))
    }

    fn read_once(&self, file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        loop {
            match file.read_at(buffer, position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn next_data(&self, file: &File, position: u64) -> io::Result<Option<u64>> {
        match uninterrupted(|| rustix::fs::seek(file, SeekFrom::Data(position))) {
            Ok(data) => Ok(Some(data.max(position))),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            // The file system cannot tell: every byte may have been written.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Some(position)),
            Err(error) => Err(error),
        }
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        if broken(Canary::NoFsync) {
            return Ok(());
        }
        let synced = uninterrupted(|| rustix::fs::fdatasync(file));
        if synced.is_err() && broken(Canary::RetrySync) {
            return uninterrupted(|| rustix::fs::fdatasync(file));
        }
        synced
    }

    fn forget_cached(&self, file: &File, position: u64) {
        const PAGE_BYTES: u64 = 4096;
        let from = position / PAGE_BYTES * PAGE_BYTES;
        if let Err(error) = rustix::fs::fadvise(file, from, None, Advice::DontNeed) {
            tracing::debug!(%error, "cannot drop the page cache of a file");
        }
    }

    fn sync_path(&self, path: &Path) -> io::Result<()> {
        let file = open_when_possible(path)?;
        if broken(Canary::NoFsync) {
            return Ok(());
        }
        uninterrupted(|| rustix::fs::fsync(&file))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let directory = open_when_possible(path)?;
        if broken(Canary::NoFsync) || broken(Canary::NoDirSync) {
            return Ok(());
        }
        uninterrupted(|| rustix::fs::fsync(&directory))
    }

    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        let directory = open_when_possible(path)?;
        if broken(Canary::NoFsync) {
            return Ok(());
        }
        uninterrupted(|| rustix::fs::syncfs(&directory))
    }

    fn allocate(&self, file: &File, from: u64, bytes: u64) -> io::Result<()> {
        uninterrupted(|| rustix::fs::fallocate(file, FallocateFlags::empty(), from, bytes))
    }

    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn set_modified(&self, file: &File, time: SystemTime) -> io::Result<()> {
        file.set_modified(time)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }
}

/// Whether an error means that the disk itself failed, or that its file system gave up: waiting does not help. A full
/// disk, a quota, a limit of the process and a missing file are no such errors.
pub(crate) fn has_failed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::ENXIO | libc::ENODEV | libc::EUCLEAN | libc::EBADMSG))
        || is_read_only(error)
}

/// Whether an error means that the disk lost the bytes asked for. Other files may be intact.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG | libc::EILSEQ | libc::ENODATA))
}

/// Whether the file system accepts no changes any more. Most file systems switch to that state after an error.
pub(crate) fn is_read_only(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EROFS)
}

/// How long a sync waits for a free file descriptor, and the time between two attempts.
const HANDLE_TIMEOUT: Duration = Duration::from_secs(30);
const HANDLE_POLL: Duration = Duration::from_millis(10);

/// Opens a file or directory to sync it. If the process has no free descriptor, it waits for one: the disk is fine, and
/// an error here would take the whole directory offline.
fn open_when_possible(path: &Path) -> io::Result<File> {
    let begun = Instant::now();
    loop {
        match File::open(path) {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
                    && begun.elapsed() < HANDLE_TIMEOUT =>
            {
                std::thread::sleep(HANDLE_POLL);
            }
            opened => return opened,
        }
    }
}

/// Repeats a call that a signal interrupted.
fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}
