//! The 61 bytes in front of every batch, and batches one after another.

use std::borrow::Cow;

use super::compress::{Codec, DecompressError, decompress};
use super::crc::crc32c;
use super::record::{Record, RecordIter};
use crate::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// Bytes of the header.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes in front of what `batch_length` counts: base offset and the length itself.
pub const BATCH_OVERHEAD_BYTES: usize = 12;

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_AT: usize = 43;
const MAGIC: i8 = 2;

pub(super) const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
pub(super) const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
/// The bit of the attributes that says that `base_timestamp` is a delete horizon (KIP-534).
pub const DELETE_HORIZON_BIT: i16 = 1 << 6;

const _: () = assert!(BATCH_HEADER_BYTES == 8 + 4 + 4 + 1 + 4 + 2 + 4 + 8 + 8 + 8 + 2 + 4 + 4);

/// Whose clock the timestamps of a batch show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's, per record.
    CreateTime,
    /// The broker's, one for the whole batch: its `max_timestamp`.
    LogAppendTime,
}

/// What is wrong with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch takes {needed} bytes, {found} are there")]
    Truncated {
        /// Bytes the batch takes.
        needed: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The length in the header is too small for a header.
    #[error("a batch cannot be {length} bytes long")]
    BadLength {
        /// The `batch_length` as read.
        length: i32,
    },
    /// A message format before version 2, or damage.
    #[error("message format {magic} is not supported")]
    UnsupportedMagic {
        /// The magic byte as read.
        magic: i8,
    },
    /// The checksum does not fit the bytes.
    #[error("the CRC is {computed:#010x}, the header says {stored:#010x}")]
    CrcMismatch {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A compression that does not exist.
    #[error("compression {codec} does not exist")]
    UnknownCodec {
        /// The three bits of the attributes.
        codec: u8,
    },
    /// A negative count, or offsets that do not match the count.
    #[error("{record_count} records do not fit a last offset delta of {last_offset_delta}")]
    BadRecordCount {
        /// The count as read.
        record_count: i32,
        /// The last offset delta as read.
        last_offset_delta: i32,
    },
    /// A control batch from a client: only brokers write those.
    #[error("clients do not write control batches")]
    ControlBatch,
    /// An idempotent batch without a valid sequence.
    #[error("an idempotent batch begins at the sequence {base_sequence}")]
    BadSequence {
        /// The base sequence as read.
        base_sequence: i32,
    },
}

impl BatchError {
    /// The Kafka error that answers such a batch.
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Truncated { .. } | Self::BadLength { .. } | Self::CrcMismatch { .. } => ErrorCode::CorruptMessage,
            Self::UnsupportedMagic { .. } => ErrorCode::UnsupportedForMessageFormat,
            Self::UnknownCodec { .. } => ErrorCode::UnsupportedCompressionType,
            Self::BadRecordCount { .. } | Self::ControlBatch | Self::BadSequence { .. } => ErrorCode::InvalidRecord,
        }
    }
}

/// The header of a batch, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record, as of when the batch was written (compaction may have removed that record).
    pub base_offset: Offset,
    /// Bytes behind the length field.
    pub batch_length: i32,
    /// The epoch of the leader that appended the batch.
    pub partition_leader_epoch: LeaderEpoch,
    /// The version of the format, 2.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control.
    pub attributes: i16,
    /// The offset of the last record, counted from `base_offset`.
    pub last_offset_delta: i32,
    /// The timestamp that the records count theirs from.
    pub base_timestamp: i64,
    /// The largest timestamp.
    pub max_timestamp: i64,
    /// The idempotent producer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record.
    pub base_sequence: Sequence,
    /// How many records there are.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header. Checks its structure only: the bytes of the records need not be there, the CRC is left to
    /// [`check_crc`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let found = bytes.len();
        let header: &[u8; BATCH_HEADER_BYTES] =
            bytes.first_chunk().ok_or(BatchError::Truncated { needed: BATCH_HEADER_BYTES, found })?;
        let mut fields = Fields(header);
        let header = Self {
            base_offset: Offset(i64::from_be_bytes(fields.next())),
            batch_length: i32::from_be_bytes(fields.next()),
            partition_leader_epoch: LeaderEpoch(i32::from_be_bytes(fields.next())),
            magic: i8::from_be_bytes(fields.next()),
            crc: u32::from_be_bytes(fields.next()),
            attributes: i16::from_be_bytes(fields.next()),
            last_offset_delta: i32::from_be_bytes(fields.next()),
            base_timestamp: i64::from_be_bytes(fields.next()),
            max_timestamp: i64::from_be_bytes(fields.next()),
            producer_id: ProducerId(i64::from_be_bytes(fields.next())),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(fields.next())),
            base_sequence: Sequence(i32::from_be_bytes(fields.next())),
            record_count: i32::from_be_bytes(fields.next()),
        };
        header.check_structure()?;
        Ok(header)
    }

    fn check_structure(&self) -> Result<(), BatchError> {
        // The magic comes first: of an old message set, the other fields mean something else.
        if self.magic != MAGIC {
            return Err(BatchError::UnsupportedMagic { magic: self.magic });
        }
        if self.batch_length < (BATCH_HEADER_BYTES - BATCH_OVERHEAD_BYTES) as i32 {
            return Err(BatchError::BadLength { length: self.batch_length });
        }
        if self.record_count < 0 || self.last_offset_delta < 0 {
            let Self { record_count, last_offset_delta, .. } = *self;
            return Err(BatchError::BadRecordCount { record_count, last_offset_delta });
        }
        Ok(())
    }

    /// Checks what a batch from a client has to fulfil beyond its structure: records numbered without holes, a codec
    /// that exists, no control batch, a sequence if it is idempotent.
    pub fn check_as_produced(&self) -> Result<(), BatchError> {
        self.codec()?;
        let Self { record_count, last_offset_delta, .. } = *self;
        if record_count < 1 || last_offset_delta != record_count - 1 {
            return Err(BatchError::BadRecordCount { record_count, last_offset_delta });
        }
        if self.is_control() {
            return Err(BatchError::ControlBatch);
        }
        if self.is_idempotent() && self.base_sequence.get() < 0 {
            return Err(BatchError::BadSequence { base_sequence: self.base_sequence.get() });
        }
        Ok(())
    }

    /// Appends the 61 bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base_offset.get().to_be_bytes());
        out.extend_from_slice(&self.batch_length.to_be_bytes());
        out.extend_from_slice(&self.partition_leader_epoch.get().to_be_bytes());
        out.extend_from_slice(&self.magic.to_be_bytes());
        out.extend_from_slice(&self.crc.to_be_bytes());
        out.extend_from_slice(&self.attributes.to_be_bytes());
        out.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        out.extend_from_slice(&self.base_timestamp.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.producer_id.get().to_be_bytes());
        out.extend_from_slice(&self.producer_epoch.get().to_be_bytes());
        out.extend_from_slice(&self.base_sequence.get().to_be_bytes());
        out.extend_from_slice(&self.record_count.to_be_bytes());
    }

    /// Bytes of the whole batch, from its base offset to its last record.
    pub const fn total_bytes(&self) -> usize {
        // Not negative: `check_structure` has seen to it; a header built by hand saturates.
        (self.batch_length as usize).saturating_add(BATCH_OVERHEAD_BYTES)
    }

    /// How the records are compressed.
    pub const fn codec(&self) -> Result<Codec, BatchError> {
        match Codec::from_attributes(self.attributes) {
            Some(codec) => Ok(codec),
            None => Err(BatchError::UnknownCodec { codec: (self.attributes & 7) as u8 }),
        }
    }

    /// Whose clock the timestamps show.
    pub const fn timestamp_type(&self) -> TimestampType {
        if self.attributes & TIMESTAMP_TYPE_BIT == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// Whether the batch belongs to a transaction.
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch is a broker's note (commit, abort) and not data.
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// When the deletion markers in this batch may go, in milliseconds: set by the first compaction that meets them. The
    /// timestamps of the records then count from it.
    pub const fn delete_horizon(&self) -> Option<i64> {
        if self.attributes & DELETE_HORIZON_BIT == 0 { None } else { Some(self.base_timestamp) }
    }

    /// Whether the batch has a producer id, so that a retry can be recognised.
    pub const fn is_idempotent(&self) -> bool {
        self.producer_id.get() >= 0
    }

    /// The offset of the last record.
    pub const fn last_offset(&self) -> Offset {
        self.base_offset.advance(self.last_offset_delta as i64)
    }

    /// The offset behind the last record.
    pub const fn next_offset(&self) -> Offset {
        self.last_offset().advance(1)
    }

    /// The sequence of the last record.
    pub const fn last_sequence(&self) -> Sequence {
        self.base_sequence.advance(self.last_offset_delta)
    }

    /// The offset of a record of this batch.
    pub const fn offset_of(&self, record: &Record<'_>) -> Offset {
        self.base_offset.advance(record.offset_delta as i64)
    }

    /// The timestamp of a record of this batch.
    pub const fn timestamp_of(&self, record: &Record<'_>) -> i64 {
        match self.timestamp_type() {
            TimestampType::CreateTime => self.base_timestamp.wrapping_add(record.timestamp_delta),
            TimestampType::LogAppendTime => self.max_timestamp,
        }
    }
}

/// The header, field by field.
struct Fields<'h>(&'h [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> [u8; N] {
        // The header has all its bytes, so the default is never taken.
        let Some((field, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *field
    }
}

/// A whole batch in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch<'a> {
    /// Its header.
    pub header: BatchHeader,
    /// All its bytes, the header included.
    pub bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch at the front of `bytes`; more may follow it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let (found, needed) = (bytes.len(), header.total_bytes());
        let bytes = bytes.get(..needed).ok_or(BatchError::Truncated { needed, found })?;
        Ok(Self { header, bytes })
    }

    /// The records as they are stored, compressed or not.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default()
    }

    /// Compares the CRC in the header with the bytes.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let stored = self.header.crc;
        let computed = crc32c(self.bytes.get(ATTRIBUTES_AT..).unwrap_or_default());
        if stored == computed { Ok(()) } else { Err(BatchError::CrcMismatch { stored, computed }) }
    }

    /// The records, unpacked to at most `bytes_max` bytes.
    pub fn records(&self, bytes_max: usize) -> Result<BatchRecords<'a>, DecompressError> {
        let codec = Codec::from_attributes(self.header.attributes).ok_or(DecompressError::UnknownCodec)?;
        Ok(BatchRecords { header: self.header, payload: decompress(codec, self.payload(), bytes_max)? })
    }
}

/// The unpacked records of a batch.
#[derive(Debug, Clone)]
pub struct BatchRecords<'a> {
    /// The header of the batch.
    pub header: BatchHeader,
    /// The records: borrowed from the batch if it is not compressed.
    pub payload: Cow<'a, [u8]>,
}

impl BatchRecords<'_> {
    /// The records one by one.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::new(&self.payload, self.header.record_count)
    }
}

impl<'r> IntoIterator for &'r BatchRecords<'_> {
    type Item = <RecordIter<'r> as Iterator>::Item;
    type IntoIter = RecordIter<'r>;

    fn into_iter(self) -> RecordIter<'r> {
        self.iter()
    }
}

/// The batches in `bytes`, one after another.
///
/// What cannot be a batch ends the iteration with one error. At the end of a Fetch response that may be
/// [`BatchError::Truncated`]: brokers cut where the size limit fell, and the rest comes with the next fetch.
pub const fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

/// See [`batches`].
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// The bytes behind the batches seen so far.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = Batch::parse(self.rest);
        self.rest = match &batch {
            Ok(batch) => self.rest.get(batch.bytes.len()..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(batch)
    }
}

/// Compares the CRC of the batch at the front of `bytes` with its bytes.
pub fn check_crc(bytes: &[u8]) -> Result<(), BatchError> {
    Batch::parse(bytes)?.check_crc()
}

/// Writes the base offset into a batch. It lies outside the CRC.
pub fn set_base_offset(batch: &mut [u8], offset: Offset) {
    put(batch, 0, &offset.get().to_be_bytes());
}

/// Writes the leader epoch into a batch. It lies outside the CRC.
pub fn set_leader_epoch(batch: &mut [u8], epoch: LeaderEpoch) {
    put(batch, LEADER_EPOCH_AT, &epoch.get().to_be_bytes());
}

/// Marks a batch as stamped by the broker, and computes its CRC anew.
pub fn set_log_append_time(batch: &mut [u8], timestamp: i64) {
    let Ok(header) = BatchHeader::parse(batch) else { return };
    put(batch, ATTRIBUTES_AT, &(header.attributes | TIMESTAMP_TYPE_BIT).to_be_bytes());
    put(batch, MAX_TIMESTAMP_AT, &timestamp.to_be_bytes());
    seal(batch);
}

/// Marks a batch as stamped by its producer, writes the largest of those timestamps into it, and computes its CRC anew.
/// Some clients leave it out (sarama).
pub fn set_create_time(batch: &mut [u8], max_timestamp: i64) {
    let Ok(header) = BatchHeader::parse(batch) else { return };
    put(batch, ATTRIBUTES_AT, &(header.attributes & !TIMESTAMP_TYPE_BIT).to_be_bytes());
    put(batch, MAX_TIMESTAMP_AT, &max_timestamp.to_be_bytes());
    seal(batch);
}

/// Writes producer, epoch and the sequence of the first record into a batch, and computes its CRC anew.
pub fn set_producer(batch: &mut [u8], id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) {
    put(batch, PRODUCER_AT, &id.get().to_be_bytes());
    put(batch, PRODUCER_AT + 8, &epoch.get().to_be_bytes());
    put(batch, PRODUCER_AT + 10, &base_sequence.get().to_be_bytes());
    seal(batch);
}

/// Computes the CRC of a whole batch and writes it.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = crc32c(batch.get(ATTRIBUTES_AT..).unwrap_or_default());
    put(batch, CRC_AT, &crc.to_be_bytes());
}

/// The CRC as the header says it.
pub(super) fn stored_crc(batch: &[u8]) -> u32 {
    batch.get(CRC_AT..).and_then(<[u8]>::first_chunk).map_or(0, |crc| u32::from_be_bytes(*crc))
}

/// Writes the length of a whole batch.
pub(super) fn set_batch_length(batch: &mut [u8], length: i32) {
    put(batch, LENGTH_AT, &length.to_be_bytes());
}

/// Overwrites a field. Bytes too short for it are no batch and stay as they are.
fn put(batch: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = batch.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}
