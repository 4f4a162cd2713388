//! The metadata of a node on its own, in one redb file. redb commits by copy-on-write and one fsync: a crash at any
//! moment leaves the state before or after a call, never between.
//!
//! redb refuses everything after its first I/O error. The next call opens the file again and finds the state before or
//! after the call that failed; but not once a sync has failed: then the system may show what the disk does not have. On a
//! disk so full that the file cannot even be opened, a copy of it in memory is read until there is room.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use uuid::Uuid;

use super::file::{MetaFile, copy_of};
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
    path: PathBuf,
    database: Mutex<Held>,
    sync_failed: Arc<AtomicBool>,
    cluster_id: String,
}

/// The database, as far as it can be used.
enum Held {
    /// The file.
    File(Database),
    /// A copy of the file in memory, to be read: there is no room to open the file.
    Copy(Database),
    /// It failed: it is opened again when it is needed.
    Failed,
}

impl LocalStore {
    /// Opens the store, or creates it with a new cluster id. One that exists is opened on a full disk, too.
    pub fn open(path: &Path) -> Result<Self, MetaError> {
        let sync_failed = Arc::new(AtomicBool::new(false));
        let opened = open_file(path, &sync_failed)
            .and_then(|database| ready(&database).map(|cluster_id| (Held::File(database), cluster_id)));
        let (database, cluster_id) = match opened {
            Err(MetaError::Database(error)) if is_full(&error) => {
                tracing::warn!("no room to open the metadata for writing: it is read only until there is ({error})");
                let database = open_copy(path)?;
                let cluster_id = ready(&database)?;
                (Held::Copy(database), cluster_id)
            }
            opened => opened?,
        };
        Ok(Self { path: path.to_owned(), database: Mutex::new(database), sync_failed, cluster_id })
    }

    fn write<T>(&self, change: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>) -> Result<T, MetaError> {
        let mut held = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*held, Held::File(_)) {
            *held = Held::File(open_file(&self.path, &self.sync_failed)?);
        }
        let write = |database: &Database| {
            let transaction = database.begin_write()?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        self.using(&mut held, write)
    }

    fn read<T>(&self, look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>) -> Result<T, MetaError> {
        let mut held = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*held, Held::Failed) {
            *held = Held::File(open_file(&self.path, &self.sync_failed)?);
        }
        self.using(&mut held, |database| look(&database.begin_read()?))
    }

    /// Uses the database, and lets go of it where it fails.
    fn using<T>(
        &self,
        held: &mut Held,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, MetaError> {
        let (Held::File(database) | Held::Copy(database)) = &*held else { return Err(redb::Error::PreviousIo.into()) };
        let done = work(database);
        let failed = matches!(done, Err(redb::Error::Io(_) | redb::Error::PreviousIo));
        if failed && !self.sync_failed.load(Ordering::Acquire) {
            *held = Held::Failed;
        }
        Ok(done?)
    }

    fn records<T>(
        &self,
        table: TableDefinition<&'static str, &'static [u8]>,
        decode: fn(&str, &[u8]) -> Result<T, MetaError>,
    ) -> Result<Vec<T>, MetaError> {
        let stored: Vec<(String, Vec<u8>)> = self.read(|transaction| {
            let table = transaction.open_table(table)?;
            let records = table.iter()?.map(|entry| {
                let (name, bytes) = entry?;
                Ok((name.value().to_owned(), bytes.value().to_owned()))
            });
            records.collect()
        })?;
        stored.iter().map(|(name, bytes)| decode(name, bytes)).collect()
    }
}

fn open_file(path: &Path, sync_failed: &Arc<AtomicBool>) -> Result<Database, MetaError> {
    let file = MetaFile::open(path, Arc::clone(sync_failed))?;
    let opened = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file);
    Ok(opened.map_err(redb::Error::from)?)
}

fn open_copy(path: &Path) -> Result<Database, MetaError> {
    let copy = copy_of(path).map_err(redb::Error::from)?;
    let opened = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(copy);
    Ok(opened.map_err(redb::Error::from)?)
}

fn is_full(error: &redb::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    matches!(error, redb::Error::Io(error) if full.contains(&error.kind()))
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
        self.read(|transaction| {
            let numbers = transaction.open_table(NUMBERS)?;
            Ok(numbers.get(PRODUCER_ID_MARK)?.map_or(0, |mark| mark.value()))
        })
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

    /// A database that has failed, and what the disk under it does next.
    #[test]
    fn a_failed_call_is_forgotten_by_the_next_one_and_what_was_stored_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.redb");
        let store = LocalStore::open(&path).unwrap();
        store.put_topic(&topic("a", 1)).unwrap();
        let full = || redb::Error::Io(io::Error::from_raw_os_error(libc::ENOSPC));
        // As redb does: one error, and another one for everything after it.
        for error in [full(), redb::Error::PreviousIo] {
            let failed: Result<(), _> = store.write(|transaction| {
                transaction.open_table(NUMBERS)?.insert(PRODUCER_ID_MARK, 77)?;
                Err(error)
            });
            failed.unwrap_err();
            assert!(matches!(*store.database.lock().unwrap(), Held::Failed));
            assert_eq!(store.producer_id_mark().unwrap(), 0, "nothing half written is believed");
            assert_eq!(store.topics().unwrap().len(), 1);
        }
        store.set_producer_id_mark(5).unwrap();
        // The file cannot be told from one that lost what was synced.
        store.sync_failed.store(true, Ordering::Release);
        let failed: Result<(), _> = store.write(|_| Err(full()));
        failed.unwrap_err();
        assert!(matches!(*store.database.lock().unwrap(), Held::File(_)), "it stays closed to everything");
    }

    #[test]
    fn a_cluster_id_is_url_safe_base_64() {
        assert_eq!(cluster_id_text(Uuid::nil()), "A".repeat(22));
        assert_eq!(cluster_id_text(Uuid::max()), format!("{}w", "_".repeat(21)));
        assert_eq!(cluster_id_text(Uuid::from_bytes(*b"abcdefghijklmnop")), "YWJjZGVmZ2hpamtsbW5vcA");
    }
}
