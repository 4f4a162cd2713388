//! The topics there are: looked up by name and id on every request, created, altered and deleted now and then.
//!
//! Looking up takes a read lock for as long as a map lookup. Changes write the metadata first and take their time; one
//! is made at a time, and the maps are locked only to swap the result in.
//!
//! 1. `index`: by name and by id
//! 2. `open`: what a start finds; `change`: created, altered, given more partitions, deleted; all `assemble` the partitions of a topic
//! 3. `options`: what partitions are set to
//! 4. `name`: what a topic may be called

mod assemble;
mod change;
mod error;
mod index;
mod name;
mod open;
mod options;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use ottla_front::Memory;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;
use uuid::Uuid;

use crate::config::{Config, TopicSettings};
use crate::log_dirs::LogDirs;
use crate::meta::{MetadataStore, TopicRecord};
use crate::partition::budget::ProducerBudget;
use crate::partition::lane::{LaneBudget, LaneShare};
use crate::partition::{Partition, PartitionSet, SaveError, Saved};
use crate::plugins::{Binding, PluginUser};

pub use change::NewTopic;
pub use error::{TopicChangeError, TopicsOpenError};
pub use name::{TopicNameError, check_topic_name, is_internal};

use index::Index;

/// A topic that exists.
pub struct Topic {
    /// Its id, which a later topic of the same name does not get.
    pub id: Uuid,
    /// Its name.
    pub name: Arc<str>,
    /// Whether the broker alone writes to it.
    pub internal: bool,
    /// Its partitions.
    pub partitions: PartitionSet,
    settings: RwLock<Arc<TopicSettings>>,
    /// What its batches take of the lanes: its partitions share it.
    lanes: Arc<LaneShare>,
}

impl Topic {
    /// The settings in force now.
    pub fn settings(&self) -> Arc<TopicSettings> {
        Arc::clone(&self.settings.read())
    }

    /// The partition with this index.
    pub fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.at(index)
    }

    /// Whether a plugin may move the records of batches that are checked by these settings of the topic.
    pub(crate) fn is_routed(&self, settings: &TopicSettings) -> bool {
        settings.is_routed() && !self.internal
    }

    /// Whether batches that are checked by these settings of the topic go through a plugin.
    pub(crate) fn is_staged(&self, settings: &TopicSettings) -> bool {
        (settings.is_routed() || settings.is_encoded()) && !self.internal
    }

    /// The plugins that it names, in any mode.
    fn plugin_users(&self) -> Vec<PluginUser> {
        let settings = self.settings();
        let user = |binding: Binding<'_>| PluginUser {
            topic_id: Some(self.id),
            topic: self.name.to_string(),
            kind: binding.kind,
            plugin: binding.plugin.clone(),
            config: binding.config.to_owned(),
        };
        Binding::all(&settings).into_iter().map(user).collect()
    }

    fn record(&self) -> TopicRecord {
        TopicRecord {
            name: self.name.to_string(),
            id: self.id,
            partition_count: self.partitions.len() as i32,
            configs: self.settings().overrides.clone(),
            deleting: false,
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {} partitions)", self.name, self.id, self.partitions.len())
    }
}

/// All topics.
pub struct TopicTable {
    meta: Arc<dyn MetadataStore>,
    log: Arc<LogDirs>,
    index: RwLock<Index>,
    /// Held while a topic is created, altered or deleted.
    changing: Mutex<()>,
    /// Names of topics that are deleted but for partitions in a log directory that is offline: a later start finishes.
    deleting: Mutex<HashSet<String>>,
    /// Topics whose creation failed and could not be taken back: that is tried before the next creation.
    unfinished: Mutex<Vec<TopicRecord>>,
    /// Names of topics without records whose partitions a start on a full disk could not make: a later start does.
    unmade: Mutex<HashSet<String>>,
    /// What gives topics the settings that they do not set themselves.
    defaults: RwLock<Config>,
    /// How many producers all partitions remember together.
    pub(crate) producers: Arc<ProducerBudget>,
    /// How much may wait in the lanes of all partitions together.
    lanes: Arc<LaneBudget>,
    /// What snapshots of producers are charged to.
    memory: Arc<Memory>,
}

impl TopicTable {
    /// The topic of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.read_index().names.get(name).cloned()
    }

    /// The topic with this id.
    pub fn get_by_id(&self, id: &Uuid) -> Option<Arc<Topic>> {
        self.read_index().ids.get(id).cloned()
    }

    /// All topics, by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = self.read_index().names.values().cloned().collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        topics
    }

    /// The topics that name plugins, in any mode.
    pub(crate) fn plugin_users(&self) -> Vec<PluginUser> {
        self.all().iter().flat_map(|topic| topic.plugin_users()).collect()
    }

    /// Rises with every topic that is created, deleted or grows.
    pub fn generation(&self) -> u64 {
        *self.read_index().generation.borrow()
    }

    /// Tells of every change of the generation.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.read_index().generation.subscribe()
    }

    /// All topics in no order, with the generation in which they are all there is.
    pub fn snapshot(&self) -> (u64, Vec<Arc<Topic>>) {
        let index = self.read_index();
        let generation = *index.generation.borrow();
        (generation, index.names.values().cloned().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read_index().names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Saves the producers of a topic as they are known now, so that batches may go. Blocks on the disk.
    pub fn save(&self, topic: &Topic) -> Result<Saved, Arc<SaveError>> {
        // What came from other topics may go once their snapshots have it.
        for sender in topic.partitions.unsaved_senders().iter().filter_map(|id| self.get_by_id(id)) {
            sender.partitions.save()?;
        }
        topic.partitions.save()
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock()
    }

    fn read_index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read()
    }

    fn write_index(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write()
    }
}
