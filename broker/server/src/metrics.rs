//! What the broker counts while it serves: one relaxed addition each, and none per record. [`crate::monitoring`] shows it,
//! `docs/metrics.md` lists it.

use ottla_front::FrontMetrics;
use ottla_wire::{Api, ApiKey, ErrorCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type ByApi = Family<[(&'static str, &'static str); 1], Counter>;
type ByCode = Family<[(&'static str, String); 2], Counter>;

/// The counters of one broker.
#[derive(Debug)]
pub struct Metrics {
    /// What happens to connections.
    pub front: FrontMetrics,
    requests: ByApi,
    /// The counters of `requests` by the row of their API in [`Api::served`], found without a lock.
    requests_by_row: Box<[Counter]>,
    errors: ByCode,
    /// Fetches that wait for records.
    pub fetches_waiting: Gauge,
    /// Reads that met damaged batches.
    pub damaged_reads: Counter,
    /// Batches refused because the disk was full.
    pub disk_full: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = ByApi::default();
        Self {
            front: FrontMetrics::default(),
            requests_by_row: Api::served().map(|api| requests.get_or_create(&[("api", api.name)]).clone()).collect(),
            requests,
            errors: ByCode::default(),
            fetches_waiting: Gauge::default(),
            damaged_reads: Counter::default(),
            disk_full: Counter::default(),
        }
    }
}

impl Metrics {
    /// A request arrived.
    pub fn note_request(&self, key: ApiKey) {
        if let Some(counter) =
            Api::served().position(|api| api.key == key).and_then(|row| self.requests_by_row.get(row))
        {
            counter.inc();
        }
    }

    /// A partition was answered with an error.
    pub fn note_error(&self, key: ApiKey, code: ErrorCode) {
        self.errors.get_or_create(&[("api", key.name().to_owned()), ("code", format!("{code:?}"))]).inc();
    }

    /// Adds the counters to what `registry` shows.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests that arrived", self.requests.clone());
        registry.register("errors", "Partitions that were answered with an error code", self.errors.clone());
        registry.register("fetches_waiting", "Fetches that wait for records", self.fetches_waiting.clone());
        registry.register("damaged_reads", "Reads that met damaged batches", self.damaged_reads.clone());
        registry.register("disk_full", "Batches refused because the disk was full", self.disk_full.clone());
        self.front.register(registry);
    }
}
