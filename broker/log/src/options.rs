//! The settings of a log directory and of each partition in it.

/// The meaning of "high watermark" for a partition: how much a consumer may see, and when an ack may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Records become visible and are acknowledged once they are synced: they survive a power cut.
    #[default]
    Fsync,
    /// Records become visible once they are written: they survive the end of the process, not a power cut.
    PageCache,
}

/// Settings of one partition, stored in its `partition.meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOptions {
    /// When records become visible.
    pub durability: Durability,
    /// The log starts a new segment before one grows beyond this.
    pub segment_bytes: u64,
    /// Distance between index entries, in bytes of batches.
    pub index_interval_bytes: u32,
}

impl Default for PartitionOptions {
    fn default() -> Self {
        Self { durability: Durability::Fsync, segment_bytes: 1 << 30, index_interval_bytes: 4096 }
    }
}

/// Settings of a log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Most files that are synced at the same time.
    pub flush_threads_max: usize,
    /// Space that all partitions together may reserve without using it.
    pub preallocated_bytes_max: u64,
    /// If the syncs of an fsync partition cover less than this on average, the log fills its space with zeros
    /// beforehand, at most this much at a time: a sync of space that was written before needs no journal commit of the
    /// file system. 0: never.
    pub zeroed_step_bytes: u64,
    /// The log writes a checkpoint of a partition after this many bytes, besides at every roll and at shutdown.
    pub checkpoint_interval_bytes: u64,
    /// A page-cache partition is synced in the background after this many bytes.
    pub page_cache_flush_bytes: u64,
    /// How many segments the directory may have open; beyond that, the log closes the least recently used one. 0 stands
    /// for a share of the limits of the process, together with all other directories that have 0.
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
