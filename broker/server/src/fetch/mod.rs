//! Reading: from an offset to ranges of segment files, which the front sends.

pub(crate) mod plan;
pub(crate) mod wanted;

pub(crate) use plan::{Plan, check_leader_epoch};
pub(crate) use wanted::Wanted;
