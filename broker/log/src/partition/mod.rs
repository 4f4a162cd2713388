//! One partition: its segments, its offsets, and the listeners of its high watermark.
//!
//! - `append` assigns offsets and writes, under the append lock
//! - `flush` makes appended bytes durable and moves the durable offset
//! - `check` checks bytes at their first read
//! - `locate` finds the bytes of an offset, `timestamp` the offset of a time
//! - `replace` removes segments and replaces several by one
//! - `retain` decides which segments are old enough to be removed
//! - `slot` opens segments when they are needed and closes them when the budget is used up
//! - `deferred` holds the writes that startup could not do on a full disk
//! - `meta` is `partition.meta`

mod append;
mod check;
mod deferred;
mod flush;
mod locate;
mod meta;
mod replace;
mod retain;
mod size;
mod slot;
mod timestamp;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard, RwLock};
use uuid::Uuid;

pub use self::append::Appended;
pub(crate) use self::deferred::DeferredWrites;
pub use self::locate::{FileRange, QuarantinedRange, ScannedRange};
pub(crate) use self::meta::Meta;
pub(crate) use self::replace::{Leftovers, Replacement};
pub use self::retain::{Removed, Retention};
pub(crate) use self::slot::{Slot, write_index};

use self::append::ActiveSegment;
use self::check::ReadFailure;
use self::deferred::Deferred;
use self::flush::FlushState;
use self::replace::Maintenance;
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::clean::CleanState;
use crate::commit::FlushTicket;
use crate::dir_state::DirState;
use crate::error::AlterError;
use crate::format::{META_FILE, META_VERSION, PartitionName};
use crate::options::{Durability, PartitionOptions};
use crate::state_file::StateFile;
use crate::{LeaderEpoch, Offset};

type Listener = Box<dyn Fn(Offset) + Send + Sync>;

/// The log of one partition. All methods may be called from any thread; none of them waits for a sync except
/// [`flush`](Self::flush) and [`set_options`](Self::set_options).
pub struct PartitionLog {
    /// For handing the partition to the flusher.
    me: Weak<PartitionLog>,
    dir: Arc<DirState>,
    directory: PathBuf,
    name: PartitionName,
    /// The content of `partition.meta`. A reader never waits for a disk.
    meta: RwLock<Arc<Meta>>,
    /// Held during a change of the settings; taken before all other locks.
    settings_lock: Mutex<()>,
    /// Held while `partition.meta` is rewritten.
    meta_lock: Mutex<()>,
    /// Why recovery failed: then the log reads and writes nothing of the partition.
    unreadable: Option<String>,
    page_cache: AtomicBool,
    segment_bytes: AtomicU64,
    leader_epoch: AtomicI32,
    /// All segments by base offset; the last one is the active one.
    slots: RwLock<Vec<Arc<Slot>>>,
    /// The append lock: held by the append that writes.
    active: Mutex<ActiveSegment>,
    log_start: AtomicI64,
    /// Offset after the last record written.
    end: AtomicI64,
    /// Offset after the last record synced.
    durable: AtomicI64,
    /// Offset after the last record visible to consumers. Never moves back.
    high_watermark: AtomicI64,
    appended_bytes: AtomicU64,
    flushed_bytes: AtomicU64,
    /// Bytes that the last flush covered.
    recent_flush_bytes: AtomicU64,
    ticket: FlushTicket,
    /// The next flush has to write the checkpoint, even if there is nothing to sync.
    checkpoint_due: AtomicBool,
    /// The maintenance lock: held while segments are removed or replaced; a deletion waits for it.
    maintenance: Mutex<Maintenance>,
    /// Damaged ranges that are known, by the base offset of their segment.
    damage: Mutex<BTreeMap<i64, Vec<QuarantinedRange>>>,
    /// Segments whose disk failed during a read a short time ago.
    failures: Mutex<Vec<ReadFailure>>,
    /// The flush lock: held by the running flush; a deletion waits for it.
    flush_state: Mutex<FlushState>,
    listeners: RwLock<Vec<Listener>>,
    /// The watermark that listeners got last. Held while they are called, so that they see it rise only.
    notified: Mutex<i64>,
    deleted: AtomicBool,
    /// Writes that startup could not do on a full disk.
    deferred: Deferred,
    /// How far the partition is compacted. Held by the running compaction.
    clean: Mutex<CleanState>,
}

/// A partition as recovery or creation hands it over.
pub(crate) struct Opened {
    pub(crate) directory: PathBuf,
    pub(crate) meta: Meta,
    pub(crate) bases: Vec<Offset>,
    pub(crate) log_start: Offset,
    pub(crate) end: Offset,
    /// Length of the last segment.
    pub(crate) active_bytes: u64,
    pub(crate) checkpoint: CheckpointFile,
    /// The content of the checkpoint, if it is still true.
    pub(crate) persisted: Option<Checkpoint>,
    /// Why recovery failed, if it did.
    pub(crate) unreadable: Option<String>,
    /// Removals and replacements that startup could not finish on a full disk.
    pub(crate) leftovers: Leftovers,
}

impl Opened {
    /// A partition of which only the name is known.
    pub(crate) fn empty(directory: PathBuf, meta: Meta, checkpoint: CheckpointFile) -> Self {
        Self {
            directory,
            meta,
            bases: vec![Offset(0)],
            log_start: Offset(0),
            end: Offset(0),
            active_bytes: 0,
            checkpoint,
            persisted: None,
            unreadable: None,
            leftovers: Leftovers::default(),
        }
    }
}

impl PartitionLog {
    pub(crate) fn new(dir: Arc<DirState>, opened: Opened) -> Arc<Self> {
        let Opened { directory, meta, bases, log_start, end, active_bytes, checkpoint, persisted, .. } = opened;
        let Opened { unreadable, leftovers, .. } = opened;
        let slots = bases.into_iter().map(|base| Arc::new(leftovers.slot(base))).collect();
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            dir,
            directory,
            name: meta.name.clone(),
            page_cache: AtomicBool::new(meta.options.durability == Durability::PageCache),
            segment_bytes: AtomicU64::new(meta.options.segment_bytes),
            leader_epoch: AtomicI32::new(meta.epochs.latest().map_or(0, |epoch| epoch.0)),
            meta: RwLock::new(Arc::new(meta)),
            settings_lock: Mutex::default(),
            meta_lock: Mutex::default(),
            unreadable,
            slots: RwLock::new(slots),
            active: Mutex::new(ActiveSegment::new(active_bytes)),
            log_start: AtomicI64::new(log_start.0),
            end: AtomicI64::new(end.0),
            durable: AtomicI64::new(end.0),
            high_watermark: AtomicI64::new(end.0),
            appended_bytes: AtomicU64::new(0),
            flushed_bytes: AtomicU64::new(0),
            recent_flush_bytes: AtomicU64::new(0),
            ticket: FlushTicket::default(),
            checkpoint_due: AtomicBool::new(false),
            maintenance: Mutex::new(Maintenance::of(leftovers)),
            damage: Mutex::default(),
            failures: Mutex::default(),
            flush_state: Mutex::new(FlushState::new(checkpoint, persisted)),
            listeners: RwLock::default(),
            notified: Mutex::new(end.0),
            deleted: AtomicBool::new(false),
            deferred: Deferred::default(),
            clean: Mutex::default(),
        })
    }

    /// A small file beside the segments of the partition. A deletion of the partition removes it, and a failed sync of
    /// it takes the log directory offline.
    pub fn state_file(&self, file_name: &str, version: u32) -> StateFile {
        StateFile::on(Arc::clone(&self.dir.disk), self.directory.join(file_name), version)
    }

    /// Its topic and index.
    pub fn name(&self) -> &PartitionName {
        &self.name
    }

    /// The directory of its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The topic it belongs to; nil if `partition.meta` had to be rebuilt.
    pub fn topic_id(&self) -> Uuid {
        self.meta().topic_id
    }

    /// Its settings.
    pub fn options(&self) -> PartitionOptions {
        self.meta().options
    }

    /// When its records become visible.
    pub fn durability(&self) -> Durability {
        if self.page_cache.load(Ordering::Acquire) { Durability::PageCache } else { Durability::Fsync }
    }

    /// First offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    /// Offset after the last record appended.
    pub fn end_offset(&self) -> Offset {
        Offset(self.end.load(Ordering::Acquire))
    }

    /// Offset after the last record that survives a power cut.
    pub fn durable_offset(&self) -> Offset {
        Offset(self.durable.load(Ordering::Acquire))
    }

    /// Offset after the last record that consumers may see: the durable offset, or the end of a page-cache partition.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// The epoch written into every batch appended since this start.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.leader_epoch.load(Ordering::Acquire))
    }

    /// The greatest epoch not above `epoch`, and the offset after its last record; `None` for an epoch not yet begun.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.meta().epochs.end_of(epoch, self.end_offset())
    }

    /// The epoch of the record at `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.meta().epochs.epoch_of(offset)
    }

    /// Whether it is offline, alone or with its log directory: nothing is written any more, and the high watermark does
    /// not move.
    pub fn is_offline(&self) -> bool {
        self.unreadable.is_some() || self.dir.offline_reason().is_some()
    }

    /// The reason why it is offline, if it is.
    pub fn offline_reason(&self) -> Option<String> {
        self.unreadable.clone().or_else(|| self.dir.offline_reason().map(str::to_owned))
    }

    /// Whether recovery failed.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable.is_some()
    }

    /// Whether the partition was deleted.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Calls `listener` with the new high watermark whenever it has moved, in rising order, one call at a time, in the
    /// thread that moved it. Calls it once more when the log directory goes offline or the partition is deleted. The
    /// listener must be fast, and must not append to this partition or flush it.
    pub fn on_advance(&self, listener: Listener) {
        self.listeners.write().push(listener);
    }

    /// Changes the settings, durably. If the partition becomes an fsync partition, everything visible is durable when
    /// this returns.
    pub fn set_options(&self, options: PartitionOptions) -> Result<(), AlterError> {
        let _one = self.settings_lock.lock();
        if options.durability == Durability::Fsync && self.durability() == Durability::PageCache {
            self.switch_to_fsync(options)?;
        } else {
            self.rewrite_meta(|meta| meta.options = options)?;
            self.set_durability(options.durability);
        }
        self.segment_bytes.store(options.segment_bytes, Ordering::Release);
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
            self.page_cache.store(durability == Durability::PageCache, Ordering::Release);
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

    /// Moves the high watermark up to `to`, if it is lower, and calls the listeners.
    fn raise_watermark(&self, to: Offset) {
        if self.high_watermark.fetch_max(to.0, Ordering::AcqRel) < to.0 {
            let mut notified = self.notified.lock();
            // Another thread may have announced a later watermark while this one waited.
            let now = self.high_watermark.load(Ordering::Acquire);
            if now > *notified {
                *notified = now;
                self.call_listeners(now);
            }
        }
    }

    /// Calls the listeners for an event that does not move the watermark; the listeners look for the event themselves.
    pub(crate) fn notify_listeners(&self) {
        let _one_at_a_time = self.notified.lock();
        self.call_listeners(self.high_watermark.load(Ordering::Acquire));
    }

    fn call_listeners(&self, watermark: i64) {
        for listener in self.listeners.read().iter() {
            listener(Offset(watermark));
        }
    }

    /// Starts a deletion. When this returns, no thread writes into the directory any more: another partition may get
    /// the same name.
    pub(crate) fn begin_deletion(&self) {
        self.deleted.store(true, Ordering::Release);
        drop(self.maintenance());
        drop(self.flush_state.lock());
        drop(self.lock_meta());
        let mut active = self.active();
        self.dir.reserve.trade(active.take_reserved(), 0);
    }

    /// Undoes [`begin_deletion`](Self::begin_deletion).
    pub(crate) fn cancel_deletion(&self) {
        self.deleted.store(false, Ordering::Release);
        // A flush that was asked for meanwhile found a deleted partition and did nothing.
        self.flush_soon();
    }

    /// Handles a panic in a listener or in the log: the result of the flush is unknown, and waiting for it would never
    /// end.
    pub(crate) fn flusher_panicked(&self) {
        self.dir.take_offline_after("a flush", &std::io::Error::other("panic in the flusher or a listener"));
    }

    /// Drops the listeners and everything they hold.
    pub(crate) fn forget_listeners(&self) {
        self.listeners.write().clear();
    }

    pub(crate) fn ticket(&self) -> &FlushTicket {
        &self.ticket
    }

    fn meta(&self) -> Arc<Meta> {
        Arc::clone(&self.meta.read())
    }

    fn publish_meta(&self, meta: Meta) {
        *self.meta.write() = Arc::new(meta);
    }

    fn lock_meta(&self) -> MutexGuard<'_, ()> {
        self.meta_lock.lock()
    }

    fn active(&self) -> MutexGuard<'_, ActiveSegment> {
        self.active.lock()
    }
}

impl fmt::Debug for PartitionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionLog")
            .field("name", &self.name)
            .field("end", &self.end_offset())
            .field("durable", &self.durable_offset())
            .finish_non_exhaustive()
    }
}
