//! `metadata.redb`, where release 0.1.0 kept its metadata: read once, when a data directory has nothing newer.
//!
//! One flipped bit in such a file can make the library panic, so it runs on a thread of its own, on a copy in memory, and
//! what it says is believed only after its own check of every page.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError};

use super::contents::Contents;
use super::{MetaError, PluginRecord, TopicRecord};

const FILE: &str = "metadata.redb";
/// What the file is called once its content is kept in the new form.
const MIGRATED: &str = "metadata.redb.migrated";

const TOPICS: TableDefinition<&str, &[u8]> = TableDefinition::new("topics");
const PLUGINS: TableDefinition<&str, &[u8]> = TableDefinition::new("plugins");
const TEXTS: TableDefinition<&str, &str> = TableDefinition::new("texts");
const NUMBERS: TableDefinition<&str, i64> = TableDefinition::new("numbers");
const CLUSTER_ID: &str = "cluster.id";
const PRODUCER_ID_MARK: &str = "producer.id.mark";

/// Where the old file of a data directory is, or was.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// Puts the old file out of the way of releases that would take it for the truth.
pub(super) fn set_aside(data_dir: &Path) {
    let moved = std::fs::rename(data_dir.join(FILE), data_dir.join(MIGRATED));
    if let Err(error) = moved
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "{FILE} is not needed any more and could not be renamed");
    }
}

/// What the old file holds; `None` where there is none.
pub(super) fn read(data_dir: &Path) -> Result<Option<Contents>, MetaError> {
    let path = path(data_dir);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(MetaError::Old { path, wrong: source.to_string() }),
    };
    let read = move || catch_unwind(AssertUnwindSafe(|| contents(&bytes)));
    let thread = std::thread::Builder::new().name("ottla-migrate".to_owned()).spawn(read);
    let joined = thread.map(std::thread::JoinHandle::join);
    let wrong = match joined {
        Ok(Ok(Ok(Ok(contents)))) => return Ok(Some(contents)),
        Ok(Ok(Ok(Err(wrong)))) => wrong,
        Ok(Ok(Err(panic)) | Err(panic)) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("the library that reads it panicked: {}", text.unwrap_or_default())
        }
        Err(error) => format!("no thread to read it: {error}"),
    };
    Err(MetaError::Old { path, wrong })
}

fn contents(bytes: &[u8]) -> Result<Contents, String> {
    let copy = InMemoryBackend::new();
    copy.set_len(bytes.len() as u64).and_then(|()| copy.write(0, bytes)).map_err(|error| error.to_string())?;
    let mut database = Database::builder().create_with_backend(copy).map_err(|error| error.to_string())?;
    if !database.check_integrity().map_err(|error| error.to_string())? {
        return Err("its pages do not match their checksums".to_owned());
    }
    tables(&database).map_err(|error| error.to_string())
}

fn tables(database: &Database) -> Result<Contents, Box<dyn std::error::Error>> {
    let transaction = database.begin_read()?;
    let mut contents = Contents::default();
    match transaction.open_table(TEXTS) {
        Ok(texts) => {
            contents.cluster_id = texts.get(CLUSTER_ID)?.map(|id| id.value().to_owned()).unwrap_or_default();
        }
        // The process that made the file ended before its first commit.
        Err(TableError::TableDoesNotExist(_)) => return Ok(contents),
        Err(error) => return Err(error.into()),
    }
    let mark = transaction.open_table(NUMBERS)?.get(PRODUCER_ID_MARK)?;
    contents.producer_id_mark = mark.map_or(0, |mark| mark.value());
    for entry in transaction.open_table(TOPICS)?.iter()? {
        let (name, record) = entry?;
        contents.topics.insert(name.value().to_owned(), TopicRecord::decode(name.value(), record.value())?);
    }
    for entry in transaction.open_table(PLUGINS)?.iter()? {
        let (name, record) = entry?;
        contents.plugins.insert(name.value().to_owned(), PluginRecord::decode(name.value(), record.value())?);
    }
    Ok(contents)
}
