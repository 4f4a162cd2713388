//! What all partitions of a log directory share: its health, its clean-shutdown marker, its reserve of disk space.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::thread;

use crate::commit::CommitQueue;
use crate::disk::Disk;
use crate::format::{MARKER_FILE, MARKER_VERSION, PartitionName};
use crate::handles::Handles;
use crate::options::LogOptions;
use crate::partition::PartitionLog;
use crate::state_file::{StateFile, StateWriteError};
use crate::stats::Counters;

/// A log directory, seen from its partitions.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) options: LogOptions,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) commit: Arc<CommitQueue>,
    pub(crate) reserve: Reserve,
    pub(crate) counters: Counters,
    /// How many segments may be open.
    pub(crate) handles: Arc<Handles>,
    partitions: RwLock<HashMap<PartitionName, Arc<PartitionLog>>>,
    /// Why nothing is written any more: set once, for ever.
    offline: OnceLock<String>,
    offline_listener: Arc<OfflineListener>,
    /// The thread that tells who waits. Whoever meets a failure may hold what a listener wants to have.
    teller: OnceLock<mpsc::Sender<Telling>>,
    closed: AtomicBool,
    /// The marker file is (or may be) there and has to go before the first append.
    marked: AtomicBool,
    marking: Mutex<()>,
}

impl Shared {
    pub(crate) fn new(path: PathBuf, options: LogOptions, disk: Arc<dyn Disk>, marked: bool) -> Self {
        Self {
            commit: Arc::new(CommitQueue::new(options.flush_threads_max)),
            counters: Counters::default(),
            reserve: Reserve::new(options.preallocated_bytes_max),
            handles: Handles::of(options.open_segments_max),
            path,
            options,
            disk,
            partitions: RwLock::default(),
            offline: OnceLock::new(),
            offline_listener: Arc::default(),
            teller: OnceLock::new(),
            closed: AtomicBool::new(false),
            marked: AtomicBool::new(marked),
            marking: Mutex::default(),
        }
    }

    pub(crate) fn partitions(&self) -> RwLockReadGuard<'_, HashMap<PartitionName, Arc<PartitionLog>>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn partitions_mut(&self) -> RwLockWriteGuard<'_, HashMap<PartitionName, Arc<PartitionLog>>> {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the directory is offline, if it is.
    pub(crate) fn offline_reason(&self) -> Option<&str> {
        self.offline.get().map(String::as_str)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The disk failed: what a sync covered may or may not be on it, and asking again would answer "yes" either way. The
    /// directory goes offline for ever, and everybody who waits is told.
    pub(crate) fn poison(&self, what: &str, error: &io::Error) {
        self.take_offline(&format!("{what} failed: {error}"));
    }

    /// Ends all writing in the directory, for ever, and tells everybody who waits.
    pub(crate) fn take_offline(&self, reason: &str) {
        if self.offline.set(reason.to_owned()).is_err() {
            return;
        }
        tracing::error!(directory = %self.path.display(), %reason, "log directory offline until restart");
        let partitions: Vec<_> = self.partitions().values().cloned().collect();
        let listener = Arc::clone(&self.offline_listener);
        let tell = move || {
            for partition in &partitions {
                partition.tell_listeners();
            }
            listener.tell();
        };
        match self.teller.get() {
            // It ends only after this.
            Some(teller) => drop(teller.send(Box::new(tell))),
            // A stand-in of a directory: nobody listens yet.
            None => tell(),
        }
    }

    /// Starts the thread that tells who waits, before anything can fail. It ends with the directory.
    pub(crate) fn start_teller(&self) -> io::Result<()> {
        let (teller, tellings) = mpsc::channel::<Telling>();
        let tell = move || tellings.into_iter().for_each(|tell| tell());
        thread::Builder::new().name("ottla-offline".to_owned()).spawn(tell)?;
        // A second one would be another start of the same directory.
        let _ = self.teller.set(teller);
        Ok(())
    }

    /// Calls `listener` when the directory goes offline; at once when it is.
    pub(crate) fn on_offline(&self, listener: Box<dyn Fn() + Send + Sync>) {
        self.offline_listener.listen(listener);
    }

    /// Syncs the names in `directory`; a failure takes the log directory offline.
    pub(crate) fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_dir(directory).inspect_err(|error| self.poison("fsync of a directory", error))
    }

    /// Removes the clean-shutdown marker, durably, before the first append.
    pub(crate) fn unmark(&self) -> io::Result<()> {
        if !self.marked.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.marking.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have failed at it meanwhile, and what failed once is not synced again.
        if let Some(reason) = self.offline_reason() {
            return Err(io::Error::other(reason.to_owned()));
        }
        if self.marked.load(Ordering::Acquire) {
            self.disk.remove_file(&self.path.join(MARKER_FILE))?;
            self.sync_dir(&self.path)?;
            self.marked.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// The clean-shutdown marker as a file.
    pub(crate) fn marker(disk: &Arc<dyn Disk>, path: &Path) -> StateFile {
        StateFile::on(Arc::clone(disk), path.join(MARKER_FILE), MARKER_VERSION)
    }

    /// Writes the clean-shutdown marker.
    pub(crate) fn mark(&self) -> Result<(), StateWriteError> {
        Self::marker(&self.disk, &self.path).write(&[])
    }
}

type Telling = Box<dyn FnOnce() + Send>;

/// Who is told, once, that a directory has gone offline. One lock over both facts: with an atomic for each, the listener and
/// the failure could miss each other where memory is weakly ordered.
#[derive(Default)]
struct OfflineListener(Mutex<Listening>);

#[derive(Default)]
struct Listening {
    listener: Option<Arc<dyn Fn() + Send + Sync>>,
    is_offline: bool,
}

impl OfflineListener {
    fn listen(&self, listener: Box<dyn Fn() + Send + Sync>) {
        let mut listening = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if listening.listener.is_none() {
            let listener: Arc<dyn Fn() + Send + Sync> = Arc::from(listener);
            listening.listener = Some(Arc::clone(&listener));
            if listening.is_offline {
                drop(listening);
                listener();
            }
        }
    }

    fn tell(&self) {
        let listener = {
            let mut listening = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            listening.is_offline = true;
            listening.listener.clone()
        };
        if let Some(listener) = listener {
            listener();
        }
    }
}

impl fmt::Debug for OfflineListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfflineListener")
    }
}

/// Disk space that partitions have reserved beyond what they use, capped for all of them together.
#[derive(Debug)]
pub(crate) struct Reserve {
    used_bytes: AtomicU64,
    max_bytes: u64,
    /// The file system cannot reserve at all.
    unsupported: AtomicBool,
}

impl Reserve {
    fn new(max_bytes: u64) -> Self {
        Self { used_bytes: AtomicU64::new(0), max_bytes, unsupported: AtomicBool::new(false) }
    }

    /// Gives `returned` bytes back and takes up to `wanted`; says how many it got.
    pub(crate) fn trade(&self, returned: u64, wanted: u64) -> u64 {
        let wanted = if self.unsupported.load(Ordering::Relaxed) { 0 } else { wanted };
        let mut granted = 0;
        let _ = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            let rest = used.saturating_sub(returned);
            granted = wanted.min(self.max_bytes.saturating_sub(rest));
            Some(rest + granted)
        });
        granted
    }

    pub(crate) fn note_unsupported(&self) {
        self.unsupported.store(true, Ordering::Relaxed);
    }

    /// Bytes reserved and not used.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }
}
