//! What a version of a plugin did since the start: a few relaxed additions per batch, none per record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_log::{Distribution, Histogram};
use ottla_plugin_host::CallError;

/// Upper ends of the buckets of the time that a batch takes, in microseconds.
const MICROS: &[u64] =
    &[10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// Why a plugin gave no verdict, as metrics say it.
const REASONS: [&str; 8] = ["trap", "deadline", "memory", "refused", "answer", "config", "busy", "host"];

/// What a plugin said about records, as metrics say it.
const VERDICTS: [&str; 3] = ["accepted", "rewritten", "refused"];

/// Records by the verdict of a plugin.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdicts {
    /// Stay as they are; of a partitioner, in some partition.
    pub(crate) accepted: u64,
    /// Replaced by others.
    pub(crate) rewritten: u64,
    /// Not to be stored.
    pub(crate) refused: u64,
}

/// The counters of one version of a plugin, over all topics.
#[derive(Debug)]
pub struct PluginStats {
    records: [AtomicU64; VERDICTS.len()],
    failures: [AtomicU64; REASONS.len()],
    /// Its count is that of the batches.
    micros: Histogram,
}

impl Default for PluginStats {
    fn default() -> Self {
        Self { records: Default::default(), failures: Default::default(), micros: Histogram::new(MICROS) }
    }
}

impl PluginStats {
    /// The plugin was asked about a batch, and how that ended.
    pub(crate) fn note(&self, took: Duration, failure: Option<&CallError>) {
        self.micros.note(took.as_micros() as u64);
        let failures = failure.map(reason).and_then(|reason| {
            let at = REASONS.iter().position(|known| *known == reason)?;
            self.failures.get(at)
        });
        if let Some(failures) = failures {
            failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It gave a verdict on each record of a batch.
    pub(crate) fn note_records(&self, verdicts: Verdicts) {
        let Verdicts { accepted, rewritten, refused } = verdicts;
        for (counter, count) in self.records.iter().zip([accepted, rewritten, refused]) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Records by the verdict on them.
    pub fn records(&self) -> impl Iterator<Item = (&'static str, u64)> {
        VERDICTS.into_iter().zip(&self.records).map(|(verdict, count)| (verdict, count.load(Ordering::Relaxed)))
    }

    /// How long the batches took, in seconds.
    pub fn seconds(&self) -> Distribution {
        self.micros.read(1e6)
    }

    /// Batches without a verdict, by reason.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.into_iter().zip(&self.failures).map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }
}

fn reason(error: &CallError) -> &'static str {
    match error {
        CallError::Trap { .. } => "trap",
        CallError::Deadline { .. } => "deadline",
        CallError::Memory { .. } | CallError::MemoryTotal { .. } => "memory",
        CallError::Refused { .. } => "refused",
        CallError::WrongCount { .. } | CallError::OutOfRange { .. } | CallError::WrongAnswer { .. } => "answer",
        CallError::ConfigRefused { .. }
        | CallError::ConfigTooLarge { .. }
        | CallError::ConfigMisfit { .. }
        | CallError::NoAsset { .. }
        | CallError::AssetsTooLarge { .. } => "config",
        CallError::Busy { .. } | CallError::TooManyInstances { .. } => "busy",
        CallError::NoPartitions | CallError::WrongColumns => "host",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_counts_under_a_reason_that_is_listed() {
        let stats = PluginStats::default();
        for error in [
            CallError::Trap { reason: String::new() },
            CallError::Deadline { allowed_ms: 1 },
            CallError::MemoryTotal { allowed_bytes: 1 },
            CallError::Refused { reason: String::new() },
            CallError::WrongCount { expected: 1, found: 2 },
            CallError::ConfigRefused { reason: String::new() },
            CallError::Busy { waited_ms: 1 },
            CallError::NoPartitions,
        ] {
            stats.note(Duration::from_micros(3), Some(&error));
        }
        stats.note(Duration::from_micros(3), None);
        assert!(stats.failures().all(|(_, count)| count == 1));
        assert_eq!(stats.seconds().count, 9);
    }
}
