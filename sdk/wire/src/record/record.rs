//! One record inside a batch, and records one after another.
//!
//! ```text
//! length varint | attributes i8 | timestamp_delta varlong | offset_delta varint
//! | key length varint, key | value length varint, value
//! | header count varint | per header: key length varint, key, value length varint, value
//! ```
//!
//! A length of −1 means null; header keys cannot be null.

use crate::primitive::varint;

/// A record, borrowed from the payload of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Unused by Kafka so far, kept as it is.
    pub attributes: i8,
    /// The timestamp, counted from the batch's base timestamp.
    pub timestamp_delta: i64,
    /// The offset, counted from the batch's base offset.
    pub offset_delta: i32,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
    /// The whole record with its length in front.
    pub raw: &'a [u8],
    /// Key, value and headers as they stand: what re-batching copies.
    pub content: &'a [u8],
}

/// What is wrong with the records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A record ends in the middle, or a length in it is impossible.
    #[error("record {index} of the batch is damaged in its {part}")]
    Damaged {
        /// Which record, counted from 0.
        index: i32,
        /// Which part of it.
        part: &'static str,
    },
    /// Bytes behind the last record that the batch counts.
    #[error("{bytes} bytes follow the last record of the batch")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
}

/// A header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its key: text by convention, any bytes in fact.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// The key as text, if it is UTF-8.
    pub fn key_text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.key).ok()
    }
}

/// The headers of a record, in their order, duplicates included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    /// The headers as they stand, without their count.
    raw: &'a [u8],
    count: i32,
}

impl<'a> Headers<'a> {
    /// How many there are.
    pub const fn len(self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The headers as they stand, without their count.
    pub const fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// The headers one by one.
    pub const fn iter(self) -> HeaderIter<'a> {
        HeaderIter { cursor: Cursor(self.raw), left: self.count }
    }

    /// The value of the last header with this key, as Kafka's `lastHeader`. The inner `None` is a null value.
    pub fn last(self, key: &str) -> Option<Option<&'a [u8]>> {
        self.iter().filter(|header| header.key == key.as_bytes()).last().map(|header| header.value)
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// See [`Headers::iter`].
#[derive(Debug, Clone)]
pub struct HeaderIter<'a> {
    cursor: Cursor<'a>,
    left: i32,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1).filter(|left| *left >= 0)?;
        // Walked once already when the record was read, so this does not fail.
        self.cursor.header()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for HeaderIter<'_> {}

/// The records of an unpacked payload.
///
/// Yields as many records as the batch counts; the first error ends it. Allocates nothing.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    cursor: Cursor<'a>,
    index: i32,
    count: i32,
}

impl<'a> RecordIter<'a> {
    /// The `record_count` records in `payload`.
    pub const fn new(payload: &'a [u8], record_count: i32) -> Self {
        Self { cursor: Cursor(payload), index: 0, count: record_count }
    }

    fn end(&mut self) -> Option<Result<Record<'a>, RecordError>> {
        let bytes = self.cursor.0.len();
        self.cursor = Cursor(&[]);
        (bytes > 0).then_some(Err(RecordError::TrailingBytes { bytes }))
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a record handed over in memory costs as much as reading it")]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            return self.end();
        }
        let index = self.index;
        self.index += 1;
        Some(self.cursor.record().map_err(|part| {
            *self = Self::new(&[], 0);
            RecordError::Damaged { index, part }
        }))
    }
}

/// Walks a payload.
#[derive(Debug, Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn varint(&mut self) -> Option<i32> {
        let (number, length) = varint::read_u32(self.0).ok()?;
        self.take(length)?;
        Some(varint::unzigzag_u32(number))
    }

    #[inline]
    fn varlong(&mut self) -> Option<i64> {
        let (number, length) = varint::read_u64(self.0).ok()?;
        self.take(length)?;
        Some(varint::unzigzag_u64(number))
    }

    /// Bytes with their length in front. The outer `None` is damage, the inner one null.
    #[inline]
    #[allow(clippy::option_option)]
    fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            length => self.take(usize::try_from(length).ok()?).map(Some),
        }
    }

    fn header(&mut self) -> Option<Header<'a>> {
        Some(Header { key: self.nullable()??, value: self.nullable()? })
    }

    /// The next record, or the part of it that is damaged.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as for the iterator")]
    fn record(&mut self) -> Result<Record<'a>, &'static str> {
        let before = self.0;
        let length = self.varint().ok_or("length")?;
        let body = usize::try_from(length).ok().and_then(|length| self.take(length)).ok_or("length")?;
        let raw = &before[..before.len() - self.0.len()];

        let mut body = Self(body);
        let attributes = body.take(1).ok_or("attributes")?[0] as i8;
        let timestamp_delta = body.varlong().ok_or("timestamp")?;
        let offset_delta = body.varint().ok_or("offset")?;
        let content = body.0;
        let key = body.nullable().ok_or("key")?;
        let value = body.nullable().ok_or("value")?;
        let headers = body.headers().ok_or("headers")?;
        if !body.0.is_empty() {
            return Err("end");
        }
        Ok(Record { attributes, timestamp_delta, offset_delta, key, value, headers, raw, content })
    }

    #[inline]
    fn headers(&mut self) -> Option<Headers<'a>> {
        let count = self.varint()?;
        let raw = self.0;
        // A header takes at least two bytes, so a hostile count ends with the record.
        for _ in 0..usize::try_from(count).ok()? {
            self.header()?;
        }
        Some(Headers { raw: raw.get(..raw.len() - self.0.len())?, count })
    }
}
