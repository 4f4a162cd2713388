//! The `ottla` broker as a library: a Kafka-protocol server over `ottla_log`. Its command line is the crate `ottla`.
//!
//! Modules in the order a byte meets them:
//!
//! 1. [`config`]: what the operator may set, one table for values, help and DescribeConfigs.
//! 2. [`listener`]: accepts connections, within limits.
//! 3. [`connection`]: socket bytes to frames, frames to replies, replies in the order of their requests.
//! 4. [`request`]: one table from API key to handler, one file per API.
//! 5. [`partition`]: what a partition is to clients: sequences, appends, the watermark and who waits for it.
//! 6. [`stage`]: what a plugin says about a batch, and the batches made of that.
//! 7. [`route`]: the way of batches into the log, journal and replay included where plugins move records.
//! 8. [`fetch`]: from an offset to ranges of segment files, and from those to the socket.
//! 9. [`cleaner`]: old data goes, by age, by size and by key.
//! 10. [`topics`]: which topics there are and what they are set to.
//! 11. [`log_dirs`]: the directories that hold the logs, each failing alone.
//! 12. [`plugins`]: the plugins by name and version, uploads, which topic uses which.
//! 13. [`producer_ids`]: ids for idempotent producers.
//! 14. [`metrics`]: what is counted, and the listener that shows it.
//! 15. [`meta`]: topics, settings, ids and plugins as they are stored.
//! 16. [`broker`]: all of it together, started and stopped.
//! 17. [`shutdown`], [`clock`]: the end, the time.
#![allow(clippy::doc_markdown)] // Kafka's API names are words of this crate's prose.

pub mod broker;
pub mod cleaner;
pub mod clock;
pub mod config;
pub mod connection;
pub mod fetch;
pub mod listener;
pub mod log_dirs;
pub mod meta;
pub mod metrics;
pub mod partition;
pub mod plugins;
pub mod producer_ids;
pub mod request;
pub mod route;
pub mod shutdown;
pub mod stage;
pub mod topics;
