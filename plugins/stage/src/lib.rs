//! What happens to a batch between the sequence check and the append: a plugin looks at its records.
//!
//! 1. [`columns`]: the records, unpacked, become the flat columns that the plugin reads.
//! 2. the plugin names a partition for each of them ([`run`]); what goes wrong is a [`StageError`] of this batch.
//! 3. [`mod@split`]: records that leave are put into batches of their own.
//!
//! Knows neither a log nor a socket, so that it can stand in front of another store. Everything here may take as long as
//! a plugin is allowed to take: it never runs on a thread that serves connections.

pub mod columns;
pub mod split;

use ottla_plugin_host::{CallError, Context, Partitioner};
use ottla_wire::Uuid;
use ottla_wire::record::{Batch, BatchError};

pub use split::{Run, Split, SubBatch};

/// Where a batch was addressed.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// Its name.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// How many partitions the topic has.
    pub partition_count: i32,
}

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staged {
    /// It goes where it was addressed, as it is.
    Stays,
    /// Records of it leave.
    Moves(Split),
}

/// Why a batch has no verdict. Nothing of it may be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// The bytes are no batch.
    #[error(transparent)]
    Corrupt(#[from] BatchError),
    /// A batch of a transaction, whose records cannot be moved.
    #[error("transactional batches cannot be routed")]
    Transactional,
    /// Its records are larger than they may be.
    #[error("the records are larger than {bytes_max} bytes unpacked")]
    UnpackedTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// Its records do not read as the header says.
    #[error("the records do not decode: {0}")]
    Undecodable(String),
    /// The plugin gave no answer, or one that cannot be.
    #[error("{source}")]
    Plugin {
        /// What happened.
        source: CallError,
        /// How many records the batch has.
        records: i32,
    },
}

/// Lets a partitioner plugin decide about a batch that was checked already. `unpacked_bytes_max` bounds what its
/// records may unpack to.
pub fn run(
    partitioner: &Partitioner,
    address: Address<'_>,
    batch: &[u8],
    unpacked_bytes_max: usize,
) -> Result<Staged, StageError> {
    let batch = Batch::parse(batch)?;
    if batch.header.is_transactional() {
        return Err(StageError::Transactional);
    }
    let records = columns::unpack(&batch, unpacked_bytes_max)?;
    let columns = columns::build(&records, partitioner.reads())?;
    let context = Context { topic: address.topic, partition_count: address.partition_count as u32 };
    let mut answer = Vec::with_capacity(columns.len());
    partitioner
        .partition(&context, &columns, &mut answer)
        .map_err(|source| StageError::Plugin { source, records: columns.len() as i32 })?;
    if answer.iter().all(|partition| i64::from(*partition) == i64::from(address.partition)) {
        return Ok(Staged::Stays);
    }
    split::split(&batch, &records, address.topic_id, &answer).map(Staged::Moves)
}
