//! Topics created, altered, given more partitions and deleted: one change at a time, the metadata first.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ottla_log::{PartitionLog, PartitionName};
use parking_lot::MutexGuard;
use uuid::Uuid;

use super::assemble::Occasion;
use super::index::metric_name;
use super::options::{PARTITIONS_AT_ONCE, for_each_partition, partition_options, set_all_options};
use super::{Topic, TopicChangeError, TopicTable, check_topic_name};
use crate::config::{Config, TopicSettings};
use crate::meta::TopicRecord;
use crate::partition::Partition;

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

impl TopicTable {
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
        let growth = topic.partitions.grow();
        let before = growth.next_index() as i32;
        if count <= before {
            return Err(TopicChangeError::Fewer { name: topic.name.to_string(), before, count });
        }
        if topic.partitions.iter().any(|partition| partition.intake().held.is_some()) {
            let held = "what the route journal has for the topic is not carried out yet, so it takes nothing";
            return Err(TopicChangeError::Log(held.to_owned()));
        }
        let options = partition_options(&topic.settings());
        let (record, grown) = (topic.record(), TopicRecord { partition_count: count, ..topic.record() });
        let made = for_each_partition(count - before, PARTITIONS_AT_ONCE, |at| {
            let index = before + at;
            let name = PartitionName { topic: topic.name.to_string(), index };
            let log = self.open_log(&name, topic.id, options, true)?;
            Ok(Arc::new(Partition::open(topic.id, Arc::clone(&topic.name), index, log, &self.producers, &topic.lanes)))
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
        growth.add(added);
        self.write_index().generation.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Deletes a topic: requests find it no more, waiting requests are told, its files go. Blocks on the disk.
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

    pub(super) fn deleting(&self) -> MutexGuard<'_, HashSet<String>> {
        self.deleting.lock()
    }

    /// Deletes the partitions of this very topic. A directory of the same name that belongs to another one, as after the
    /// metadata was restored from a backup, is not ours to delete.
    pub(super) fn remove_partitions(&self, record: &TopicRecord) -> Result<(), TopicChangeError> {
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
}

#[cfg(test)]
mod tests {
    use ottla_log::{LogDir, LogOptions};

    use ottla_front::Memory;

    use super::*;
    use crate::log_dirs::LogDirs;
    use crate::meta::{LocalStore, MetadataStore};

    #[test]
    fn settings_that_one_partition_cannot_take_hold_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = LogDir::open(&dir.path().join("log"), LogOptions::default()).unwrap();
        let meta: Arc<dyn MetadataStore> = Arc::new(LocalStore::open(dir.path(), Vec::new(), &[]).unwrap().0);
        let config = Config::default();
        let table =
            TopicTable::open(&config, Arc::clone(&meta), Arc::new(LogDirs::single(log)), Memory::new(1 << 30)).unwrap();
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
