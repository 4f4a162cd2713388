//! One partition: its segments, its offsets, and who wants to know when they move.
//!
//! - `append` assigns offsets and writes, under the partition's lock
//! - `flush` makes appended bytes durable and moves the durable offset
//! - `check` looks at what is read for the first time
//! - `locate` finds the bytes of an offset, `timestamp` the offset of a time
//! - `replace` takes segments out of the log and puts one in the place of several
//! - `retain` says which segments are old enough to go
//! - `slot` opens segments when they are needed and closes them for others
//! - `owed` is what a start on a full disk could not write
//! - `meta` is `partition.meta`

mod append;
mod check;
mod flush;
mod locate;
mod meta;
mod owed;
mod replace;
mod retain;
mod size;
mod slot;
mod timestamp;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use uuid::Uuid;

pub use self::append::Appended;
pub use self::locate::{FileRange, QuarantinedRange, ScannedRange};
pub(crate) use self::meta::Meta;
pub(crate) use self::owed::Owed;
pub(crate) use self::replace::{Leftovers, Replacement};
pub use self::retain::{Removed, Retention};
pub(crate) use self::slot::{Slot, write_index};

use self::append::Tail;
use self::check::ReadFailure;
use self::flush::Flushed;
use self::owed::Debt;
use self::replace::Upkeep;
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::clean::CleanState;
use crate::commit::FlushTicket;
use crate::error::AlterError;
use crate::format::{META_FILE, META_VERSION, PartitionName};
use crate::options::{Durability, PartitionOptions};
use crate::shared::Shared;
use crate::state_file::StateFile;
use crate::{LeaderEpoch, Offset};

type Listener = Box<dyn Fn(Offset) + Send + Sync>;

/// The log of one partition. All methods may be called from any thread; none of them waits for a sync except
/// [`flush`](Self::flush) and [`set_options`](Self::set_options).
pub struct PartitionLog {
    /// For handing itself to the flusher.
    me: Weak<PartitionLog>,
    shared: Arc<Shared>,
    directory: PathBuf,
    name: PartitionName,
    /// What `partition.meta` says. Whoever reads it never waits for a disk.
    meta: RwLock<Arc<Meta>>,
    /// Held while the settings change, before any other lock.
    altering: Mutex<()>,
    /// Held while `partition.meta` is rewritten.
    rewriting: Mutex<()>,
    /// Why the start could not bring it back: nothing of it is read or written.
    unreadable: Option<String>,
    page_cache: AtomicBool,
    segment_bytes: AtomicU64,
    leader_epoch: AtomicI32,
    /// All segments by base offset; the last one is the active one.
    slots: RwLock<Vec<Arc<Slot>>>,
    /// Held by the append that writes.
    tail: Mutex<Tail>,
    log_start: AtomicI64,
    /// Offset after the last record written.
    end: AtomicI64,
    /// Offset after the last record synced.
    durable: AtomicI64,
    /// Offset after the last record visible to consumers. Never moves back.
    high_watermark: AtomicI64,
    appended_bytes: AtomicU64,
    flushed_bytes: AtomicU64,
    /// What the last flush covered.
    recent_flush_bytes: AtomicU64,
    ticket: FlushTicket,
    /// The checkpoint has to be written by the next flush, whether there is something to sync or not.
    checkpoint_due: AtomicBool,
    /// Held while segments are removed or replaced, and by a deletion.
    upkeep: Mutex<Upkeep>,
    /// Damaged ranges found since the start, by the base of their segment.
    damage: Mutex<BTreeMap<i64, Vec<QuarantinedRange>>>,
    /// Segments whose disk failed under a reader not long ago.
    failures: Mutex<Vec<ReadFailure>>,
    /// Held by the flush that runs, and by a deletion.
    flushed: Mutex<Flushed>,
    listeners: RwLock<Vec<Listener>>,
    /// The watermark that listeners were told last; held while they are called, so that they see it rise only.
    told: Mutex<i64>,
    deleted: AtomicBool,
    /// What the start had no space to write.
    debt: Debt,
    /// How far the partition is compacted; held while it is.
    clean: Mutex<CleanState>,
}

/// A partition as recovery or creation found it.
pub(crate) struct Opened {
    pub(crate) directory: PathBuf,
    pub(crate) meta: Meta,
    pub(crate) bases: Vec<Offset>,
    pub(crate) log_start: Offset,
    pub(crate) end: Offset,
    /// Length of the last segment.
    pub(crate) active_bytes: u64,
    pub(crate) checkpoint: CheckpointFile,
    /// What the checkpoint says already, if it is still true.
    pub(crate) persisted: Option<Checkpoint>,
    /// Why it cannot be used, where that is so.
    pub(crate) unreadable: Option<String>,
    /// What the start could not finish on a full disk.
    pub(crate) leftovers: Leftovers,
}

impl Opened {
    /// A partition of which nothing is known but that it is, or may be, there.
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
    pub(crate) fn new(shared: Arc<Shared>, opened: Opened) -> Arc<Self> {
        let Opened { directory, meta, bases, log_start, end, active_bytes, checkpoint, persisted, .. } = opened;
        let Opened { unreadable, leftovers, .. } = opened;
        let slots = bases.into_iter().map(|base| Arc::new(leftovers.slot(base))).collect();
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            shared,
            directory,
            name: meta.name.clone(),
            page_cache: AtomicBool::new(meta.options.durability == Durability::PageCache),
            segment_bytes: AtomicU64::new(meta.options.segment_bytes),
            leader_epoch: AtomicI32::new(meta.epochs.latest().map_or(0, |epoch| epoch.0)),
            meta: RwLock::new(Arc::new(meta)),
            altering: Mutex::default(),
            rewriting: Mutex::default(),
            unreadable,
            slots: RwLock::new(slots),
            tail: Mutex::new(Tail::new(active_bytes)),
            log_start: AtomicI64::new(log_start.0),
            end: AtomicI64::new(end.0),
            durable: AtomicI64::new(end.0),
            high_watermark: AtomicI64::new(end.0),
            appended_bytes: AtomicU64::new(0),
            flushed_bytes: AtomicU64::new(0),
            recent_flush_bytes: AtomicU64::new(0),
            ticket: FlushTicket::default(),
            checkpoint_due: AtomicBool::new(false),
            upkeep: Mutex::new(Upkeep::of(leftovers)),
            damage: Mutex::default(),
            failures: Mutex::default(),
            flushed: Mutex::new(Flushed::new(checkpoint, persisted)),
            listeners: RwLock::default(),
            told: Mutex::new(end.0),
            deleted: AtomicBool::new(false),
            debt: Debt::default(),
            clean: Mutex::default(),
        })
    }

    /// A small file of the partition's own, beside its segments: it goes when the partition goes, and a failed sync of it
    /// takes the log directory offline.
    pub fn state_file(&self, file_name: &str, version: u32) -> StateFile {
        StateFile::on(Arc::clone(&self.shared.disk), self.directory.join(file_name), version)
    }

    /// Its topic and index.
    pub fn name(&self) -> &PartitionName {
        &self.name
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The topic it belongs to; nil where `partition.meta` had to be made again.
    pub fn topic_id(&self) -> Uuid {
        self.meta().topic_id
    }

    /// How it is configured.
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

    /// Whether it is offline, alone or with its log directory: nothing is written any more, and the high watermark stands
    /// still.
    pub fn is_offline(&self) -> bool {
        self.unreadable.is_some() || self.shared.offline_reason().is_some()
    }

    /// Why it is offline, if it is.
    pub fn offline_reason(&self) -> Option<String> {
        self.unreadable.clone().or_else(|| self.shared.offline_reason().map(str::to_owned))
    }

    /// Whether the start could not bring it back.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable.is_some()
    }

    /// Whether the partition was deleted.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Calls `listener` with the new high watermark whenever it has moved, in rising order, one call at a time, from the
    /// thread that moved it; and once more when the log directory goes offline or the partition is deleted. It must be
    /// quick and must not append to this partition or flush it.
    pub fn on_advance(&self, listener: Listener) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Changes the configuration, durably. A partition that becomes stricter is synced first, so that everything
    /// visible is durable when this returns.
    pub fn set_options(&self, options: PartitionOptions) -> Result<(), AlterError> {
        let _one = self.altering.lock().unwrap_or_else(PoisonError::into_inner);
        if options.durability == Durability::Fsync && self.durability() == Durability::PageCache {
            self.become_strict(options)?;
        } else {
            self.rewrite_meta(|meta| meta.options = options)?;
            self.set_durability(options.durability);
        }
        self.segment_bytes.store(options.segment_bytes, Ordering::Release);
        Ok(())
    }

    /// The stricter promise is kept from the first moment on and written down once it is true of everything visible. Should
    /// a crash come before, the start finds the laxer one, and raises the epoch.
    fn become_strict(&self, options: PartitionOptions) -> Result<(), AlterError> {
        self.set_durability(Durability::Fsync);
        let flushed = self.flush().map_err(|crate::FlushError::Offline { reason }| AlterError::Offline { reason });
        let written = flushed.and_then(|_| self.rewrite_meta(|meta| meta.options = options));
        if written.is_err() {
            self.set_durability(Durability::PageCache);
        }
        written
    }

    /// When an append becomes visible, from the next one on. Those that ended before have shown themselves, or are covered
    /// by every flush that begins later.
    fn set_durability(&self, durability: Durability) {
        let end = {
            let _no_append = self.tail();
            self.page_cache.store(durability == Durability::PageCache, Ordering::Release);
            self.end_offset()
        };
        if durability == Durability::PageCache && !self.is_offline() {
            self.raise_watermark(end);
        }
    }

    /// Gives a partition whose `partition.meta` was lost its topic again. On a full disk that is written down before the
    /// first append.
    pub fn set_topic_id(&self, topic_id: Uuid) -> Result<(), AlterError> {
        if self.is_unreadable() {
            // Its own file may say so, and is left alone.
            self.publish_meta(Meta { topic_id, ..Meta::clone(&self.meta()) });
            return Ok(());
        }
        match self.rewrite_meta(|meta| meta.topic_id = topic_id) {
            Err(AlterError::Write(error)) if error.is_full() => {
                let one = self.rewriting();
                self.publish_meta(Meta { topic_id, ..Meta::clone(&self.meta()) });
                drop(one);
                self.owe(Owed { meta: true, segment: None });
                Ok(())
            }
            written => written,
        }
    }

    fn rewrite_meta(&self, change: impl FnOnce(&mut Meta)) -> Result<(), AlterError> {
        if let Some(reason) = self.offline_reason() {
            return Err(AlterError::Offline { reason });
        }
        let _one = self.rewriting();
        if self.is_deleted() {
            return Err(AlterError::Deleted);
        }
        let meta = self.meta();
        let mut changed = Meta::clone(&meta);
        change(&mut changed);
        if changed != *meta {
            Self::meta_file(&self.shared, &self.directory).write(&changed.encode())?;
            self.publish_meta(changed);
        }
        Ok(())
    }

    pub(crate) fn meta_file(shared: &Shared, directory: &Path) -> StateFile {
        StateFile::on(shared.disk.clone(), directory.join(META_FILE), META_VERSION)
    }

    /// Moves the high watermark up to `to`, if it is not there yet, and tells the listeners.
    fn raise_watermark(&self, to: Offset) {
        if self.high_watermark.fetch_max(to.0, Ordering::AcqRel) < to.0 {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have told a later one while this one waited.
            let now = self.high_watermark.load(Ordering::Acquire);
            if now > *told {
                *told = now;
                self.call_listeners(now);
            }
        }
    }

    /// Tells the listeners that something happened which is no move of the watermark: they look.
    pub(crate) fn tell_listeners(&self) {
        let _one_at_a_time = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.call_listeners(self.high_watermark.load(Ordering::Acquire));
    }

    fn call_listeners(&self, watermark: i64) {
        for listener in self.listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(Offset(watermark));
        }
    }

    /// Nothing writes into the directory any more when this returns, and nothing will: another partition may get its
    /// name.
    pub(crate) fn retire(&self) {
        self.deleted.store(true, Ordering::Release);
        drop(self.upkeep());
        drop(self.flushed.lock().unwrap_or_else(PoisonError::into_inner));
        drop(self.rewriting());
        let mut tail = self.tail();
        self.shared.reserve.trade(tail.take_reserved(), 0);
    }

    /// Undoes [`retire`](Self::retire).
    pub(crate) fn unretire(&self) {
        self.deleted.store(false, Ordering::Release);
        // Whatever asked for a flush meanwhile found a partition that needs none.
        self.flush_soon();
    }

    /// A listener panicked, or the log did: what became of the flush is unknown, and waiting for it would be for ever.
    pub(crate) fn flusher_panicked(&self) {
        self.shared.poison("a flush", &std::io::Error::other("panic in the flusher or a listener"));
    }

    /// Lets go of whoever listens, and of what they hold.
    pub(crate) fn forget_listeners(&self) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn ticket(&self) -> &FlushTicket {
        &self.ticket
    }

    fn meta(&self) -> Arc<Meta> {
        Arc::clone(&self.meta.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish_meta(&self, meta: Meta) {
        *self.meta.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(meta);
    }

    fn rewriting(&self) -> MutexGuard<'_, ()> {
        self.rewriting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
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
