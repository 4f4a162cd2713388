//! A disk that fails when a test tells it to, and whose power can be cut.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::volatile::{Random, Volatile};
use super::{Disk, RealDisk};
use crate::canary::{Canary, broken};

/// The calls that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskCall {
    /// Opening a file.
    Open,
    /// Creating a file or a directory.
    Create,
    /// Writing.
    Write,
    /// Reading, and asking where data is.
    Read,
    /// Syncing the bytes of a file, or a file system.
    Sync,
    /// Syncing the names in a directory.
    SyncDir,
    /// Reserving space.
    Allocate,
    /// Cutting or extending a file.
    SetLen,
    /// Setting the modification time of a file.
    SetModified,
    /// Renaming.
    Rename,
    /// Removing a file or a directory.
    Remove,
}

/// A real directory behind a disk with faults: short writes, errors of any number, a cache that is lost although it was
/// synced, and power cuts. After a cut the directory holds a state that a real cut could leave, and not one byte more.
///
/// No call really syncs; the disk records what a sync would make durable.
#[derive(Debug)]
pub struct FaultyDisk {
    state: Mutex<State>,
    hooks: Mutex<Hooks>,
    /// Notified when syncs may go on.
    released: Condvar,
}

#[derive(Debug)]
struct State {
    failing: HashMap<DiskCall, Failure>,
    short_writes: Vec<usize>,
    counts: HashMap<DiskCall, usize>,
    volatile: Volatile,
    loses_cache: bool,
    holds_syncs: bool,
    /// Unreadable bytes, by device and inode.
    unreadable: Vec<((u64, u64), Range<u64>)>,
    cut: bool,
}

/// The hooks that run before calls.
#[derive(Default)]
struct Hooks(HashMap<DiskCall, Arc<dyn Fn() + Send + Sync>>);

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[derive(Debug)]
struct Failure {
    after: usize,
    errno: i32,
    times: usize,
}

impl FaultyDisk {
    /// A disk without faults.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                failing: HashMap::new(),
                short_writes: Vec::new(),
                counts: HashMap::new(),
                volatile: Volatile::default(),
                loses_cache: false,
                holds_syncs: false,
                unreadable: Vec::new(),
                cut: false,
            }),
            hooks: Mutex::default(),
            released: Condvar::new(),
        })
    }

    /// Lets `after` calls succeed, then fails the next `times` with `errno`.
    pub fn fail(&self, call: DiskCall, after: usize, times: usize, errno: i32) {
        self.state().failing.insert(call, Failure { after, errno, times });
    }

    /// The next writes take only these many bytes.
    pub fn shorten_writes(&self, bytes: &[usize]) {
        self.state().short_writes = bytes.iter().rev().copied().collect();
    }

    /// From now on, syncs report success and make nothing durable.
    pub fn lose_cache(&self) {
        self.state().loses_cache = true;
    }

    /// Makes all syncs wait, or lets them go on.
    pub fn hold_syncs(&self, hold: bool) {
        self.state().holds_syncs = hold;
        self.released.notify_all();
    }

    /// Runs `hook` before every `call` from now on, in the calling thread, so that a test can act at that moment. The
    /// hook may use the disk.
    pub fn before(&self, call: DiskCall, hook: impl Fn() + Send + Sync + 'static) {
        self.hooks().0.insert(call, Arc::new(hook));
    }

    /// From now on, reads that touch these bytes of a file fail with EIO, as over bad sectors.
    pub fn make_unreadable(&self, path: &Path, bytes: Range<u64>) -> io::Result<()> {
        let metadata = std::fs::metadata(path)?;
        self.state().unreadable.push(((metadata.dev(), metadata.ino()), bytes));
        Ok(())
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.failing.clear();
        state.short_writes.clear();
        state.loses_cache = false;
        state.unreadable.clear();
    }

    /// How often `call` was made.
    pub fn count(&self, call: DiskCall) -> usize {
        self.state().counts.get(&call).copied().unwrap_or(0)
    }

    /// Cuts the power: everything that was not synced stays or disappears, at random by `seed`, sector by sector,
    /// length by length, name by name; one sector may be torn. Every later call fails. Drop everything that uses the
    /// disk before you open the directory again.
    pub fn power_cut(&self, seed: u64) -> io::Result<()> {
        let mut state = self.state();
        state.cut = true;
        std::mem::take(&mut state.volatile).cut(&mut Random::new(seed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.hooks.lock()
    }

    /// Counts a call, and fails it if a fault is due.
    fn begin(&self, call: DiskCall) -> io::Result<MutexGuard<'_, State>> {
        let hook = self.hooks().0.get(&call).cloned();
        if let Some(hook) = hook {
            hook();
        }
        let mut state = self.state();
        if state.cut {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        *state.counts.entry(call).or_default() += 1;
        while call == DiskCall::Sync && state.holds_syncs {
            self.released.wait(&mut state);
        }
        if let Some(failure) = state.failing.get_mut(&call) {
            if failure.after > 0 {
                failure.after -= 1;
            } else if failure.times > 0 {
                failure.times -= 1;
                return Err(io::Error::from_raw_os_error(failure.errno));
            }
        }
        Ok(state)
    }
}

impl State {
    /// How many of `bytes` bytes the next write takes.
    fn write_takes(&mut self, bytes: usize) -> usize {
        self.short_writes.pop().unwrap_or(bytes).clamp(bytes.min(1), bytes)
    }

    fn syncs(&self) -> bool {
        !self.loses_cache && !broken(Canary::NoFsync)
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, _writable: bool) -> io::Result<File> {
        let _state = self.begin(DiskCall::Open)?;
        // A power cut has to read and write back old bytes through this handle.
        RealDisk.open(path, true)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut state = self.begin(DiskCall::Create)?;
        if path.exists() {
            let file = RealDisk.open(path, true)?;
            state.volatile.before_set_len(&file, 0)?;
        } else {
            state.volatile.created(path);
        }
        RealDisk.create(path)
    }

    fn write_once(&self, file: &File, pieces: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut state = self.begin(DiskCall::Write)?;
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        let takes = state.write_takes(bytes);
        state.volatile.before_write(file, position, takes as u64)?;
        if takes == bytes {
            return RealDisk.write_once(file, pieces, position);
        }
        let some: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).take(takes).collect();
        RealDisk.write_once(file, &[IoSlice::new(&some)], position)
    }

    fn read_once(&self, file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let state = self.begin(DiskCall::Read)?;
        let mut room = buffer.len();
        if !state.unreadable.is_empty() {
            let metadata = file.metadata()?;
            let id = (metadata.dev(), metadata.ino());
            for (_, bad) in state.unreadable.iter().filter(|(of, bad)| *of == id && bad.end > position) {
                // The bytes before the bad sector are read.
                room = room.min(bad.start.saturating_sub(position) as usize);
            }
            if room == 0 && !buffer.is_empty() && position < metadata.len() {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
        }
        drop(state);
        RealDisk.read_once(file, buffer.get_mut(..room).unwrap_or_default(), position)
    }

    fn next_data(&self, file: &File, position: u64) -> io::Result<Option<u64>> {
        drop(self.begin(DiskCall::Read)?);
        RealDisk.next_data(file, position)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        match self.begin(DiskCall::Sync) {
            Ok(mut state) => {
                if state.syncs() {
                    state.volatile.synced(file)
                } else {
                    Ok(())
                }
            }
            Err(error) => {
                self.state().volatile.lost(file)?;
                Err(error)
            }
        }
    }

    fn forget_cached(&self, file: &File, _position: u64) {
        let forgotten = self.state().volatile.forget_lost(file);
        forgotten.expect("a test's own files can be written");
    }

    fn sync_path(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(DiskCall::Sync)?;
        if !state.syncs() {
            return Ok(());
        }
        let file = File::open(path)?;
        if file.metadata()?.is_dir() { state.volatile.synced_dir(path) } else { state.volatile.synced(&file) }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(DiskCall::SyncDir)?;
        if state.syncs() && !broken(Canary::NoDirSync) { state.volatile.synced_dir(path) } else { Ok(()) }
    }

    fn sync_file_system(&self, _path: &Path) -> io::Result<()> {
        let mut state = self.begin(DiskCall::Sync)?;
        if state.syncs() { state.volatile.synced_all() } else { Ok(()) }
    }

    fn allocate(&self, file: &File, from: u64, bytes: u64) -> io::Result<()> {
        let mut state = self.begin(DiskCall::Allocate)?;
        let end = file.metadata()?.len().max(from + bytes);
        state.volatile.before_set_len(file, end)?;
        RealDisk.allocate(file, from, bytes)
    }

    fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        let mut state = self.begin(DiskCall::SetLen)?;
        state.volatile.before_set_len(file, bytes)?;
        RealDisk.set_len(file, bytes)
    }

    fn set_modified(&self, file: &File, time: SystemTime) -> io::Result<()> {
        drop(self.begin(DiskCall::SetModified)?);
        RealDisk.set_modified(file, time)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin(DiskCall::Rename)?;
        state.volatile.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(DiskCall::Remove)?;
        state.volatile.remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(DiskCall::Create)?;
        if !path.exists() {
            state.volatile.created(path);
        }
        RealDisk.create_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(DiskCall::Remove)?;
        state.volatile.forget_below(path);
        RealDisk.remove_dir_all(path)
    }
}
