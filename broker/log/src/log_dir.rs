//! A log directory: opened, with every partition in it brought back; closed, so that the next start need not look.

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::fs::FlockOperation;
use uuid::Uuid;

use crate::LeaderEpoch;
use crate::Offset;
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::disk::{Disk, GuardedDisk, RealDisk, is_unreadable};
use crate::epochs::EpochHistory;
use crate::error::{CreateError, DeleteError, OpenError, ShutdownError};
use crate::format::{LOCK_FILE, NEW_DIR, PartitionName, SEGMENT_SUFFIX, TRASH_DIR, segment_file_name};
use crate::handles::raise_descriptor_limit;
use crate::journal::{Journal, JournalEntries, JournalOpenError};
use crate::options::{LogOptions, PartitionOptions};
use crate::partition::{Meta, Opened, PartitionLog};
use crate::recovery::{LastRun, Recovered, recover};
use crate::report::{RecoveryReport, UnreadablePartition};
use crate::shared::Shared;
use crate::state_file::{StateReadError, is_full};
use crate::stats::LogStats;

/// Up to this many files are synced one by one at start and shutdown; beyond, the file system is synced as a whole.
const SINGLE_SYNCS_MAX: usize = 64;

/// An open log directory. Dropping it without [`shutdown`](Self::shutdown) is what a crash looks like to the next start.
#[derive(Debug)]
pub struct LogDir {
    shared: Arc<Shared>,
    /// Names being created or deleted right now.
    busy: Mutex<HashSet<PartitionName>>,
    sweeping: Arc<AtomicBool>,
    /// Its `flock` keeps other processes out; released when it is closed. None where the directory could not be opened.
    lock: Option<File>,
}

impl LogDir {
    /// Opens the log directory at `path`, making it if there is none, and brings every partition in it back.
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
        let clean = match Shared::marker(&disk, path).read() {
            Ok(marker) => marker.is_some(),
            Err(StateReadError::Damaged { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        let guarded = Arc::new(GuardedDisk::new(disk));
        let disk = Arc::<GuardedDisk>::clone(&guarded);
        let shared = Arc::new(Shared::new(path.to_path_buf(), options, disk, true));
        guarded.belongs_to(&shared);
        shared.start_teller().map_err(io_error)?;
        let mut report = RecoveryReport { path: path.to_path_buf(), clean, ..RecoveryReport::default() };
        let (mut recovered, unreadable) = recover_all(&shared, clean)?;
        make_durable(&shared, &mut recovered)?;
        for partition in recovered {
            note(&mut report, &partition);
            let log = partition.into_log(Arc::clone(&shared));
            shared.partitions_mut().insert(log.name().clone(), log);
        }
        for UnreadablePartition { partition, reason } in unreadable {
            report.partitions += 1;
            tracing::error!(%partition, %reason, "a partition is offline until it can be read");
            let log = stand_in(&shared, &partition, &reason);
            shared.partitions_mut().insert(partition.clone(), log);
            report.unreadable.push(UnreadablePartition { partition, reason });
        }
        report.leftovers_removed = discard_leftovers(&*shared.disk, path).map_err(io_error)?;
        shared.commit.start().map_err(io_error)?;
        let directory = Self { shared, busy: Mutex::default(), sweeping: Arc::default(), lock: Some(lock) };
        if report.leftovers_removed > 0 {
            directory.sweep();
        }
        report.duration = started.elapsed();
        Ok((directory, report))
    }

    /// Stands for a log directory that cannot be opened: offline from the start, and nothing on the disk is touched. Its
    /// partitions are named by [`absent_partition`](Self::absent_partition).
    pub fn unavailable(path: &Path, reason: &str) -> Self {
        let shared = Arc::new(Shared::new(path.to_path_buf(), LogOptions::default(), Arc::new(RealDisk), false));
        shared.take_offline(reason);
        Self { shared, busy: Mutex::default(), sweeping: Arc::default(), lock: None }
    }

    /// Stands for a partition that may be in this directory, which is offline: nobody can look. It takes no append and has
    /// nothing to read; neither the partition nor its files are made.
    pub fn absent_partition(
        &self,
        name: &PartitionName,
        topic_id: Uuid,
        options: PartitionOptions,
    ) -> Arc<PartitionLog> {
        let epochs = EpochHistory::from_entries([(LeaderEpoch(0), Offset(0))]);
        let meta = Meta { name: name.clone(), topic_id, options, epochs };
        let directory = self.shared.path.join(name.to_string());
        let checkpoint = CheckpointFile::unread(self.shared.disk.clone(), &directory);
        let log = PartitionLog::new(Arc::clone(&self.shared), Opened::empty(directory, meta, checkpoint));
        self.shared.partitions_mut().insert(name.clone(), Arc::clone(&log));
        log
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The disk of this directory, for files that others keep in it: a sync of theirs that fails takes the directory offline,
    /// and nothing is written through it after that.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.shared.disk)
    }

    /// What it has counted since it was opened.
    pub fn stats(&self) -> LogStats {
        self.shared.counters.read()
    }

    /// Bytes appended, since it was opened, to the partitions that are there.
    pub fn appended_bytes(&self) -> u64 {
        self.shared.partitions().values().map(|log| log.appended_bytes()).sum()
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> usize {
        self.shared.partitions().len()
    }

    /// Calls `listener` when the directory goes offline; at once when it is. One listener, the first.
    pub fn on_offline(&self, listener: Box<dyn Fn() + Send + Sync>) {
        self.shared.on_offline(listener);
    }

    /// Creates a partition. It exists, durably and as a whole, when this returns, and not at all if it fails; where the
    /// directory goes offline meanwhile, the next start knows.
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
        let Some(_busy) = Busy::claim(self, name) else {
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
        self.shared.partitions_mut().insert(name.clone(), Arc::clone(&log));
        Ok(log)
    }

    /// Builds a partition aside and moves it into place with one rename. Behind that only the disk itself can fail.
    fn build(&self, meta: Meta) -> io::Result<Arc<PartitionLog>> {
        let disk = &self.shared.disk;
        let aside = self.shared.path.join(NEW_DIR).join(Uuid::new_v4().to_string());
        let directory = self.shared.path.join(meta.name.to_string());
        let empty = Checkpoint { durable: Offset(0), log_start: Offset(0), active_base: Offset(0), active_bytes: 0 };
        let built = (|| -> io::Result<CheckpointFile> {
            disk.create_dir(&aside)?;
            disk.create(&aside.join(segment_file_name(Offset(0), SEGMENT_SUFFIX)))?;
            let staged = PartitionLog::meta_file(&self.shared, &aside);
            let beside = staged.stage(&meta.encode())?;
            disk.sync_path(&beside)?;
            staged.install()?;
            // From the first moment on: where there is none, a start cannot tell what may be cut off.
            let (mut checkpoint, _) = CheckpointFile::open(Arc::clone(disk), &aside)?;
            let unsynced = checkpoint.write(empty)?;
            unsynced.first().map_or(Ok(()), |file| disk.sync_path(file))?;
            disk.sync_dir(&aside)?;
            disk.rename(&aside, &directory)?;
            self.shared.sync_dir(&self.shared.path)?;
            Ok(checkpoint.moved_to(&directory))
        })();
        let checkpoint = built.inspect_err(|_| {
            // What is left aside is rubbish to the next start anyway.
            let _ = disk.remove_dir_all(&aside);
        })?;
        let opened = Opened { persisted: Some(empty), ..Opened::empty(directory, meta, checkpoint) };
        Ok(PartitionLog::new(Arc::clone(&self.shared), opened))
    }

    /// The partition of this name.
    pub fn partition(&self, name: &PartitionName) -> Option<Arc<PartitionLog>> {
        self.shared.partitions().get(name).cloned()
    }

    /// All partitions, by name.
    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        let mut all: Vec<_> = self.shared.partitions().values().cloned().collect();
        all.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Deletes a partition: gone, durably and as a whole, when this returns; its files are removed in the background.
    /// Whoever reads it still can go on with the segments it holds.
    pub fn delete_partition(&self, name: &PartitionName) -> Result<(), DeleteError> {
        if let Some(reason) = self.offline_reason() {
            return Err(DeleteError::Offline { reason });
        }
        let unknown = || DeleteError::Unknown { name: name.clone() };
        let _busy = Busy::claim(self, name).ok_or_else(unknown)?;
        let log = self.partition(name).ok_or_else(unknown)?;
        log.retire();
        let grave = self.shared.path.join(TRASH_DIR).join(Uuid::new_v4().to_string());
        let io_error = |source| DeleteError::Io { name: name.clone(), source };
        if let Err(error) = self.shared.disk.rename(log.directory(), &grave) {
            log.unretire();
            return Err(io_error(error));
        }
        self.shared.partitions_mut().remove(name);
        log.tell_listeners();
        self.shared.sync_dir(&self.shared.path).map_err(io_error)?;
        self.sweep();
        Ok(())
    }

    /// Opens a journal in the folder `name` of this directory. A failed sync of it takes the directory offline, and the
    /// other way round. The name must not be that of a partition.
    pub fn open_journal(&self, name: &str) -> Result<(Journal, JournalEntries), JournalOpenError> {
        let path = self.shared.path.join(name);
        Journal::open_on(self.shared.disk.clone(), &path, Some(Arc::clone(&self.shared)))
    }

    /// Why nothing is written any more, if a sync has failed.
    pub fn offline_reason(&self) -> Option<String> {
        self.shared.offline_reason().map(str::to_owned)
    }

    /// Space reserved for appends to come.
    pub fn preallocated_bytes(&self) -> u64 {
        self.shared.reserve.used_bytes()
    }

    /// Segments that are open: those in use, and the most recently used ones within the budget. Directories whose options
    /// leave the budget to the process answer for all of them together.
    pub fn open_segments(&self) -> usize {
        self.shared.handles.open_segments()
    }

    /// Refuses further appends, makes everything durable, cuts off reserved space, and leaves the marker that spares the
    /// next start its scan.
    pub fn shutdown(self) -> Result<(), ShutdownError> {
        self.close()
    }

    /// Does what [`shutdown`](Self::shutdown) does for a directory that others hold as well: they can still read. The
    /// lock goes with the last of them.
    pub fn close(&self) -> Result<(), ShutdownError> {
        self.shared.close();
        self.shared.commit.stop();
        if let Some(reason) = self.offline_reason() {
            return Err(ShutdownError::Offline { reason });
        }
        let mut partitions = self.partitions();
        let all = partitions.len();
        partitions.retain(|log| !log.is_unreadable());
        // One that cannot be finished keeps no other one from being synced.
        let (mut unsynced, mut failed) = (Vec::new(), None);
        let Ok(all_finished) = in_parallel(&partitions, |log| Ok::<_, Infallible>(log.finish()));
        for finished in all_finished {
            match finished {
                Ok(files) => unsynced.extend(files),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        sync_all(&self.shared, &unsynced)?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if partitions.len() < all {
            // The next start looks again, at all of them.
            tracing::warn!(directory = %self.path().display(), "not marked as closed cleanly: a partition is unreadable");
            return Ok(());
        }
        Ok(self.shared.mark()?)
    }

    /// Removes in the background what lies in the trash.
    fn sweep(&self) {
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (sweeping, trash) = (Arc::clone(&self.sweeping), self.shared.path.join(TRASH_DIR));
        let disk = Arc::clone(&self.shared.disk);
        let sweeper = move || loop {
            let graves = fs::read_dir(&trash).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
            let removed = graves.iter().filter(|grave| disk.remove_dir_all(&grave.path()).is_ok()).count();
            sweeping.store(false, Ordering::Release);
            // Something may have come after the look and before the store.
            let more = fs::read_dir(&trash).is_ok_and(|mut entries| entries.next().is_some());
            if removed == 0 || !more || sweeping.swap(true, Ordering::AcqRel) {
                break;
            }
        };
        // Without a thread the trash waits for the next deletion or start.
        if thread::Builder::new().name("ottla-sweep".to_owned()).spawn(sweeper).is_err() {
            self.sweeping.store(false, Ordering::Release);
        }
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        self.shared.close();
        self.shared.commit.stop();
        // Partitions hold the directory and the directory holds them.
        let partitions = std::mem::take(&mut *self.shared.partitions_mut());
        for partition in partitions.values() {
            partition.forget_listeners();
        }
        if let Some(lock) = &self.lock
            && let Err(error) = rustix::fs::flock(lock, FlockOperation::Unlock)
        {
            tracing::warn!(%error, "the lock of the log directory goes with the process");
        }
    }
}

/// A name that nobody else creates or deletes meanwhile.
struct Busy<'a> {
    directory: &'a LogDir,
    name: PartitionName,
}

impl<'a> Busy<'a> {
    fn claim(directory: &'a LogDir, name: &PartitionName) -> Option<Self> {
        let claimed = Self::names(directory).insert(name.clone());
        claimed.then(|| Self { directory, name: name.clone() })
    }

    fn names(directory: &LogDir) -> MutexGuard<'_, HashSet<PartitionName>> {
        directory.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        Self::names(self.directory).remove(&self.name);
    }
}

/// Makes a directory and those above it, durably: what is made in it later is as durable as its own name.
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

/// Finds partitions by their directories and brings them back, several at a time.
fn recover_all(shared: &Shared, clean: bool) -> Result<(Vec<Recovered>, Vec<UnreadablePartition>), OpenError> {
    let io_error = |source| OpenError::Io { path: shared.path.clone(), source };
    let mut found: BTreeSet<(PartitionName, PathBuf)> = BTreeSet::new();
    for entry in fs::read_dir(&shared.path).map_err(io_error)? {
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
        // Each sync would wait for the journal of the file system: ten thousand of them take longer than all else.
        shared.disk.sync_file_system(&shared.path).map_err(io_error)?;
        LastRun::KilledAndSynced
    } else {
        LastRun::Killed
    };
    let all =
        in_parallel(&found, |(name, directory)| match recover(shared, directory.clone(), name.clone(), last_run) {
            Err(error) if costs_the_partition(shared, &error) => {
                Ok(Err(UnreadablePartition { partition: name.clone(), reason: error.to_string() }))
            }
            recovered => recovered.map(Ok),
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

/// Whether an error is that of one partition's bytes, and none of the directory's disk as a whole.
fn costs_the_partition(shared: &Shared, error: &OpenError) -> bool {
    shared.offline_reason().is_none()
        && match error {
            OpenError::Unreadable { .. } => true,
            OpenError::Io { source, .. } | OpenError::State(StateReadError::Io { source, .. }) => is_unreadable(source),
            _ => false,
        }
}

/// Stands for a partition that is there and cannot be brought back.
fn stand_in(shared: &Arc<Shared>, name: &PartitionName, reason: &str) -> Arc<PartitionLog> {
    let directory = shared.path.join(name.to_string());
    let stored = PartitionLog::meta_file(shared, &directory).read().ok().flatten();
    let meta = stored.and_then(|bytes| Meta::decode(&bytes)).unwrap_or_else(|| Meta {
        name: name.clone(),
        topic_id: Uuid::nil(),
        options: PartitionOptions::default(),
        epochs: EpochHistory::from_entries([(LeaderEpoch(0), Offset(0))]),
    });
    let checkpoint = CheckpointFile::unread(shared.disk.clone(), &directory);
    let unreadable = Some(reason.to_owned());
    PartitionLog::new(Arc::clone(shared), Opened { unreadable, ..Opened::empty(directory, meta, checkpoint) })
}

/// Makes durable what recovery changed, for all partitions together and before anything is appended.
fn make_durable(shared: &Shared, recovered: &mut [Recovered]) -> Result<(), OpenError> {
    let io_error = |source| OpenError::Io { path: shared.path.clone(), source };
    let mut files = Vec::new();
    for partition in recovered.iter_mut() {
        files.append(&mut partition.unsynced);
        if partition.meta_changed {
            files.extend(partition.stage_meta(shared)?);
        }
    }
    sync_all(shared, &files).map_err(io_error)?;
    // Only now is it true that the log is durable up to here, and only now may the new `partition.meta` be seen.
    files.clear();
    for partition in recovered.iter_mut() {
        if partition.meta_changed {
            partition.finish_meta(shared)?;
            files.push(partition.directory().to_path_buf());
        }
        if partition.advanced {
            files.append(&mut partition.write_checkpoint().map_err(io_error)?);
        }
    }
    sync_all(shared, &files).map_err(io_error)
}

/// Syncs files and directories: one by one in parallel, or the whole file system where they are many.
fn sync_all(shared: &Shared, paths: &[PathBuf]) -> io::Result<()> {
    if paths.len() > SINGLE_SYNCS_MAX {
        return shared.disk.sync_file_system(&shared.path);
    }
    in_parallel(paths, |path| shared.disk.sync_path(path)).map(|_| ())
}

/// Does `work` for every item, on a few threads, and returns the results in order, or the first failure.
fn in_parallel<T: Sync, R: Send, E: Send>(items: &[T], work: impl Fn(&T) -> Result<R, E> + Sync) -> Result<Vec<R>, E> {
    // They wait for the disk more than they compute.
    let threads = 8.min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let (at, Some(item)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            (at, items.get(at))
        } {
            let result = work(item);
            if result.is_err() {
                next.store(items.len(), Ordering::Relaxed);
            }
            done.push((at, result));
        }
        done
    };
    let mut results: Vec<(usize, Result<R, E>)> = thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mut results = worker();
        for thread in workers {
            match thread.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
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

/// Moves half-made partitions to the trash, where they stay until a later start if the disk is full; how much lies there.
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
