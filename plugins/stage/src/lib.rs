//! What happens to a batch between the sequence check and the append: plugins look at its records.
//!
//! 1. [`columns`]: the records, [unpacked](Unpacked) once, become the flat columns that a plugin reads.
//! 2. A serializer [accepts, rewrites or refuses](Unpacked::encode) each of them; [`rewrite`] makes the new batch.
//! 3. A partitioner [names a partition](Unpacked::partition) for each of those that will be stored.
//! 4. [`mod@split`]: records that leave are put into batches of their own.
//!
//! What goes wrong is a [`StageError`] of this batch. Knows neither a log nor a socket, so that it can stand in front of another
//! store. Everything here may take as long as a plugin is allowed to take: it never runs on a thread that serves connections.

pub mod columns;
pub mod rewrite;
pub mod split;

use ottla_plugin_host::{CallError, Context, Partitioner, REFUSED, Refused, STAYS, Serializer};
use ottla_wire::Uuid;
use ottla_wire::record::{Batch, BatchError, BatchRecords};

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

/// What a topic asks of the batches that a plugin makes.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Most bytes of a batch, as for those that clients send.
    pub batch_bytes_max: usize,
    /// Whether every record needs a key, since the topic is compacted.
    pub needs_keys: bool,
}

/// A batch that a serializer lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// How many records it has.
    pub records: i32,
    /// How many of them are rewritten.
    pub rewritten: usize,
    /// The batch to store; none where it is the one that was sent.
    pub batch: Option<Vec<u8>>,
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
    /// The plugin refuses records of it.
    #[error("{} of its {records} records are refused", .refused.len())]
    Refused {
        /// Those that it refuses, and why.
        refused: Vec<Refused>,
        /// How many records the batch has.
        records: i32,
    },
    /// What the plugin makes of it is larger than the topic allows.
    #[error("rewritten by the plugin it has {bytes} bytes, {bytes_max} are allowed")]
    RewrittenTooLarge {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The plugin took the keys of records of a compacted topic.
    #[error("rewritten by the plugin, record {record} has no key, which a compacted topic needs")]
    RewrittenWithoutKey {
        /// The first of them.
        record: i32,
    },
}

/// A batch that was checked already, with its records unpacked.
#[derive(Debug)]
pub struct Unpacked<'a> {
    batch: Batch<'a>,
    records: BatchRecords<'a>,
}

impl<'a> Unpacked<'a> {
    /// Unpacks the records of a batch, to at most `bytes_max` bytes.
    pub fn of(bytes: &'a [u8], bytes_max: usize) -> Result<Self, StageError> {
        let batch = Batch::parse(bytes)?;
        if batch.header.is_transactional() {
            return Err(StageError::Transactional);
        }
        let records = columns::unpack(&batch, bytes_max)?;
        Ok(Self { batch, records })
    }

    /// How many records there are.
    pub fn len(&self) -> i32 {
        self.batch.header.record_count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets a serializer decide about the records. The batch that is to be stored comes back where it rewrites any; where it
    /// only reads, the bytes that were sent are stored.
    pub fn encode(&self, serializer: &Serializer, address: Address<'_>, rules: Rules) -> Result<Encoded, StageError> {
        let columns = columns::build(&self.records, &self.batch.header, serializer.reads())?;
        let records = columns.len() as i32;
        let answer =
            serializer.encode(&context(address), &columns).map_err(|source| StageError::Plugin { source, records })?;
        if !answer.refused.is_empty() {
            return Err(StageError::Refused { refused: answer.refused, records });
        }
        let rewritten = answer.rewritten;
        if answer.is_accepted() {
            return Ok(Encoded { records, rewritten, batch: None });
        }
        let batch = rewrite::rewrite(&self.batch, &self.records, &answer, rules)?;
        Ok(Encoded { records, rewritten, batch: Some(batch) })
    }

    /// Lets a partitioner name the partition of each record.
    pub fn partition(&self, partitioner: &Partitioner, address: Address<'_>) -> Result<Staged, StageError> {
        let columns = columns::build(&self.records, &self.batch.header, partitioner.reads())?;
        let records = columns.len() as i32;
        let mut answer = Vec::with_capacity(columns.len());
        let refused = partitioner
            .partition(&context(address), &columns, &mut answer)
            .map_err(|source| StageError::Plugin { source, records })?;
        if !refused.is_empty() {
            return Err(StageError::Refused { refused, records });
        }
        debug_assert!(!answer.contains(&REFUSED));
        if answer.iter().all(|partition| *partition == address.partition || *partition == STAYS) {
            return Ok(Staged::Stays);
        }
        for partition in &mut answer {
            if *partition == STAYS {
                *partition = address.partition;
            }
        }
        split::split(&self.batch, &self.records, address.topic_id, &answer).map(Staged::Moves)
    }
}

fn context(address: Address<'_>) -> Context<'_> {
    let Address { topic, partition, partition_count, .. } = address;
    Context { topic, partition, partition_count: u32::try_from(partition_count).unwrap_or(0) }
}
