//! The leader of a partition and its address: shared by Produce and Fetch (KIP-951), so that a client that asked the
//! wrong broker need not ask for metadata first.

use crate::{Str, Wire};

/// The leader of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct LeaderIdAndEpoch {
    /// The broker, or −1 if it is not known.
    #[wire(default = -1)]
    pub leader_id: i32,
    /// Its epoch, or −1 if it is not known.
    #[wire(default = -1)]
    pub leader_epoch: i32,
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct NodeEndpoint<'a> {
    /// The broker.
    pub node_id: i32,
    /// Its host name.
    pub host: Str<'a>,
    /// Its port.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<Str<'a>>,
}
