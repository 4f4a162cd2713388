//! The topics as a start finds them.

use std::sync::Arc;

use ottla_front::Memory;
use ottla_log::{Offset, PartitionName};
use parking_lot::{Mutex, RwLock};

use super::assemble::Occasion;
use super::{TopicChangeError, TopicTable, TopicsOpenError};
use crate::config::{Config, TopicSettings};
use crate::log_dirs::LogDirs;
use crate::meta::{MetadataStore, TopicRecord};
use crate::partition::budget::ProducerBudget;
use crate::partition::lane::LaneBudget;

impl TopicTable {
    /// Puts topics and the partitions found on the disk together, finishing what a crash interrupted.
    pub fn open(
        config: &Config,
        meta: Arc<dyn MetadataStore>,
        log: Arc<LogDirs>,
        memory: Arc<Memory>,
    ) -> Result<Self, TopicsOpenError> {
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
            lanes: Arc::new(LaneBudget::new(config.route_lane_bytes_max)),
            memory,
        };
        for record in table.meta.topics()? {
            let wrong = |wrong: TopicChangeError| TopicsOpenError::Partition {
                topic: record.name.clone(),
                wrong: wrong.to_string(),
            };
            if record.deleting {
                table.remove_partitions(&record).map_err(wrong)?;
                if table.log.is_any_missing() {
                    // Part of it may lie in a directory that cannot be read.
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
}
