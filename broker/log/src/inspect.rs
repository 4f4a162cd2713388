//! Reads a log directory without opening it, for tools: the content of its files, damage, sizes, and the one repair
//! that loses no acknowledged record.
//!
//! Everything except [`Repair`] only reads: it takes no lock and writes no byte. A broker may use the directory
//! meanwhile: files grow, roll and disappear during a check. The checks are the same as those of recovery.
//!
//! - `files` finds partitions and reads their small files
//! - `walk` goes through a segment, batch by batch, damage included
//! - `verify` checks a partition: CRCs, offsets, epochs, indexes, state files
//! - `usage` counts bytes
//! - `repair` cuts off an end that was never acknowledged

mod files;
mod repair;
mod usage;
mod verify;
mod walk;

pub use self::files::{Identity, InspectError, PartitionFiles};
pub use self::repair::{Cut, Repair, RepairError, RepairPlan};
pub use self::usage::PartitionUsage;
pub use self::verify::{IndexFault, PartitionReport, Problem, Unfinished, verify};
pub use self::walk::{Found, SegmentReader};
