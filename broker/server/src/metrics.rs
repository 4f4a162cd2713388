//! What the broker counts while it serves: relaxed additions per request, and none per record. [`crate::monitoring`] shows
//! it, `docs/metrics.md` lists it.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_front::{Counter, FrontMetrics, Gauge};
use ottla_log::{Distribution, Histogram};
use ottla_wire::{Api, ApiKey, ErrorCode};
use parking_lot::Mutex;

/// Upper ends of the buckets of the time that an answer takes, in microseconds.
const MICROS: &[u64] = &[
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// The counters of one broker.
#[derive(Debug)]
pub struct Metrics {
    /// What happens to connections.
    pub front: FrontMetrics,
    /// By the row of the API in [`Api::served`], so that they are found without a lock.
    apis: Box<[ApiMetrics]>,
    errors: Mutex<BTreeMap<(&'static str, i16), u64>>,
    /// Fetches that wait for records.
    pub fetches_waiting: Gauge,
    /// Reads that met damaged batches.
    pub damaged_reads: Counter,
    /// Batches refused because the disk was full.
    pub disk_full: Counter,
}

/// The counters of one API.
#[derive(Debug)]
struct ApiMetrics {
    name: &'static str,
    requests: Counter,
    /// From the request to the moment at which its answer begins to leave.
    micros: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let of_api = |api: &'static Api| ApiMetrics {
            name: api.name,
            requests: Counter::default(),
            micros: Histogram::new(MICROS),
        };
        Self {
            front: FrontMetrics::default(),
            apis: Api::served().map(of_api).collect(),
            errors: Mutex::default(),
            fetches_waiting: Gauge::default(),
            damaged_reads: Counter::default(),
            disk_full: Counter::default(),
        }
    }
}

impl Metrics {
    /// A request arrived. The number of its API comes back, for [`note_answer`](Self::note_answer).
    pub fn note_request(&self, key: ApiKey) -> Option<usize> {
        let row = Api::served().position(|api| api.key == key)?;
        self.apis.get(row)?.requests.inc();
        Some(row)
    }

    /// The answer to a request of an API begins to leave.
    pub fn note_answer(&self, row: usize, took: Duration) {
        if let Some(api) = self.apis.get(row) {
            api.micros.note(took.as_micros() as u64);
        }
    }

    /// A partition was answered with an error.
    pub fn note_error(&self, key: ApiKey, code: ErrorCode) {
        *self.errors.lock().entry((key.name(), code.code())).or_default() += 1;
    }

    /// Name, number of requests and time to their answers, by API.
    pub fn apis(&self) -> impl Iterator<Item = (&'static str, u64, Distribution)> {
        self.apis.iter().map(|api| (api.name, api.requests.get(), api.micros.read(1e6)))
    }

    /// Partitions answered with an error, by API and code.
    pub fn errors(&self) -> Vec<(&'static str, ErrorCode, u64)> {
        self.errors.lock().iter().map(|((api, code), count)| (*api, ErrorCode::from_code(*code), *count)).collect()
    }
}
