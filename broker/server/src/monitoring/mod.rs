//! Where the state of a broker is read: `GET /metrics` and `GET /healthz` on `metrics.listener`.
//!
//! 1. [`http`]: the listener
//! 2. [`page`]: the counters, and what is looked up when they are asked for: directories, topics, plugins, recovery
//! 3. [`text`]: the text format of Prometheus; `process`: what the kernel knows of the process
//!
//! `docs/metrics.md` lists every metric; a test holds it to what is served.

pub(crate) mod http;
pub(crate) mod page;
mod process;
pub(crate) mod text;
