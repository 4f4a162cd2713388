//! Reading: from an offset to ranges of segment files, and from those to the socket.

pub mod deliver;
pub mod plan;

pub use deliver::Delivery;
pub use plan::{Plan, check_leader_epoch};
