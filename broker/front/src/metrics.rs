//! What the front counts. The server that owns it shows the counters with its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises; a clone is the same number.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// So many more.
    pub fn inc_by(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are of something now; a clone is the same number.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters; a clone counts the same.
#[derive(Debug, Clone, Default)]
pub struct FrontMetrics {
    /// Bytes of records handed to clients.
    pub sent_record_bytes: Counter,
    /// Answers that ended because the log could not be read.
    pub read_errors: Counter,
}

/// What is counted of the connections of one endpoint; a clone counts the same.
#[derive(Debug, Clone, Default)]
pub struct EndpointMetrics {
    /// Connections that are open.
    pub connections_open: Gauge,
    /// Connections that were accepted.
    pub connections_accepted: Counter,
    /// Connections that a limit refused.
    pub connections_refused: Counter,
}

/// One thing that a gauge counts for as long as this lives.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// One more.
    pub fn by(gauge: &Gauge) -> Self {
        gauge.0.fetch_add(1, Ordering::Relaxed);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
