//! What clients fetched from a partition.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was fetched since the start: two relaxed additions per answer.
#[derive(Debug, Default)]
pub struct Fetched {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Fetched {
    /// An answer has these in it.
    pub(crate) fn note(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Offsets that were asked for and answered.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes of their batches, as they are stored.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
