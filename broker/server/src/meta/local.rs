//! The metadata of a node on its own, in one redb file. redb commits by copy-on-write and one fsync: a crash at any
//! moment leaves the state before or after a call, never between.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use uuid::Uuid;

use super::{MetaError, MetadataStore, PluginRecord, TopicRecord};

const TOPICS: TableDefinition<&str, &[u8]> = TableDefinition::new("topics");
const PLUGINS: TableDefinition<&str, &[u8]> = TableDefinition::new("plugins");
const TEXTS: TableDefinition<&str, &str> = TableDefinition::new("texts");
const NUMBERS: TableDefinition<&str, i64> = TableDefinition::new("numbers");

const CLUSTER_ID: &str = "cluster.id";
const PRODUCER_ID_MARK: &str = "producer.id.mark";
/// Metadata is small and read once, at the start; what the database keeps in memory is kept small, too.
const CACHE_BYTES: usize = 1 << 20;

/// [`MetadataStore`] in a file of this machine.
pub struct LocalStore {
    database: Database,
    cluster_id: String,
}

impl LocalStore {
    /// Opens the store, or creates it with a new cluster id.
    pub fn open(path: &Path) -> Result<Self, MetaError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(redb::Error::from)?;
        let cluster_id = ready(&database)?;
        Ok(Self { database, cluster_id })
    }

    fn write<T>(&self, change: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>) -> Result<T, MetaError> {
        let transaction = self.database.begin_write().map_err(redb::Error::from)?;
        let value = change(&transaction)?;
        transaction.commit().map_err(redb::Error::from)?;
        Ok(value)
    }

    fn records<T>(
        &self,
        table: TableDefinition<&'static str, &'static [u8]>,
        decode: fn(&str, &[u8]) -> Result<T, MetaError>,
    ) -> Result<Vec<T>, MetaError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let table = transaction.open_table(table).map_err(redb::Error::from)?;
        let mut records = Vec::new();
        for entry in table.iter().map_err(redb::Error::from)? {
            let (name, bytes) = entry.map_err(redb::Error::from)?;
            records.push(decode(name.value(), bytes.value())?);
        }
        Ok(records)
    }
}

/// Makes sure that the tables and the cluster id exist, and returns the id.
fn ready(database: &Database) -> Result<String, MetaError> {
    let known = || -> Result<Option<String>, redb::Error> {
        let transaction = database.begin_read()?;
        match transaction.open_table(TEXTS) {
            Ok(texts) => Ok(texts.get(CLUSTER_ID)?.map(|id| id.value().to_owned())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    if let Some(id) = known()? {
        return Ok(id);
    }
    let create = || -> Result<String, redb::Error> {
        let id = cluster_id_text(Uuid::new_v4());
        let transaction = database.begin_write()?;
        transaction.open_table(TEXTS)?.insert(CLUSTER_ID, id.as_str())?;
        transaction.open_table(TOPICS)?;
        transaction.open_table(PLUGINS)?;
        transaction.open_table(NUMBERS)?.insert(PRODUCER_ID_MARK, 0)?;
        transaction.commit()?;
        Ok(id)
    };
    Ok(create()?)
}

/// Kafka writes ids as 22 letters of URL-safe base 64, and tools expect to see that.
fn cluster_id_text(id: Uuid) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = id.as_u128();
    // 128 bits are 21 groups of six and one of two, filled up with zeros on the right.
    (0..22)
        .map(|group| {
            let six = if group < 21 { number >> (122 - 6 * group) } else { number << 4 };
            char::from(LETTERS.get((six & 63) as usize).copied().unwrap_or(b'A'))
        })
        .collect()
}

impl MetadataStore for LocalStore {
    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn topics(&self) -> Result<Vec<TopicRecord>, MetaError> {
        self.records(TOPICS, TopicRecord::decode)
    }

    fn put_topic(&self, topic: &TopicRecord) -> Result<(), MetaError> {
        let bytes = topic.encode()?;
        self.write(|transaction| {
            transaction.open_table(TOPICS)?.insert(topic.name.as_str(), bytes.as_slice())?;
            Ok(())
        })
    }

    fn delete_topic(&self, name: &str) -> Result<(), MetaError> {
        self.write(|transaction| {
            transaction.open_table(TOPICS)?.remove(name)?;
            Ok(())
        })
    }

    fn producer_id_mark(&self) -> Result<i64, MetaError> {
        let read = || -> Result<i64, redb::Error> {
            let numbers = self.database.begin_read()?.open_table(NUMBERS)?;
            Ok(numbers.get(PRODUCER_ID_MARK)?.map_or(0, |mark| mark.value()))
        };
        Ok(read()?)
    }

    fn set_producer_id_mark(&self, mark: i64) -> Result<(), MetaError> {
        self.write(|transaction| {
            transaction.open_table(NUMBERS)?.insert(PRODUCER_ID_MARK, mark)?;
            Ok(())
        })
    }

    fn plugins(&self) -> Result<Vec<PluginRecord>, MetaError> {
        self.records(PLUGINS, PluginRecord::decode)
    }

    fn put_plugin(&self, plugin: &PluginRecord) -> Result<(), MetaError> {
        let bytes = plugin.encode()?;
        self.write(|transaction| {
            transaction.open_table(PLUGINS)?.insert(plugin.name.as_str(), bytes.as_slice())?;
            Ok(())
        })
    }

    fn delete_plugin(&self, name: &str) -> Result<(), MetaError> {
        self.write(|transaction| {
            transaction.open_table(PLUGINS)?.remove(name)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, partition_count: i32) -> TopicRecord {
        let configs = std::collections::BTreeMap::new();
        TopicRecord { name: name.to_owned(), id: Uuid::new_v4(), partition_count, configs, deleting: false }
    }

    #[test]
    fn what_was_stored_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.redb");
        let (a, b) = (topic("a", 1), topic("b", 2));
        let plugin = PluginRecord { name: "p".to_owned(), active_version: 1, ..PluginRecord::default() };
        let store = LocalStore::open(&path).unwrap();
        let cluster_id = store.cluster_id().to_owned();
        assert_eq!(store.producer_id_mark().unwrap(), 0);
        for stored in [&a, &b] {
            store.put_topic(stored).unwrap();
        }
        store.delete_topic("a").unwrap();
        store.delete_topic("never there").unwrap();
        store.set_producer_id_mark(1000).unwrap();
        store.put_plugin(&plugin).unwrap();
        drop(store);

        let store = LocalStore::open(&path).unwrap();
        assert_eq!(store.cluster_id(), cluster_id);
        assert_eq!(store.topics().unwrap(), vec![b]);
        assert_eq!(store.producer_id_mark().unwrap(), 1000);
        assert_eq!(store.plugins().unwrap(), vec![plugin]);
        store.delete_plugin("p").unwrap();
        assert_eq!(store.plugins().unwrap(), vec![]);
    }

    #[test]
    fn a_cluster_id_is_url_safe_base_64() {
        assert_eq!(cluster_id_text(Uuid::nil()), "A".repeat(22));
        assert_eq!(cluster_id_text(Uuid::max()), format!("{}w", "_".repeat(21)));
        assert_eq!(cluster_id_text(Uuid::from_bytes(*b"abcdefghijklmnop")), "YWJjZGVmZ2hpamtsbW5vcA");
    }
}
