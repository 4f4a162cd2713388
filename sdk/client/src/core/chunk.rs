//! What `poll` returns: chunks of one partition's consecutive records, all slices of one received (or unpacked) buffer.
//!
//! Reading through [`RecordRef`] costs no reference count; [`Record`] owns its slices and keeps the whole buffer alive,
//! [`Record::detach`] copies them out.

use std::sync::Arc;

use bytes::Bytes;
pub use ottla_wire::record::TimestampType;
use ottla_wire::record::{HeaderIter, RecordIter};

/// A stretch of a chunk's buffer; a negative length is a null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) bytes: i32,
}

impl Span {
    pub(crate) const NULL: Self = Self { start: 0, bytes: -1 };

    fn of(self, buffer: &[u8]) -> Option<&[u8]> {
        let bytes = usize::try_from(self.bytes).ok()?;
        buffer.get(self.start as usize..self.start as usize + bytes)
    }

    fn slice(self, buffer: &Bytes) -> Option<Bytes> {
        let bytes = usize::try_from(self.bytes).ok()?;
        let start = self.start as usize;
        (start + bytes <= buffer.len()).then(|| buffer.slice(start..start + bytes))
    }
}

/// One record inside a chunk's buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Span,
    pub(crate) value: Span,
    /// The whole record as it stands, for its headers; null if it has none.
    pub(crate) raw: Span,
    pub(crate) header_count: u32,
}

/// Consecutive records of one partition that share a buffer.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// The reader's place from which it was fetched: a seek makes a new one.
    pub(crate) generation: u64,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) buffer: Bytes,
    pub(crate) entries: Vec<Entry>,
}

impl Chunk {
    /// The topic of all of them.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition of all of them.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The origin of their timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        self.timestamp_type
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The record at this place in the chunk.
    pub fn get(&self, index: usize) -> Option<RecordRef<'_>> {
        self.entries.get(index).map(|entry| RecordRef { chunk: self, entry })
    }

    /// One after another, in offset order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> + '_ {
        self.entries.iter().map(|entry| RecordRef { chunk: self, entry })
    }
}

/// The records of one `poll`.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub(crate) chunks: Vec<Chunk>,
}

impl Records {
    /// How many records.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Chunk::len).sum()
    }

    /// Whether the poll timed out without a record.
    pub fn is_empty(&self) -> bool {
        self.chunks.iter().all(Chunk::is_empty)
    }

    /// The chunks, each of one partition.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The chunks, to be kept.
    pub fn into_chunks(self) -> Vec<Chunk> {
        self.chunks
    }

    /// All records, chunk by chunk.
    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> + '_ {
        self.chunks.iter().flat_map(Chunk::iter)
    }
}

impl IntoIterator for Records {
    type Item = Record;
    type IntoIter = std::vec::IntoIter<Record>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter().map(RecordRef::to_record).collect::<Vec<_>>().into_iter()
    }
}

/// A record seen in its chunk.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    chunk: &'a Chunk,
    entry: &'a Entry,
}

impl<'a> RecordRef<'a> {
    /// The topic.
    pub fn topic(self) -> &'a Arc<str> {
        &self.chunk.topic
    }

    /// The partition.
    pub fn partition(self) -> i32 {
        self.chunk.partition
    }

    /// The offset.
    pub fn offset(self) -> i64 {
        self.entry.offset
    }

    /// Milliseconds since 1970, -1 for none.
    pub fn timestamp_ms(self) -> i64 {
        self.entry.timestamp_ms
    }

    /// The origin of the timestamp.
    pub fn timestamp_type(self) -> TimestampType {
        self.chunk.timestamp_type
    }

    /// The key.
    pub fn key(self) -> Option<&'a [u8]> {
        self.entry.key.of(&self.chunk.buffer)
    }

    /// The value.
    pub fn value(self) -> Option<&'a [u8]> {
        self.entry.value.of(&self.chunk.buffer)
    }

    /// The key as a slice that keeps the buffer alive.
    pub fn key_bytes(self) -> Option<Bytes> {
        self.entry.key.slice(&self.chunk.buffer)
    }

    /// The value as a slice that keeps the buffer alive.
    pub fn value_bytes(self) -> Option<Bytes> {
        self.entry.value.slice(&self.chunk.buffer)
    }

    /// How many headers.
    pub fn header_count(self) -> usize {
        self.entry.header_count as usize
    }

    /// The headers in order: name bytes (UTF-8 from any sane producer) and value.
    pub fn headers(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        headers_of(self.entry.raw.of(&self.chunk.buffer).unwrap_or_default())
    }

    /// The record on its own.
    pub fn to_record(self) -> Record {
        Record {
            topic: Arc::clone(&self.chunk.topic),
            partition: self.chunk.partition,
            offset: self.entry.offset,
            timestamp_ms: self.entry.timestamp_ms,
            timestamp_type: self.chunk.timestamp_type,
            key: self.key_bytes(),
            value: self.value_bytes(),
            headers: Headers {
                raw: self.entry.raw.slice(&self.chunk.buffer).unwrap_or_default(),
                count: self.entry.header_count,
            },
        }
    }
}

/// A record on its own. Its slices keep the buffer alive that they came in.
#[derive(Clone, Debug)]
pub struct Record {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since 1970, -1 for none.
    pub timestamp_ms: i64,
    /// The origin of the timestamp.
    pub timestamp_type: TimestampType,
    /// The key; none is a null.
    pub key: Option<Bytes>,
    /// The value; none is a null.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

impl Record {
    /// The same record with memory of its own, so that a large buffer is not kept alive for a small record.
    #[must_use]
    pub fn detach(self) -> Self {
        let copy = |bytes: Bytes| Bytes::copy_from_slice(&bytes);
        let headers = Headers { raw: copy(self.headers.raw), count: self.headers.count };
        Self { key: self.key.map(copy), value: self.value.map(copy), headers, ..self }
    }
}

/// The headers of a [`Record`], still packed.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    /// The whole record they belong to, empty without headers.
    raw: Bytes,
    count: u32,
}

impl Headers {
    /// How many.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In order: name bytes and value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        headers_of(&self.raw)
    }

    /// The value of the last header of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().filter(|(key, _)| *key == name.as_bytes()).last().and_then(|(_, value)| value)
    }
}

/// The headers of a record as it stands in its batch. It was read once before, so it reads again.
fn headers_of(raw: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let record = RecordIter::new(raw, 1).next().and_then(Result::ok);
    let headers: Option<HeaderIter<'_>> = record.map(|record| record.headers.iter());
    headers.into_iter().flatten().map(|header| (header.key, header.value))
}
