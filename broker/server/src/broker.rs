//! The broker as a whole: everything a request handler may need, shared by all connections, and its start and stop.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ottla_front::{Endpoint, Memory, Shutdown};
use ottla_log::RecoveryReport;

use crate::cleaner::{Cleaner, CleanerOptions};
use crate::config::{Config, SettingsConflict};
use crate::fetch_sessions::Sessions;
use crate::groups::Groups;
use crate::keeper::{Keeper, KeeperOptions};
use crate::live::{InForce, LiveConfig, LiveConfigError, Overrides};
use crate::log_dirs::{LogDirs, LogDirsError};
use crate::loggers::Loggers;
use crate::meta::{ConfigResource, LocalStore, MetaError, MetaReport, MetadataStore};
use crate::metrics::Metrics;
use crate::plugins::{PluginRegistry, plugin_host};
use crate::pools::Pools;
use crate::producer_ids::ProducerIds;
use crate::route::{RouteOpenError, RouteOptions, RouteReport, Router, Way};
use crate::stop::Stop;
use crate::telemetry::Telemetry;
use crate::told::Told;
use crate::topics::{TopicTable, TopicsOpenError};

/// One running broker.
pub struct Broker {
    /// What the operator chose at the start.
    pub config: Config,
    /// The same with what was set since, which lasts.
    pub live: LiveConfig,
    /// The number of this node.
    pub node_id: i32,
    /// The id of the cluster, the same for as long as the data directory lives.
    pub cluster_id: String,
    /// Topics, settings, ids and plugins as they are stored.
    pub meta: Arc<dyn MetadataStore>,
    /// The partitions' logs.
    pub log: Arc<LogDirs>,
    /// The topics.
    pub topics: Arc<TopicTable>,
    /// Ids for idempotent producers.
    pub producer_ids: ProducerIds,
    /// The plugins by name and version.
    pub plugins: Arc<PluginRegistry>,
    /// The way of batches into the log, around plugins where topics have them.
    pub router: Arc<Router>,
    /// Saves the producers of the topics.
    pub keeper: Keeper,
    /// Consumer groups and committed offsets.
    pub groups: Groups,
    /// Lets old data go.
    pub cleaner: Cleaner,
    /// Says that the broker stops.
    pub shutdown: Shutdown,
    /// What clients said that they read, so that they need not say it again.
    pub fetch_sessions: Sessions,
    /// The levels of the log.
    pub loggers: Loggers,
    /// What clients measure of themselves.
    pub(crate) telemetry: Telemetry,
    /// What is counted.
    pub metrics: Metrics,
    /// The memory that requests may take.
    pub memory: Arc<Memory>,
    /// Threads for what waits or computes.
    pub pools: Pools,
    /// What the start found, for each directory that could be opened.
    pub recovery: Vec<RecoveryReport>,
    /// What the log says of topics that come and go.
    pub told: Told,
    /// When it was opened.
    pub opened: Instant,
    /// Where it serves clients, in the order of the setting `listeners`.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// What a start found and finished.
#[derive(Debug)]
pub struct StartReport {
    /// About the logs, for each directory that could be opened.
    pub recovery: Vec<RecoveryReport>,
    /// Directories that could not be opened, each with the reason: their partitions are offline.
    pub missing: Vec<(PathBuf, String)>,
    /// About the copies of the metadata.
    pub meta: MetaReport,
    /// About producers, and about batches that were on their way around a plugin.
    pub route: RouteReport,
}

impl StartReport {
    /// Whether it is worth a log line: a start on an empty directory is not.
    pub fn is_news(&self) -> bool {
        let found = |report: &RecoveryReport| report.partitions > 0 || report.leftovers_removed > 0;
        self.recovery.iter().any(found) || !self.missing.is_empty() || self.meta.is_news()
    }
}

impl fmt::Display for StartReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, recovery) in self.recovery.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{recovery}")?;
        }
        for (path, reason) in &self.missing {
            write!(f, "\nlog {}: OFFLINE with all of its partitions: {reason}", path.display())?;
        }
        if self.meta.is_news() {
            write!(f, "\n{}", self.meta)?;
        }
        if self.route.entries > 0 || self.route.topics_held > 0 {
            write!(f, "\n{}", self.route)?;
        }
        Ok(())
    }
}

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Two settings cannot both hold.
    #[error(transparent)]
    Settings(#[from] SettingsConflict),
    /// The data directory cannot be made.
    #[error("cannot use {path}: {source}", path = path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory holds files, and none of them is Ottla's.
    #[error(
        "{path} holds {entry:?} and nothing of Ottla: it looks like a directory of something else. Choose another one \
         with --data-dir, or say --use-foreign-directory if this is the one"
    )]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Something that is in it.
        entry: OsString,
    },
    /// The logs cannot be opened.
    #[error(transparent)]
    Log(#[from] LogDirsError),
    /// The metadata cannot be opened.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A topic cannot be opened.
    #[error(transparent)]
    Topics(#[from] TopicsOpenError),
    /// What was on its way when the last process ended cannot be finished.
    #[error(transparent)]
    Route(#[from] RouteOpenError),
    /// There is no thread that saves producers.
    #[error("no thread for ottla-keeper: {0}")]
    Keeper(io::Error),
}

/// Why the broker did not stop cleanly. The next start recovers.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The log could not be closed with its marker.
    #[error("the log was not shut down cleanly: {0}")]
    Log(#[from] ottla_log::ShutdownError),
}

/// What a data directory has in it from its first start on, even where other files are lost. A `log` or `plugins` alone may be
/// anyone's: what is in them counts.
const OWN_ENTRIES: [&str; 8] = [
    "metadata.log",
    "log-directories",
    "log/lock",
    "log/directory-id",
    "plugins/wasm",
    "plugins/compiled",
    "metadata.redb",
    "metadata.redb.migrated",
];
/// What a file system puts into its root by itself.
const SYSTEM_ENTRIES: [&str; 1] = ["lost+found"];

/// Refuses a data directory that holds files of something else and none of Ottla's: a mistyped path must not fill a home
/// directory with logs.
pub fn check_data_dir(path: &Path) -> Result<(), StartError> {
    // One that is not there is made, and one that cannot be read is reported when it is opened.
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(()) };
    if OWN_ENTRIES.iter().any(|own| path.join(own).exists()) {
        return Ok(());
    }
    let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    match names.find(|name| !SYSTEM_ENTRIES.iter().any(|system| *system == *name)) {
        Some(entry) => Err(StartError::ForeignDirectory { path: path.to_owned(), entry }),
        None => Ok(()),
    }
}

impl Broker {
    /// Opens the data directory for a broker that clients reach at `endpoints`. It serves no client before
    /// [`serve`](crate::serve::serve). Blocks on the disk.
    pub fn open(config: Config, endpoints: Vec<Arc<Endpoint>>) -> Result<(Arc<Self>, StartReport), StartError> {
        config.check()?;
        let data_dir = &config.data_dir;
        let unusable = |source| StartError::DataDir { path: data_dir.clone(), source };
        if data_dir.exists() && !data_dir.is_dir() {
            return Err(unusable(io::ErrorKind::NotADirectory.into()));
        }
        std::fs::create_dir_all(data_dir).map_err(unusable)?;
        let opened = Instant::now();
        let (log, recovery) = LogDirs::open(&config)?;
        let log = Arc::new(log);
        let missing: Vec<PathBuf> = log.offline().into_iter().map(|(path, _)| path).collect();
        let (meta, meta_report) = LocalStore::open(data_dir, log.copy_homes(), &missing)?;
        let meta: Arc<dyn MetadataStore> = Arc::new(meta);
        let live = LiveConfig::open(&config, Arc::clone(&meta))?;
        let in_force = live.in_force();
        let (memory, pools) = (Memory::new(config.memory_max_bytes()), Pools::new());
        let topics = TopicTable::open(&in_force.config, Arc::clone(&meta), Arc::clone(&log), Arc::clone(&memory))?;
        let topics = Arc::new(topics);
        let plugins = Arc::new(PluginRegistry::open(Arc::clone(&meta), plugin_host(&config))?);
        plugins.tell_foreign_contracts(&topics.plugin_users());
        let way = Way { lanes: Arc::clone(&pools.lanes), memory: Arc::clone(&memory) };
        let stop = Arc::new(Stop::default());
        let (router, route) = Router::open(
            RouteOptions::of(&config),
            Arc::clone(&topics),
            &log,
            Arc::clone(&plugins),
            way,
            Arc::clone(&stop),
        )?;
        let router = Arc::new(router);
        let keeper = Keeper::start(
            KeeperOptions::of(&config),
            Arc::clone(&topics),
            Arc::clone(&plugins),
            Arc::clone(&router),
            stop,
        );
        let keeper = keeper.map_err(StartError::Keeper)?;
        let missing = log.offline();
        let cleaner = Cleaner::start(CleanerOptions::of(&config), Arc::clone(&topics), Arc::clone(&memory));
        let shutdown = Shutdown::default();
        let groups = Groups::new(&in_force, Arc::clone(&topics), Arc::clone(&pools.loads), shutdown.watch());
        let broker = Self {
            node_id: config.node_id,
            cluster_id: meta.cluster_id().to_owned(),
            producer_ids: ProducerIds::open(Arc::clone(&meta))?,
            shutdown,
            fetch_sessions: Sessions::new(config.fetch_session_config(), &memory),
            loggers: Loggers::default(),
            telemetry: Telemetry::new(&config, &in_force),
            metrics: Metrics::default(),
            memory,
            pools,
            meta,
            log,
            topics,
            plugins,
            router,
            keeper,
            groups,
            cleaner,
            recovery: recovery.clone(),
            told: Told::in_current_runtime(),
            opened,
            endpoints,
            live,
            config,
        };
        Ok((Arc::new(broker), StartReport { recovery, missing, meta: meta_report, route }))
    }

    /// The settings that hold now.
    pub fn settings(&self) -> Arc<InForce> {
        self.live.in_force()
    }

    /// Replaces what is set on a broker, a group or a client-metrics resource, and has those follow that act on it. Blocks on the disk.
    pub fn alter_settings<E: From<LiveConfigError>>(
        &self,
        resource: ConfigResource,
        name: &str,
        validate_only: bool,
        change: impl FnOnce(&Overrides) -> Result<Overrides, E>,
    ) -> Result<(), E> {
        self.live.alter(resource, name, validate_only, change, |settings| {
            self.topics.follow(&settings.config);
            self.groups.configure(settings);
            self.telemetry.follow(settings);
        })
    }

    /// Flushes everything and leaves the clean-shutdown marker. Blocks on the disk.
    pub fn close(&self) -> Result<(), StopError> {
        self.told.tell_rest();
        self.cleaner.close();
        self.router.close();
        self.keeper.close();
        self.log.close()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_something_else_is_not_taken_as_a_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let check = || check_data_dir(dir.path());
        assert!(check().is_ok() && check_data_dir(&dir.path().join("new")).is_ok());
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        assert!(check().is_ok(), "a fresh file system");
        std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        let refused = check().unwrap_err().to_string();
        assert!(refused.contains("thesis.tex") && refused.contains("--use-foreign-directory"), "{refused}");
        for folder in ["log", "plugins"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            assert!(check().is_err(), "others have a folder {folder}, too");
        }
        std::fs::write(dir.path().join("log/lock"), "").unwrap();
        assert!(check().is_ok(), "ours, and a file of its owner");
    }
}
