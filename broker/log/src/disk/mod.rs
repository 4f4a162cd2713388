//! Every system call that changes a file, behind one trait, so that a fault is a value and tests can make one.
//!
//! Promises: a write is complete or an error; an interrupted call is repeated; nothing here retries a failed sync.
//!
//! - [`Disk`] is what the log asks for, one method per system call; [`RealDisk`] asks the system
//! - `guarded` is that of a log directory, which goes offline with the first failed sync or refused change
//! - `faulty` is a disk that fails on order and remembers what a power cut may take; `volatile` is that memory

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

/// Most pieces that one `pwritev` takes.
const PIECES_MAX: usize = 1024;

/// The disk under a log directory. Each method is one call; what makes several of them one operation is below.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file that is there, for reading and, if asked, writing.
    fn open(&self, path: &Path, writable: bool) -> io::Result<File>;
    /// Creates a file for reading and writing; one that exists is emptied.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes some of the pieces at exactly `position`; says how many bytes.
    fn write_once(&self, file: &File, pieces: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Reads some bytes at `position`; says how many, 0 at the end of the file.
    fn read_once(&self, file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Where the first byte at or behind `position` is that may have been written; `None` if there is none.
    fn next_data(&self, file: &File, position: u64) -> io::Result<Option<u64>>;
    /// Makes the bytes of a file durable. A failure means that nothing is known about them any more: never call it again.
    fn sync_data(&self, file: &File) -> io::Result<()>;
    /// Takes what the system keeps of a file from `position` on out of its memory, so that reads come from the disk. What
    /// was not synced stays.
    fn forget_cached(&self, file: &File, position: u64);
    /// Makes a file or directory durable with everything the system knows about it.
    fn sync_path(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes everything on the file system that holds `path` durable: cheaper than very many single syncs.
    fn sync_file_system(&self, path: &Path) -> io::Result<()>;
    /// Reserves space; the bytes read as zeros. Fails cleanly where the disk is full.
    fn allocate(&self, file: &File, from: u64, bytes: u64) -> io::Result<()>;
    /// Cuts or extends a file.
    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()>;
    /// Dates the last change of a file.
    fn set_modified(&self, file: &File, time: SystemTime) -> io::Result<()>;
    /// Renames a file or directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; none is fine.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory; one that exists is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
}

impl dyn Disk + '_ {
    /// Writes all pieces at exactly `position`: one `pwritev`, continued at the place where a short one stopped.
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

    /// Reads until `buffer` is full or the file ends; says how much it read.
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

    /// Fills space with zeros: dearer than reserving it, but a sync of what is written there later is cheaper.
    pub(crate) fn fill(&self, file: &File, from: u64, bytes: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let (whole, rest) = (bytes as usize / ZEROS.len(), bytes as usize % ZEROS.len());
        let mut pieces = vec![IoSlice::new(&ZEROS); whole];
        pieces.push(IoSlice::new(ZEROS.get(..rest).unwrap_or_default()));
        self.write_at(file, &mut pieces, from)
    }
}

/// The disk of the system.
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
            // A file system that cannot tell: everything may have been written.
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
            tracing::debug!(%error, "a file is read as the system remembers it");
        }
    }

    fn sync_path(&self, path: &Path) -> io::Result<()> {
        let file = open_patiently(path)?;
        if broken(Canary::NoFsync) {
            return Ok(());
        }
        uninterrupted(|| rustix::fs::fsync(&file))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let directory = open_patiently(path)?;
        if broken(Canary::NoFsync) || broken(Canary::NoDirSync) {
            return Ok(());
        }
        uninterrupted(|| rustix::fs::fsync(&directory))
    }

    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        let directory = open_patiently(path)?;
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

/// Whether an error says that the disk itself failed, or that its file system gave it up: nothing that passes by waiting.
/// A full disk, a quota, a limit of the process or a file that is gone are something else.
pub(crate) fn has_failed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::ENXIO | libc::ENODEV | libc::EUCLEAN | libc::EBADMSG))
        || is_read_only(error)
}

/// Whether an error says that the disk has lost what was asked for: the other files may well be whole.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG | libc::EILSEQ | libc::ENODATA))
}

/// Whether a file system takes no changes any more: most of them do that by themselves after an error.
pub(crate) fn is_read_only(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EROFS)
}

/// How long a sync waits for a free file handle, and between two looks.
const HANDLE_PATIENCE: Duration = Duration::from_secs(30);
const HANDLE_POLL: Duration = Duration::from_millis(10);

/// Opens what is to be synced. That the process has no handle left says nothing about the disk: it waits for one, since
/// an error here would take the whole directory offline.
fn open_patiently(path: &Path) -> io::Result<File> {
    let begun = Instant::now();
    loop {
        match File::open(path) {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
                    && begun.elapsed() < HANDLE_PATIENCE =>
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
