//! Why the batch of a producer was not taken: the facts, Kafka's code for each, and which records are to blame.

use ottla_plugin_host::Refused;
use ottla_wire::ErrorCode;
use ottla_wire::Sequence;

use ottla_coordinator::sequence::SequenceError;

/// Most records that one refusal lists one by one; the message speaks for the rest.
const RECORDS_LISTED_MAX: usize = 1000;

/// Why a batch was not taken. Nothing of it was stored, and its sequence numbers are still free, unless the variant
/// says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Acks other than 0, 1 and -1.
    #[error("acks must be 0, 1 or -1, not {0}")]
    UnknownAcks(i16),
    /// No such topic, or not so many partitions; also: deleted while the batch waited.
    #[error("there is no such topic or partition")]
    UnknownPartition,
    /// No topic has this id: it was deleted, maybe created again.
    #[error("there is no topic with this id")]
    UnknownTopicId,
    /// Internal topics are written by the broker alone.
    #[error("the topic is internal; only the broker writes to it")]
    InternalTopic,
    /// A partition entry without a batch.
    #[error("a produce request carries exactly one record batch per partition, here is none")]
    NoBatch,
    /// More than one batch, or bytes behind it.
    #[error("a produce request carries exactly one record batch per partition, here are {0} bytes behind the first")]
    SeveralBatches(usize),
    /// A message format from before Kafka 0.11.
    #[error("record batches have magic 2, this one has {0}")]
    OldMagic(i8),
    /// The header contradicts itself or the bytes.
    #[error("the batch is damaged: {0}")]
    Corrupt(String),
    /// Control batches are the broker's.
    #[error("clients cannot write control batches")]
    ControlBatch,
    /// Transactions are not there yet.
    #[error("transactions are not supported yet")]
    Transactional,
    /// Transactions, on a topic whose records are routed.
    #[error(
        "transactional batches cannot go through a plugin yet; set ottla.partitioner.mode and ottla.serializer.mode to off for them"
    )]
    TransactionalRoute,
    /// The record count and the last offset delta disagree.
    #[error("the batch counts {records} records, but its last offset delta is {last_offset_delta}")]
    BadCount {
        /// The record count of the header.
        records: i32,
        /// The last offset delta of the header.
        last_offset_delta: i32,
    },
    /// A producer id with an impossible epoch or sequence.
    #[error("producer {producer_id} cannot write with epoch {epoch} and sequence {sequence}")]
    BadProducer {
        /// The producer id in the header.
        producer_id: i64,
        /// The epoch in the header.
        epoch: i16,
        /// The base sequence in the header.
        sequence: Sequence,
    },
    /// The codec is not allowed in this version of the request, or not known.
    #[error("the codec of the batch ({0}) is not allowed in this version of the request")]
    Codec(i16),
    /// Larger than the topic allows.
    #[error("the batch has {bytes} bytes, max.message.bytes is {bytes_max}")]
    TooLarge {
        /// Bytes of the batch as it was sent.
        bytes: usize,
        /// The topic's limit.
        bytes_max: usize,
    },
    /// Larger than the stage may unpack.
    #[error("the records of the batch are larger than {bytes_max} bytes unpacked (ottla.stage.unpacked.max.bytes)")]
    UnpackedTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// Larger, in the pieces that a plugin made of it, than one entry of the route journal.
    #[error(
        "spread over partitions the batch takes {bytes} bytes, {bytes_max} can be moved at once; send smaller batches"
    )]
    PartsTooLarge {
        /// Bytes of the pieces and of what goes with them.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The records do not read as the header says.
    #[error("the records of the batch do not decode: {0}")]
    Undecodable(String),
    /// A compacted topic keeps the last record of each key, so each needs one.
    #[error("the topic is compacted, and compaction needs a key in every record")]
    NoKey {
        /// The records without.
        indexes: Vec<i32>,
    },
    /// Timestamps outside what the topic allows.
    #[error("the timestamp of a record is outside what message.timestamp.before.max.ms and .after.max.ms allow")]
    Timestamps {
        /// The records outside.
        indexes: Vec<i32>,
    },
    /// The client says that the broker stamped the batch, on a topic where the broker does.
    #[error("only the broker marks a batch as stamped at its append")]
    StampedByClient,
    /// Out of order, or fenced.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The plugin failed on the batch, or answered what cannot be.
    #[error("plugin {plugin} failed: {reason}")]
    Plugin {
        /// `name@version`.
        plugin: String,
        /// What happened.
        reason: String,
        /// The record it was about; none when it was the batch as a whole.
        index: Option<i32>,
        /// How many records the batch has.
        records: i32,
    },
    /// The plugin refuses records of the batch.
    #[error("{}", refused_records(.plugin, .refused, *.count, *.records))]
    Refused {
        /// `name@version`.
        plugin: String,
        /// Those that it refuses, at most as many as an answer lists, and why.
        refused: Vec<RefusedRecord>,
        /// How many it refuses.
        count: usize,
        /// How many records the batch has.
        records: i32,
    },
    /// What the plugin makes of the batch is larger than the topic allows.
    #[error("rewritten by plugin {plugin} the batch has {bytes} bytes, max.message.bytes is {bytes_max}")]
    RewrittenTooLarge {
        /// `name@version`.
        plugin: String,
        /// Bytes of the new batch.
        bytes: usize,
        /// The topic's limit.
        bytes_max: usize,
    },
    /// The plugin that the topic names cannot be run.
    #[error("plugin {plugin} cannot be run: {reason}")]
    PluginUnavailable {
        /// As the topic names it.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
    /// The disk or the log directory refuses writes. Whether the batch is stored is open if it waited for durability.
    #[error("the log cannot be written: {0}")]
    Storage(String),
    /// The disk is full. Nothing was stored; it works again by itself once there is room.
    #[error("the disk is full; nothing was stored, and the batch can be sent again once there is room")]
    DiskFull,
    /// More batches wait for a plugin than the broker keeps in memory.
    #[error("too many batches wait for a plugin (ottla.route.lane.max.bytes); try again")]
    LanesFull,
    /// There is no memory to look at the batch.
    #[error("the broker has no memory to unpack the batch (ottla.memory.max.bytes); try again")]
    OutOfMemory,
    /// The batch is stored, but not durable within the request's timeout.
    #[error("the batch was not durable within the timeout of the request")]
    TimedOut,
    /// The broker stops.
    #[error("the broker is stopping")]
    Stopping,
}

/// A record that a plugin refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Its index in the batch.
    pub index: i32,
    /// The reason, with its code where it has one.
    pub reason: String,
}

fn refused_records(plugin: &str, refused: &[RefusedRecord], count: usize, records: i32) -> String {
    let first = refused.first().map(|first| format!("; record {}: {}", first.index, first.reason));
    format!("plugin {plugin} refuses {count} of {records} records{}", first.unwrap_or_default())
}

impl Refusal {
    /// What a plugin refuses in a batch of so many records.
    pub fn refused(plugin: String, refused: Vec<Refused>, records: i32) -> Self {
        let count = refused.len();
        let listed = refused.into_iter().take(RECORDS_LISTED_MAX).map(|Refused { record, code, reason, .. }| {
            let reason = code.map_or_else(|| reason.clone(), |code| format!("{code}: {reason}"));
            RefusedRecord { index: record as i32, reason }
        });
        Self::Refused { plugin, refused: listed.collect(), count, records }
    }

    /// What is wrong with each of the records to blame, where they differ (Produce v8 and later).
    pub fn record_reasons(&self) -> Vec<(i32, Option<&str>)> {
        match self {
            Self::Refused { refused, .. } => {
                refused.iter().map(|record| (record.index, Some(record.reason.as_str()))).collect()
            }
            _ => self.record_indexes().into_iter().map(|index| (index, None)).collect(),
        }
    }

    /// Kafka's code for it.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::UnknownAcks(_) => ErrorCode::InvalidRequiredAcks,
            Self::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownTopicId => ErrorCode::UnknownTopicId,
            Self::InternalTopic => ErrorCode::InvalidTopicException,
            Self::Corrupt(_) => ErrorCode::CorruptMessage,
            Self::Transactional | Self::TransactionalRoute => ErrorCode::InvalidTxnState,
            Self::Codec(_) => ErrorCode::UnsupportedCompressionType,
            Self::TooLarge { .. }
            | Self::UnpackedTooLarge { .. }
            | Self::PartsTooLarge { .. }
            | Self::RewrittenTooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::Timestamps { .. } | Self::StampedByClient => ErrorCode::InvalidTimestamp,
            Self::Sequence(error) => error.error_code(),
            Self::PluginUnavailable { .. } | Self::Storage(_) | Self::DiskFull => ErrorCode::KafkaStorageError,
            Self::TimedOut => ErrorCode::RequestTimedOut,
            // Retriable, and no client drops the batch for it.
            Self::Stopping | Self::LanesFull | Self::OutOfMemory => ErrorCode::NotLeaderOrFollower,
            Self::NoBatch
            | Self::SeveralBatches(_)
            | Self::OldMagic(_)
            | Self::ControlBatch
            | Self::BadCount { .. }
            | Self::BadProducer { .. }
            | Self::Undecodable(_)
            | Self::NoKey { .. }
            | Self::Refused { .. }
            | Self::Plugin { .. } => ErrorCode::InvalidRecord,
        }
    }

    /// The records to blame, by their index in the batch (Produce v8 and later). Where it was no single record, every
    /// one of them failed.
    pub fn record_indexes(&self) -> Vec<i32> {
        match self {
            Self::NoKey { indexes } | Self::Timestamps { indexes } => {
                indexes.iter().copied().take(RECORDS_LISTED_MAX).collect()
            }
            Self::Refused { refused, .. } => refused.iter().map(|record| record.index).collect(),
            Self::Plugin { index: Some(index), .. } => vec![*index],
            Self::Plugin { index: None, records, .. } => (0..*records).take(RECORDS_LISTED_MAX).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_fails_as_a_whole_fails_every_record() {
        let failed = |index| Refusal::Plugin { plugin: "p@3".to_owned(), reason: "trap".to_owned(), index, records: 3 };
        assert_eq!(failed(None).record_indexes(), [0, 1, 2]);
        assert_eq!(failed(Some(1)).record_indexes(), [1]);
        assert_eq!(failed(None).to_string(), "plugin p@3 failed: trap");
        assert_eq!(failed(None).error_code(), ErrorCode::InvalidRecord);
    }
}
