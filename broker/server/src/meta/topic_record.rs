//! A topic as it is stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{MetaError, format};

/// What makes a topic the same topic after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Its name, unique among the topics there are.
    pub name: String,
    /// Its id, never used again, not even by a later topic of the same name.
    pub id: Uuid,
    /// How many partitions it has.
    pub partition_count: i32,
    /// The settings it was given, as the client wrote them.
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
    /// It is being deleted: a start that finds it so finishes that.
    #[serde(default)]
    pub deleting: bool,
}

impl TopicRecord {
    /// The bytes in the database.
    pub fn encode(&self) -> Result<Vec<u8>, MetaError> {
        format::encode(self)
    }

    /// Reads what `encode` wrote; `name` is for the error alone.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, MetaError> {
        format::decode(name, bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stored_topic_reads_back_as_it_was(
            name in ".*", id: u128, partition_count: i32, configs in proptest::collection::btree_map(".*", ".*", 0..4), deleting: bool,
        ) {
            let topic = TopicRecord { name, id: Uuid::from_u128(id), partition_count, configs, deleting };
            prop_assert_eq!(TopicRecord::decode("t", &topic.encode().unwrap()).unwrap(), topic);
        }
    }

    #[test]
    fn the_first_format_is_read_for_ever() {
        let bytes = b"\x01{\"name\":\"t\",\"id\":\"00000000-0000-0000-0000-00000000000a\",\"partition_count\":2}";
        let topic = TopicRecord::decode("t", bytes).unwrap();
        assert_eq!((topic.name.as_str(), topic.id, topic.partition_count), ("t", Uuid::from_u128(10), 2));
    }

    #[test]
    fn an_unknown_format_is_an_error_that_says_so() {
        let wrong = TopicRecord::decode("t", b"\x09{}").unwrap_err().to_string();
        assert!(wrong.contains("newer version"), "{wrong}");
    }
}
