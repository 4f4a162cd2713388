//! Segments, indexes, group commit, recovery: files only, no sockets.

mod checkpoint;
mod commit;
mod disk;
mod epochs;
mod error;
mod format;
mod index;
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

pub use error::{AlterError, AppendError, CreateError, DeleteError, FlushError, LocateError, OpenError, ShutdownError};
pub use format::{NameError, PartitionName};
pub use journal::{
    Journal, JournalEntries, JournalEntry, JournalError, JournalOpenError, JournalPosition, JournalReport,
};
pub use log_dir::LogDir;
pub use options::{Durability, LogOptions, PartitionOptions};
pub use ottla_wire::record::BatchHeader;
pub use ottla_wire::{LeaderEpoch, Offset};
pub use partition::{Appended, FileRange, PartitionLog, QuarantinedRange, ScannedRange};
pub use report::{RecoveryReport, TruncatedRange};
pub use segment::{MappedSlice, Segment};
pub use state_file::{StateFile, StateReadError, StateWriteError};
