//! The result of recovery, for people and for metrics.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::Offset;
use crate::format::PartitionName;
use crate::partition::QuarantinedRange;

/// The result of opening a log directory.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// The log directory.
    pub path: PathBuf,
    /// The last shutdown was clean, or there was none: the directory held no partition.
    pub clean: bool,
    /// Partitions found.
    pub partitions: usize,
    /// Partitions that had to be scanned.
    pub partitions_scanned: usize,
    /// Bytes read and checked.
    pub bytes_scanned: u64,
    /// Ends that were cut off. Their bytes were never durable, so `acks=all` never acknowledged them.
    pub truncated: Vec<TruncatedRange>,
    /// Damage below the durable offset; reads of it answer an error.
    pub quarantined: Vec<(PartitionName, QuarantinedRange)>,
    /// Partitions that are offline because recovery cannot read bytes that it needs. Recovery changed nothing in
    /// them.
    pub unreadable: Vec<UnreadablePartition>,
    /// Index files that were rebuilt.
    pub indexes_rebuilt: usize,
    /// Partitions whose `partition.meta` was lost or damaged and was rebuilt, without its topic id.
    pub meta_rebuilt: Vec<PartitionName>,
    /// Partitions whose leader epoch was raised.
    pub epochs_raised: usize,
    /// Unfinished and deleted directories that were removed.
    pub leftovers_removed: usize,
    /// How long opening took.
    pub duration: Duration,
}

/// A partition that is offline until a startup can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadablePartition {
    /// The partition.
    pub partition: PartitionName,
    /// The bytes that cannot be read: file, position and offset, as far as they are known.
    pub reason: String,
}

/// An end that recovery cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruncatedRange {
    /// The partition.
    pub partition: PartitionName,
    /// The segment that was cut.
    pub segment_base: Offset,
    /// Offset after the last record kept.
    pub end_offset: Offset,
    /// The new end of the segment.
    pub position: u64,
    /// Bytes cut off, including later segments that were removed.
    pub bytes: u64,
    /// Later segments that were removed.
    pub segments_removed: usize,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, partitions, millis) = (self.path.display(), self.partitions, self.duration.as_millis());
        if self.partitions == 0 {
            write!(f, "log {path}: empty, ready after {millis} ms")?;
        } else if self.clean && self.partitions_scanned == 0 {
            write!(f, "log {path}: {partitions} partitions, closed cleanly last time, ready after {millis} ms")?;
        } else {
            let reason = if self.clean { "closed cleanly last time" } else { "not closed cleanly last time" };
            write!(f, "log {path}: {partitions} partitions, {reason}; ")?;
            let (scanned, mib) = (self.partitions_scanned, self.bytes_scanned as f64 / f64::from(1 << 20));
            write!(f, "checked {scanned} of them ({mib:.1} MiB), ready after {millis} ms")?;
        }
        if self.epochs_raised > 0 {
            write!(f, "\n  raised the leader epoch of {} partitions", self.epochs_raised)?;
        }
        if self.indexes_rebuilt > 0 {
            write!(f, "\n  rebuilt {} indexes", self.indexes_rebuilt)?;
        }
        if self.leftovers_removed > 0 {
            write!(f, "\n  removed {} unfinished or deleted directories", self.leftovers_removed)?;
        }
        for cut in &self.truncated {
            write!(f, "\n  {}: cut {} unfinished bytes after offset {}", cut.partition, cut.bytes, cut.end_offset.0)?;
        }
        for (partition, range) in &self.quarantined {
            let (from, to) = (range.offsets.start, range.offsets.end);
            let (segment, positions) = (range.segment_base.0, &range.positions);
            write!(
                f,
                "\n  {partition}: DAMAGED records {from}..{to} (segment {segment}, bytes {}..{}); reads of them answer an \
                 error, all others are served",
                positions.start, positions.end
            )?;
        }
        for UnreadablePartition { partition, reason } in &self.unreadable {
            write!(f, "\n  {partition}: OFFLINE until a start can read it; nothing in it was changed: {reason}")?;
        }
        for partition in &self.meta_rebuilt {
            write!(f, "\n  {partition}: partition.meta was damaged and was rebuilt")?;
        }
        Ok(())
    }
}
