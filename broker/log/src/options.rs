//! What can be chosen, for a log directory and for each partition in it.

/// What "high watermark" means for a partition: how much a consumer is allowed to see, and what an ack stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Records become visible, and acks are due, once they are synced: they survive a power cut.
    #[default]
    Fsync,
    /// Records become visible once they are written: they survive the process, not a power cut.
    PageCache,
}

/// Choices for one partition, kept in its `partition.meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOptions {
    /// When records become visible.
    pub durability: Durability,
    /// A segment is closed before it grows beyond this.
    pub segment_bytes: u64,
    /// Distance of index entries.
    pub index_interval_bytes: u32,
}

impl Default for PartitionOptions {
    fn default() -> Self {
        Self { durability: Durability::Fsync, segment_bytes: 1 << 30, index_interval_bytes: 4096 }
    }
}

/// Choices for a log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Most files that are synced at the same time.
    pub flush_threads_max: usize,
    /// Space that all partitions together may have reserved and not used yet.
    pub preallocated_bytes_max: u64,
    /// An fsync partition whose syncs cover less than this much each gets its space filled with zeros, this much at a
    /// time at most: a sync into space that was written before needs no journal commit of the file system. 0 for never.
    pub zeroed_step_bytes: u64,
    /// The durable offset of a partition is persisted after this many bytes, besides at every roll and at shutdown.
    pub checkpoint_interval_bytes: u64,
    /// A page-cache partition is synced in the background after this many bytes.
    pub page_cache_flush_bytes: u64,
    /// How many segments the directory may have open at a time; what is over it is closed, least recently used first.
    /// 0 for its share of what the limits of the process allow, together with all other directories that say 0.
    pub open_segments_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            flush_threads_max: 8,
            preallocated_bytes_max: 1 << 30,
            zeroed_step_bytes: 1 << 20,
            checkpoint_interval_bytes: 8 << 20,
            page_cache_flush_bytes: 256 << 20,
            open_segments_max: 0,
        }
    }
}
