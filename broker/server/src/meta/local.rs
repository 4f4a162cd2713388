//! The metadata of a node on its own: all of it in memory, and on the disk in two copies.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ottla_log::{Disk, RealDisk};
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::FlockOperation;
use uuid::Uuid;

use super::contents::{Change, Contents};
use super::copy::Snapshot;
use super::merge::{Merged, Verdict, merge};
use super::pair::{CopyHome, Pair};
use super::report::MetaReport;
use super::{ConfigsRecord, MetaError, MetadataStore, PluginRecord, TopicRecord, old};

/// [`MetadataStore`] on the disks of this machine.
#[derive(Debug)]
pub struct LocalStore {
    inner: Mutex<Inner>,
    /// How many copies have every change: known without waiting for one that is being made.
    whole: AtomicUsize,
    cluster_id: String,
    /// Its `flock` keeps other processes out of the data directory.
    _lock: File,
}

#[derive(Debug)]
struct Inner {
    store: Uuid,
    contents: Contents,
    /// The last change.
    sequence: u64,
    copies: Pair,
}

impl LocalStore {
    /// Opens the store of a data directory and repairs the copy that is damaged, or begins with a new cluster id. The second
    /// copy goes to the first of `homes` that is on another disk than the data directory, or to the first; without any it lies
    /// beside the first copy. `missing` are log directories that could not be opened and may hold a copy.
    pub fn open(data_dir: &Path, homes: Vec<CopyHome>, missing: &[PathBuf]) -> Result<(Self, MetaReport), MetaError> {
        Self::open_on(&(Arc::new(RealDisk) as Arc<dyn Disk>), data_dir, homes, missing)
    }

    pub(super) fn open_on(
        disk: &Arc<dyn Disk>,
        data_dir: &Path,
        homes: Vec<CopyHome>,
        missing: &[PathBuf],
    ) -> Result<(Self, MetaReport), MetaError> {
        let lock = lock(data_dir)?;
        let mut copies = Pair::new(data_dir, disk, homes);
        let found = copies.find(&**disk);
        let Merged { store, contents, sequence, loss, is_latest, verdicts } = merge(&found)?;
        let path = |place: usize| found.get(place).map(|copy| copy.path.clone()).unwrap_or_default();
        if let Some(loss) = loss {
            let copies = verdicts.into_iter().enumerate().map(|(place, verdict)| (path(place), verdict)).collect();
            return Err(MetaError::Lost { loss, copies });
        }
        // Only the first copy surely has every change. Without it, a copy that cannot be seen may have more than those that can.
        if let (Some(_), false, Some(missing)) = (store, is_latest, missing.first()) {
            let first = verdicts.first().cloned().unwrap_or(Verdict::Absent);
            return Err(MetaError::Doubtful { path: path(0), first, missing: missing.clone() });
        }
        let mut report = MetaReport { is_new: store.is_none(), ..MetaReport::default() };
        let mut contents = if store.is_some() {
            contents
        } else {
            let old = old::read(data_dir)?;
            report.migrated = old.is_some().then(|| old::path(data_dir));
            old.unwrap_or_default()
        };
        if contents.cluster_id.is_empty() {
            contents.cluster_id = cluster_id_text(Uuid::new_v4());
        }
        let store = store.unwrap_or_else(Uuid::new_v4);
        copies.take_up(&found, &verdicts, &Snapshot::of(&contents, store, sequence)?, &mut report);
        // Without a place for its id a cluster cannot begin; one that has lived can be read without room.
        if report.is_new
            && report.migrated.is_none()
            && !copies.has_first()
            && let Some((path, reason)) = report.unwritten.first()
        {
            let source = std::io::Error::other(reason.clone());
            return Err(MetaError::Write { path: path.clone(), source });
        }
        // A process may have ended between the new file and this.
        if copies.has_first() {
            old::set_aside(data_dir);
        }
        let cluster_id = contents.cluster_id.clone();
        let whole = AtomicUsize::new(copies.whole());
        let inner = Inner { store, contents, sequence, copies };
        Ok((Self { inner: Mutex::new(inner), whole, cluster_id, _lock: lock }, report))
    }

    /// Makes a change, on the disk and then in memory.
    fn change(&self, change: Change) -> Result<(), MetaError> {
        let mut inner = self.inner();
        let Inner { store, contents, sequence, copies } = &mut *inner;
        let number = *sequence + 1;
        let made = copies.append(number, &change.encode()?, || Snapshot::of(contents, *store, *sequence));
        self.whole.store(copies.whole(), Ordering::Relaxed);
        made?;
        *sequence = number;
        contents.apply(change);
        copies.shorten(|| Snapshot::of(contents, *store, *sequence));
        self.whole.store(copies.whole(), Ordering::Relaxed);
        Ok(())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

/// Keeps other processes out of a data directory. The directory itself is locked: a start needs no space.
pub(super) fn lock(data_dir: &Path) -> Result<File, MetaError> {
    let failed = |source| MetaError::Write { path: data_dir.to_owned(), source };
    let directory = File::open(data_dir).map_err(failed)?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(MetaError::Locked { path: data_dir.to_owned() }),
        Err(error) => Err(failed(error.into())),
    }
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

    fn whole_copies(&self) -> usize {
        self.whole.load(Ordering::Relaxed)
    }

    fn topics(&self) -> Result<Vec<TopicRecord>, MetaError> {
        Ok(self.inner().contents.topics.values().cloned().collect())
    }

    fn put_topic(&self, topic: &TopicRecord) -> Result<(), MetaError> {
        self.change(Change::PutTopic(topic.clone()))
    }

    fn delete_topic(&self, name: &str) -> Result<(), MetaError> {
        if !self.inner().contents.topics.contains_key(name) {
            return Ok(());
        }
        self.change(Change::DeleteTopic(name.to_owned()))
    }

    fn producer_id_mark(&self) -> Result<i64, MetaError> {
        Ok(self.inner().contents.producer_id_mark)
    }

    fn set_producer_id_mark(&self, mark: i64) -> Result<(), MetaError> {
        self.change(Change::ProducerIdMark(mark))
    }

    fn configs(&self) -> Result<Vec<ConfigsRecord>, MetaError> {
        Ok(self.inner().contents.configs.values().cloned().collect())
    }

    fn put_configs(&self, configs: &ConfigsRecord) -> Result<(), MetaError> {
        self.change(Change::PutConfigs(configs.clone()))
    }

    fn plugins(&self) -> Result<Vec<PluginRecord>, MetaError> {
        Ok(self.inner().contents.plugins.values().cloned().collect())
    }

    fn put_plugin(&self, plugin: &PluginRecord) -> Result<(), MetaError> {
        self.change(Change::PutPlugin(plugin.clone()))
    }

    fn delete_plugin(&self, name: &str) -> Result<(), MetaError> {
        if !self.inner().contents.plugins.contains_key(name) {
            return Ok(());
        }
        self.change(Change::DeletePlugin(name.to_owned()))
    }
}
