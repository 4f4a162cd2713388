//! Topics and shards at one time.

use std::sync::Arc;

use ottla_coordinator::group::{GroupConfig, Topic, Topics, partition_of};
use ottla_wire::Uuid;
use parking_lot::RwLock;

use super::offsets_topic;
use super::shard::LiveShard;
use crate::topics::TopicTable;

/// What holds until a topic is created, deleted or grows.
pub(super) struct View {
    /// Which one of the topic table.
    generation: u64,
    /// The topics, as the shards see them.
    pub(super) topics: Arc<Topics>,
    /// The id of `__consumer_offsets`, if it exists.
    offsets_topic: Option<Uuid>,
    /// A shard for each of its partitions.
    pub(super) shards: Box<[Arc<LiveShard>]>,
}

impl View {
    /// The number of the shard that a group belongs to; none while there is no `__consumer_offsets`.
    pub(super) fn index_of(&self, group_id: &str) -> Option<usize> {
        let shards = u32::try_from(self.shards.len()).ok().filter(|shards| *shards > 0)?;
        usize::try_from(partition_of(group_id, shards)).ok()
    }

    /// The shard that a group belongs to.
    pub(super) fn shard_of(&self, group_id: &str) -> Option<&Arc<LiveShard>> {
        self.shards.get(self.index_of(group_id)?)
    }
}

/// The last view.
#[derive(Default)]
pub(super) struct Views(RwLock<Option<Arc<View>>>);

impl Views {
    /// The view that holds now, and its shards that the one before did not have.
    pub(super) fn current(&self, table: &TopicTable, config: &Arc<GroupConfig>) -> (Arc<View>, Vec<Arc<LiveShard>>) {
        let generation = table.generation();
        {
            let last = self.0.read();
            if let Some(view) = last.as_ref().filter(|view| view.generation >= generation) {
                return (Arc::clone(view), Vec::new());
            }
        }
        let mut last = self.0.write();
        let (generation, all) = table.snapshot();
        if let Some(view) = last.as_ref().filter(|view| view.generation >= generation) {
            return (Arc::clone(view), Vec::new());
        }
        let topics = all.iter().map(|topic| Topic {
            name: Arc::clone(&topic.name),
            id: topic.id,
            partitions: topic.partitions.len() as i32,
        });
        let topics: Arc<Topics> = Arc::new(topics.collect());
        let found = all.iter().find(|topic| &*topic.name == offsets_topic::NAME);
        let offsets_topic = found.map(|topic| topic.id);
        let (shards, new) = match (last.as_ref(), found) {
            // Its groups stay where they are, should it have grown.
            (Some(last), Some(_)) if last.offsets_topic == offsets_topic => (last.shards.clone(), Vec::new()),
            (_, Some(topic)) => {
                let shards = topic
                    .partitions
                    .iter()
                    .map(|partition| Arc::new(LiveShard::new(Arc::clone(partition), config, &topics)));
                let shards: Vec<_> = shards.collect();
                (shards.clone().into(), shards)
            }
            (_, None) => (Box::default(), Vec::new()),
        };
        let view = Arc::new(View { generation, topics, offsets_topic, shards });
        *last = Some(Arc::clone(&view));
        (view, new)
    }
}
