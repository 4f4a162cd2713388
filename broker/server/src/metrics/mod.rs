//! What the broker counts, and where it is read: `GET /metrics` on `metrics.listener`.
//!
//! 1. this file: counters that requests touch, one relaxed addition each and none per record
//! 2. [`state`]: what is looked up when somebody asks: directories, partitions, syncs, the recovery report
//! 3. [`http`]: the listener
//!
//! `docs/metrics.md` lists every metric; a test holds it to what is served.

pub mod http;
mod state;

use std::fmt;
use std::sync::{Mutex, PoisonError, Weak};

use ottla_log::RecoveryReport;
use ottla_wire::Api;
use ottla_wire::{ApiKey, ErrorCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::broker::Broker;

type ByApi = Family<[(&'static str, &'static str); 1], Counter>;
type ByCode = Family<[(&'static str, String); 2], Counter>;

/// The counters of one broker.
pub struct Metrics {
    /// Requests, by the row of their API in [`Api::served`].
    requests: Box<[Counter]>,
    errors: ByCode,
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
    /// Reads that met damaged batches.
    pub damaged_reads: Counter,
    /// Batches refused because the disk was full.
    pub disk_full: Counter,
    /// What the start found, per directory.
    recovery: Mutex<Vec<RecoveryReport>>,
    registry: Mutex<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ottla");
        let by_api = ByApi::default();
        let requests = Api::served().map(|api| by_api.get_or_create(&[("api", api.name)]).clone()).collect();
        registry.register("requests", "Requests that arrived", by_api);
        let metrics = Self {
            requests,
            errors: ByCode::default(),
            sent_record_bytes: Counter::default(),
            connections_open: Gauge::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            read_errors: Counter::default(),
            damaged_reads: Counter::default(),
            disk_full: Counter::default(),
            recovery: Mutex::default(),
            registry: Mutex::default(),
        };
        registry.register("errors", "Partitions that were answered with an error code", metrics.errors.clone());
        let counters = [
            ("sent_record_bytes", "Bytes of records handed to clients", &metrics.sent_record_bytes),
            ("connections_accepted", "Connections that were accepted", &metrics.connections_accepted),
            ("connections_refused", "Connections that a limit refused", &metrics.connections_refused),
            ("disk_read_errors", "Answers that ended because the log could not be read", &metrics.read_errors),
            ("damaged_reads", "Reads that met damaged batches", &metrics.damaged_reads),
            ("disk_full", "Batches refused because the disk was full", &metrics.disk_full),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("connections_open", "Connections that are open", metrics.connections_open.clone());
        *metrics.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        metrics
    }
}

impl Metrics {
    /// A request arrived.
    pub fn note_request(&self, key: ApiKey) {
        if let Some(counter) = Api::served().position(|api| api.key == key).and_then(|row| self.requests.get(row)) {
            counter.inc();
        }
    }

    /// A partition was answered with an error.
    pub fn note_error(&self, key: ApiKey, code: ErrorCode) {
        self.errors.get_or_create(&[("api", key.name().to_owned()), ("code", format!("{code:?}"))]).inc();
    }

    /// Begins to serve what is looked up: the broker is there.
    pub(crate) fn attach(&self, broker: Weak<Broker>, recovery: Vec<RecoveryReport>) {
        *self.recovery.lock().unwrap_or_else(PoisonError::into_inner) = recovery;
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(state::State(broker)));
    }

    /// Everything, in the text format that Prometheus reads.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
