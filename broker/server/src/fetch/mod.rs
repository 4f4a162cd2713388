//! Reading: from an offset to ranges of segment files, which the front sends.

pub mod plan;

pub use plan::{Plan, check_leader_epoch};
