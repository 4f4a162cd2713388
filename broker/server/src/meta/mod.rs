//! What the broker must know before it can open a log: topics and their settings, the cluster's id, how far producer
//! ids were handed out, the plugin registry.
//!
//! A returned `Ok` of a writing call means the change survives a power cut. Calls block on the disk: never call them
//! on a thread that serves connections.

mod file;
mod format;
pub mod local;
pub mod plugin_record;
pub mod topic_record;

pub use local::LocalStore;
pub use plugin_record::{PluginRecord, PluginVersionRecord};
pub use topic_record::TopicRecord;

/// Why metadata could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The database refused. What is on the disk is as it was before the call, or as the call would have it, whole: whoever
    /// does not make the call again takes the change back.
    #[error("metadata database: {0}")]
    Database(#[from] redb::Error),
    /// A stored record does not read back.
    #[error("metadata record {record:?}: {wrong}")]
    BadRecord {
        /// Which one.
        record: String,
        /// What is wrong with it.
        wrong: String,
    },
}

/// The durable metadata of one cluster. Local today; a gateway in front of another cluster brings its own.
pub trait MetadataStore: Send + Sync + 'static {
    /// The id of the cluster, made when the store was created.
    fn cluster_id(&self) -> &str;

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

    /// Every plugin.
    fn plugins(&self) -> Result<Vec<PluginRecord>, MetaError>;
    /// Creates or replaces the plugin of this name.
    fn put_plugin(&self, plugin: &PluginRecord) -> Result<(), MetaError>;
    /// Forgets a plugin. Forgetting one that is not there is no error.
    fn delete_plugin(&self, name: &str) -> Result<(), MetaError>;
}
