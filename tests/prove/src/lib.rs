//! Fault tests: what is promised about crashes, power cuts, broken disks and damaged files, shown with counts and seeds.
//!
//! Each test runs a number of cases against the real broker or the log in process, and then its canaries: the same
//! harness against a build that breaks the promise on purpose. A harness that does not notice has proven nothing, and
//! counts as failed.
//!
//! | module | owns |
//! |---|---|
//! | [`tests`] | the list: what each test shows, how many cases, which canaries |
//! | [`run`] | running tests and their canaries |
//! | [`report`] | what came of it: counts, violations, seeds, the summary |
//! | [`seed`] | random numbers that a seed brings back |
//! | [`workload`] | producers that remember what was acknowledged, a consumer that remembers what it saw |
//! | [`content`] | records whose every byte follows from their sender |
//! | [`check`] | what a log holds, compared with what was acknowledged and seen |
//! | [`mount`] | small file systems that lose power |
//! | [`trace`] | a broker under strace: faults on order, and what its system calls prove |
//! | [`image`] | log directories in memory, put back in an instant |
//! | `t01_…` to `t32_…` | one test each |

#![allow(clippy::missing_panics_doc, reason = "panicking is how a harness reports, everywhere")]

pub mod check;
pub mod content;
pub mod image;
mod metadata;
pub mod mount;
pub mod report;
pub mod run;
pub mod seed;
mod t01_kill_nine;
mod t02_power_cut;
mod t03_torn_tail;
mod t04_index;
mod t05_bit_rot;
mod t05_metadata;
mod t06_failed_sync;
mod t07_disk_full;
mod t08_short_io;
mod t09_send_errors;
mod t10_broker_points;
mod t10_crash_points;
mod t12_commits;
mod t29_old_formats;
mod t31_combined;
mod t32_bounds;
pub mod tests;
pub mod trace;
pub mod workload;

pub use run::main;
