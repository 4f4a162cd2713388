//! Where the state of a broker is read: `GET /metrics` and `GET /healthz` on `metrics.listener`.
//!
//! 1. [`http`]: the listener
//! 2. [`page`]: the counters, and what is looked up when they are asked for: directories, partitions, syncs, recovery
//!
//! `docs/metrics.md` lists every metric; a test holds it to what is served.

pub(crate) mod http;
pub(crate) mod page;
