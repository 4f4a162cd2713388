//! All metadata of a store in memory, and the changes it is made of.

use std::collections::BTreeMap;

use super::{ConfigResource, ConfigsRecord, MetaError, PluginRecord, TopicRecord};

/// Everything that a store keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The id of the cluster; empty before a store has one.
    pub cluster_id: String,
    /// The first producer id that was never reserved.
    pub producer_id_mark: i64,
    /// The topics by name.
    pub topics: BTreeMap<String, TopicRecord>,
    /// The plugins by name.
    pub plugins: BTreeMap<String, PluginRecord>,
    /// The settings of brokers and groups, by kind and name.
    pub configs: BTreeMap<(ConfigResource, String), ConfigsRecord>,
}

/// One change. Those of a snapshot make all of it out of nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    ClusterId(String),
    ProducerIdMark(i64),
    PutTopic(TopicRecord),
    DeleteTopic(String),
    PutPlugin(PluginRecord),
    DeletePlugin(String),
    PutConfigs(ConfigsRecord),
}

/// The first byte of a stored change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    ClusterId = 1,
    ProducerIdMark = 2,
    PutTopic = 3,
    DeleteTopic = 4,
    PutPlugin = 5,
    DeletePlugin = 6,
    PutConfigs = 7,
}

impl Tag {
    const ALL: [Self; 7] = [
        Self::ClusterId,
        Self::ProducerIdMark,
        Self::PutTopic,
        Self::DeleteTopic,
        Self::PutPlugin,
        Self::DeletePlugin,
        Self::PutConfigs,
    ];
}

impl Contents {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::ClusterId(id) => self.cluster_id = id,
            Change::ProducerIdMark(mark) => self.producer_id_mark = mark,
            Change::PutTopic(topic) => drop(self.topics.insert(topic.name.clone(), topic)),
            Change::DeleteTopic(name) => drop(self.topics.remove(&name)),
            Change::PutPlugin(plugin) => drop(self.plugins.insert(plugin.name.clone(), plugin)),
            Change::DeletePlugin(name) => drop(self.plugins.remove(&name)),
            Change::PutConfigs(record) => {
                let key = (record.resource, record.name.clone());
                if record.configs.is_empty() {
                    self.configs.remove(&key);
                } else {
                    self.configs.insert(key, record);
                }
            }
        }
    }

    /// The stored changes that make these contents out of nothing.
    pub(super) fn encode(&self) -> Result<Vec<Vec<u8>>, MetaError> {
        let fixed = [Change::ClusterId(self.cluster_id.clone()), Change::ProducerIdMark(self.producer_id_mark)];
        let mut records: Vec<Vec<u8>> = fixed.iter().map(Change::encode).collect::<Result<_, _>>()?;
        for topic in self.topics.values() {
            records.push(tagged(Tag::PutTopic, &topic.encode()?));
        }
        for plugin in self.plugins.values() {
            records.push(tagged(Tag::PutPlugin, &plugin.encode()?));
        }
        for configs in self.configs.values() {
            records.push(tagged(Tag::PutConfigs, &configs.encode()?));
        }
        Ok(records)
    }
}

impl Change {
    pub(super) fn encode(&self) -> Result<Vec<u8>, MetaError> {
        Ok(match self {
            Self::ClusterId(id) => tagged(Tag::ClusterId, id.as_bytes()),
            Self::ProducerIdMark(mark) => tagged(Tag::ProducerIdMark, &mark.to_be_bytes()),
            Self::PutTopic(topic) => tagged(Tag::PutTopic, &topic.encode()?),
            Self::DeleteTopic(name) => tagged(Tag::DeleteTopic, name.as_bytes()),
            Self::PutPlugin(plugin) => tagged(Tag::PutPlugin, &plugin.encode()?),
            Self::DeletePlugin(name) => tagged(Tag::DeletePlugin, name.as_bytes()),
            Self::PutConfigs(configs) => tagged(Tag::PutConfigs, &configs.encode()?),
        })
    }

    /// Reads what `encode` wrote; `label` is for the error alone.
    pub(super) fn decode(label: &str, bytes: &[u8]) -> Result<Self, MetaError> {
        let wrong = |wrong: String| MetaError::BadRecord { record: label.to_owned(), wrong };
        let (first, rest) = bytes.split_first().ok_or_else(|| wrong("it is empty".to_owned()))?;
        let tag = Tag::ALL.into_iter().find(|tag| *tag as u8 == *first);
        let tag = tag.ok_or_else(|| wrong(format!("kind {first} was written by a newer version")))?;
        let text = || std::str::from_utf8(rest).map(str::to_owned).map_err(|error| wrong(error.to_string()));
        Ok(match tag {
            Tag::ClusterId => Self::ClusterId(text()?),
            Tag::ProducerIdMark => {
                let mark = rest.try_into().map_err(|_| wrong(format!("{} bytes are no number", rest.len())))?;
                Self::ProducerIdMark(i64::from_be_bytes(mark))
            }
            Tag::PutTopic => Self::PutTopic(TopicRecord::decode(label, rest)?),
            Tag::DeleteTopic => Self::DeleteTopic(text()?),
            Tag::PutPlugin => Self::PutPlugin(PluginRecord::decode(label, rest)?),
            Tag::DeletePlugin => Self::DeletePlugin(text()?),
            Tag::PutConfigs => Self::PutConfigs(ConfigsRecord::decode(label, rest)?),
        })
    }
}

fn tagged(tag: Tag, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + content.len());
    bytes.push(tag as u8);
    bytes.extend_from_slice(content);
    bytes
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_change_and_a_whole_snapshot_read_back() {
        let topic = TopicRecord {
            name: "t".to_owned(),
            id: Uuid::from_u128(1),
            partition_count: 3,
            configs: BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]),
            deleting: false,
        };
        let plugin = PluginRecord { name: "p".to_owned(), active_version: 1, ..PluginRecord::default() };
        let configs = |value: &[(&str, &str)]| ConfigsRecord {
            resource: ConfigResource::Group,
            name: "g".to_owned(),
            configs: value.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let group = configs(&[("consumer.session.timeout.ms", "50000")]);
        let changes = [
            Change::ClusterId("c".to_owned()),
            Change::ProducerIdMark(-1),
            Change::PutTopic(topic.clone()),
            Change::DeleteTopic("x".to_owned()),
            Change::PutPlugin(plugin.clone()),
            Change::DeletePlugin("y".to_owned()),
            Change::PutConfigs(group.clone()),
        ];
        let mut contents = Contents::default();
        for change in changes {
            assert_eq!(Change::decode("c", &change.encode().unwrap()).unwrap(), change);
            contents.apply(change);
        }
        let mut again = Contents::default();
        for record in contents.encode().unwrap() {
            again.apply(Change::decode("r", &record).unwrap());
        }
        assert_eq!(again, contents);
        assert_eq!((again.topics["t"].clone(), again.plugins["p"].clone()), (topic, plugin));
        assert_eq!(again.configs.values().collect::<Vec<_>>(), [&group]);
        again.apply(Change::PutConfigs(configs(&[])));
        assert!(again.configs.is_empty());
        let newer = Change::decode("c", &[99, 1, 2]).unwrap_err().to_string();
        assert!(newer.contains("newer version"), "{newer}");
    }
}
