//! The state that all partitions of a log directory share: its health, its clean-shutdown marker, its reserve of space.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::commit::CommitQueue;
use crate::disk::Disk;
use crate::format::{MARKER_FILE, MARKER_VERSION, PartitionName};
use crate::handles::Handles;
use crate::options::LogOptions;
use crate::partition::PartitionLog;
use crate::state_file::{StateFile, StateWriteError};
use crate::stats::Counters;

/// The state of an open log directory, for its partitions.
#[derive(Debug)]
pub(crate) struct DirState {
    pub(crate) path: PathBuf,
    pub(crate) options: LogOptions,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) commit: Arc<CommitQueue>,
    pub(crate) reserve: Reserve,
    pub(crate) counters: Counters,
    /// The budget of open segments.
    pub(crate) handles: Arc<Handles>,
    partitions: RwLock<HashMap<PartitionName, Arc<PartitionLog>>>,
    /// Why the directory is offline; set once and never cleared.
    offline: OnceLock<String>,
    offline_listener: Arc<OfflineListener>,
    /// The thread that calls the listeners. The thread that meets a failure may hold a lock that a listener needs.
    notifier: OnceLock<mpsc::Sender<Notification>>,
    closed: AtomicBool,
    /// The marker file may exist and has to be removed before the first append.
    has_marker: AtomicBool,
    marker_lock: Mutex<()>,
}

impl DirState {
    pub(crate) fn new(path: PathBuf, options: LogOptions, disk: Arc<dyn Disk>, has_marker: bool) -> Self {
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
            notifier: OnceLock::new(),
            closed: AtomicBool::new(false),
            has_marker: AtomicBool::new(has_marker),
            marker_lock: Mutex::default(),
        }
    }

    pub(crate) fn partitions(&self) -> RwLockReadGuard<'_, HashMap<PartitionName, Arc<PartitionLog>>> {
        self.partitions.read()
    }

    pub(crate) fn partitions_mut(&self) -> RwLockWriteGuard<'_, HashMap<PartitionName, Arc<PartitionLog>>> {
        self.partitions.write()
    }

    /// The reason why the directory is offline, if it is.
    pub(crate) fn offline_reason(&self) -> Option<&str> {
        self.offline.get().map(String::as_str)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Takes the directory offline because the disk failed: the bytes of a failed sync may be on the disk or not, and
    /// another sync would report success in both cases. Calls the listeners.
    pub(crate) fn take_offline_after(&self, what: &str, error: &io::Error) {
        self.take_offline(&format!("{what} failed: {error}"));
    }

    /// Ends all writing in the directory until the process ends, and calls the listeners.
    pub(crate) fn take_offline(&self, reason: &str) {
        if self.offline.set(reason.to_owned()).is_err() {
            return;
        }
        tracing::error!(directory = %self.path.display(), %reason, "log directory offline until restart");
        let partitions: Vec<_> = self.partitions().values().cloned().collect();
        let listener = Arc::clone(&self.offline_listener);
        let notify = move || {
            for partition in &partitions {
                partition.notify_listeners();
            }
            listener.notify();
        };
        match self.notifier.get() {
            // The thread ends only after this.
            Some(notifier) => drop(notifier.send(Box::new(notify))),
            // The directory could not be opened, so there are no listeners yet.
            None => notify(),
        }
    }

    /// Starts the thread that calls the listeners, before the first failure can happen. It ends with the directory.
    pub(crate) fn start_notifier(&self) -> io::Result<()> {
        let (notifier, notifications) = mpsc::channel::<Notification>();
        let run = move || notifications.into_iter().for_each(|notify| notify());
        thread::Builder::new().name("ottla-offline".to_owned()).spawn(run)?;
        // A second call would come from another start of the same directory.
        let _ = self.notifier.set(notifier);
        Ok(())
    }

    /// Calls `listener` when the directory goes offline, or at once if it is offline.
    pub(crate) fn on_offline(&self, listener: Box<dyn Fn() + Send + Sync>) {
        self.offline_listener.set(listener);
    }

    /// Syncs the names in `directory`; a failure takes the log directory offline.
    pub(crate) fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_dir(directory).inspect_err(|error| self.take_offline_after("fsync of a directory", error))
    }

    /// Removes the clean-shutdown marker, durably, before the first append.
    pub(crate) fn remove_marker(&self) -> io::Result<()> {
        if !self.has_marker.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.marker_lock.lock();
        // Another thread may have failed at it meanwhile, and a failed sync is never repeated.
        if let Some(reason) = self.offline_reason() {
            return Err(io::Error::other(reason.to_owned()));
        }
        if self.has_marker.load(Ordering::Acquire) {
            self.disk.remove_file(&self.path.join(MARKER_FILE))?;
            self.sync_dir(&self.path)?;
            self.has_marker.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// The file of the clean-shutdown marker.
    pub(crate) fn marker_file(disk: &Arc<dyn Disk>, path: &Path) -> StateFile {
        StateFile::on(Arc::clone(disk), path.join(MARKER_FILE), MARKER_VERSION)
    }

    /// Writes the clean-shutdown marker.
    pub(crate) fn write_marker(&self) -> Result<(), StateWriteError> {
        Self::marker_file(&self.disk, &self.path).write(&[])
    }
}

type Notification = Box<dyn FnOnce() + Send>;

/// The listener that is called once when the directory goes offline. One lock guards both fields: with two atomics, on
/// weakly ordered memory, the listener and the failure could miss each other.
#[derive(Default)]
struct OfflineListener(Mutex<ListenerState>);

#[derive(Default)]
struct ListenerState {
    listener: Option<Arc<dyn Fn() + Send + Sync>>,
    is_offline: bool,
}

impl OfflineListener {
    fn set(&self, listener: Box<dyn Fn() + Send + Sync>) {
        let mut state = self.0.lock();
        if state.listener.is_none() {
            let listener: Arc<dyn Fn() + Send + Sync> = Arc::from(listener);
            state.listener = Some(Arc::clone(&listener));
            if state.is_offline {
                drop(state);
                listener();
            }
        }
    }

    fn notify(&self) {
        let listener = {
            let mut state = self.0.lock();
            state.is_offline = true;
            state.listener.clone()
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

/// Disk space that partitions have reserved and do not use, with a limit for all of them together.
#[derive(Debug)]
pub(crate) struct Reserve {
    used_bytes: AtomicU64,
    max_bytes: u64,
    /// The file system does not support reservations.
    unsupported: AtomicBool,
}

impl Reserve {
    fn new(max_bytes: u64) -> Self {
        Self { used_bytes: AtomicU64::new(0), max_bytes, unsupported: AtomicBool::new(false) }
    }

    /// Returns `returned` bytes to the reserve and takes up to `wanted` from it; returns how many it got.
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
