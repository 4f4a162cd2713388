//! The `ottla` broker: a Kafka-protocol server over `ottla_log`, and the command line around it.
//!
//! Modules in the order a byte meets them:
//!
//! 1. [`config`]: what the operator may set, one table for values, help and DescribeConfigs.
//! 2. [`meta`]: topics, settings and ids as they are stored.
#![allow(clippy::doc_markdown)] // Kafka's API names are words of this crate's prose.

pub mod config;
pub mod meta;
