//! Every system call that changes a file, in one place, so that a fault is a value and tests can make one.
//!
//! Promises: a write is complete or an error; an interrupted call is repeated; nothing here retries a failed sync.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
#[cfg(test)]
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use crate::canary::{Canary, broken};

/// Most pieces that one `pwritev` takes.
const PIECES_MAX: usize = 1024;

/// The disk under one log directory. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    #[cfg(test)]
    pub(crate) faults: Arc<faults::Faults>,
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

impl Disk {
    /// Creates a file for reading and writing; one that exists is emptied.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        self.fault(Call::Create)?;
        File::options().read(true).write(true).create(true).truncate(true).open(path)
    }

    /// Writes all pieces at exactly `position`: one `pwritev`, continued at the place where a short one stopped.
    pub(crate) fn write_at(&self, file: &File, mut pieces: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut pieces, 0);
        while !pieces.is_empty() {
            let now = pieces.len().min(PIECES_MAX);
            self.fault(Call::Write)?;
            #[cfg(test)]
            if let Some(allowed) = self.faults.short_write() {
                let first = pieces.first().map_or(&[][..], |piece| &**piece);
                let part = &first[..first.len().min(allowed)];
                let written = file.write_at(part, position)?;
                position += written as u64;
                IoSlice::advance_slices(&mut pieces, written);
                continue;
            }
            let written = uninterrupted(|| rustix::io::pwritev(file, pieces.get(..now).unwrap_or(&[]), position))?;
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
    pub(crate) fn read_at(&self, file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            self.fault(Call::Read)?;
            match file.read_at(rest, position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Where the first byte at or behind `position` is that may have been written; `None` if there is none.
    pub(crate) fn next_data(&self, file: &File, position: u64) -> io::Result<Option<u64>> {
        self.fault(Call::Read)?;
        match uninterrupted(|| rustix::fs::seek(file, SeekFrom::Data(position))) {
            Ok(data) => Ok(Some(data.max(position))),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            // A file system that cannot tell: everything may have been written.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Some(position)),
            Err(error) => Err(error),
        }
    }

    /// Makes the bytes of a file durable. A failure means that nothing is known about them any more: never call it again.
    pub(crate) fn sync_data(&self, file: &File) -> io::Result<()> {
        self.fault(Call::Sync)?;
        if broken(Canary::NoFsync) {
            return Ok(());
        }
        let synced = uninterrupted(|| rustix::fs::fdatasync(file));
        if synced.is_err() && broken(Canary::RetrySync) {
            return uninterrupted(|| rustix::fs::fdatasync(file));
        }
        synced
    }

    /// Makes a file or directory durable with everything the system knows about it.
    pub(crate) fn sync_path(&self, path: &Path) -> io::Result<()> {
        self.fault(Call::Sync)?;
        let file = open_patiently(path)?;
        if broken(Canary::NoFsync) {
            return Ok(());
        }
        uninterrupted(|| rustix::fs::fsync(&file))
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.fault(Call::SyncDir)?;
        let directory = open_patiently(path)?;
        if broken(Canary::NoFsync) || broken(Canary::NoDirSync) {
            return Ok(());
        }
        uninterrupted(|| rustix::fs::fsync(&directory))
    }

    /// Makes everything on the file system that holds `path` durable: cheaper than very many single syncs.
    pub(crate) fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        self.fault(Call::Sync)?;
        let directory = open_patiently(path)?;
        if broken(Canary::NoFsync) {
            return Ok(());
        }
        uninterrupted(|| rustix::fs::syncfs(&directory))
    }

    /// Reserves space; the bytes read as zeros. Fails cleanly where the disk is full.
    pub(crate) fn allocate(&self, file: &File, from: u64, bytes: u64) -> io::Result<()> {
        self.fault(Call::Allocate)?;
        uninterrupted(|| rustix::fs::fallocate(file, FallocateFlags::empty(), from, bytes))
    }

    /// Fills space with zeros: dearer than reserving it, but a sync of what is written there later is cheaper.
    pub(crate) fn fill(&self, file: &File, from: u64, bytes: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        self.fault(Call::Allocate)?;
        let (whole, rest) = (bytes as usize / ZEROS.len(), bytes as usize % ZEROS.len());
        let mut pieces = vec![IoSlice::new(&ZEROS); whole];
        pieces.push(IoSlice::new(ZEROS.get(..rest).unwrap_or_default()));
        self.write_at(file, &mut pieces, from)
    }

    /// Cuts or extends a file.
    pub(crate) fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.fault(Call::SetLen)?;
        file.set_len(bytes)
    }

    /// Renames a file or directory.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fault(Call::Rename)?;
        std::fs::rename(from, to)
    }

    /// Removes a file; none is fine.
    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.fault(Call::Remove)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the tests' version of it can fail")]
    fn fault(&self, _call: Call) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn fault(&self, call: Call) -> io::Result<()> {
        self.faults.check(call)
    }
}

/// The calls that a test can make fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Create,
    Write,
    Read,
    Sync,
    SyncDir,
    Allocate,
    SetLen,
    Rename,
    Remove,
}

#[cfg(test)]
pub(crate) mod faults {
    //! Faults on order, for the tests of this crate.

    use std::collections::HashMap;
    use std::io;
    use std::sync::Mutex;

    use super::Call;

    /// What goes wrong next.
    #[derive(Debug, Default)]
    pub(crate) struct Faults {
        plan: Mutex<Plan>,
    }

    #[derive(Debug, Default)]
    struct Plan {
        failing: HashMap<Call, Failure>,
        short_writes: Vec<usize>,
        counts: HashMap<Call, usize>,
    }

    #[derive(Debug)]
    struct Failure {
        after: usize,
        errno: i32,
        times: usize,
    }

    impl Faults {
        /// Lets `after` calls pass, then fails the next `times` with `errno`.
        pub(crate) fn fail(&self, call: Call, after: usize, times: usize, errno: i32) {
            let mut plan = self.plan.lock().expect("no test panics while it holds this");
            plan.failing.insert(call, Failure { after, errno, times });
        }

        /// The next writes take only these many bytes.
        pub(crate) fn shorten_writes(&self, bytes: &[usize]) {
            let mut plan = self.plan.lock().expect("no test panics while it holds this");
            plan.short_writes = bytes.iter().rev().copied().collect();
        }

        /// How often `call` was made.
        pub(crate) fn count(&self, call: Call) -> usize {
            let plan = self.plan.lock().expect("no test panics while it holds this");
            plan.counts.get(&call).copied().unwrap_or(0)
        }

        pub(super) fn short_write(&self) -> Option<usize> {
            self.plan.lock().expect("no test panics while it holds this").short_writes.pop()
        }

        pub(super) fn check(&self, call: Call) -> io::Result<()> {
            let mut plan = self.plan.lock().expect("no test panics while it holds this");
            *plan.counts.entry(call).or_default() += 1;
            let Some(failure) = plan.failing.get_mut(&call) else { return Ok(()) };
            if failure.after > 0 {
                failure.after -= 1;
                return Ok(());
            }
            if failure.times == 0 {
                return Ok(());
            }
            failure.times -= 1;
            Err(io::Error::from_raw_os_error(failure.errno))
        }
    }
}
