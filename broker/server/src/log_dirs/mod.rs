//! The log directories, usually on disks of their own: which partition is where, and what becomes of the others when one
//! of them fails.
//!
//! A partition lies where it is found on the disk; a new one goes to the online directory with the fewest. A directory
//! that fails, at the start or later, takes its own partitions offline and no others. One that is missing at the start is
//! never made again as an empty one: [`known`] remembers which there were, and a partition that is found nowhere while one
//! is missing counts as lying there.
//!
//! The route journal is in the first directory.

mod known;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ottla_log::{
    CreateError, DeleteError, LogDir, LogOptions, OpenError, PartitionLog, PartitionName, PartitionOptions,
    RecoveryReport, ShutdownError, StateReadError, StateWriteError, in_parallel,
};
use ottla_wire::Uuid;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::Config;
use crate::meta::CopyHome;
use known::{Found, KnownDirs};

/// Folder of the only log directory in the data directory, where no other is set.
const DEFAULT_DIR: &str = "log";

/// One log directory.
pub struct LogDirectory {
    log: Arc<LogDir>,
    /// It could not be opened when the broker started.
    missing: bool,
    /// Partitions that are being created in it.
    coming: AtomicUsize,
}

impl LogDirectory {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.log.path()
    }

    /// Why it is offline, if it is.
    pub fn offline_reason(&self) -> Option<String> {
        self.log.offline_reason()
    }

    /// Whether it takes appends.
    pub fn is_online(&self) -> bool {
        self.offline_reason().is_none()
    }

    /// The log in it.
    pub fn log(&self) -> &Arc<LogDir> {
        &self.log
    }
}

impl fmt::Debug for LogDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogDirectory").field(&self.path()).field(&self.offline_reason()).finish()
    }
}

/// All log directories, in the order of the setting.
#[derive(Debug)]
pub struct LogDirs {
    all: Box<[LogDirectory]>,
    placing: Mutex<()>,
    failed: Arc<Notify>,
}

/// Why the log directories were not opened.
#[derive(Debug, thiserror::Error)]
pub enum LogDirsError {
    /// A directory is named twice.
    #[error("log.dirs names {} twice", .0.display())]
    NamedTwice(PathBuf),
    /// One that has to be whole is not, or another process uses it.
    #[error("cannot open the log: {0}")]
    Open(#[from] OpenError),
    /// None can be opened.
    #[error("no log directory can be opened:{}", list(.0))]
    NoneOnline(Vec<(PathBuf, String)>),
    /// The same partition is in two of them, and one of the two has to be moved away.
    #[error(
        "partition {name} is both in {one} and in {other}: move the one that is not wanted out of the log directory",
        one = one.display(), other = other.display()
    )]
    Twice {
        /// The partition.
        name: PartitionName,
        /// One place.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
}

fn list(failures: &[(PathBuf, String)]) -> String {
    let lines: Vec<_> = failures.iter().map(|(path, reason)| format!("\n  {}: {reason}", path.display())).collect();
    lines.concat()
}

impl LogDirs {
    /// Opens all directories at the same time; what recovery found in each that could be opened.
    pub fn open(config: &Config) -> Result<(Self, Vec<RecoveryReport>), LogDirsError> {
        let paths = paths(config);
        let distinct = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        for (index, path) in paths.iter().enumerate() {
            if paths.iter().take(index).any(|other| distinct(other) == distinct(path)) {
                return Err(LogDirsError::NamedTwice(path.clone()));
            }
        }
        let known = KnownDirs::read(&config.data_dir);
        let opened = in_parallel(&paths, paths.len(), |path| open_one(path, &known));
        let (mut all, mut reports, mut ids, mut failures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (path, opened) in paths.into_iter().zip(opened) {
            match opened {
                Ok(Opened { log, report, id }) => {
                    ids.extend(id.map(|id| (id, path)));
                    reports.push(report);
                    all.push((log, false));
                }
                Err(Failure::Refuse(error)) => return Err(error.into()),
                Err(Failure::Missing(reason)) => {
                    all.push((LogDir::unavailable(&path, &reason), true));
                    failures.push((path, reason));
                }
            }
        }
        if reports.is_empty() {
            return Err(LogDirsError::NoneOnline(failures));
        }
        let dirs = Self::of(all);
        dirs.check_duplicates()?;
        known.remember(&config.data_dir, ids, &failures);
        Ok((dirs, reports))
    }

    /// One directory that is open.
    pub fn single(log: LogDir) -> Self {
        Self::of([(log, false)])
    }

    fn of(logs: impl IntoIterator<Item = (LogDir, bool)>) -> Self {
        let failed = Arc::new(Notify::new());
        let directory =
            |(log, missing): (LogDir, bool)| LogDirectory { log: Arc::new(log), missing, coming: AtomicUsize::new(0) };
        let all: Box<[_]> = logs.into_iter().map(directory).collect();
        for directory in all.iter().filter(|directory| !directory.missing) {
            let failed = Arc::clone(&failed);
            directory.log.on_offline(Box::new(move || failed.notify_one()));
        }
        Self { all, placing: Mutex::default(), failed }
    }

    fn check_duplicates(&self) -> Result<(), LogDirsError> {
        let mut places: HashMap<PartitionName, PathBuf> = HashMap::new();
        for log in self.all.iter().flat_map(|directory| directory.log.partitions()) {
            if let Some(one) = places.insert(log.name().clone(), log.directory().to_path_buf()) {
                return Err(LogDirsError::Twice {
                    name: log.name().clone(),
                    one,
                    other: log.directory().to_path_buf(),
                });
            }
        }
        Ok(())
    }

    /// All of them.
    pub fn all(&self) -> &[LogDirectory] {
        &self.all
    }

    /// The directory that holds the route journal, unless it was missing at the start.
    pub fn journal_home(&self) -> Option<&Arc<LogDir>> {
        self.all.first().filter(|directory| !directory.missing).map(|directory| &directory.log)
    }

    /// Whether one could not be opened: then a partition that is found nowhere may be there.
    pub fn is_any_missing(&self) -> bool {
        self.all.iter().any(|directory| directory.missing)
    }

    /// Directories that are offline, each with the reason.
    pub fn offline(&self) -> Vec<(PathBuf, String)> {
        let reason = |directory: &LogDirectory| Some((directory.path().to_path_buf(), directory.offline_reason()?));
        self.all.iter().filter_map(reason).collect()
    }

    /// Where the second copy of the metadata may be: every directory that is online.
    pub fn copy_homes(&self) -> Vec<CopyHome> {
        let online = self.all.iter().filter(|directory| directory.is_online());
        let home = |directory: &LogDirectory| CopyHome {
            directory: directory.path().to_path_buf(),
            disk: directory.log.disk(),
        };
        online.map(home).collect()
    }

    /// The partition of this name.
    pub fn partition(&self, name: &PartitionName) -> Option<Arc<PartitionLog>> {
        self.all.iter().find_map(|directory| directory.log.partition(name))
    }

    /// All partitions, by name.
    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        let mut all: Vec<_> = self.all.iter().flat_map(|directory| directory.log.partitions()).collect();
        all.sort_by(|one, other| one.name().cmp(other.name()));
        all
    }

    /// Creates a partition in the online directory that has the fewest. One that is full or fails is passed over while
    /// there is another.
    pub fn create_partition(
        &self,
        name: &PartitionName,
        topic_id: Uuid,
        options: PartitionOptions,
    ) -> Result<Arc<PartitionLog>, CreateError> {
        if let Some(log) = self.partition(name) {
            return Err(CreateError::Exists { name: name.clone(), topic_id: log.topic_id() });
        }
        let mut passed_over = Vec::new();
        let mut failed = CreateError::Offline { reason: "every log directory is offline".to_owned() };
        while let Some((index, place)) = self.take_place(&passed_over) {
            let created = place.log.create_partition(name, topic_id, options);
            place.coming.fetch_sub(1, Ordering::Relaxed);
            match created {
                Err(error @ (CreateError::Offline { .. } | CreateError::NoSpace { .. } | CreateError::Io { .. })) => {
                    passed_over.push(index);
                    failed = error;
                }
                done => return done,
            }
        }
        Err(failed)
    }

    /// The directory for the next partition, which counts as being there already.
    fn take_place(&self, passed_over: &[usize]) -> Option<(usize, &LogDirectory)> {
        let _one = self.placing.lock();
        let online = self.all.iter().enumerate().filter(|(_, directory)| directory.is_online());
        let place = online
            .filter(|(index, _)| !passed_over.contains(index))
            .min_by_key(|(_, directory)| directory.log.partition_count() + directory.coming.load(Ordering::Relaxed))?;
        place.1.coming.fetch_add(1, Ordering::Relaxed);
        Some(place)
    }

    /// Stands for a partition that was found nowhere while a directory is missing.
    pub fn absent_partition(
        &self,
        name: &PartitionName,
        topic_id: Uuid,
        options: PartitionOptions,
    ) -> Option<Arc<PartitionLog>> {
        let missing = self.all.iter().find(|directory| directory.missing)?;
        Some(missing.log.absent_partition(name, topic_id, options))
    }

    /// Deletes a partition.
    pub fn delete_partition(&self, name: &PartitionName) -> Result<(), DeleteError> {
        match self.all.iter().find(|directory| directory.log.partition(name).is_some()) {
            Some(directory) => directory.log.delete_partition(name),
            None => Err(DeleteError::Unknown { name: name.clone() }),
        }
    }

    /// Space reserved for appends to come.
    pub fn preallocated_bytes(&self) -> u64 {
        self.all.iter().map(|directory| directory.log.preallocated_bytes()).sum()
    }

    /// Why each of them is offline, when all are.
    pub fn all_offline(&self) -> Option<String> {
        let reasons: Option<Vec<String>> = self
            .all
            .iter()
            .map(|directory| Some(format!("{}: {}", directory.path().display(), directory.offline_reason()?)))
            .collect();
        reasons.map(|reasons| reasons.join("; "))
    }

    /// Waits until all are offline.
    pub async fn wait_all_offline(&self) -> String {
        loop {
            if let Some(reasons) = self.all_offline() {
                return reasons;
            }
            self.failed.notified().await;
        }
    }

    /// Makes everything durable and leaves the markers that spare the next start its scan. One that fails does not keep
    /// the others from it.
    pub fn close(&self) -> Result<(), ShutdownError> {
        let closed = self.all.iter().filter(|directory| !directory.missing).map(|directory| directory.log.close());
        closed.collect::<Vec<_>>().into_iter().collect()
    }
}

/// The log directories of a data directory, as its last start found them: for tools, which know no settings.
pub fn of_data_dir(data_dir: &Path) -> Vec<PathBuf> {
    let mut directories = KnownDirs::read(data_dir).paths();
    let default = data_dir.join(DEFAULT_DIR);
    if directories.is_empty() && default.is_dir() {
        directories.push(default);
    }
    directories
}

/// Where the log directories are.
fn paths(config: &Config) -> Vec<PathBuf> {
    if config.log_dirs.0.is_empty() { vec![config.data_dir.join(DEFAULT_DIR)] } else { config.log_dirs.0.clone() }
}

struct Opened {
    log: LogDir,
    report: RecoveryReport,
    /// None where it could not be written down.
    id: Option<Uuid>,
}

/// Why a directory was not opened.
enum Failure {
    /// The broker cannot go on before an operator has looked.
    Refuse(OpenError),
    /// The broker goes on without it.
    Missing(String),
}

fn open_one(path: &Path, known: &KnownDirs) -> Result<Opened, Failure> {
    let missing = |error: io::Error| Failure::Missing(format!("cannot be opened: {error}"));
    let id = match known::find(path).map_err(missing)? {
        Found::Id(id) => Some(id),
        Found::Nothing if known.has(path) => {
            return Err(Failure::Missing(format!(
                "it is not the log directory it was: is its disk mounted? To begin with an empty one, create an empty \
                 file {}",
                known::id_path(path).display()
            )));
        }
        Found::Nothing => {
            std::fs::create_dir_all(path).map_err(missing)?;
            None
        }
        Found::Invitation => None,
    };
    let (log, report) = LogDir::open(path, LogOptions::default()).map_err(classify)?;
    let id = id.or_else(|| known::give_id(path));
    Ok(Opened { log, report, id })
}

/// Errors of the disk cost the directory; errors that need a decision of the operator cost the start.
fn classify(error: OpenError) -> Failure {
    let source = match &error {
        OpenError::State(StateReadError::Io { source, .. })
        | OpenError::Write(StateWriteError::Io { source, .. })
        | OpenError::Io { source, .. } => source,
        OpenError::Unreadable { .. } => return Failure::Missing(error.to_string()),
        OpenError::Locked { .. } | OpenError::Misplaced { .. } | OpenError::State(_) | OpenError::Write(_) => {
            return Failure::Refuse(error);
        }
    };
    match source.raw_os_error() {
        // The process is short of something, not the disk.
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Failure::Refuse(error),
        _ => Failure::Missing(error.to_string()),
    }
}
