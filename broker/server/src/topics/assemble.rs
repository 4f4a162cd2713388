//! The partitions of a topic put together, at a start or when the topic is created.

use std::fmt;
use std::sync::Arc;

use ottla_log::{CreateError, PartitionLog, PartitionName, PartitionOptions};
use parking_lot::RwLock;
use uuid::Uuid;

use super::options::{PARTITIONS_AT_ONCE, for_each_partition, partition_options, set_options};
use super::{Topic, TopicChangeError, TopicTable, is_internal};
use crate::config::TopicSettings;
use crate::partition::lane::LaneShare;
use crate::partition::{Partition, PartitionSet};

/// When the partitions of a topic are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The broker starts; whether some have not been found.
    Start { lacking: bool },
    /// The topic is being created.
    Creation,
}

impl TopicTable {
    /// Opens the partitions of a topic, making those that are not there.
    pub(super) fn assemble(
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
        let lanes = Arc::new(LaneShare::of(&self.lanes));
        let partitions = for_each_partition(partition_count, at_once, |index| {
            let log = self.open_log(
                &PartitionName { topic: name.to_string(), index },
                id,
                options,
                at == Occasion::Creation,
            )?;
            Ok(Arc::new(Partition::open(id, Arc::clone(&name), index, log, &self.producers, &lanes)))
        })?;
        Ok(Arc::new(Topic {
            id,
            internal: is_internal(&name),
            partitions: PartitionSet::new(id, partitions, &self.memory),
            settings: RwLock::new(Arc::new(settings)),
            lanes,
            name,
        }))
    }

    /// The log of a partition, made where there is none; unless it may be in a directory that is missing.
    pub(super) fn open_log(
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
}
