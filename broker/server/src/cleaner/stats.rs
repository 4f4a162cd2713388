//! What the cleaner did: plain numbers for metrics and for people.

use std::collections::BTreeMap;

use ottla_log::{CleanReport, Removed};
use parking_lot::{Mutex, MutexGuard};

use crate::clock;
use crate::partition::Partition;

/// What the cleaner did since the broker started.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct CleanerSnapshot {
    /// When the last look at what is too old ended, in milliseconds since 1970; 0 for never.
    pub last_retention_ms: i64,
    /// When the last look at what can be compacted ended; 0 for never.
    pub last_compaction_ms: i64,
    /// Segments that retention removed.
    pub segments_removed: u64,
    /// Bytes that retention removed.
    pub bytes_removed: u64,
    /// Compactions that changed something.
    pub compactions: u64,
    /// Bytes that compaction read.
    pub compaction_bytes_read: u64,
    /// Bytes that compaction wrote.
    pub compaction_bytes_written: u64,
    /// Bytes by which compaction made logs shorter.
    pub compaction_bytes_freed: u64,
    /// Records that compaction removed.
    pub compaction_records_removed: u64,
    /// The greatest share of bytes not compacted, of all compacted partitions.
    pub dirty_ratio_max: f64,
    /// Partitions that are compacted or that failed, by topic and index.
    pub partitions: BTreeMap<(String, i32), PartitionCleaning>,
}

/// What the cleaner knows of one partition.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct PartitionCleaning {
    /// The share of bytes not compacted, as of the last look.
    pub dirty_ratio: f64,
    /// When it was compacted last; 0 for never.
    pub last_compaction_ms: i64,
    /// Segments passed over because of damage.
    pub damaged_segments: usize,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Stats(Mutex<CleanerSnapshot>);

impl Stats {
    pub(super) fn snapshot(&self) -> CleanerSnapshot {
        self.lock().clone()
    }

    pub(super) fn removed(&self, removed: Removed) {
        let mut all = self.lock();
        all.segments_removed += removed.segments as u64;
        all.bytes_removed += removed.bytes;
    }

    pub(super) fn retained(&self) {
        self.lock().last_retention_ms = clock::now_ms();
    }

    /// A look at all compacted partitions: those that are none any more are forgotten.
    pub(super) fn looked(&self, ratios: &BTreeMap<(String, i32), f64>) {
        let mut all = self.lock();
        all.partitions.retain(|name, _| ratios.contains_key(name));
        for (name, ratio) in ratios {
            all.partitions.entry(name.clone()).or_default().dirty_ratio = *ratio;
        }
        all.dirty_ratio_max = ratios.values().copied().fold(0.0, f64::max);
    }

    pub(super) fn compacted_all(&self) {
        self.lock().last_compaction_ms = clock::now_ms();
    }

    pub(super) fn compacted(&self, partition: &Partition, report: &CleanReport) {
        let mut all = self.lock();
        all.compactions += u64::from(report.segments_replaced > 0);
        all.compaction_bytes_read += report.bytes_read;
        all.compaction_bytes_written += report.bytes_written;
        all.compaction_bytes_freed += report.bytes_freed;
        all.compaction_records_removed += report.records_removed;
        let one = all.partitions.entry(name(partition)).or_default();
        one.last_compaction_ms = clock::now_ms();
        one.damaged_segments = report.damaged_segments.len();
        one.last_error = None;
    }

    pub(super) fn failed(&self, partition: &Partition, error: String) {
        self.lock().partitions.entry(name(partition)).or_default().last_error = Some(error);
    }

    fn lock(&self) -> MutexGuard<'_, CleanerSnapshot> {
        self.0.lock()
    }
}

pub(super) fn name(partition: &Partition) -> (String, i32) {
    (partition.topic.to_string(), partition.index)
}
