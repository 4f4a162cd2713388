//! The topics there are: looked up by name and id on every request, created, altered and deleted now and then.
//!
//! Looking up takes a read lock for as long as a map lookup. Changes write the metadata first and take their time; one
//! is made at a time, and the maps are locked only to swap the result in.

mod name;
mod partitions;
pub(crate) mod saved;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use ottla_log::{CreateError, Offset, PartitionLog, PartitionName, PartitionOptions};
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;
use uuid::Uuid;

use crate::config::{Config, TopicSettings};
use crate::log_dirs::LogDirs;
use crate::meta::{MetaError, MetadataStore, TopicRecord};
use crate::partition::Partition;
use crate::partition::budget::ProducerBudget;
use crate::partition::saves::Saves;

pub use saved::{SaveError, Saved};

pub use partitions::Partitions;

pub use name::{TopicNameError, check_topic_name, is_internal};

/// Partitions that are made or changed at the same time: their syncs share journal commits of the file system.
const PARTITIONS_AT_ONCE: usize = 16;

/// A topic that exists.
pub struct Topic {
    /// Its id, which a later topic of the same name does not get.
    pub id: Uuid,
    /// Its name.
    pub name: Arc<str>,
    /// Whether the broker alone writes to it.
    pub internal: bool,
    /// Its partitions, by index.
    pub partitions: Partitions,
    /// The saves of its producers.
    pub(crate) saves: Saves<Saved, SaveError>,
    /// Bytes of its batches that wait for a plugin.
    pub(crate) lane_bytes: AtomicUsize,
    settings: RwLock<Arc<TopicSettings>>,
}

impl Topic {
    /// The settings in force now.
    pub fn settings(&self) -> Arc<TopicSettings> {
        Arc::clone(&self.settings.read())
    }

    /// The partition with this index.
    pub fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        usize::try_from(index).ok().and_then(|index| self.partitions.get(index))
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

/// Why a topic was not created, altered or deleted.
#[derive(Debug, thiserror::Error)]
pub enum TopicChangeError {
    /// There is one of this name.
    #[error("Topic '{0}' already exists.")]
    Exists(String),
    /// A name that differs only in dots and underscores would get the same metrics; Kafka refuses that.
    #[error("Topic '{name}' collides with existing topic: {with}")]
    Collides {
        /// The new name.
        name: String,
        /// The one that exists.
        with: String,
    },
    /// One of this name is being deleted.
    #[error("Topic '{0}' is being deleted; part of it lies in a log directory that is offline.")]
    Deleting(String),
    /// There is none.
    #[error("This server does not host this topic-partition.")]
    Unknown,
    /// It has as many partitions already, or more.
    #[error("The topic {name} currently has {before} partition(s); {count} would not be an increase.")]
    Fewer {
        /// The topic.
        name: String,
        /// How many it has.
        before: i32,
        /// How many it was to get.
        count: i32,
    },
    /// The name cannot be one.
    #[error("Topic name is invalid: {0}")]
    Name(#[from] TopicNameError),
    /// The metadata could not be written; nothing changed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The log could not make or remove a partition.
    #[error("{0}")]
    Log(String),
    /// There is no room for a partition.
    #[error("{0}")]
    NoSpace(String),
    /// It was being created when an earlier process ended, or a creation could not be taken back yet.
    #[error("Topic '{0}' was half created and the disk is full or failed; it is taken back or completed first.")]
    Unfinished(String),
    /// A defect of the broker.
    #[error("a thread of the broker panicked")]
    Panicked,
}

/// What a new topic is to be.
#[derive(Debug, Clone)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partition_count: i32,
    /// Its settings, checked.
    pub settings: TopicSettings,
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
}

/// When the partitions of a topic are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// The broker starts; whether some have not been found.
    Start { lacking: bool },
    /// The topic is being created.
    Creation,
}

#[derive(Default)]
struct Index {
    names: HashMap<Arc<str>, Arc<Topic>>,
    ids: HashMap<Uuid, Arc<Topic>>,
    /// Names with dots for underscores, to find those that collide.
    metric_names: HashMap<String, Arc<str>>,
    /// Counts the changes, and tells of them.
    generation: watch::Sender<u64>,
}

impl Index {
    fn insert(&mut self, topic: &Arc<Topic>) {
        self.names.insert(Arc::clone(&topic.name), Arc::clone(topic));
        self.ids.insert(topic.id, Arc::clone(topic));
        self.metric_names.insert(metric_name(&topic.name), Arc::clone(&topic.name));
        self.generation.send_modify(|generation| *generation += 1);
    }

    fn remove(&mut self, topic: &Topic) {
        self.names.remove(&topic.name);
        self.ids.remove(&topic.id);
        self.metric_names.remove(&metric_name(&topic.name));
        self.generation.send_modify(|generation| *generation += 1);
    }
}

fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}

/// What a topic was found in when the broker started.
#[derive(Debug, thiserror::Error)]
pub enum TopicsOpenError {
    /// The metadata cannot be read, or a deletion cannot be finished.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A partition cannot be opened.
    #[error("cannot open topic {topic}: {wrong}")]
    Partition {
        /// The topic.
        topic: String,
        /// What is wrong.
        wrong: String,
    },
}

impl TopicTable {
    /// Puts topics and the partitions found on the disk together, finishing what a crash interrupted.
    pub fn open(config: &Config, meta: Arc<dyn MetadataStore>, log: Arc<LogDirs>) -> Result<Self, TopicsOpenError> {
        let table = Self {
            meta,
            log,
            index: RwLock::default(),
            changing: Mutex::default(),
            deleting: Mutex::default(),
            unfinished: Mutex::default(),
            unmade: Mutex::default(),
            defaults: RwLock::new(config.clone()),
            producers: Arc::new(ProducerBudget::new(config.producer_ids_max)),
        };
        for record in table.meta.topics()? {
            let wrong = |wrong: TopicChangeError| TopicsOpenError::Partition {
                topic: record.name.clone(),
                wrong: wrong.to_string(),
            };
            if record.deleting {
                table.remove_partitions(&record).map_err(wrong)?;
                if table.log.is_any_missing() {
                    // Part of it may lie where nobody can look.
                    table.deleting().insert(record.name);
                } else {
                    table.meta.delete_topic(&record.name)?;
                }
                continue;
            }
            // A setting that this version refuses must not keep the broker from its data.
            let (settings, wrong_settings) = TopicSettings::with_sound_overrides(config, record.configs.clone());
            for error in wrong_settings {
                tracing::error!("topic {}: {error}; its default holds until it is corrected", record.name);
            }
            let occasion = Occasion::Start { lacking: table.lacks_partitions(&record) };
            let count = record.partition_count;
            let topic = match table.assemble(&record.name, record.id, count, settings, occasion) {
                Err(error @ TopicChangeError::NoSpace(_)) if table.is_empty_so_far(&record) => {
                    // It was never told to be there, and must not keep the others from being read.
                    tracing::error!("topic {} is left out until the next start: {error}", record.name);
                    table.unmade.lock().insert(record.name);
                    continue;
                }
                assembled => assembled.map_err(wrong)?,
            };
            table.write_index().insert(&topic);
        }
        table.report_orphans();
        Ok(table)
    }

    fn lacks_partitions(&self, record: &TopicRecord) -> bool {
        let name = |index| PartitionName { topic: record.name.clone(), index };
        (0..record.partition_count).any(|index| self.log.partition(&name(index)).is_none())
    }

    fn is_empty_so_far(&self, record: &TopicRecord) -> bool {
        let name = |index| PartitionName { topic: record.name.clone(), index };
        let found = |index| self.log.partition(&name(index));
        (0..record.partition_count).all(|index| found(index).is_none_or(|log| log.end_offset() == Offset(0)))
    }

    /// Directories that belong to no topic are left alone: deleting what one does not know is no recovery.
    fn report_orphans(&self) {
        for partition in self.log.partitions() {
            let name = partition.name();
            if self.get(&name.topic).is_none_or(|topic| topic.partition(name.index).is_none()) {
                tracing::warn!("directory {name} belongs to no topic; it is left as it is");
            }
        }
    }

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

    /// Says why a topic of this name cannot be created, if so.
    pub fn check_new(&self, name: &str) -> Result<(), TopicChangeError> {
        check_topic_name(name)?;
        if self.deleting().contains(name) {
            return Err(TopicChangeError::Deleting(name.to_owned()));
        }
        if self.unmade.lock().contains(name) {
            return Err(TopicChangeError::Unfinished(name.to_owned()));
        }
        let index = self.read_index();
        if index.names.contains_key(name) {
            return Err(TopicChangeError::Exists(name.to_owned()));
        }
        match index.metric_names.get(&metric_name(name)) {
            Some(with) => Err(TopicChangeError::Collides { name: name.to_owned(), with: with.to_string() }),
            None => Ok(()),
        }
    }

    /// Creates a topic. It can be used as soon as this returns. Blocks on the disk.
    pub fn create(&self, new: NewTopic) -> Result<Arc<Topic>, TopicChangeError> {
        let _changing = self.change();
        self.take_back_unfinished();
        self.check_new(&new.name)?;
        if self.unfinished().iter().any(|record| record.name == new.name) {
            return Err(TopicChangeError::Unfinished(new.name));
        }
        let NewTopic { name, partition_count, settings } = new;
        let settings = self.with_defaults(settings.overrides);
        let record = TopicRecord {
            name,
            id: Uuid::new_v4(),
            partition_count,
            configs: settings.overrides.clone(),
            deleting: false,
        };
        // Metadata first: a crash after it leaves a topic whose missing partitions the next start makes.
        let stored = self.meta.put_topic(&record).map_err(TopicChangeError::from);
        let assembled =
            stored.and_then(|()| self.assemble(&record.name, record.id, partition_count, settings, Occasion::Creation));
        match assembled {
            Ok(topic) => {
                self.write_index().insert(&topic);
                Ok(topic)
            }
            Err(error) => {
                self.unfinished().push(record);
                self.take_back_unfinished();
                Err(error)
            }
        }
    }

    /// Takes back creations that failed half way. Called while nothing else is changed.
    fn take_back_unfinished(&self) {
        let unfinished = std::mem::take(&mut *self.unfinished());
        for record in unfinished {
            if let Err(undo) = self.forget(&record) {
                tracing::warn!("topic {} was half created and is not taken back yet: {undo}", record.name);
                self.unfinished().push(record);
            }
        }
    }

    fn unfinished(&self) -> MutexGuard<'_, Vec<TopicRecord>> {
        self.unfinished.lock()
    }

    /// Replaces the settings of a topic by what `change` makes of them. Blocks on the disk.
    pub fn alter<E: From<TopicChangeError>>(
        &self,
        topic: &Topic,
        change: impl FnOnce(&TopicSettings) -> Result<TopicSettings, E>,
    ) -> Result<(), E> {
        let _changing = self.change();
        if self.get_by_id(&topic.id).is_none() {
            return Err(TopicChangeError::Unknown.into());
        }
        let settings = change(&topic.settings())?;
        self.store(topic, self.with_defaults(settings.overrides))?;
        Ok(())
    }

    /// Takes other settings of the broker, and gives every topic what it does not set itself. Blocks on the disk.
    pub fn follow(&self, config: &Config) {
        let _changing = self.change();
        *self.defaults.write() = config.clone();
        for topic in self.all() {
            let before = topic.settings();
            let settings = self.with_defaults(before.overrides.clone());
            if settings == *before {
                continue;
            }
            if let Err(error) = set_all_options(&topic, partition_options(&settings)) {
                tracing::error!(topic = %topic.name, "some partitions keep older settings until the next start: {error}");
            }
            *topic.settings.write() = Arc::new(settings);
        }
    }

    /// The settings of a topic that sets these, as the broker's are now.
    fn with_defaults(&self, overrides: BTreeMap<String, String>) -> TopicSettings {
        let config = self.defaults.read();
        let (settings, wrong) = TopicSettings::with_sound_overrides(&config, overrides);
        for error in wrong {
            tracing::warn!("a setting of a topic no longer holds: {error}");
        }
        settings
    }

    /// The partitions first: what cannot be done everywhere is taken back, and the metadata never said it. A start gives
    /// partitions what the metadata says.
    fn store(&self, topic: &Topic, settings: TopicSettings) -> Result<(), TopicChangeError> {
        let before = partition_options(&topic.settings());
        let record = TopicRecord { configs: settings.overrides.clone(), ..topic.record() };
        let stored = set_all_options(topic, partition_options(&settings))
            .and_then(|()| self.meta.put_topic(&record).map_err(TopicChangeError::from));
        if let Err(error) = stored {
            if let Err(undo) = set_all_options(topic, before) {
                tracing::error!(topic = %topic.name, %undo, "some partitions keep settings that were refused, until the next start");
            }
            return Err(error);
        }
        *topic.settings.write() = Arc::new(settings);
        Ok(())
    }

    /// Gives a topic more partitions, so that it has `count`. They can be used as soon as this returns. Blocks on the disk.
    ///
    /// Their directories come first: one that no metadata names is taken by the next try. Then the metadata.
    pub fn add_partitions(&self, topic: &Topic, count: i32) -> Result<(), TopicChangeError> {
        let _changing = self.change();
        if self.get_by_id(&topic.id).is_none() {
            return Err(TopicChangeError::Unknown);
        }
        let before = topic.partitions.len() as i32;
        if count <= before {
            return Err(TopicChangeError::Fewer { name: topic.name.to_string(), before, count });
        }
        if topic.partitions.iter().any(|partition| partition.intake().held) {
            let held = "what the route journal has for the topic is not carried out yet, so it takes nothing";
            return Err(TopicChangeError::Log(held.to_owned()));
        }
        let options = partition_options(&topic.settings());
        let (record, grown) = (topic.record(), TopicRecord { partition_count: count, ..topic.record() });
        let made = for_each_partition(count - before, PARTITIONS_AT_ONCE, |at| {
            let index = before + at;
            let name = PartitionName { topic: topic.name.to_string(), index };
            let log = self.open_log(&name, topic.id, options, true)?;
            Ok(Arc::new(Partition::open(topic.id, Arc::clone(&topic.name), index, log, &self.producers)))
        });
        let stored = made.and_then(|added| self.meta.put_topic(&grown).map(|()| added).map_err(TopicChangeError::from));
        let added = match stored {
            Ok(added) => added,
            Err(error) => {
                // The change may be on the disk all the same: then a start makes the partitions again that are not there.
                let taken_back = self.meta.put_topic(&record).map_err(TopicChangeError::from);
                if let Err(undo) = taken_back.and_then(|()| self.remove_from(&grown, before)) {
                    tracing::warn!(topic = %topic.name, %undo, "part of {count} partitions is left and goes with the topic");
                }
                return Err(error);
            }
        };
        topic.partitions.add(added);
        self.write_index().generation.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Deletes a topic: nobody finds it any more, waiting requests are told, its files go. Blocks on the disk.
    pub fn delete(&self, topic: &Topic) -> Result<(), TopicChangeError> {
        let _changing = self.change();
        if self.get_by_id(&topic.id).is_none() {
            return Err(TopicChangeError::Unknown);
        }
        let record = topic.record();
        // From here on a restart finishes the deletion instead of finding half a topic.
        self.meta.put_topic(&TopicRecord { deleting: true, ..record.clone() })?;
        self.write_index().remove(topic);
        for partition in &topic.partitions {
            partition.close();
        }
        self.forget(&record)
    }

    fn forget(&self, record: &TopicRecord) -> Result<(), TopicChangeError> {
        self.remove_partitions(record)?;
        let name = |index| PartitionName { topic: record.name.clone(), index };
        let is_ours = |log: Arc<PartitionLog>| log.topic_id() == record.id;
        if (0..record.partition_count).any(|index| self.log.partition(&name(index)).is_some_and(is_ours)) {
            // The start that finds its directory finishes that.
            self.meta.put_topic(&TopicRecord { deleting: true, ..record.clone() })?;
            self.deleting().insert(record.name.clone());
            return Ok(());
        }
        self.meta.delete_topic(&record.name)?;
        Ok(())
    }

    fn deleting(&self) -> MutexGuard<'_, HashSet<String>> {
        self.deleting.lock()
    }

    /// Deletes the partitions of this very topic. A directory of the same name that belongs to another one, as after the
    /// metadata was restored from a backup, is not ours to delete.
    fn remove_partitions(&self, record: &TopicRecord) -> Result<(), TopicChangeError> {
        self.remove_from(record, 0)
    }

    /// The same of those from `first` on.
    fn remove_from(&self, record: &TopicRecord, first: i32) -> Result<(), TopicChangeError> {
        for_each_partition(record.partition_count - first, PARTITIONS_AT_ONCE, |at| {
            let index = first + at;
            let name = PartitionName { topic: record.name.clone(), index };
            if self.log.partition(&name).is_some_and(|log| log.topic_id() == record.id && !log.is_offline()) {
                self.log.delete_partition(&name).map_err(|error| TopicChangeError::Log(error.to_string()))?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Opens the partitions of a topic, making those that are not there.
    fn assemble(
        &self,
        name: &str,
        id: Uuid,
        partition_count: i32,
        settings: TopicSettings,
        at: Occasion,
    ) -> Result<Arc<Topic>, TopicChangeError> {
        let options = partition_options(&settings);
        let name: Arc<str> = name.into();
        let at_once = match at {
            // Opening costs no thread; making what a crash kept from being made is worth some.
            Occasion::Start { lacking: false } => 1,
            Occasion::Start { lacking: true } | Occasion::Creation => PARTITIONS_AT_ONCE,
        };
        let partitions = for_each_partition(partition_count, at_once, |index| {
            let log = self.open_log(
                &PartitionName { topic: name.to_string(), index },
                id,
                options,
                at == Occasion::Creation,
            )?;
            Ok(Arc::new(Partition::open(id, Arc::clone(&name), index, log, &self.producers)))
        })?;
        Ok(Arc::new(Topic {
            id,
            internal: is_internal(&name),
            partitions: partitions.into(),
            saves: Saves::default(),
            lane_bytes: AtomicUsize::new(0),
            settings: RwLock::new(Arc::new(settings)),
            name,
        }))
    }

    /// The log of a partition, made where there is none; unless it may be in a directory that is missing.
    fn open_log(
        &self,
        name: &PartitionName,
        topic_id: Uuid,
        options: PartitionOptions,
        new: bool,
    ) -> Result<Arc<PartitionLog>, TopicChangeError> {
        let failed = |error: &dyn fmt::Display| TopicChangeError::Log(error.to_string());
        let Some(log) = self.log.partition(name) else {
            if !new && let Some(absent) = self.log.absent_partition(name, topic_id, options) {
                return Ok(absent);
            }
            return self.log.create_partition(name, topic_id, options).map_err(|error| match error {
                CreateError::NoSpace { .. } => TopicChangeError::NoSpace(error.to_string()),
                error => failed(&error),
            });
        };
        if log.topic_id().is_nil() {
            // Recovery made its partition.meta again and cannot know to whom it belonged.
            log.set_topic_id(topic_id).map_err(|error| failed(&error))?;
        } else if log.topic_id() != topic_id {
            return Err(failed(&format!("directory {name} belongs to another topic, {}", log.topic_id())));
        }
        // The metadata is what counts: a crash may have come between it and the partitions.
        set_options(&log, options)?;
        Ok(log)
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

fn partition_options(settings: &TopicSettings) -> PartitionOptions {
    PartitionOptions {
        durability: settings.durability,
        segment_bytes: settings.segment_bytes_in_force(),
        index_interval_bytes: settings.index_interval_bytes as u32,
    }
}

/// Gives all partitions of a topic their options; where that fails for one, it may have been done for others.
fn set_all_options(topic: &Topic, options: PartitionOptions) -> Result<(), TopicChangeError> {
    for_each_partition(topic.partitions.len() as i32, PARTITIONS_AT_ONCE, |index| match topic.partition(index) {
        Some(partition) => set_options(&partition.log, options),
        None => Ok(()),
    })?;
    Ok(())
}

fn set_options(log: &PartitionLog, options: PartitionOptions) -> Result<(), TopicChangeError> {
    // One that is offline gets them at the start that finds it online: the metadata is what counts.
    if log.options() == options || log.is_offline() {
        return Ok(());
    }
    log.set_options(options).map_err(|error| TopicChangeError::Log(error.to_string()))
}

/// Does something for every partition, so many at a time; the results come by index, or the first error.
fn for_each_partition<T: Send>(
    count: i32,
    at_once: usize,
    work: impl Fn(i32) -> Result<T, TopicChangeError> + Sync,
) -> Result<Vec<T>, TopicChangeError> {
    let next = AtomicI32::new(0);
    let some = || -> Result<Vec<(i32, T)>, TopicChangeError> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(done);
            }
            done.push((index, work(index).inspect_err(|_| next.store(count, Ordering::Relaxed))?));
        }
    };
    let threads = at_once.min(usize::try_from(count).unwrap_or(0));
    if threads <= 1 {
        return some().map(|done| done.into_iter().map(|(_, value)| value).collect());
    }
    let parts: Result<Vec<_>, _> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(TopicChangeError::Panicked))).collect()
    });
    let mut done: Vec<(i32, T)> = parts?.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, value)| value).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ottla_log::{LogDir, LogOptions};

    use super::*;
    use crate::meta::LocalStore;

    #[test]
    fn settings_that_one_partition_cannot_take_hold_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = LogDir::open(&dir.path().join("log"), LogOptions::default()).unwrap();
        let meta: Arc<dyn MetadataStore> = Arc::new(LocalStore::open(dir.path(), Vec::new(), &[]).unwrap().0);
        let config = Config::default();
        let table = TopicTable::open(&config, Arc::clone(&meta), Arc::new(LogDirs::single(log))).unwrap();
        let settings = TopicSettings::defaults(&config);
        let topic = table.create(NewTopic { name: "t".to_owned(), partition_count: 4, settings }).unwrap();
        let alter = || {
            let overrides = BTreeMap::from([("ottla.durability".to_owned(), "page-cache".to_owned())]);
            let change = |_: &TopicSettings| Ok(TopicSettings::with_overrides(&config, overrides).unwrap());
            table.alter::<TopicChangeError>(&topic, change)
        };
        let state = || {
            let durabilities: Vec<_> = topic.partitions.iter().map(|it| it.log.options().durability).collect();
            let stored = meta.topics().unwrap().remove(0).configs.len();
            (durabilities, topic.settings().durability, stored)
        };
        let before = state();
        // Where its settings would be written there is a directory.
        let in_the_way = dir.path().join("log/t-2/partition.meta.tmp");
        std::fs::create_dir(&in_the_way).unwrap();
        assert!(alter().is_err());
        assert_eq!(state(), before);
        std::fs::remove_dir(&in_the_way).unwrap();
        alter().unwrap();
        let cached = crate::config::Durability::PageCache;
        assert_eq!(state(), (vec![cached; 4], cached, 1));
    }
}
