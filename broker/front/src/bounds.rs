//! What the front may take of the machine.

use std::sync::Arc;

use crate::memory::Memory;
use crate::pool::Pool;

/// The memory and the threads that the front takes part in; the server behind it charges the same.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The owner of memory.
    pub memory: Arc<Memory>,
    /// Threads for reads that wait for the disk. What waits for them is bounded by the number of connections.
    pub reads: Arc<Pool>,
}
