//! Records, flattened to what a plugin reads.

use crate::contract::Column;
use crate::manifest::Reads;

/// The kinds of column, as numbered in `plugins/wit/README.md`.
mod kind {
    pub(super) const KEY: u32 = 1;
    pub(super) const VALUE: u32 = 2;
    pub(super) const VALUE_PREFIX: u32 = 3;
    pub(super) const HEADER_COUNTS: u32 = 4;
    pub(super) const HEADER_NAMES: u32 = 5;
    pub(super) const HEADER_VALUES: u32 = 6;
}

/// Columns in one call at most: a value is there whole or as a prefix, never both.
const COLUMNS_MAX: usize = 5;

/// Pieces of bytes in a row, each with its length; -1 is null.
#[derive(Debug, Clone, Default)]
struct Flat {
    bytes: Vec<u8>,
    lengths: Vec<i32>,
}

/// Takes records in and keeps the parts of them that a plugin reads.
#[derive(Debug, Clone, Default)]
pub struct ColumnsBuilder {
    columns: Columns,
}

/// The records of one batch as flat columns.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    reads: Reads,
    records: usize,
    key: Flat,
    value: Flat,
    header_counts: Vec<i32>,
    header_names: Flat,
    header_values: Flat,
}

/// A run of records that goes into one call.
pub(crate) struct Chunk<'a> {
    pub(crate) records: usize,
    columns: [Column<'a>; COLUMNS_MAX],
    used: usize,
}

/// Where the next chunk begins in every column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    record: usize,
    key: usize,
    value: usize,
    header: usize,
    header_names: usize,
    header_values: usize,
}

impl ColumnsBuilder {
    /// An empty builder for a plugin that reads these parts ([`crate::Partitioner::reads`]).
    pub fn new(reads: Reads) -> Self {
        Self { columns: Columns { reads, ..Columns::default() } }
    }

    /// Adds one record. Only the parts that the plugin reads are copied; `headers` is not even iterated otherwise.
    pub fn push<'h>(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        let Columns { reads, records, key: keys, value: values, header_counts, header_names, header_values } =
            &mut self.columns;
        *records += 1;
        if reads.key {
            keys.push(key, usize::MAX);
        }
        if reads.value {
            values.push(value, usize::MAX);
        } else if let Some(prefix) = reads.value_prefix {
            values.push(value, prefix as usize);
        }
        if reads.headers {
            let before = header_names.lengths.len();
            for (name, value) in headers {
                header_names.push(Some(name), usize::MAX);
                header_values.push(value, usize::MAX);
            }
            header_counts.push((header_names.lengths.len() - before) as i32);
        }
    }

    /// The columns of all records pushed.
    pub fn build(self) -> Columns {
        self.columns
    }
}

impl Columns {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The parts of each record that are here.
    pub fn reads(&self) -> Reads {
        self.reads
    }

    /// Bytes and lengths that a plugin is given for all records.
    pub fn byte_size(&self) -> usize {
        [&self.key, &self.value, &self.header_names, &self.header_values].map(Flat::byte_size).iter().sum::<usize>()
            + self.header_counts.len() * size_of::<i32>()
    }

    /// An empty builder that uses the memory of these columns again.
    pub fn into_builder(mut self, reads: Reads) -> ColumnsBuilder {
        for flat in [&mut self.key, &mut self.value, &mut self.header_names, &mut self.header_values] {
            flat.bytes.clear();
            flat.lengths.clear();
        }
        self.header_counts.clear();
        ColumnsBuilder { columns: Self { reads, records: 0, ..self } }
    }

    /// Cuts the records into calls of at most `records_max` records and about `bytes_max` bytes, at least one record each.
    pub(crate) fn chunks(&self, records_max: usize, bytes_max: usize) -> impl Iterator<Item = Chunk<'_>> {
        let mut cursor = Cursor::default();
        let fits = self.records <= records_max && self.byte_size() <= bytes_max;
        std::iter::from_fn(move || {
            if cursor.record == self.records {
                return None;
            }
            let begin = cursor;
            if fits {
                cursor = self.end();
            } else {
                self.advance(&mut cursor);
                while cursor.record < self.records && cursor.record - begin.record < records_max {
                    let mut next = cursor;
                    self.advance(&mut next);
                    if self.chunk_bytes(begin, next) > bytes_max {
                        break;
                    }
                    cursor = next;
                }
            }
            Some(self.chunk(begin, cursor))
        })
    }

    fn end(&self) -> Cursor {
        Cursor {
            record: self.records,
            key: self.key.bytes.len(),
            value: self.value.bytes.len(),
            header: self.header_names.lengths.len(),
            header_names: self.header_names.bytes.len(),
            header_values: self.header_values.bytes.len(),
        }
    }

    fn advance(&self, cursor: &mut Cursor) {
        cursor.key += self.key.length(cursor.record);
        cursor.value += self.value.length(cursor.record);
        let headers = self.header_counts.get(cursor.record).map_or(0, |&count| count as usize);
        for header in cursor.header..cursor.header + headers {
            cursor.header_names += self.header_names.length(header);
            cursor.header_values += self.header_values.length(header);
        }
        cursor.header += headers;
        cursor.record += 1;
    }

    fn chunk_bytes(&self, from: Cursor, to: Cursor) -> usize {
        let per_record = [!self.key.lengths.is_empty(), !self.value.lengths.is_empty(), self.reads.headers];
        let lengths =
            (to.record - from.record) * per_record.iter().filter(|used| **used).count() + (to.header - from.header) * 2;
        (to.key - from.key)
            + (to.value - from.value)
            + (to.header_names - from.header_names)
            + (to.header_values - from.header_values)
            + lengths * size_of::<i32>()
    }

    fn chunk(&self, from: Cursor, to: Cursor) -> Chunk<'_> {
        let mut chunk = Chunk {
            records: to.record - from.record,
            columns: std::array::from_fn(|_| Column { kind: 0, bytes: &[], lengths: &[] }),
            used: 0,
        };
        if self.reads.key {
            chunk.add(self.key.column(kind::KEY, from.key..to.key, from.record..to.record));
        }
        if self.reads.value {
            chunk.add(self.value.column(kind::VALUE, from.value..to.value, from.record..to.record));
        } else if self.reads.value_prefix.is_some() {
            chunk.add(self.value.column(kind::VALUE_PREFIX, from.value..to.value, from.record..to.record));
        }
        if self.reads.headers {
            let counts = self.header_counts.get(from.record..to.record).unwrap_or_default();
            chunk.add(Column { kind: kind::HEADER_COUNTS, bytes: &[], lengths: counts });
            let headers = from.header..to.header;
            let names = from.header_names..to.header_names;
            chunk.add(self.header_names.column(kind::HEADER_NAMES, names, headers.clone()));
            chunk.add(self.header_values.column(kind::HEADER_VALUES, from.header_values..to.header_values, headers));
        }
        chunk
    }
}

impl<'a> Chunk<'a> {
    pub(crate) fn columns(&self) -> &[Column<'a>] {
        self.columns.get(..self.used).unwrap_or_default()
    }

    fn add(&mut self, column: Column<'a>) {
        if let Some(slot) = self.columns.get_mut(self.used) {
            *slot = column;
            self.used += 1;
        }
    }
}

impl Flat {
    /// Appends a piece, or at most its first `bytes_max` bytes.
    fn push(&mut self, piece: Option<&[u8]>, bytes_max: usize) {
        let Some(piece) = piece else { return self.lengths.push(-1) };
        // Kafka counts the bytes of every part in 31 bits, so the second bound never shortens anything.
        let kept = piece.len().min(bytes_max).min(i32::MAX as usize);
        self.bytes.extend_from_slice(piece.get(..kept).unwrap_or_default());
        self.lengths.push(kept as i32);
    }

    fn byte_size(&self) -> usize {
        self.bytes.len() + self.lengths.len() * size_of::<i32>()
    }

    fn length(&self, piece: usize) -> usize {
        self.lengths.get(piece).map_or(0, |&length| usize::try_from(length).unwrap_or(0))
    }

    fn column(&self, kind: u32, bytes: std::ops::Range<usize>, pieces: std::ops::Range<usize>) -> Column<'_> {
        Column {
            kind,
            bytes: self.bytes.get(bytes).unwrap_or_default(),
            lengths: self.lengths.get(pieces).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Reads = Reads { key: true, value: true, value_prefix: None, headers: true, topic: false };

    fn records(count: usize, reads: Reads) -> Columns {
        let mut builder = ColumnsBuilder::new(reads);
        for n in 0..count {
            let text = "x".repeat(n % 7);
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                (0..n % 3).map(|h| (text.as_bytes(), (h == 1).then_some(&b"value"[..]))).collect();
            builder.push((n % 2 == 0).then_some(text.as_bytes()), Some(text.as_bytes()), headers);
        }
        builder.build()
    }

    #[test]
    fn only_what_is_read_is_copied() {
        let mut builder = ColumnsBuilder::new(Reads { value_prefix: Some(3), ..Reads::default() });
        builder.push(Some(b"key"), Some(b"value"), [(&b"name"[..], None)]);
        builder.push(Some(b"key"), None, []);
        builder.push(None, Some(b"ab"), []);
        let columns = builder.build();
        let chunk = columns.chunks(10, 1000).next().unwrap();
        assert_eq!(chunk.records, 3);
        let [column] = chunk.columns() else { panic!("one column") };
        assert_eq!((column.kind, column.bytes, column.lengths), (kind::VALUE_PREFIX, &b"valab"[..], &[3, -1, 2][..]));
    }

    #[test]
    fn nothing_read_still_counts_the_records() {
        let columns = records(5, Reads::default());
        let chunks: Vec<_> = columns.chunks(2, 1000).collect();
        assert_eq!(chunks.iter().map(|chunk| chunk.records).collect::<Vec<_>>(), [2, 2, 1]);
        assert!(chunks.iter().all(|chunk| chunk.columns().is_empty()));
    }

    #[test]
    fn chunks_put_together_are_the_whole() {
        let columns = records(100, ALL);
        let whole = columns.chunks(usize::MAX, usize::MAX).next().unwrap();
        let bytes = |chunk: &Chunk<'_>| {
            chunk.columns().iter().map(|column| column.bytes.len() + column.lengths.len() * 4).sum::<usize>()
        };
        assert_eq!(bytes(&whole), columns.byte_size());
        for (records_max, bytes_max) in [(1, usize::MAX), (7, usize::MAX), (usize::MAX, 1), (usize::MAX, 100), (9, 64)]
        {
            let mut parts: [(Vec<u8>, Vec<i32>); COLUMNS_MAX] = Default::default();
            let mut count = 0;
            for chunk in columns.chunks(records_max, bytes_max) {
                assert!(chunk.records <= records_max && (bytes(&chunk) <= bytes_max || chunk.records == 1));
                count += chunk.records;
                for (part, column) in parts.iter_mut().zip(chunk.columns()) {
                    part.0.extend_from_slice(column.bytes);
                    part.1.extend_from_slice(column.lengths);
                }
            }
            assert_eq!(count, 100);
            for (part, column) in parts.iter().zip(whole.columns()) {
                assert_eq!((&part.0[..], &part.1[..]), (column.bytes, column.lengths), "{}", column.kind);
            }
        }
    }

    #[test]
    fn a_builder_used_again_starts_empty() {
        let columns = records(10, ALL).into_builder(Reads { key: true, ..Reads::default() }).build();
        assert!(columns.is_empty());
        assert_eq!(columns.byte_size(), 0);
    }
}
