//! The log of Ottla: segments, indexes, group commit, recovery. Files only: it knows no socket and no plugin.
//!
//! # The directory
//!
//! ```text
//! <log directory>/
//!   lock                             flock'ed while a process uses the directory
//!   clean-shutdown                   there only between a clean shutdown and the first append after it
//!   orders-0/                        one partition: <topic>-<index>
//!     partition.meta                 topic id, durability, segment size, history of leader epochs   (a state file)
//!     checkpoint                     the persisted durable offset: two slots, written in turn
//!     00000000000000000000.log       a segment: the batches from offset 0 on
//!     00000000000000000000.index     its index, written when it is closed: derived, may go at any time
//!     00000000000000150000.log       the active segment: its index is in memory
//!     <base>.staged                  a segment that compaction is writing: startup removes it
//!     <base>-<end>.swap              a compacted segment: it replaces this range already and is not renamed yet
//!     cleaned                        how far the partition is compacted: derived   (a state file)
//!     <more>                         the server's state files for the partition
//!   .new/<uuid>/                     a partition under construction: startup removes it
//!   .trash/<uuid>/                   a deleted partition: a thread removes it
//!   <journal>/                       a journal
//!     00000000000000000000.journal   its frames from sequence 0 on
//! ```
//!
//! A rename out of `.new` creates a partition and a rename into `.trash` deletes it, each followed by an fsync of the
//! directory: so no crash leaves half a partition.
//!
//! # A segment
//!
//! ```text
//!            position 0                                                                    file length
//!            │                                                                                       │
//! *.log      │ batch │ batch │ damaged │ batch │ batch │ batch │ 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 │
//!            │       └─ next base offset = base offset + last_offset_delta + 1         ▲             │
//!            │               └─ quarantined: these offsets answer an error, no others  │             │
//!            └ below the durable offset: never cut ──────┴ above it: first bad = end ──┴ reserved ───┘
//!
//! one batch: as the client sent it; the log sets two fields, both before the part that the CRC covers
//!   0 ┌────────────────────────┬─────────────────┬─────────────────┬─────────┬────────────┐
//!     │ base_offset i64        │ batch_length    │ leader_epoch    │ magic 2 │ crc u32    │
//!     │ ← assigned by append   │ i32             │ i32 ← assigned  │ i8      │ CRC-32C    │
//!  21 ├────────────────────────┴────┬────────────┴──────┬──────────┴─────────┴────────────┤
//!     │ attributes i16              │ last_offset_delta │ base_timestamp i64              │ ← the CRC covers
//!  35 ├─────────────────────────────┼───────────────────┼─────────────────────────────────┤   everything from
//!     │ max_timestamp i64           │ producer_id i64   │ epoch i16, base_sequence i32    │   here on
//!  57 ├─────────────────────────────┼───────────────────┴─────────────────────────────────┤
//!     │ record_count i32            │ records, compressed as one piece …                  │
//!     └─────────────────────────────┴─────────────────────────────────────────────────────┘
//!
//! *.index    │ head │ entry │ entry │ … │ quarantined range │ … │ CRC │      one entry per 4 KiB of batches
//!              entry = offset, position, greatest timestamp before it: one list for offsets and for times
//! ```
//!
//! An all-zero header is the clean end of a preallocated file. A new partition reserves no space; later it reserves 64
//! KiB, then twice as much each time, up to 16 MiB. All partitions together stay below a limit. A sealed segment gives
//! unused space back.
//!
//! # Offsets
//!
//! ```text
//!   log start ≤ … ≤ persisted durable offset ≤ durable offset ≤ end offset
//!                                              └ the high watermark of an fsync partition
//!                                                                └ that of a page-cache partition
//! ```
//!
//! # Modules, in the order in which data meets them
//!
//! 1. `log_dir`: opens and closes a directory, creates and deletes partitions
//! 2. `recovery`, with `scan`: checks the files at startup and repairs them; `report` is its result
//! 3. `partition`: append, flush, locate, search by time, retention
//! 4. `clean`: compaction
//! 5. `segment`, `index`: one file of batches and its derived index
//! 6. `handles`: the budget of open segments
//! 7. `commit`: the queue and the threads of group commit
//! 8. `checkpoint`, `epochs`, `state_file`, `journal`: small durable files
//! 9. [`inspect`]: reads a directory without opening it, for tools
//! 10. `disk`: every system call that changes a file; `format`: every name and magic number; `parallel`: the same work
//!     on a few threads; [`canary`]: promises that a build for tests breaks on purpose
//!
//! The offsets of batches have no gap. Where compaction removes batches, it writes an empty batch (no records, 61
//! bytes, one for a whole group of neighbours). The CRC does not cover the base offset, so the log finds a damaged base
//! offset only because it knows the next one.
//!
//! # Promises
//!
//! - An offset is durable only after the `fdatasync` that covers it, and after the `fsync` of the directory if its file
//!   is new. Acknowledgements depend on durable offsets.
//! - The first failed sync, and the first change that the disk itself refuses, end all writing in the directory until
//!   the process ends.
//! - Two syncs of one file never run at the same time: the kernel would report a failure to only one of them.
//! - User code never touches a mapped page: the log itself reads with `pread`.
//! - No bytes on the disk cause a panic: they are data, damage, or an I/O error.

pub mod canary;
mod checked;
mod checkpoint;
mod clean;
mod commit;
mod dir_state;
mod disk;
mod epochs;
mod error;
mod format;
mod handles;
mod index;
pub mod inspect;
mod journal;
mod log_dir;
mod options;
mod parallel;
mod partition;
mod recovery;
mod report;
mod scan;
mod segment;
mod state_file;
mod stats;

#[cfg(test)]
mod disk_failure_tests;
#[cfg(test)]
mod fault_race_tests;
#[cfg(test)]
mod faulty_disk_tests;
#[cfg(test)]
mod power_cut_tests;
#[cfg(test)]
mod test_batches;
#[cfg(test)]
mod unreadable_tests;

pub use clean::{CleanError, CleanOptions, CleanReport, Dirtiness};
pub use disk::{Disk, RealDisk};
#[cfg(any(test, feature = "faulty-disk"))]
pub use disk::{DiskCall, FaultyDisk};
pub use error::{
    AlterError, AppendError, CreateError, DeleteError, FlushError, LocateError, OpenError, RetainError, ShutdownError,
};
pub use format::{NameError, PartitionName};
pub use journal::{
    JOURNAL_ENTRY_BYTES_MAX, Journal, JournalEntries, JournalEntry, JournalError, JournalOpenError, JournalPosition,
    JournalReport,
};
pub use log_dir::LogDir;
pub use options::{Durability, LogOptions, PartitionOptions};
pub use ottla_wire::record::BatchHeader;
pub use ottla_wire::{LeaderEpoch, Offset};
pub use parallel::{in_parallel, try_in_parallel};
pub use partition::{Appended, FileRange, PartitionLog, QuarantinedRange, Removed, Retention, ScannedRange};
pub use report::{RecoveryReport, TruncatedRange, UnreadablePartition};
pub use segment::{MappedSlice, Segment};
pub use state_file::{StateFile, StateReadError, StateWriteError};
pub use stats::{Distribution, Histogram, LogStats};
