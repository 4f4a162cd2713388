//! The topics of the cluster as the coordinator needs them: names, ids, numbers of partitions.

use std::collections::BTreeMap;

use ottla_wire::Uuid;

use super::Text;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Text,
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
}

/// All topics at one time. The driver makes a new one when a topic is created, deleted or grows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topics {
    by_name: BTreeMap<Text, Topic>,
    names: BTreeMap<Uuid, Text>,
}

impl FromIterator<Topic> for Topics {
    fn from_iter<I: IntoIterator<Item = Topic>>(topics: I) -> Self {
        let by_name: BTreeMap<Text, Topic> =
            topics.into_iter().map(|topic| (Text::clone(&topic.name), topic)).collect();
        let names = by_name.values().map(|topic| (topic.id, Text::clone(&topic.name))).collect();
        Self { by_name, names }
    }
}

impl Topics {
    /// The topic of a name.
    pub fn named(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// The topic of an id.
    pub fn with_id(&self, id: Uuid) -> Option<&Topic> {
        self.by_name.get(self.names.get(&id)?)
    }

    /// All topics, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }
}
