//! What the broker must know before it can open a log: topics and their settings, the cluster's id, how far producer
//! ids were handed out, the plugin registry, and what was set on brokers and groups.
//!
//! A returned `Ok` of a writing call means the change survives a power cut. Calls block on the disk: never call them
//! on a thread that serves connections.
//!
//! In the order in which a start meets them:
//!
//! 1. `local`: the store, all of it in memory
//! 2. `pair`: its two copies on the disk and the order in which they are written; `copy`: one of them
//! 3. `frame`: the bytes of a copy; `contents`, `topic_record`, `plugin_record`, `configs_record`, `format`: what is in them
//! 4. `merge`: one state out of what the copies still have; `report`: what a start says about it
//! 5. `old`: the file of release 0.1.0
//! 6. [`inspect`]: copies seen from outside, for tools; [`rescue`]: what the partitions know where both copies are damaged

pub mod configs_record;
mod contents;
mod copy;
mod format;
mod frame;
pub mod inspect;
pub mod local;
mod merge;
mod old;
mod pair;
pub mod plugin_record;
mod report;
pub mod rescue;
#[cfg(test)]
mod tests;
pub mod topic_record;

use std::io;
use std::path::PathBuf;

pub use configs_record::{ConfigResource, ConfigsRecord};
pub use contents::Contents;
pub use local::LocalStore;
pub use merge::{Loss, Verdict};
pub use pair::CopyHome;
pub use plugin_record::{PluginRecord, PluginVersionRecord};
pub use report::MetaReport;
pub use topic_record::TopicRecord;

/// Why metadata could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// A change was refused. What is on the disk is as it was before the call, or as the call would have it, whole: a caller
    /// that does not make the call again takes the change back.
    #[error("metadata: cannot write {path}: {source}", path = path.display())]
    Write {
        /// The copy, or the data directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sync failed: what the system shows may not be on the disk, so no change is made until a restart.
    #[error("the metadata takes no changes until a restart: {reason}")]
    Closed {
        /// What failed.
        reason: String,
    },
    /// Another process has the data directory.
    #[error("another process uses {path}: stop it first", path = path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// A stored record does not read back.
    #[error("metadata record {record:?}: {wrong}")]
    BadRecord {
        /// Which one.
        record: String,
        /// What is wrong with it.
        wrong: String,
    },
    /// A newer release wrote it.
    #[error("{path} has version {found}, this release knows {known}: start the newer release", path = path.display())]
    Newer {
        /// The copy.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version of this release.
        known: u32,
    },
    /// Both copies are damaged in the same place.
    #[error(
        "metadata is lost, no copy has it: {loss}{}\n  `ottla meta verify` shows what is left, `ottla meta restore` puts it together \
         with what the partitions know",
        list(copies)
    )]
    Lost {
        /// What no copy has.
        loss: Loss,
        /// Every copy, with its condition.
        copies: Vec<(PathBuf, Verdict)>,
    },
    /// The first copy is damaged and a log directory that may hold a newer copy than those found is missing.
    #[error(
        "{path} is {first}, and the log directory {missing} that may hold the newest copy is missing\n  \
         mount it, or take what the other copies have with `ottla meta repair`",
        path = path.display(), missing = missing.display()
    )]
    Doubtful {
        /// The first copy.
        path: PathBuf,
        /// Its condition.
        first: Verdict,
        /// The directory.
        missing: PathBuf,
    },
    /// The file of release 0.1.0 cannot be read.
    #[error(
        "{path} of an older release cannot be read: {wrong}\n  \
         restore it from a backup, or begin with what the partitions know: `ottla meta restore`", path = path.display()
    )]
    Old {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        wrong: String,
    },
}

fn list(copies: &[(PathBuf, Verdict)]) -> String {
    let lines: Vec<_> = copies.iter().map(|(path, verdict)| format!("\n  {}: {verdict}", path.display())).collect();
    lines.concat()
}
/// The durable metadata of one cluster. Local today; a gateway in front of another cluster brings its own.
pub trait MetadataStore: Send + Sync + 'static {
    /// The id of the cluster, made when the store was created.
    fn cluster_id(&self) -> &str;
    /// How many copies on the disk have every change: two, unless a disk refuses one.
    fn whole_copies(&self) -> usize;

    /// Every topic.
    fn topics(&self) -> Result<Vec<TopicRecord>, MetaError>;
    /// Creates or replaces the topic of this name.
    fn put_topic(&self, topic: &TopicRecord) -> Result<(), MetaError>;
    /// Forgets a topic. Forgetting one that is not there is no error.
    fn delete_topic(&self, name: &str) -> Result<(), MetaError>;

    /// The first producer id that was never reserved.
    fn producer_id_mark(&self) -> Result<i64, MetaError>;
    /// Raises that mark: every id below it may have been handed out.
    fn set_producer_id_mark(&self, mark: i64) -> Result<(), MetaError>;

    /// The settings of every resource that has some, topics aside.
    fn configs(&self) -> Result<Vec<ConfigsRecord>, MetaError>;
    /// Replaces the settings of a resource. One without settings is forgotten.
    fn put_configs(&self, configs: &ConfigsRecord) -> Result<(), MetaError>;

    /// Every plugin.
    fn plugins(&self) -> Result<Vec<PluginRecord>, MetaError>;
    /// Creates or replaces the plugin of this name.
    fn put_plugin(&self, plugin: &PluginRecord) -> Result<(), MetaError>;
    /// Forgets a plugin. Forgetting one that is not there is no error.
    fn delete_plugin(&self, name: &str) -> Result<(), MetaError>;
}
