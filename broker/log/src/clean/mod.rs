//! Compaction: the last record of every key stays; a deletion marker stays for a limited time only.
//!
//! ```text
//! log start        clean point            map end       upto            active segment
//!     │   clean: one    │   dirty, its keys   │   dirty,     │   too young,   │
//!     │ record per key  │   are in the map    │  next time   │  or not synced │
//!     └───── rewritten with the map ──────────┘
//! ```
//!
//! 1. [`keys`]: collects the keys of the dirty part, in bounded memory. If they do not fit, the map ends earlier
//! 2. [`round`], [`read`], [`filter`], [`output`]: read segments batch by batch, filter them, and write a new segment
//!    if something changes. Small neighbours become one segment
//! 3. `partition/replace`: replaces the old segments by the new one, completely or not at all
//! 4. [`state`]: stores how far the partition is compacted. Losing it costs only work
//!
//! Compaction holds no lock that an append or a reader waits for, except while it changes the list of segments.
//! Damage stays: compaction skips and reports a segment with a bad batch. The deletion markers behind it stay too,
//! because the records that they delete may be in the bad batch.

mod filter;
mod keys;
mod output;
mod read;
mod round;
mod state;
mod throttle;

#[cfg(test)]
mod crash_tests;

use std::io;
use std::sync::Arc;

use ottla_wire::Offset;
use ottla_wire::record::BatchHeader;

use self::read::{BatchReader, Next};
use self::round::Round;
use self::state::CleanRecord;
pub(crate) use self::state::{CleanState, forget_beyond};
use self::throttle::{Stopped, Throttle};
use crate::error::{FlushError, LocateError};
use crate::partition::{PartitionLog, Slot};
use crate::segment::Segment;

/// How to compact a partition.
pub struct CleanOptions<'a> {
    /// Records at and above this offset stay. Records that are not durable, or in the active segment, stay anyway.
    pub upto: Offset,
    /// The current time.
    pub now_ms: i64,
    /// How long a deletion marker stays after its first compaction.
    pub delete_retention_ms: i64,
    /// How old a record must be before compaction may remove it.
    pub min_compaction_lag_ms: i64,
    /// Memory for the keys of one round, 24 bytes each and an eighth more.
    pub key_map_bytes_max: usize,
    /// A batch that unpacks to more than this stays as it is.
    pub unpacked_bytes_max: usize,
    /// Limit for the bytes read and written per second together; 0 for no limit.
    pub io_bytes_per_second: u64,
    /// Whether a batch is the last one of an idempotent producer that the broker remembers: it stays, empty if need be.
    pub is_producer_end: &'a dyn Fn(&BatchHeader) -> bool,
    /// Whether the compaction has to stop soon.
    pub should_stop: &'a dyn Fn() -> bool,
}

/// The result of a compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanReport {
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Bytes that were freed.
    pub bytes_freed: u64,
    /// Records that were removed.
    pub records_removed: u64,
    /// Segments that were replaced.
    pub segments_replaced: usize,
    /// Segments that replaced them.
    pub segments_written: usize,
    /// Different keys in the part that was dirty.
    pub keys: usize,
    /// Below this offset the log now has one record per key.
    pub clean_upto: Offset,
    /// Whether the keys did not fit into memory, so that another round is needed.
    pub is_partial: bool,
    /// Batches that could not be unpacked, and stay as they are.
    pub opaque_batches: u64,
    /// Segments passed over because of damage, by base offset.
    pub damaged_segments: Vec<Offset>,
}

/// The amount of data to compact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirtiness {
    /// Bytes that are compacted already.
    pub clean_bytes: u64,
    /// Bytes that can be compacted and are not yet.
    pub dirty_bytes: u64,
    /// Timestamp of the start of the dirty part, if there is one.
    pub oldest_dirty_ms: Option<i64>,
    /// When the next deletion marker may be removed.
    pub next_horizon_ms: Option<i64>,
}

impl Dirtiness {
    /// The share of dirty bytes, 0 to 1.
    pub fn ratio(&self) -> f64 {
        match self.clean_bytes + self.dirty_bytes {
            0 => 0.0,
            all => self.dirty_bytes as f64 / all as f64,
        }
    }
}

/// Why a compaction ended early. Segments that it had replaced stay replaced; no segment is half replaced.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The caller stopped it.
    #[error("the compaction was stopped")]
    Stopped,
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// The log directory was shut down.
    #[error("the log is shut down")]
    Closed,
    /// The log directory is offline.
    #[error("the log directory is offline: {reason}")]
    Offline {
        /// The reason.
        reason: String,
    },
    /// There is no space for the new segment. The old ones stay.
    #[error("no space left to write a compacted segment")]
    NoSpace,
    /// A system call failed.
    #[error("compacting: {source}")]
    Io {
        /// Its error.
        source: io::Error,
    },
}

impl From<io::Error> for CleanError {
    fn from(source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::NoSpace,
            _ => Self::Io { source },
        }
    }
}

impl From<Stopped> for CleanError {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<FlushError> for CleanError {
    fn from(FlushError::Offline { reason }: FlushError) -> Self {
        Self::Offline { reason }
    }
}

impl From<LocateError> for CleanError {
    fn from(error: LocateError) -> Self {
        match error {
            LocateError::Io { source } => source.into(),
            other => Self::Io { source: io::Error::other(other) },
        }
    }
}

/// A segment that may be compacted. Compaction opens it only when its turn comes, because there may be more segments
/// than the process may have open files.
#[derive(Clone)]
struct Candidate {
    slot: Arc<Slot>,
    end: Offset,
    bytes: u64,
}

impl Candidate {
    fn base(&self) -> Offset {
        self.slot.base()
    }

    /// The segment; `None` if retention or a deletion removed it.
    fn open(&self, log: &PartitionLog) -> Result<Option<Arc<Segment>>, CleanError> {
        Ok(log.open_listed(&self.slot)?)
    }
}

/// The segments that can be compacted now.
struct Extent {
    candidates: Vec<Candidate>,
    first_dirty: Offset,
    upto: Offset,
}

impl Extent {
    fn dirty(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| candidate.end > self.first_dirty)
    }
}

impl PartitionLog {
    /// How much a compaction with these options would find.
    pub fn dirtiness(&self, options: &CleanOptions<'_>) -> Result<Dirtiness, CleanError> {
        self.check_cleanable()?;
        let state = self.clean_state().lock().load(self);
        let extent = self.extent(state, options)?;
        let mut dirtiness = Dirtiness { next_horizon_ms: state.next_horizon_ms, ..Dirtiness::default() };
        for candidate in &extent.candidates {
            if candidate.end <= extent.first_dirty {
                dirtiness.clean_bytes += candidate.bytes;
                continue;
            }
            dirtiness.dirty_bytes += candidate.bytes;
        }
        for candidate in extent.dirty() {
            let Some(segment) = candidate.open(self)? else { continue };
            dirtiness.oldest_dirty_ms = first_timestamp(&segment)?;
            if dirtiness.oldest_dirty_ms.is_some() {
                break;
            }
        }
        Ok(dirtiness)
    }

    /// Compacts the segments that can be compacted. One compaction runs at a time; readers and appends go on.
    pub fn compact(&self, options: &CleanOptions<'_>) -> Result<CleanReport, CleanError> {
        self.check_cleanable()?;
        let mut guard = self.clean_state().lock();
        let state = guard.load(self);
        let extent = self.extent(state, options)?;
        let mut round = Round::new(self, options);
        let keys = round.collect_keys(&extent)?;
        round.report.keys = keys.map.len();
        round.report.is_partial = keys.end < extent.upto;
        for group in self.groups(&extent, keys.end) {
            round.rewrite(&group, &keys)?;
        }
        round.report.clean_upto =
            if round.is_unfinished { extent.first_dirty } else { keys.end.max(extent.first_dirty) };
        let next_horizon_ms = round.next_horizon_ms;
        let report = round.report;
        guard.store(self, CleanRecord { clean_upto: report.clean_upto, next_horizon_ms });
        Ok(report)
    }

    fn check_cleanable(&self) -> Result<(), CleanError> {
        if let Some(reason) = self.offline_reason() {
            return Err(CleanError::Offline { reason });
        }
        if self.is_deleted() {
            return Err(CleanError::Deleted);
        }
        if self.is_closed() {
            return Err(CleanError::Closed);
        }
        Ok(())
    }

    /// The segments that are durable, closed, visible and old enough.
    fn extent(&self, state: CleanRecord, options: &CleanOptions<'_>) -> Result<Extent, CleanError> {
        let start = self.log_start_offset();
        let first_dirty = state.clean_upto.max(start);
        let upto = options.upto.min(self.high_watermark()).min(self.durable_offset());
        let youngest_ms = options.now_ms.saturating_sub(options.min_compaction_lag_ms.max(0));
        let mut candidates = Vec::new();
        for (slot, end) in self.all_slots() {
            let Some(end) = end.filter(|end| *end <= upto) else { break };
            if end <= start {
                continue;
            }
            if !slot.is_at_rest() {
                break;
            }
            if options.min_compaction_lag_ms > 0 && end > first_dirty {
                // The segment was removed: the next round checks the rest.
                let Some(newest_ms) = self.newest_ms(&slot)? else { break };
                if newest_ms > youngest_ms {
                    break;
                }
            }
            let bytes = self.slot_bytes(&slot)?;
            candidates.push(Candidate { slot, end, bytes });
        }
        let upto = candidates.last().map_or(first_dirty, |last| last.end.max(first_dirty));
        Ok(Extent { candidates, first_dirty, upto })
    }

    /// Groups of neighbouring segments; each group becomes one segment.
    fn groups(&self, extent: &Extent, keys_end: Offset) -> Vec<Vec<Candidate>> {
        let bytes_max = self.map_bytes();
        let mut groups: Vec<Vec<Candidate>> = Vec::new();
        let mut bytes = 0;
        for candidate in &extent.candidates {
            // Compaction changes nothing behind the end of the map.
            if candidate.base() >= keys_end {
                break;
            }
            let more = candidate.bytes;
            let joins = groups.last().and_then(|group| group.first()).is_some_and(|first| {
                bytes + more <= bytes_max && i32::try_from(candidate.end.0 - first.base().0).is_ok()
            });
            if let Some(group) = groups.last_mut().filter(|_| joins) {
                group.push(candidate.clone());
            } else {
                groups.push(vec![candidate.clone()]);
                bytes = 0;
            }
            bytes += more;
        }
        groups
    }
}

/// The timestamp of the first batch that has one.
fn first_timestamp(segment: &Segment) -> Result<Option<i64>, CleanError> {
    let mut throttle = Throttle::new(0, &|| false);
    let mut reader = BatchReader::new(segment, segment.base_offset());
    match reader.next(&mut throttle)? {
        Next::Batch { batch, .. } if batch.header.record_count > 0 => Ok(Some(batch.header.max_timestamp)),
        _ => Ok(None),
    }
}
