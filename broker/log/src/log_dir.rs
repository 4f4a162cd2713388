//! A log directory: opens it and recovers every partition; closes it so that the next start needs no scan.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::FlockOperation;
use uuid::Uuid;

use crate::LeaderEpoch;
use crate::Offset;
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::dir_state::DirState;
use crate::disk::{Disk, GuardedDisk, RealDisk, is_unreadable};
use crate::epochs::EpochHistory;
use crate::error::{CreateError, DeleteError, OpenError, ShutdownError};
use crate::format::{LOCK_FILE, NEW_DIR, PartitionName, SEGMENT_SUFFIX, TRASH_DIR, segment_file_name};
use crate::handles::raise_descriptor_limit;
use crate::journal::{Journal, JournalEntries, JournalOpenError};
use crate::options::{LogOptions, PartitionOptions};
use crate::parallel::{in_parallel, try_in_parallel};
use crate::partition::{Meta, Opened, PartitionLog};
use crate::recovery::{LastRun, Recovered, recover};
use crate::report::{RecoveryReport, UnreadablePartition};
use crate::state_file::{StateReadError, is_full};
use crate::stats::LogStats;

/// Startup and shutdown sync up to this many files one by one; if there are more, they sync the whole file system.
const SINGLE_SYNCS_MAX: usize = 64;
/// Threads of a startup or shutdown. They wait for the disk more than they compute.
const DISK_THREADS_MAX: usize = 8;

/// An open log directory. To the next start, dropping it without [`shutdown`](Self::shutdown) looks like a crash.
#[derive(Debug)]
pub struct LogDir {
    dir: Arc<DirState>,
    /// Names of partitions that are being created or deleted.
    claimed_names: Mutex<HashSet<PartitionName>>,
    sweeping: Arc<AtomicBool>,
    /// Its `flock` keeps other processes out until it is closed. `None` if the directory could not be opened.
    lock: Option<File>,
}

impl LogDir {
    /// Opens the log directory at `path`, creates it if there is none, and recovers every partition in it.
    pub fn open(path: &Path, options: LogOptions) -> Result<(Self, RecoveryReport), OpenError> {
        Self::start(Arc::new(RealDisk), path, options)
    }

    /// The same on another disk.
    #[cfg(any(test, feature = "faulty-disk"))]
    pub fn open_on(disk: Arc<dyn Disk>, path: &Path, options: LogOptions) -> Result<(Self, RecoveryReport), OpenError> {
        Self::start(disk, path, options)
    }

    fn start(disk: Arc<dyn Disk>, path: &Path, options: LogOptions) -> Result<(Self, RecoveryReport), OpenError> {
        let started = Instant::now();
        let io_error = |source| OpenError::Io { path: path.to_path_buf(), source };
        raise_descriptor_limit();
        #[cfg(feature = "canary")]
        tracing::error!(broken = ?crate::canary::chosen(), "built to break promises: never keep data with it");
        make_directory(&*disk, path).map_err(io_error)?;
        for directory in [NEW_DIR, TRASH_DIR] {
            let directory = path.join(directory);
            if !directory.is_dir() {
                disk.create_dir(&directory).map_err(io_error)?;
            }
        }
        let lock = take_lock(path)?;
        let clean = match DirState::marker_file(&disk, path).read() {
            Ok(marker) => marker.is_some(),
            Err(StateReadError::Damaged { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        let guarded = Arc::new(GuardedDisk::new(disk));
        let disk = Arc::<GuardedDisk>::clone(&guarded);
        let dir = Arc::new(DirState::new(path.to_path_buf(), options, disk, true));
        guarded.set_directory(&dir);
        dir.start_notifier().map_err(io_error)?;
        let mut report = RecoveryReport { path: path.to_path_buf(), clean, ..RecoveryReport::default() };
        let (mut recovered, unreadable) = recover_all(&dir, clean)?;
        // Where there is nothing, nothing was left unfinished.
        report.clean |= recovered.is_empty() && unreadable.is_empty();
        make_durable(&dir, &mut recovered)?;
        for partition in recovered {
            note(&mut report, &partition);
            let log = partition.into_log(Arc::clone(&dir));
            dir.partitions_mut().insert(log.name().clone(), log);
        }
        for UnreadablePartition { partition, reason } in unreadable {
            report.partitions += 1;
            tracing::error!(%partition, %reason, "the partition is offline until a start can read it");
            let log = offline_partition(&dir, &partition, &reason);
            dir.partitions_mut().insert(partition.clone(), log);
            report.unreadable.push(UnreadablePartition { partition, reason });
        }
        report.leftovers_removed = discard_leftovers(&*dir.disk, path).map_err(io_error)?;
        dir.commit.start().map_err(io_error)?;
        let directory = Self { dir, claimed_names: Mutex::default(), sweeping: Arc::default(), lock: Some(lock) };
        if report.leftovers_removed > 0 {
            directory.sweep();
        }
        report.duration = started.elapsed();
        Ok((directory, report))
    }

    /// A log directory that cannot be opened: it is offline from the start, and this process does not touch the disk.
    /// The caller names its partitions with [`absent_partition`](Self::absent_partition).
    pub fn unavailable(path: &Path, reason: &str) -> Self {
        let dir = Arc::new(DirState::new(path.to_path_buf(), LogOptions::default(), Arc::new(RealDisk), false));
        dir.take_offline(reason);
        Self { dir, claimed_names: Mutex::default(), sweeping: Arc::default(), lock: None }
    }

    /// A partition that may be in this offline directory: its content is unknown, so it takes no append and has nothing
    /// to read. The call creates neither the partition nor its files.
    pub fn absent_partition(
        &self,
        name: &PartitionName,
        topic_id: Uuid,
        options: PartitionOptions,
    ) -> Arc<PartitionLog> {
        let epochs = EpochHistory::from_entries([(LeaderEpoch(0), Offset(0))]);
        let meta = Meta { name: name.clone(), topic_id, options, epochs };
        let directory = self.dir.path.join(name.to_string());
        let checkpoint = CheckpointFile::unread(self.dir.disk.clone(), &directory);
        let log = PartitionLog::new(Arc::clone(&self.dir), Opened::empty(directory, meta, checkpoint));
        self.dir.partitions_mut().insert(name.clone(), Arc::clone(&log));
        log
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.dir.path
    }

    /// The disk of this directory, for files that others keep in it: a sync of theirs that fails takes the directory offline,
    /// and nothing is written through it after that.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.dir.disk)
    }

    /// The counters since it was opened.
    pub fn stats(&self) -> LogStats {
        self.dir.counters.read()
    }

    /// Bytes appended since it was opened, including those to partitions that were deleted.
    pub fn appended_bytes(&self) -> u64 {
        let partitions = self.dir.partitions();
        let present: u64 = partitions.values().map(|log| log.appended_bytes()).sum();
        self.dir.counters.deleted_bytes() + present
    }

    /// The number of partitions.
    pub fn partition_count(&self) -> usize {
        self.dir.partitions().len()
    }

    /// Calls `listener` when the directory goes offline, or at once if it is offline. Only the first listener counts.
    pub fn on_offline(&self, listener: Box<dyn Fn() + Send + Sync>) {
        self.dir.on_offline(listener);
    }

    /// Creates a partition. When this returns, the partition exists durably and completely; after an error it does not
    /// exist. If the directory goes offline during the call, the next start decides which of the two.
    pub fn create_partition(
        &self,
        name: &PartitionName,
        topic_id: Uuid,
        options: PartitionOptions,
    ) -> Result<Arc<PartitionLog>, CreateError> {
        name.check()?;
        if let Some(reason) = self.offline_reason() {
            return Err(CreateError::Offline { reason });
        }
        let Some(_claim) = NameClaim::claim(self, name) else {
            return Err(CreateError::Exists { name: name.clone(), topic_id });
        };
        if let Some(log) = self.partition(name) {
            return Err(CreateError::Exists { name: name.clone(), topic_id: log.topic_id() });
        }
        let meta = Meta {
            name: name.clone(),
            topic_id,
            options,
            epochs: EpochHistory::from_entries([(LeaderEpoch(0), Offset(0))]),
        };
        let log = self.build(meta).map_err(|source| {
            let name = name.clone();
            if is_full(&source) { CreateError::NoSpace { name } } else { CreateError::Io { name, source } }
        })?;
        self.dir.partitions_mut().insert(name.clone(), Arc::clone(&log));
        Ok(log)
    }

    /// Builds a partition aside and renames it into place. After the rename only a failure of the disk itself can
    /// happen.
    fn build(&self, meta: Meta) -> io::Result<Arc<PartitionLog>> {
        let disk = &self.dir.disk;
        let aside = self.dir.path.join(NEW_DIR).join(Uuid::new_v4().to_string());
        let directory = self.dir.path.join(meta.name.to_string());
        let empty = Checkpoint { durable: Offset(0), log_start: Offset(0), active_base: Offset(0), active_bytes: 0 };
        let built = (|| -> io::Result<CheckpointFile> {
            disk.create_dir(&aside)?;
            disk.create(&aside.join(segment_file_name(Offset(0), SEGMENT_SUFFIX)))?;
            let staged = PartitionLog::meta_file(&self.dir, &aside);
            let beside = staged.stage(&meta.encode())?;
            disk.sync_path(&beside)?;
            staged.install()?;
            // A partition needs a checkpoint from its first moment on: without one, recovery cannot tell what it may
            // cut.
            let (mut checkpoint, _) = CheckpointFile::open(Arc::clone(disk), &aside)?;
            let unsynced = checkpoint.write(empty)?;
            unsynced.first().map_or(Ok(()), |file| disk.sync_path(file))?;
            disk.sync_dir(&aside)?;
            disk.rename(&aside, &directory)?;
            self.dir.sync_dir(&self.dir.path)?;
            Ok(checkpoint.moved_to(&directory))
        })();
        let checkpoint = built.inspect_err(|_| {
            // The next start removes the rest anyway.
            let _ = disk.remove_dir_all(&aside);
        })?;
        let opened = Opened { persisted: Some(empty), ..Opened::empty(directory, meta, checkpoint) };
        Ok(PartitionLog::new(Arc::clone(&self.dir), opened))
    }

    /// The partition with this name.
    pub fn partition(&self, name: &PartitionName) -> Option<Arc<PartitionLog>> {
        self.dir.partitions().get(name).cloned()
    }

    /// All partitions, by name.
    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        let mut all: Vec<_> = self.dir.partitions().values().cloned().collect();
        all.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Deletes a partition: when this returns, it is gone durably and completely; a thread removes its files later.
    /// Readers can finish with the segments that they hold.
    pub fn delete_partition(&self, name: &PartitionName) -> Result<(), DeleteError> {
        if let Some(reason) = self.offline_reason() {
            return Err(DeleteError::Offline { reason });
        }
        let unknown = || DeleteError::Unknown { name: name.clone() };
        let _claim = NameClaim::claim(self, name).ok_or_else(unknown)?;
        let log = self.partition(name).ok_or_else(unknown)?;
        log.begin_deletion();
        let trashed = self.dir.path.join(TRASH_DIR).join(Uuid::new_v4().to_string());
        let io_error = |source| DeleteError::Io { name: name.clone(), source };
        if let Err(error) = self.dir.disk.rename(log.directory(), &trashed) {
            log.cancel_deletion();
            return Err(io_error(error));
        }
        {
            let mut partitions = self.dir.partitions_mut();
            partitions.remove(name);
            self.dir.counters.note_deleted(log.appended_bytes());
        }
        log.notify_listeners();
        self.dir.sync_dir(&self.dir.path).map_err(io_error)?;
        self.sweep();
        Ok(())
    }

    /// Opens a journal in the folder `name` of this directory. A failed sync of the journal takes the directory
    /// offline, and the journal goes offline with the directory. The name must not be that of a partition.
    pub fn open_journal(&self, name: &str) -> Result<(Journal, JournalEntries), JournalOpenError> {
        let path = self.dir.path.join(name);
        Journal::open_on(self.dir.disk.clone(), &path, Some(Arc::clone(&self.dir)))
    }

    /// The reason why the directory is offline, if it is.
    pub fn offline_reason(&self) -> Option<String> {
        self.dir.offline_reason().map(str::to_owned)
    }

    /// Space reserved for later appends, in bytes.
    pub fn preallocated_bytes(&self) -> u64 {
        self.dir.reserve.used_bytes()
    }

    /// The number of open segments: those in use, and the most recently used ones within the budget. Directories with
    /// the shared budget of the process report the number of all of them together.
    pub fn open_segments(&self) -> usize {
        self.dir.handles.open_segments()
    }

    /// Refuses further appends, makes everything durable, cuts off reserved space, and writes the marker that saves the
    /// next start its scan.
    pub fn shutdown(self) -> Result<(), ShutdownError> {
        self.close()
    }

    /// Does the same as [`shutdown`](Self::shutdown) for a directory with other owners: they can still read. The lock
    /// is released with the last of them.
    pub fn close(&self) -> Result<(), ShutdownError> {
        self.dir.close();
        self.dir.commit.stop();
        if let Some(reason) = self.offline_reason() {
            return Err(ShutdownError::Offline { reason });
        }
        let mut partitions = self.partitions();
        let all = partitions.len();
        partitions.retain(|log| !log.is_unreadable());
        // A partition that cannot be finished must not keep the others from being synced.
        let (mut unsynced, mut failed) = (Vec::new(), None);
        for finished in in_parallel(&partitions, DISK_THREADS_MAX, |log| log.finish()) {
            match finished {
                Ok(files) => unsynced.extend(files),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        sync_all(&self.dir, &unsynced)?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if partitions.len() < all {
            // Without the marker the next start scans all partitions again.
            tracing::warn!(directory = %self.path().display(), "the directory is not marked as closed cleanly, because a partition is unreadable");
            return Ok(());
        }
        Ok(self.dir.write_marker()?)
    }

    /// Removes the content of the trash in a thread.
    fn sweep(&self) {
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (sweeping, trash) = (Arc::clone(&self.sweeping), self.dir.path.join(TRASH_DIR));
        let disk = Arc::clone(&self.dir.disk);
        let sweeper = move || loop {
            let entries = fs::read_dir(&trash).map(|found| found.flatten().collect::<Vec<_>>()).unwrap_or_default();
            let removed = entries.iter().filter(|trashed| disk.remove_dir_all(&trashed.path()).is_ok()).count();
            sweeping.store(false, Ordering::Release);
            // Another deletion may have added something between the last look and the store.
            let more = fs::read_dir(&trash).is_ok_and(|mut entries| entries.next().is_some());
            if removed == 0 || !more || sweeping.swap(true, Ordering::AcqRel) {
                break;
            }
        };
        // If no thread can be started, the trash waits for the next deletion or start.
        if thread::Builder::new().name("ottla-sweep".to_owned()).spawn(sweeper).is_err() {
            self.sweeping.store(false, Ordering::Release);
        }
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        self.dir.close();
        self.dir.commit.stop();
        // Partitions and directory hold references to each other; this breaks the circle.
        let partitions = std::mem::take(&mut *self.dir.partitions_mut());
        for partition in partitions.values() {
            partition.forget_listeners();
        }
        if let Some(lock) = &self.lock
            && let Err(error) = rustix::fs::flock(lock, FlockOperation::Unlock)
        {
            tracing::warn!(%error, "cannot release the lock of the log directory; it ends with the process");
        }
    }
}

/// A partition name that no other thread creates or deletes at the moment.
struct NameClaim<'a> {
    directory: &'a LogDir,
    name: PartitionName,
}

impl<'a> NameClaim<'a> {
    fn claim(directory: &'a LogDir, name: &PartitionName) -> Option<Self> {
        let claimed = Self::names(directory).insert(name.clone());
        claimed.then(|| Self { directory, name: name.clone() })
    }

    fn names(directory: &LogDir) -> MutexGuard<'_, HashSet<PartitionName>> {
        directory.claimed_names.lock()
    }
}

impl Drop for NameClaim<'_> {
    fn drop(&mut self) {
        Self::names(self.directory).remove(&self.name);
    }
}

/// Creates a directory and its parents, durably: later content needs a durable name of the directory.
fn make_directory(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    if let Some(parent) = parent {
        make_directory(disk, parent)?;
    }
    disk.create_dir(path)?;
    disk.sync_dir(parent.unwrap_or(Path::new(".")))
}

pub(crate) fn take_lock(path: &Path) -> Result<File, OpenError> {
    let io_error = |source| OpenError::Io { path: path.join(LOCK_FILE), source };
    let file = File::options().write(true).create(true).truncate(false).open(path.join(LOCK_FILE)).map_err(io_error)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked { path: path.to_path_buf() }),
        Err(error) => Err(io_error(error.into())),
    }
}

/// Finds partitions by their directories and recovers them, several at the same time.
fn recover_all(dir: &DirState, clean: bool) -> Result<(Vec<Recovered>, Vec<UnreadablePartition>), OpenError> {
    let io_error = |source| OpenError::Io { path: dir.path.clone(), source };
    let mut found: BTreeSet<(PartitionName, PathBuf)> = BTreeSet::new();
    for entry in fs::read_dir(&dir.path).map_err(io_error)? {
        let entry = entry.map_err(io_error)?;
        let name = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(name) = name
            && entry.file_type().map_err(io_error)?.is_dir()
        {
            found.insert((name, entry.path()));
        }
    }
    let found: Vec<_> = found.into_iter().collect();
    let last_run = if clean {
        LastRun::Closed
    } else if found.len() > SINGLE_SYNCS_MAX {
        // Each single sync would wait for the journal of the file system; ten thousand of them would take most of the
        // time.
        dir.disk.sync_file_system(&dir.path).map_err(io_error)?;
        LastRun::KilledAndSynced
    } else {
        LastRun::Killed
    };
    let all = try_in_parallel(&found, DISK_THREADS_MAX, |(name, directory)| {
        match recover(dir, directory.clone(), name.clone(), last_run) {
            Err(error) if is_partition_error(dir, &error) => {
                Ok(Err(UnreadablePartition { partition: name.clone(), reason: error.to_string() }))
            }
            recovered => recovered.map(Ok),
        }
    })?;
    let (mut recovered, mut unreadable) = (Vec::new(), Vec::new());
    for partition in all {
        match partition {
            Ok(partition) => recovered.push(partition),
            Err(partition) => unreadable.push(partition),
        }
    }
    Ok((recovered, unreadable))
}

/// Whether an error concerns the bytes of one partition only, and not the whole disk.
fn is_partition_error(dir: &DirState, error: &OpenError) -> bool {
    dir.offline_reason().is_none()
        && match error {
            OpenError::Unreadable { .. } => true,
            OpenError::Io { source, .. } | OpenError::State(StateReadError::Io { source, .. }) => is_unreadable(source),
            _ => false,
        }
}

/// An offline partition in the place of one that could not be recovered.
fn offline_partition(dir: &Arc<DirState>, name: &PartitionName, reason: &str) -> Arc<PartitionLog> {
    let directory = dir.path.join(name.to_string());
    let stored = PartitionLog::meta_file(dir, &directory).read().ok().flatten();
    let meta = stored.and_then(|bytes| Meta::decode(&bytes)).unwrap_or_else(|| Meta {
        name: name.clone(),
        topic_id: Uuid::nil(),
        options: PartitionOptions::default(),
        epochs: EpochHistory::from_entries([(LeaderEpoch(0), Offset(0))]),
    });
    let checkpoint = CheckpointFile::unread(dir.disk.clone(), &directory);
    let unreadable = Some(reason.to_owned());
    PartitionLog::new(Arc::clone(dir), Opened { unreadable, ..Opened::empty(directory, meta, checkpoint) })
}

/// Makes the changes of recovery durable, for all partitions together and before any append.
fn make_durable(dir: &DirState, recovered: &mut [Recovered]) -> Result<(), OpenError> {
    let io_error = |source| OpenError::Io { path: dir.path.clone(), source };
    let mut files = Vec::new();
    for partition in recovered.iter_mut() {
        files.append(&mut partition.unsynced);
        if partition.meta_changed {
            files.extend(partition.stage_meta(dir)?);
        }
    }
    sync_all(dir, &files).map_err(io_error)?;
    // Only after the sync is the log durable up to here, and only then may the new `partition.meta` become visible.
    files.clear();
    for partition in recovered.iter_mut() {
        if partition.meta_changed {
            partition.finish_meta(dir)?;
            files.push(partition.directory().to_path_buf());
        }
        if partition.advanced {
            files.append(&mut partition.write_checkpoint().map_err(io_error)?);
        }
    }
    sync_all(dir, &files).map_err(io_error)
}

/// Syncs files and directories: one by one in parallel, or the whole file system if there are many.
fn sync_all(dir: &DirState, paths: &[PathBuf]) -> io::Result<()> {
    if paths.len() > SINGLE_SYNCS_MAX {
        return dir.disk.sync_file_system(&dir.path);
    }
    try_in_parallel(paths, DISK_THREADS_MAX, |path| dir.disk.sync_path(path)).map(|_| ())
}

fn note(report: &mut RecoveryReport, partition: &Recovered) {
    let findings = &partition.findings;
    report.partitions += 1;
    report.partitions_scanned += usize::from(findings.scanned);
    report.bytes_scanned += findings.bytes_scanned;
    report.truncated.extend(findings.truncated.clone());
    let named = findings.quarantined.iter().map(|range| (partition.name().clone(), range.clone()));
    report.quarantined.extend(named);
    report.indexes_rebuilt += findings.indexes_rebuilt;
    report.epochs_raised += usize::from(findings.epoch_raised);
    if findings.meta_rebuilt {
        report.meta_rebuilt.push(partition.name().clone());
    }
}

/// Moves unfinished partitions to the trash, where they stay until a later start if the disk is full. Returns the
/// number of entries in the trash.
fn discard_leftovers(disk: &dyn Disk, path: &Path) -> io::Result<usize> {
    for entry in fs::read_dir(path.join(NEW_DIR))? {
        let entry = entry?;
        match disk.rename(&entry.path(), &path.join(TRASH_DIR).join(entry.file_name())) {
            Err(error) if is_full(&error) => break,
            moved => moved?,
        }
    }
    Ok(fs::read_dir(path.join(TRASH_DIR))?.count())
}
