//! The topics by name and by id.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use super::Topic;

#[derive(Default)]
pub(super) struct Index {
    pub(super) names: HashMap<Arc<str>, Arc<Topic>>,
    pub(super) ids: HashMap<Uuid, Arc<Topic>>,
    /// Names with dots for underscores, to find those that collide.
    pub(super) metric_names: HashMap<String, Arc<str>>,
    /// Counts the changes, and tells of them.
    pub(super) generation: watch::Sender<u64>,
}

impl Index {
    pub(super) fn insert(&mut self, topic: &Arc<Topic>) {
        self.names.insert(Arc::clone(&topic.name), Arc::clone(topic));
        self.ids.insert(topic.id, Arc::clone(topic));
        self.metric_names.insert(metric_name(&topic.name), Arc::clone(&topic.name));
        self.generation.send_modify(|generation| *generation += 1);
    }

    pub(super) fn remove(&mut self, topic: &Topic) {
        self.names.remove(&topic.name);
        self.ids.remove(&topic.id);
        self.metric_names.remove(&metric_name(&topic.name));
        self.generation.send_modify(|generation| *generation += 1);
    }
}

pub(super) fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}
