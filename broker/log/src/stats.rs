//! The counters of a log directory, for metrics: how long syncs take and how much each covers. And the histogram that they
//! are made of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets of durations, in microseconds.
const MICROS: &[u64] = &[100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_000_000];
/// Upper ends of the buckets of sizes, in bytes.
const BYTES: &[u64] = &[
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
    16 << 20,
    64 << 20,
    256 << 20,
    1 << 30,
    4 << 30,
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

/// Counts values by size, with three relaxed additions each and no lock.
#[derive(Debug)]
pub struct Histogram {
    /// Upper end of each bucket, rising.
    bounds: &'static [u64],
    /// Values that are at most as large as the bound and larger than the one before.
    counts: Box<[AtomicU64]>,
    count: AtomicU64,
    sum: AtomicU64,
}

impl Histogram {
    /// A histogram with buckets up to these bounds, which rise.
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, count: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn note(&self, value: u64) {
        if let Some(count) = self.counts.get(self.bounds.partition_point(|bound| *bound < value)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// The values so far, each divided by `unit`: 1e6 shows microseconds as seconds, and the bounds as people write them. A
    /// value that is counted meanwhile may be in part of the result.
    pub fn read(&self, unit: f64) -> Distribution {
        let count = self.count.load(Ordering::Relaxed);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = self.bounds.iter().map(|bound| *bound as f64 / unit).zip(counts).collect();
        let below: u64 = buckets.iter().map(|(_, count)| count).sum();
        Distribution { buckets, count: count.max(below), sum: self.sum.load(Ordering::Relaxed) as f64 / unit }
    }
}

/// The counters. They change once per sync, never per record.
#[derive(Debug)]
pub(crate) struct Counters {
    syncs: Histogram,
    groups: Histogram,
    sync_failures: AtomicU64,
    deleted_bytes: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            syncs: Histogram::new(MICROS),
            groups: Histogram::new(BYTES),
            sync_failures: AtomicU64::new(0),
            deleted_bytes: AtomicU64::new(0),
        }
    }
}

impl Counters {
    pub(crate) fn note_sync(&self, took: Duration, worked: bool) {
        self.syncs.note(took.as_micros() as u64);
        self.sync_failures.fetch_add(u64::from(!worked), Ordering::Relaxed);
    }

    pub(crate) fn note_group(&self, bytes: u64) {
        if bytes > 0 {
            self.groups.note(bytes);
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
            sync_seconds: self.syncs.read(1e6),
            group_bytes: self.groups.read(1.0),
            sync_failures: self.sync_failures.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_the_first_bucket_that_it_fits_into() {
        let histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, u64::from(u32::MAX)] {
            histogram.note(value);
        }
        let read = histogram.read(1.0);
        assert_eq!((read.buckets, read.count), (vec![(10.0, 2), (20.0, 2)], 6));
    }

    #[test]
    fn bounds_are_shown_as_people_write_them() {
        let shown: Vec<_> = Histogram::new(MICROS).read(1e6).buckets.iter().map(|(at, _)| at.to_string()).collect();
        assert!(shown.iter().all(|bound| bound.len() <= 7), "{shown:?}");
    }

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
