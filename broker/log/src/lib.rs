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
//!     <base>.staged                  a segment that compaction is writing: rubbish after a crash
//!     <base>-<end>.swap              a compacted segment that counts already, is read here, and has yet to take its place
//!     cleaned                        how far the partition is compacted: derived   (a state file)
//!     <more>                         whatever state files the server keeps per partition
//!   .new/<uuid>/                     a partition under construction: rubbish after a crash
//!   .trash/<uuid>/                   a partition being deleted: rubbish always
//!   <journal>/                       a journal
//!     00000000000000000000.journal   its frames from sequence 0 on
//! ```
//!
//! A partition comes into being with the rename out of `.new` and ends with the rename into `.trash`, each followed by an
//! fsync of the directory: there is no half of one.
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
//! one batch: as it came over the wire, with three fields of the log's own, all before the part that the CRC covers
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
//! An all-zero header is the clean end of a preallocated file. A partition reserves nothing at its creation, then 64 KiB,
//! doubling up to 16 MiB at a time, and all partitions together stay below a cap; closing a segment gives the rest back.
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
//! 1. `log_dir`: a directory is opened, partitions are created and deleted, everything is closed
//! 2. `recovery`, with `scan`: what a start makes of what it finds; `report` says so
//! 3. `partition`: append, flush, locate, search by time, the end of old data
//! 4. `clean`: compaction
//! 5. `segment`, `index`: one file of batches and what is derived from it
//! 6. `handles`: how many segments may be open, and which is closed for another
//! 7. `commit`: who is synced when
//! 8. `checkpoint`, `epochs`, `state_file`, `journal`: small things that survive
//! 9. [`inspect`]: a directory seen from outside, for tools
//! 10. `disk`: every system call that changes a file; `format`: every name and magic number; [`canary`]: promises that a
//!     build for tests breaks on purpose
//!
//! Batches follow each other without a hole in the offsets. What compaction takes away leaves an empty batch (no records,
//! 61 bytes, one for a whole run of them): a base offset is not covered by the CRC, and that the next one is known is
//! what finds a damaged one out.
//!
//! # Promises
//!
//! - Bytes are acknowledged by offset, and an offset is durable only after the `fdatasync` that covers it, and the `fsync`
//!   of the directory if its file is new.
//! - The first failed sync, and the first change that the disk itself refuses, end all writing in the directory, for as long
//!   as the process lives.
//! - Two syncs of one file never run at the same time: the system would tell only one of them of a failure.
//! - User code never touches a mapped page: what the log reads itself it reads with `pread`.
//! - No input from disk panics: whatever stands there is data, damage, or an error of the system.

pub mod canary;
mod checked;
mod checkpoint;
mod clean;
mod commit;
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
mod partition;
mod recovery;
mod report;
mod scan;
mod segment;
mod shared;
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
pub use partition::{Appended, FileRange, PartitionLog, QuarantinedRange, Removed, Retention, ScannedRange};
pub use report::{RecoveryReport, TruncatedRange, UnreadablePartition};
pub use segment::{MappedSlice, Segment};
pub use state_file::{StateFile, StateReadError, StateWriteError};
pub use stats::{Distribution, LogStats};
