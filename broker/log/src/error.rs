//! The errors of the log: one enum per operation, whose variants are facts.

use std::io;
use std::path::PathBuf;

use uuid::Uuid;

use crate::format::{NameError, PartitionName};
use crate::state_file::StateReadError;
use crate::{Offset, StateWriteError};

/// Why a log directory was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("another process uses {path}: stop it first", path = path.display())]
    Locked {
        /// The log directory.
        path: PathBuf,
    },
    /// `partition.meta` names another topic or index than the directory does.
    #[error("{path} has a partition.meta of {found}", path = path.display())]
    Misplaced {
        /// The partition's directory.
        path: PathBuf,
        /// What its `partition.meta` says.
        found: PartitionName,
    },
    /// A state file is from a later release or cannot be read.
    #[error(transparent)]
    State(#[from] StateReadError),
    /// A state file could not be written.
    #[error(transparent)]
    Write(#[from] StateWriteError),
    /// Sectors of a segment above the persisted durable offset cannot be read: whether they held acknowledged records
    /// is not known.
    #[error("{path}: the bytes from {position} on (offset {offset}) cannot be read, and may hold acknowledged records",
        path = path.display(), offset = offset.0)]
    Unreadable {
        /// The segment.
        path: PathBuf,
        /// The position in it.
        position: u64,
        /// The first offset that cannot be read.
        offset: Offset,
    },
    /// A system call failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
}

/// Why a partition was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The name cannot be a directory.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It exists already.
    #[error("partition {name} exists already, as part of topic {topic_id}")]
    Exists {
        /// The partition.
        name: PartitionName,
        /// The topic it belongs to.
        topic_id: Uuid,
    },
    /// The log directory is offline.
    #[error("the log directory is offline: {reason}")]
    Offline {
        /// The reason.
        reason: String,
    },
    /// The disk is full.
    #[error("no space left to create partition {name}")]
    NoSpace {
        /// The partition.
        name: PartitionName,
    },
    /// A system call failed.
    #[error("creating partition {name}: {source}")]
    Io {
        /// The partition.
        name: PartitionName,
        /// Its error.
        source: io::Error,
    },
}

/// Why a partition was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// There is no partition of this name.
    #[error("there is no partition {name}")]
    Unknown {
        /// The partition.
        name: PartitionName,
    },
    /// The log directory is offline.
    #[error("the log directory is offline: {reason}")]
    Offline {
        /// The reason.
        reason: String,
    },
    /// A system call failed.
    #[error("deleting partition {name}: {source}")]
    Io {
        /// The partition.
        name: PartitionName,
        /// Its error.
        source: io::Error,
    },
}

/// Why batches were not appended. The end of the log has not moved.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The bytes are not a sequence of whole v2 batches.
    #[error("byte {position} of the append does not start a whole v2 record batch")]
    Malformed {
        /// The position in the given bytes.
        position: usize,
    },
    /// More bytes than fit into a segment's index.
    #[error("{bytes} bytes in one append, at most {max} are possible")]
    TooLarge {
        /// Bytes given.
        bytes: u64,
        /// Bytes possible.
        max: u64,
    },
    /// All offsets are used up.
    #[error("the offsets of this partition are used up")]
    OffsetsExhausted,
    /// The disk is full. Reads go on, and appends work again as soon as there is space.
    #[error("no space left on the log's disk")]
    NoSpace,
    /// The log directory is offline.
    #[error("the log directory is offline: {reason}")]
    Offline {
        /// The reason.
        reason: String,
    },
    /// The log directory was shut down.
    #[error("the log is shut down")]
    Closed,
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// A system call failed.
    #[error("appending: {source}")]
    Io {
        /// Its error.
        source: io::Error,
    },
}

/// Why a synchronous flush failed.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The log directory is offline.
    #[error("the log directory is offline: {reason}")]
    Offline {
        /// The reason.
        reason: String,
    },
}

/// Why old records were not removed.
#[derive(Debug, thiserror::Error)]
pub enum RetainError {
    /// The offset is above the high watermark: records that consumers cannot see yet are not removed.
    #[error("records can be removed up to the high watermark {high_watermark}, offset {requested} is above it",
        high_watermark = high_watermark.0, requested = requested.0)]
    OutOfRange {
        /// The offset asked for.
        requested: Offset,
        /// The high watermark.
        high_watermark: Offset,
    },
    /// The log directory is offline.
    #[error("the log directory is offline: {reason}")]
    Offline {
        /// The reason.
        reason: String,
    },
    /// The log directory was shut down.
    #[error("the log is shut down")]
    Closed,
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// The disk is full.
    #[error("no space left on the log's disk")]
    NoSpace,
    /// A system call failed.
    #[error("removing old records: {source}")]
    Io {
        /// Its error.
        source: io::Error,
    },
}

impl From<io::Error> for RetainError {
    fn from(source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::NoSpace,
            _ => Self::Io { source },
        }
    }
}

impl From<FlushError> for RetainError {
    fn from(FlushError::Offline { reason }: FlushError) -> Self {
        Self::Offline { reason }
    }
}

/// Why an offset was not found.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// Before the first offset or after the last.
    #[error("offset {requested} is outside of {start}..={end}", requested = requested.0, start = start.0, end = end.0)]
    OutOfRange {
        /// The offset asked for.
        requested: Offset,
        /// First offset of the log.
        start: Offset,
        /// Offset after the last record.
        end: Offset,
    },
    /// The offset lies in damaged bytes. Only these offsets are lost.
    #[error("the records from offset {from} up to {to} (exclusive) are damaged on disk", from = from.0, to = to.0)]
    Corrupt {
        /// First damaged offset.
        from: Offset,
        /// First sound offset after it.
        to: Offset,
    },
    /// A system call failed.
    #[error("reading the log: {source}")]
    Io {
        /// Its error.
        #[from]
        source: io::Error,
    },
}

/// Why the options or the topic id of a partition were not changed.
#[derive(Debug, thiserror::Error)]
pub enum AlterError {
    /// The log directory is offline.
    #[error("the log directory is offline: {reason}")]
    Offline {
        /// The reason.
        reason: String,
    },
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// The new content was not written; the old content stays.
    #[error(transparent)]
    Write(#[from] StateWriteError),
}

/// Why a log directory was not shut down cleanly: the next start scans it.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// The log directory is offline.
    #[error("the log directory is offline: {reason}")]
    Offline {
        /// The reason.
        reason: String,
    },
    /// A system call failed.
    #[error("shutting down: {source}")]
    Io {
        /// Its error.
        #[from]
        source: io::Error,
    },
    /// The marker was not written.
    #[error(transparent)]
    Marker(#[from] StateWriteError),
}
