//! The `ottla` broker as a library: a Kafka-protocol server over `ottla_log`. Its command line is the crate `ottla`.
//!
//! Frames come from `ottla_front`; modules in the order a request meets them:
//!
//! 1. [`config`]: what the operator may set, one table for values, help and DescribeConfigs; [`live`]: what was set since the start.
//! 2. `request`: the service behind the front: one table from API key to handler, one file per API.
//! 3. [`partition`]: what a partition is to clients: sequences, appends, the watermark and its waiters.
//! 4. [`route`]: the way of batches into the log, journal and replay included where plugins move records.
//! 5. `fetch`: from an offset to ranges of segment files; `fetch_sessions`: what each session asked for before.
//! 6. `groups`: consumer groups and committed offsets, driven over `__consumer_offsets`.
//! 7. [`keeper`]: the producers are saved from time to time, and the journal of the route is cut.
//! 8. `cleaner`: old data goes, by age, by size and by key.
//! 9. [`topics`]: which topics there are and what they are set to.
//! 10. [`log_dirs`]: the directories that hold the logs, each failing alone.
//! 11. `plugins`: the plugins by name and version, uploads, which topic uses which.
//! 12. `producer_ids`: ids for idempotent producers.
//! 13. `metrics`, `monitoring`: what is counted, and the listener that shows it.
//! 14. [`loggers`]: the levels of the log; `telemetry`: what clients measure of themselves.
//! 15. [`told`]: log lines that a thousand topics do not make a thousand of.
//! 16. [`meta`]: topics, settings, ids and plugins as they are stored.
//! 17. [`broker`]: all of it together, started and stopped; [`mod@serve`]: its addresses.
//! 18. `pools`: the threads for work that waits or computes. [`stop`], [`clock`]: what threads wait for, and the time.
#![allow(clippy::doc_markdown)] // Kafka's API names are words of this crate's prose.

pub mod broker;
pub(crate) mod cleaner;
pub mod clock;
pub mod config;
pub(crate) mod fetch;
pub(crate) mod fetch_sessions;
pub(crate) mod groups;
pub mod keeper;
pub mod live;
pub mod log_dirs;
pub mod loggers;
pub mod meta;
pub(crate) mod metrics;
pub(crate) mod monitoring;
pub mod partition;
pub(crate) mod plugins;
pub(crate) mod pools;
pub(crate) mod producer_ids;
pub(crate) mod request;
pub mod route;
pub mod serve;
pub mod stop;
pub(crate) mod telemetry;
pub mod told;
pub mod topics;
