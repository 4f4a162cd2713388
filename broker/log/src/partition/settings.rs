//! The settings of a partition: options, topic id and leader epochs, in `partition.meta` and in memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};
use uuid::Uuid;

use super::{DeferredWrites, Meta, PartitionLog};
use crate::dir_state::DirState;
use crate::error::AlterError;
use crate::format::{META_FILE, META_VERSION};
use crate::options::{Durability, PartitionOptions};
use crate::state_file::StateFile;
use crate::{LeaderEpoch, Offset};

/// The content of `partition.meta`, its locks, and copies of the fields that appends read.
#[derive(Debug)]
pub(super) struct Settings {
    /// The content of `partition.meta`. A reader never waits for a disk.
    meta: RwLock<Arc<Meta>>,
    /// Held during a change of the settings; taken before all other locks.
    change_lock: Mutex<()>,
    /// Held while `partition.meta` is rewritten.
    meta_lock: Mutex<()>,
    /// Whether records become visible once they are written. Changed under the append lock.
    page_cache: AtomicBool,
    segment_bytes: AtomicU64,
    leader_epoch: AtomicI32,
}

impl Settings {
    pub(super) fn new(meta: Meta) -> Self {
        Self {
            page_cache: AtomicBool::new(meta.options.durability == Durability::PageCache),
            segment_bytes: AtomicU64::new(meta.options.segment_bytes),
            leader_epoch: AtomicI32::new(meta.epochs.latest().map_or(0, |epoch| epoch.0)),
            meta: RwLock::new(Arc::new(meta)),
            change_lock: Mutex::default(),
            meta_lock: Mutex::default(),
        }
    }

    /// A segment is not extended beyond this.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.load(Ordering::Acquire)
    }
}

impl PartitionLog {
    /// Its settings.
    pub fn options(&self) -> PartitionOptions {
        self.meta().options
    }

    /// When its records become visible.
    pub fn durability(&self) -> Durability {
        if self.settings.page_cache.load(Ordering::Acquire) { Durability::PageCache } else { Durability::Fsync }
    }

    /// The epoch written into every batch appended since this start.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.settings.leader_epoch.load(Ordering::Acquire))
    }

    /// The greatest epoch not above `epoch`, and the offset after its last record; `None` for an epoch not yet begun.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.meta().epochs.end_of(epoch, self.end_offset())
    }

    /// The epoch of the record at `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.meta().epochs.epoch_of(offset)
    }

    /// Changes the settings, durably. If the partition becomes an fsync partition, everything visible is durable when
    /// this returns.
    pub fn set_options(&self, options: PartitionOptions) -> Result<(), AlterError> {
        let _one = self.settings.change_lock.lock();
        if options.durability == Durability::Fsync && self.durability() == Durability::PageCache {
            self.switch_to_fsync(options)?;
        } else {
            self.rewrite_meta(|meta| meta.options = options)?;
            self.set_durability(options.durability);
        }
        self.settings.segment_bytes.store(options.segment_bytes, Ordering::Release);
        Ok(())
    }

    /// Appends follow the stricter durability at once; `partition.meta` follows when it is true for everything visible.
    /// After a crash in between, recovery finds a page-cache partition and raises the epoch.
    fn switch_to_fsync(&self, options: PartitionOptions) -> Result<(), AlterError> {
        self.set_durability(Durability::Fsync);
        let flushed = self.flush().map_err(|crate::FlushError::Offline { reason }| AlterError::Offline { reason });
        let written = flushed.and_then(|_| self.rewrite_meta(|meta| meta.options = options));
        if written.is_err() {
            self.set_durability(Durability::PageCache);
        }
        written
    }

    /// Sets the durability of the next append and all later ones. Appends that ended before have made themselves
    /// visible, or a flush that begins later covers them.
    fn set_durability(&self, durability: Durability) {
        let end = {
            let _no_append = self.active();
            self.settings.page_cache.store(durability == Durability::PageCache, Ordering::Release);
            self.end_offset()
        };
        if durability == Durability::PageCache && !self.is_offline() {
            self.raise_watermark(end);
        }
    }

    /// Gives the topic id back to a partition whose `partition.meta` was lost. On a full disk, the write is deferred to
    /// the next append.
    pub fn set_topic_id(&self, topic_id: Uuid) -> Result<(), AlterError> {
        if self.is_unreadable() {
            // Its own file may hold the id, and stays as it is.
            self.publish_meta(Meta { topic_id, ..Meta::clone(&self.meta()) });
            return Ok(());
        }
        match self.rewrite_meta(|meta| meta.topic_id = topic_id) {
            Err(AlterError::Write(error)) if error.is_full() => {
                let one = self.lock_meta();
                self.publish_meta(Meta { topic_id, ..Meta::clone(&self.meta()) });
                drop(one);
                self.defer(DeferredWrites { meta: true, segment: None });
                Ok(())
            }
            written => written,
        }
    }

    fn rewrite_meta(&self, change: impl FnOnce(&mut Meta)) -> Result<(), AlterError> {
        if let Some(reason) = self.offline_reason() {
            return Err(AlterError::Offline { reason });
        }
        let _one = self.lock_meta();
        if self.is_deleted() {
            return Err(AlterError::Deleted);
        }
        let meta = self.meta();
        let mut changed = Meta::clone(&meta);
        change(&mut changed);
        if changed != *meta {
            Self::meta_file(&self.dir, &self.directory).write(&changed.encode())?;
            self.publish_meta(changed);
        }
        Ok(())
    }

    pub(crate) fn meta_file(dir: &DirState, directory: &Path) -> StateFile {
        StateFile::on(dir.disk.clone(), directory.join(META_FILE), META_VERSION)
    }

    pub(super) fn meta(&self) -> Arc<Meta> {
        Arc::clone(&self.settings.meta.read())
    }

    fn publish_meta(&self, meta: Meta) {
        *self.settings.meta.write() = Arc::new(meta);
    }

    pub(super) fn lock_meta(&self) -> MutexGuard<'_, ()> {
        self.settings.meta_lock.lock()
    }
}
