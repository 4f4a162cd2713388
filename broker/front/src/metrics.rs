//! What the front counts. The server that owns it registers the counters where it shows its own.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The counters; a clone counts the same.
#[derive(Debug, Clone, Default)]
pub struct FrontMetrics {
    /// Bytes of records handed to clients.
    pub sent_record_bytes: Counter,
    /// Connections that are open.
    pub connections_open: Gauge,
    /// Connections that were accepted.
    pub connections_accepted: Counter,
    /// Connections that a limit refused.
    pub connections_refused: Counter,
    /// Answers that ended because the log could not be read.
    pub read_errors: Counter,
}

impl FrontMetrics {
    /// Adds the counters to what `registry` shows.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("sent_record_bytes", "Bytes of records handed to clients", &self.sent_record_bytes),
            ("connections_accepted", "Connections that were accepted", &self.connections_accepted),
            ("connections_refused", "Connections that a limit refused", &self.connections_refused),
            ("disk_read_errors", "Answers that ended because the log could not be read", &self.read_errors),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("connections_open", "Connections that are open", self.connections_open.clone());
    }
}

/// One thing that a gauge counts for as long as this lives.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// One more.
    pub fn by(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
