//! The `ottla` broker as a library: a Kafka-protocol server over `ottla_log`. Its command line is the crate `ottla`.
//!
//! Frames come from `ottla_front`; modules in the order a request meets them:
//!
//! 1. [`config`]: what the operator may set, one table for values, help and DescribeConfigs; [`live`]: what was set since the start.
//! 2. [`request`]: the service behind the front: one table from API key to handler, one file per API.
//! 3. [`partition`]: what a partition is to clients: sequences, appends, the watermark and who waits for it.
//! 4. [`route`]: the way of batches into the log, journal and replay included where plugins move records.
//! 5. [`fetch`]: from an offset to ranges of segment files.
//! 6. [`groups`]: consumer groups and committed offsets, driven over `__consumer_offsets`.
//! 7. [`cleaner`]: old data goes, by age, by size and by key.
//! 8. [`topics`]: which topics there are and what they are set to.
//! 9. [`log_dirs`]: the directories that hold the logs, each failing alone.
//! 10. [`plugins`]: the plugins by name and version, uploads, which topic uses which.
//! 11. [`producer_ids`]: ids for idempotent producers.
//! 12. [`metrics`], [`monitoring`]: what is counted, and the listener that shows it.
//! 13. [`meta`]: topics, settings, ids and plugins as they are stored.
//! 14. [`broker`]: all of it together, started and stopped; [`mod@serve`]: its addresses.
//! 15. [`pools`]: the threads for work that waits or computes. [`clock`]: the time.
#![allow(clippy::doc_markdown)] // Kafka's API names are words of this crate's prose.

pub mod broker;
pub mod cleaner;
pub mod clock;
pub mod config;
pub mod fetch;
pub mod groups;
pub mod live;
pub mod log_dirs;
pub mod meta;
pub mod metrics;
pub mod monitoring;
pub mod partition;
pub mod plugins;
pub mod pools;
pub mod producer_ids;
pub mod request;
pub mod route;
pub mod serve;
pub mod topics;
