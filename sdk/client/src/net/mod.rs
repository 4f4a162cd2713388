//! Sockets: one file reads and writes frames, one agrees on versions, one finds brokers and keeps connections to them.

mod answer;
mod cluster;
mod connect;
mod connection;
mod coordinator;
mod frames;
mod handshake;
mod network;
mod offsets;
mod pool;

pub(crate) use answer::Answer;
pub(crate) use cluster::{Cluster, MAIN_CHANNEL, Topics};
pub(crate) use connection::{Connection, Reply, SendOptions};
pub(crate) use coordinator::Coordinator;
pub(crate) use network::Tcp;
pub use network::{Connecting, Network, Outlet, Wire};
pub(crate) use offsets::{OffsetAnswer, OffsetQuestion, timestamp_of};
