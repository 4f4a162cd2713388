//! The limits of connections. The server that owns the front says where an operator sets them.

use std::sync::Arc;
use std::time::Duration;

use crate::memory::Memory;
use crate::pool::Pool;

/// See the module.
#[derive(Debug, Clone)]
pub struct FrontSettings {
    /// Connections open at once.
    pub connections_max: usize,
    /// Connections open at once from one address.
    pub connections_per_ip_max: usize,
    /// Bytes of a frame, its length not counted.
    pub frame_bytes_max: i32,
    /// Requests of one connection that wait for their replies. At the limit nothing more is read.
    pub pending_requests_max: usize,
    /// Bytes of those requests and of the replies that are ready. At the limit nothing more is read.
    pub pending_bytes_max: usize,
    /// How long a connection may send nothing, and how long a client may take nothing of its answers.
    pub idle: Duration,
    /// How long a connection waits for memory before it is closed, so that two that wait for each other do not wait for ever.
    pub memory_patience: Duration,
    /// How long a stop waits for replies that are pending.
    pub shutdown_grace: Duration,
    /// From how many bytes on record data leaves by `sendfile`.
    pub sendfile_min_bytes: u32,
    /// Bytes handed to one call of `sendfile`.
    pub sendfile_step_bytes: usize,
}

/// The memory and the threads that the front takes part in; the server behind it charges the same.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The owner of memory.
    pub memory: Arc<Memory>,
    /// Threads for reads that wait for the disk. What waits for them is bounded by the number of connections.
    pub reads: Arc<Pool>,
}
