//! A log directory seen from outside: what stands in its files, whether it is whole, what it takes, and the one repair
//! that loses nothing. For tools.
//!
//! Everything but [`Repair`] only reads: no lock is taken and no byte is written, so a broker may run meanwhile, and its
//! files grow, roll and go while they are looked at. The eyes are those of recovery.
//!
//! - `files` finds partitions and reads what they say about themselves
//! - `walk` goes through a segment, batch by batch, damage included
//! - `verify` checks a partition against everything that vouches for it
//! - `usage` counts bytes
//! - `repair` cuts an end that nobody was promised

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
