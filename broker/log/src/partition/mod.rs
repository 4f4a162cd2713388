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
//! - `settings` holds and changes the settings; `meta` is their file, `partition.meta`
//! - `listeners` calls the listeners of the high watermark

mod append;
mod check;
mod deferred;
mod flush;
mod listeners;
mod locate;
mod meta;
mod replace;
mod retain;
mod settings;
mod size;
mod slot;
mod timestamp;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
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
use self::check::Damage;
use self::deferred::Deferred;
use self::flush::{FlushState, Flushing};
use self::listeners::Listeners;
use self::replace::Maintenance;
use self::settings::Settings;
use crate::Offset;
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::clean::CleanState;
use crate::commit::FlushTicket;
use crate::dir_state::DirState;
use crate::format::PartitionName;
use crate::state_file::StateFile;

/// The log of one partition. All methods may be called from any thread; none of them waits for a sync except
/// [`flush`](Self::flush) and [`set_options`](Self::set_options).
pub struct PartitionLog {
    /// For handing the partition to the flusher.
    me: Weak<PartitionLog>,
    dir: Arc<DirState>,
    directory: PathBuf,
    name: PartitionName,
    /// Why recovery failed: then the log reads and writes nothing of the partition.
    unreadable: Option<String>,
    deleted: AtomicBool,
    settings: Settings,
    offsets: Offsets,
    /// The end of the log when it was opened.
    opened_end: Offset,
    /// All segments by base offset; the last one is the active one.
    slots: RwLock<Vec<Arc<Slot>>>,
    /// The append lock: held by the append that writes.
    active: Mutex<ActiveSegment>,
    flushing: Flushing,
    listeners: Listeners,
    damage: Damage,
    /// The maintenance lock: held while segments are removed or replaced; a deletion waits for it.
    maintenance: Mutex<Maintenance>,
    /// How far the partition is compacted. Held by the running compaction.
    clean: Mutex<CleanState>,
    /// Writes that startup could not do on a full disk.
    deferred: Deferred,
}

/// The offsets that bound the log, in rising order. Each can be read without a lock.
#[derive(Debug)]
struct Offsets {
    /// First offset that can be read. Written under the flush lock.
    log_start: AtomicI64,
    /// Offset after the last record synced. Written under the flush lock.
    durable: AtomicI64,
    /// Offset after the last record visible to consumers. Never moves back.
    high_watermark: AtomicI64,
    /// Offset after the last record written. Written under the append lock.
    end: AtomicI64,
}

impl Offsets {
    fn new(log_start: Offset, end: Offset) -> Self {
        Self {
            log_start: AtomicI64::new(log_start.0),
            durable: AtomicI64::new(end.0),
            high_watermark: AtomicI64::new(end.0),
            end: AtomicI64::new(end.0),
        }
    }
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
            unreadable,
            deleted: AtomicBool::new(false),
            settings: Settings::new(meta),
            offsets: Offsets::new(log_start, end),
            opened_end: end,
            slots: RwLock::new(slots),
            active: Mutex::new(ActiveSegment::new(active_bytes)),
            flushing: Flushing::new(FlushState::new(checkpoint, persisted)),
            listeners: Listeners::new(end),
            damage: Damage::default(),
            maintenance: Mutex::new(Maintenance::of(leftovers)),
            clean: Mutex::default(),
            deferred: Deferred::default(),
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

    /// First offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        Offset(self.offsets.log_start.load(Ordering::Acquire))
    }

    /// Offset after the last record appended.
    pub fn end_offset(&self) -> Offset {
        Offset(self.offsets.end.load(Ordering::Acquire))
    }

    /// Offset after the last record that survives a power cut.
    pub fn durable_offset(&self) -> Offset {
        Offset(self.offsets.durable.load(Ordering::Acquire))
    }

    /// Offset after the last record that consumers may see: the durable offset, or the end of a page-cache partition.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.offsets.high_watermark.load(Ordering::Acquire))
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

    /// Starts a deletion. When this returns, no thread writes into the directory any more: another partition may get
    /// the same name.
    pub(crate) fn begin_deletion(&self) {
        self.deleted.store(true, Ordering::Release);
        drop(self.maintenance());
        drop(self.flushing.state.lock());
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

    pub(crate) fn ticket(&self) -> &FlushTicket {
        &self.flushing.ticket
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
