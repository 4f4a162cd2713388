//! Making new batches: in the producer from records, in the broker from records of another batch.

use super::batch::{self, BATCH_HEADER_BYTES, BATCH_OVERHEAD_BYTES, BatchHeader, TRANSACTIONAL_BIT};
use super::compress::{Codec, CompressError, compress};
use super::record::{Header, Record};
use crate::primitive::varint::{length_u64, write_u32, write_u64, zigzag_i32, zigzag_i64};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// Why a batch could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A batch of no records does not exist.
    #[error("the batch has no records")]
    Empty,
    /// A record, or the batch, is longer than its length field can say.
    #[error("{bytes} bytes are more than a batch can hold")]
    TooLarge {
        /// How large it would be.
        bytes: usize,
    },
    /// More records than a batch can count.
    #[error("the batch is full")]
    TooManyRecords,
    /// The records could not be compressed.
    #[error(transparent)]
    Compress(#[from] CompressError),
}

/// Collects records and writes them as one batch.
///
/// ```
/// use ottla_wire::record::{batches, BatchBuilder, Codec};
///
/// let mut builder = BatchBuilder::new(Codec::Lz4);
/// builder.append(1_700_000_000_000, Some(b"key"), Some(b"value"), [].into_iter())?;
/// let mut bytes = Vec::new();
/// builder.finish(&mut bytes)?;
///
/// let batch = batches(&bytes).next().unwrap()?;
/// let records = batch.records(1 << 20)?;
/// assert_eq!(records.iter().next().unwrap()?.value, Some(b"value".as_slice()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    codec: Codec,
    level: Option<i32>,
    transactional: bool,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: Sequence,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    next_offset_delta: i32,
    record_count: i32,
    records: Vec<u8>,
}

impl BatchBuilder {
    /// A builder whose records will be compressed with `codec`.
    pub const fn new(codec: Codec) -> Self {
        Self {
            codec,
            level: None,
            transactional: false,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            base_timestamp: None,
            max_timestamp: -1,
            next_offset_delta: 0,
            record_count: 0,
            records: Vec::new(),
        }
    }

    /// A builder for some of the records of another batch: same codec, and the same base timestamp, so that the
    /// records' timestamps stay as they are, byte for byte.
    pub fn like(header: &BatchHeader) -> Self {
        let codec = header.codec().unwrap_or(Codec::None);
        Self { base_timestamp: Some(header.base_timestamp), ..Self::new(codec) }
    }

    /// Counts the timestamps of the records from `timestamp`, not from the first of them.
    #[must_use]
    pub fn counting_from(self, timestamp: i64) -> Self {
        Self { base_timestamp: Some(timestamp), ..self }
    }

    /// Compresses with this level instead of the codec's usual one.
    #[must_use]
    pub fn level(self, level: i32) -> Self {
        Self { level: Some(level), ..self }
    }

    /// Makes the batch idempotent: the first record gets `base_sequence`.
    #[must_use]
    pub fn producer(self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) -> Self {
        Self { producer_id: id, producer_epoch: epoch, base_sequence, ..self }
    }

    /// Makes the batch part of its producer's transaction.
    #[must_use]
    pub fn transactional(self) -> Self {
        Self { transactional: true, ..self }
    }

    /// How many records there are.
    pub const fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Whether there are no records yet.
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch if it were not compressed.
    pub const fn uncompressed_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }

    /// Adds a record and returns its offset delta.
    pub fn append<'h>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = Header<'h>> + Clone,
    ) -> Result<i32, BuildError> {
        let headers_bytes = headers.clone().fold(0, |sum: usize, header| {
            sum.saturating_add(field_bytes(Some(header.key))).saturating_add(field_bytes(header.value))
        });
        let header_count = i32::try_from(headers.len()).map_err(|_| BuildError::TooManyRecords)?;
        let content_bytes = [field_bytes(key), field_bytes(value), varint_bytes(header_count), headers_bytes]
            .into_iter()
            .fold(0, usize::saturating_add);

        let offset_delta = self.begin_record(timestamp, 0, content_bytes)?;
        put_field(key, &mut self.records);
        put_field(value, &mut self.records);
        put_varint(header_count, &mut self.records);
        for header in headers {
            put_field(Some(header.key), &mut self.records);
            put_field(header.value, &mut self.records);
        }
        Ok(offset_delta)
    }

    /// Adds a record of another batch and returns its new offset delta. `timestamp` is what that batch says it is
    /// ([`BatchHeader::timestamp_of`]). Key, value and headers are copied byte for byte.
    pub fn append_record(&mut self, timestamp: i64, record: &Record<'_>) -> Result<i32, BuildError> {
        let offset_delta = self.begin_record(timestamp, record.attributes, record.content.len())?;
        self.records.extend_from_slice(record.content);
        Ok(offset_delta)
    }

    /// Leaves a hole of `count` offsets, for records that were taken out of the batch.
    pub fn skip_offsets(&mut self, count: i32) -> Result<(), BuildError> {
        let next = self.next_offset_delta.checked_add(count).filter(|next| *next >= self.next_offset_delta);
        self.next_offset_delta = next.ok_or(BuildError::TooManyRecords)?;
        Ok(())
    }

    /// Writes the front of a record, up to its content.
    fn begin_record(&mut self, timestamp: i64, attributes: i8, content_bytes: usize) -> Result<i32, BuildError> {
        let offset_delta = self.next_offset_delta;
        let next_offset_delta = offset_delta.checked_add(1).ok_or(BuildError::TooManyRecords)?;
        let base_timestamp = self.base_timestamp.unwrap_or(timestamp);
        // A difference that does not fit wraps, and wraps back when it is added again.
        let timestamp_delta = timestamp.wrapping_sub(base_timestamp);

        let bytes = 1 + length_u64(zigzag_i64(timestamp_delta)) + varint_bytes(offset_delta);
        let bytes = bytes.saturating_add(content_bytes);
        let length = i32::try_from(bytes).map_err(|_| BuildError::TooLarge { bytes })?;
        let total = self.records.len().saturating_add(bytes).saturating_add(varint_bytes(length));
        if i32::try_from(total.saturating_add(BATCH_HEADER_BYTES)).is_err() {
            return Err(BuildError::TooLarge { bytes: total });
        }

        self.records.reserve(total - self.records.len());
        put_varint(length, &mut self.records);
        self.records.push(attributes as u8);
        write_u64(zigzag_i64(timestamp_delta), &mut self.records);
        put_varint(offset_delta, &mut self.records);

        self.base_timestamp = Some(base_timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.next_offset_delta = next_offset_delta;
        self.record_count += 1;
        Ok(offset_delta)
    }

    /// Appends the batch to `out`, base offset 0 and no leader epoch, and returns its header.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<BatchHeader, BuildError> {
        if self.record_count == 0 {
            return Err(BuildError::Empty);
        }
        let start = out.len();
        let transactional = if self.transactional { TRANSACTIONAL_BIT } else { 0 };
        let header = BatchHeader {
            base_offset: Offset(0),
            batch_length: 0,
            partition_leader_epoch: LeaderEpoch::NONE,
            magic: 2,
            crc: 0,
            attributes: i16::from(self.codec.bits()) | transactional,
            last_offset_delta: self.next_offset_delta - 1,
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.record_count,
        };
        header.write(out);
        compress(self.codec, self.level, &self.records, out).inspect_err(|_| out.truncate(start))?;

        let bytes = out.len() - start;
        let Ok(batch_length) = i32::try_from(bytes - BATCH_OVERHEAD_BYTES) else {
            out.truncate(start);
            return Err(BuildError::TooLarge { bytes });
        };
        let batch = &mut out[start..];
        batch::set_batch_length(batch, batch_length);
        batch::seal(batch);
        Ok(BatchHeader { batch_length, crc: batch::stored_crc(batch), ..header })
    }
}

/// The most that a record can take in a batch, before compression.
pub fn record_bytes_max<'h>(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = Header<'h>>,
) -> usize {
    // Length 5, attributes 1, timestamp 10, offset 5, header count 5.
    let fixed = 26_usize.saturating_add(field_bytes(key)).saturating_add(field_bytes(value));
    headers.fold(fixed, |sum, header| {
        sum.saturating_add(field_bytes(Some(header.key))).saturating_add(field_bytes(header.value))
    })
}

/// Bytes that a nullable field takes with its length.
fn field_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |field| length_u64(zigzag_i64(field.len() as i64)).saturating_add(field.len()))
}

fn varint_bytes(number: i32) -> usize {
    length_u64(u64::from(zigzag_i32(number)))
}

fn put_varint(number: i32, out: &mut Vec<u8>) {
    write_u32(zigzag_i32(number), out);
}

fn put_field(field: Option<&[u8]>, out: &mut Vec<u8>) {
    // The record's length was checked, so the field's fits as well.
    put_varint(field.map_or(-1, |field| field.len() as i32), out);
    out.extend_from_slice(field.unwrap_or_default());
}
