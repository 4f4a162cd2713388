//! Reading: from an offset to ranges of segment files, which the front sends.

pub mod plan;
pub mod wanted;

pub use plan::{Plan, check_leader_epoch};
pub use wanted::Wanted;
