//! The harness that whole-system tests share. Every test drives the real `ottla` binary from outside.
//!
//! | module | owns |
//! |---|---|
//! | [`artifact`] | where the things under test and the tools around them are |
//! | [`wait`] | waiting for a condition, with a bound and a name |
//! | [`skip`] | saying that a test cannot run here, and why |
//! | [`broker`] | one broker process: start, stop, kill, restart, what it printed, how much memory it holds |
//! | [`batch`] | record batches, written a second time by hand |
//! | [`connection`] | one socket that speaks frames, for what no client would send |
//! | [`admin`] | topics, settings and plugins, asked for by frames |
//! | [`produce`] | batches and producer ids, asked for by frames |
//! | [`fetch`] | fetches of one partition |
//! | [`one_topic`] | one topic and the metrics of its broker, for the tests of disks |
//! | [`guest`] | small plugins, right and wrong ones, assembled here |
//! | [`record`] | records as tests compare them, and their hash |
//! | [`package_index`] | the real records: the package index of the machine |
//! | [`section`] | what the `by-section` plugin answers, computed a second time |
//! | [`client`] | stock clients as processes: kcat, Python, Node |
//! | [`members`] | our own consumers in a group |
//! | [`syscalls`] | a broker under strace, and what its system calls prove |

#![allow(clippy::missing_panics_doc, reason = "panicking is how a harness reports, everywhere")]

pub mod admin;
pub mod artifact;
pub mod batch;
pub mod broker;
pub mod client;
pub mod connection;
pub mod fetch;
pub mod guest;
pub mod members;
pub mod mount;
pub mod one_topic;
pub mod package_index;
pub mod produce;
pub mod record;
pub mod section;
pub mod skip;
pub mod syscalls;
pub mod wait;

pub use broker::Broker;
pub use record::Record;
