//! The counters of a log directory, for metrics: how long syncs take and how much each covers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets of durations, in seconds.
const SECONDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];
/// Upper ends of the buckets of sizes, in bytes.
const BYTES: [f64; 12] = [
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// The counters of a log directory since it was opened.
#[derive(Debug, Clone)]
pub struct LogStats {
    /// How long each sync of a segment took, in seconds.
    pub sync_seconds: Distribution,
    /// How many bytes each group commit made durable.
    pub group_bytes: Distribution,
    /// Syncs of segments that failed.
    pub sync_failures: u64,
}

/// The distribution of values over buckets.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// Upper end of each bucket and the number of values in it. Larger values count only in `count`.
    pub buckets: Vec<(f64, u64)>,
    /// How many values there were.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; 12],
    count: AtomicU64,
    sum: AtomicU64,
}

impl Buckets {
    fn note(&self, bounds: &[f64; 12], value: f64, sum: u64) {
        if let Some(count) = bounds.iter().position(|bound| value <= *bound).and_then(|at| self.counts.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(sum, Ordering::Relaxed);
    }

    fn read(&self, bounds: &[f64; 12], unit: f64) -> Distribution {
        let buckets = bounds.iter().zip(&self.counts).map(|(bound, count)| (*bound, count.load(Ordering::Relaxed)));
        Distribution {
            buckets: buckets.collect(),
            count: self.count.load(Ordering::Relaxed),
            sum: self.sum.load(Ordering::Relaxed) as f64 * unit,
        }
    }
}

/// The counters. They change once per sync, never per record.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    syncs: Buckets,
    groups: Buckets,
    sync_failures: AtomicU64,
    deleted_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn note_sync(&self, took: Duration, worked: bool) {
        self.syncs.note(&SECONDS, took.as_secs_f64(), took.as_micros() as u64);
        self.sync_failures.fetch_add(u64::from(!worked), Ordering::Relaxed);
    }

    pub(crate) fn note_group(&self, bytes: u64) {
        if bytes > 0 {
            self.groups.note(&BYTES, bytes as f64, bytes);
        }
    }

    /// Counts the bytes that were appended to a partition which is deleted now.
    pub(crate) fn note_deleted(&self, appended_bytes: u64) {
        self.deleted_bytes.fetch_add(appended_bytes, Ordering::Relaxed);
    }

    pub(crate) fn deleted_bytes(&self) -> u64 {
        self.deleted_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> LogStats {
        LogStats {
            sync_seconds: self.syncs.read(&SECONDS, 1e-6),
            group_bytes: self.groups.read(&BYTES, 1.0),
            sync_failures: self.sync_failures.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_counts_in_one_bucket_or_above_all_buckets() {
        let counters = Counters::default();
        counters.note_sync(Duration::from_micros(300), true);
        counters.note_sync(Duration::from_mins(1), false);
        let stats = counters.read();
        assert_eq!((stats.sync_seconds.count, stats.sync_failures), (2, 1));
        assert_eq!(stats.sync_seconds.buckets.iter().filter(|(_, count)| *count > 0).count(), 1);
        assert!((stats.sync_seconds.sum - 60.0003).abs() < 1e-9);
    }
}
