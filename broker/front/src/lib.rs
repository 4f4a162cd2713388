//! The front of a Kafka-protocol server: connections in, frames to a [`Service`], its replies out in the order of their
//! requests. Knows no topic and no plugin, so that any service (the broker today, a gateway tomorrow) can stand
//! behind it.
//!
//! Modules in the order a byte meets them:
//!
//! 1. [`listener`]: takes addresses, accepts connections within limits, waits for them when the server stops.
//! 2. `front`: what all connections share: the service, the limits, buffers, counters.
//! 3. `connection`: one task per connection: socket bytes to frames, frames to the service, replies to the socket.
//! 4. `inbox`: the receive buffer of a connection, and the pool from which it comes.
//! 5. [`peer`]: the client at the other end, as far as it said; [`endpoint`]: the address by which it came.
//! 6. [`service`]: the seam: what a frame becomes, and the turn of frames that arrived together.
//! 7. [`reply`]: what the service hands back: an answer now, later, never, or the end of the connection.
//! 8. `pending`: replies that are not sent yet, first asked first.
//! 9. `delivery`: record data by `sendmsg` and `sendfile`.
//! 10. [`memory`], [`pool`]: the memory and the threads that requests may take, shared with the server behind the front.
//! 11. [`shutdown`], [`settings`], [`metrics`], `complaints`: the stop, the limits, what is counted, what is logged.

mod complaints;
mod connection;
mod delivery;
pub mod endpoint;
mod front;
mod inbox;
pub mod listener;
pub mod memory;
pub mod metrics;
pub mod peer;
mod pending;
pub mod pool;
pub mod reply;
pub mod service;
pub mod settings;
pub mod shutdown;

pub use endpoint::{Endpoint, HostPort};
pub use front::Front;
pub use listener::{BindError, Listener, listen_address};
pub use memory::{Charge, Memory, Use};
pub use metrics::{Counted, Counter, EndpointMetrics, FrontMetrics, Gauge};
pub use peer::{OTTLA_SOFTWARE_NAME, Peer, Software};
pub use pool::{Pool, PoolError, PoolOptions};
pub use reply::{CloseReason, ForeignProtocol, Piece, Reply, RequestHead, Response};
pub use service::{Service, Taken, Turn};
pub use settings::{Bounds, FrontSettings};
pub use shutdown::{Shutdown, ShutdownWatch};
