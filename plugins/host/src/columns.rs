//! Records, flattened to what a plugin reads.

use crate::contract::Column;
use crate::reads::{Fact, Reads};

/// The kinds of column, as numbered in `plugins/wit/README.md`.
pub(crate) mod kind {
    pub(crate) const KEY: u32 = 1;
    pub(crate) const VALUE: u32 = 2;
    pub(crate) const VALUE_PREFIX: u32 = 3;
    pub(crate) const HEADER_COUNTS: u32 = 4;
    pub(crate) const HEADER_NAMES: u32 = 5;
    pub(crate) const HEADER_VALUES: u32 = 6;
    pub(crate) const TIMESTAMP: u32 = 7;
    pub(crate) const REASON: u32 = 40;
    pub(crate) const CODE: u32 = 41;
    pub(crate) const LOG: u32 = 42;
    pub(crate) const DELAY_MS: u32 = 80;
    pub(crate) const TARGET: u32 = 81;
    /// The first header that was asked for by name; the others follow.
    pub(crate) const NAMED_HEADER: u32 = 256;
}

/// The length of a piece that is null.
pub(crate) const NULL: i32 = -1;
/// The length of a piece that is absent (in) or unchanged (out).
pub(crate) const ABSENT: i32 = -2;

/// Columns of most calls: a value is there whole or as a prefix, never both.
const COLUMNS_MOSTLY: usize = 5;

/// Pieces of bytes in a row, each with its length.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flat {
    pub(crate) bytes: Vec<u8>,
    pub(crate) lengths: Vec<i32>,
}

/// A column with an entry per record besides the parts that most plugins read.
#[derive(Debug, Clone)]
struct More {
    kind: u32,
    what: What,
    flat: Flat,
}

/// What its entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// In `lengths` and `bytes`.
    Pieces,
    /// In `lengths`.
    Ints,
    /// In `bytes`, 8 each.
    Longs,
}

/// What is known of a record that failed; what its stage does not know is left out of the call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failure<'a> {
    /// Number of the table of causes.
    pub cause: i32,
    /// The code that the plugin gave.
    pub code: Option<&'a str>,
    /// What the plugin, or the host, says.
    pub reason: Option<&'a str>,
    /// How often it was tried.
    pub attempts: i32,
    /// How often it was dead-lettered before.
    pub hops: i32,
    /// Its partition.
    pub partition: i32,
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
    more: Vec<More>,
}

/// A run of records that goes into one call.
pub(crate) struct Chunk<'a> {
    /// The first of them, counted from the first of all.
    pub(crate) first: usize,
    pub(crate) records: usize,
    pub(crate) columns: Vec<Column<'a>>,
}

/// Where the next chunk begins in every column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Cursor {
    record: usize,
    key: usize,
    value: usize,
    header: usize,
    header_names: usize,
    header_values: usize,
    more: Vec<usize>,
}

impl ColumnsBuilder {
    /// An empty builder for a plugin that reads these parts ([`crate::Partitioner::reads`]).
    pub fn new(reads: &Reads) -> Self {
        Columns::default().into_builder(reads)
    }

    /// Adds one record. Only the parts that the plugin reads are copied; `headers` is not even iterated otherwise.
    pub fn push<'h>(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) {
        self.push_failed(key, value, timestamp, headers, &Failure::default());
    }

    /// Adds one record that failed.
    #[expect(clippy::needless_pass_by_value, reason = "iterators are handed over")]
    pub fn push_failed<'h>(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
        failure: &Failure<'_>,
    ) {
        let Columns { reads, records, key: keys, value: values, header_counts, header_names, header_values, more } =
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
            for (name, value) in headers.clone() {
                header_names.push(Some(name), usize::MAX);
                header_values.push(value, usize::MAX);
            }
            header_counts.push((header_names.lengths.len() - before) as i32);
        }
        for More { kind, flat, .. } in more {
            match *kind {
                kind::TIMESTAMP => flat.bytes.extend_from_slice(&timestamp.to_le_bytes()),
                named if named >= kind::NAMED_HEADER => {
                    let wanted = reads.named_headers.get((named - kind::NAMED_HEADER) as usize);
                    let wanted = wanted.map_or(&[][..], |name| name.as_bytes());
                    match headers.clone().into_iter().filter(|(name, _)| *name == wanted).last() {
                        Some((_, value)) => flat.push(value, usize::MAX),
                        None => flat.lengths.push(ABSENT),
                    }
                }
                fact => flat.push_fact(fact, failure),
            }
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
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Bytes and lengths that a plugin is given for all records.
    pub fn byte_size(&self) -> usize {
        [&self.key, &self.value, &self.header_names, &self.header_values].map(Flat::byte_size).iter().sum::<usize>()
            + self.header_counts.len() * size_of::<i32>()
            + self.more.iter().map(|more| more.flat.byte_size()).sum::<usize>()
    }

    /// An empty builder that uses the memory of these columns again.
    pub fn into_builder(mut self, reads: &Reads) -> ColumnsBuilder {
        for flat in [&mut self.key, &mut self.value, &mut self.header_names, &mut self.header_values] {
            flat.bytes.clear();
            flat.lengths.clear();
        }
        self.header_counts.clear();
        let timestamp = reads.timestamp.then_some((kind::TIMESTAMP, What::Longs));
        let named = (0..reads.named_headers.len() as u32).map(|at| (kind::NAMED_HEADER + at, What::Pieces));
        let facts = reads.facts.iter().filter_map(|fact| Some((*fact as u32, what(*fact)?)));
        let more = timestamp.into_iter().chain(named).chain(facts);
        let more = more.map(|(kind, what)| More { kind, what, flat: Flat::default() }).collect();
        ColumnsBuilder { columns: Self { reads: reads.clone(), records: 0, more, ..self } }
    }

    /// Cuts the records into calls of at most `records_max` records and about `bytes_max` bytes, at least one record each.
    pub(crate) fn chunks(&self, records_max: usize, bytes_max: usize) -> impl Iterator<Item = Chunk<'_>> {
        let mut cursor = Cursor { more: vec![0; self.more.len()], ..Cursor::default() };
        let fits = self.records <= records_max && self.byte_size() <= bytes_max;
        std::iter::from_fn(move || {
            if cursor.record == self.records {
                return None;
            }
            let begin = cursor.clone();
            if fits {
                cursor = self.end();
            } else {
                self.advance(&mut cursor);
                while cursor.record < self.records && cursor.record - begin.record < records_max {
                    let mut next = cursor.clone();
                    self.advance(&mut next);
                    if self.chunk_bytes(&begin, &next) > bytes_max {
                        break;
                    }
                    cursor = next;
                }
            }
            Some(self.chunk(&begin, &cursor))
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
            more: self.more.iter().map(|more| more.flat.bytes.len()).collect(),
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
        for (more, at) in self.more.iter().zip(&mut cursor.more) {
            *at += match more.what {
                What::Pieces => more.flat.length(cursor.record),
                What::Ints => 0,
                What::Longs => size_of::<i64>(),
            };
        }
        cursor.header += headers;
        cursor.record += 1;
    }

    fn chunk_bytes(&self, from: &Cursor, to: &Cursor) -> usize {
        let per_record = [!self.key.lengths.is_empty(), !self.value.lengths.is_empty(), self.reads.headers];
        let lengths = (to.record - from.record) * (per_record.iter().filter(|used| **used).count() + self.more.len())
            + (to.header - from.header) * 2;
        (to.key - from.key)
            + (to.value - from.value)
            + (to.header_names - from.header_names)
            + (to.header_values - from.header_values)
            + (to.more.iter().sum::<usize>() - from.more.iter().sum::<usize>())
            + lengths * size_of::<i32>()
    }

    fn chunk(&self, from: &Cursor, to: &Cursor) -> Chunk<'_> {
        let mut chunk = Chunk {
            first: from.record,
            records: to.record - from.record,
            columns: Vec::with_capacity(COLUMNS_MOSTLY + self.more.len()),
        };
        if self.reads.key {
            chunk.columns.push(self.key.column(kind::KEY, from.key..to.key, from.record..to.record));
        }
        if self.reads.value {
            chunk.columns.push(self.value.column(kind::VALUE, from.value..to.value, from.record..to.record));
        } else if self.reads.value_prefix.is_some() {
            chunk.columns.push(self.value.column(kind::VALUE_PREFIX, from.value..to.value, from.record..to.record));
        }
        if self.reads.headers {
            let counts = self.header_counts.get(from.record..to.record).unwrap_or_default();
            chunk.columns.push(Column { kind: kind::HEADER_COUNTS, bytes: &[], lengths: counts });
            let headers = from.header..to.header;
            let names = from.header_names..to.header_names;
            chunk.columns.push(self.header_names.column(kind::HEADER_NAMES, names, headers.clone()));
            chunk.columns.push(self.header_values.column(
                kind::HEADER_VALUES,
                from.header_values..to.header_values,
                headers,
            ));
        }
        for (more, (from_byte, to_byte)) in self.more.iter().zip(from.more.iter().zip(&to.more)) {
            chunk.columns.push(more.flat.column(more.kind, *from_byte..*to_byte, from.record..to.record));
        }
        chunk
    }
}

impl Chunk<'_> {
    /// Bytes and lengths that the plugin is given.
    pub(crate) fn byte_size(&self) -> usize {
        self.columns.iter().map(|column| column.bytes.len() + size_of_val(column.lengths)).sum()
    }
}

/// What the entries of a fact's column are; none for what is no column, or what no stage knows yet.
fn what(fact: Fact) -> Option<What> {
    match fact {
        Fact::Cause | Fact::Attempts | Fact::Hops | Fact::Partition => Some(What::Ints),
        Fact::Code | Fact::Reason => Some(What::Pieces),
        Fact::Members
        | Fact::KeyFailures
        | Fact::AgeMs
        | Fact::FailingMs
        | Fact::Offset
        | Fact::Stage
        | Fact::Group
        | Fact::AttemptsMax
        | Fact::Window => None,
    }
}

impl Flat {
    /// Appends a piece, or at most its first `bytes_max` bytes.
    fn push(&mut self, piece: Option<&[u8]>, bytes_max: usize) {
        let Some(piece) = piece else { return self.lengths.push(NULL) };
        // Kafka counts the bytes of every part in 31 bits, so the second bound never shortens anything.
        let kept = piece.len().min(bytes_max).min(i32::MAX as usize);
        self.bytes.extend_from_slice(piece.get(..kept).unwrap_or_default());
        self.lengths.push(kept as i32);
    }

    fn push_fact(&mut self, fact: u32, failure: &Failure<'_>) {
        const CAUSE: u32 = Fact::Cause as u32;
        const ATTEMPTS: u32 = Fact::Attempts as u32;
        const HOPS: u32 = Fact::Hops as u32;
        const PARTITION: u32 = Fact::Partition as u32;
        const CODE: u32 = Fact::Code as u32;
        match fact {
            CAUSE => self.lengths.push(failure.cause),
            ATTEMPTS => self.lengths.push(failure.attempts),
            HOPS => self.lengths.push(failure.hops),
            PARTITION => self.lengths.push(failure.partition),
            CODE => self.push(failure.code.map(str::as_bytes), usize::MAX),
            _ => self.push(failure.reason.map(str::as_bytes), usize::MAX),
        }
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

    fn all() -> Reads {
        let named_headers = vec!["xx".to_owned(), "none".to_owned()];
        Reads { key: true, value: true, headers: true, timestamp: true, named_headers, ..Reads::default() }
    }

    fn records(count: usize, reads: &Reads) -> Columns {
        let mut builder = ColumnsBuilder::new(reads);
        for n in 0..count {
            let text = "x".repeat(n % 7);
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                (0..n % 3).map(|h| (text.as_bytes(), (h == 1).then_some(&b"value"[..]))).collect();
            builder.push((n % 2 == 0).then_some(text.as_bytes()), Some(text.as_bytes()), n as i64, headers);
        }
        builder.build()
    }

    #[test]
    fn only_what_is_read_is_copied() {
        let mut builder = ColumnsBuilder::new(&Reads { value_prefix: Some(3), ..Reads::default() });
        builder.push(Some(b"key"), Some(b"value"), 1, [(&b"name"[..], None)]);
        builder.push(Some(b"key"), None, 2, []);
        builder.push(None, Some(b"ab"), 3, []);
        let columns = builder.build();
        let chunk = columns.chunks(10, 1000).next().unwrap();
        assert_eq!(chunk.records, 3);
        let [column] = chunk.columns[..] else { panic!("one column") };
        assert_eq!((column.kind, column.bytes, column.lengths), (kind::VALUE_PREFIX, &b"valab"[..], &[3, -1, 2][..]));
    }

    #[test]
    fn nothing_read_still_counts_the_records() {
        let columns = records(5, &Reads::default());
        let chunks: Vec<_> = columns.chunks(2, 1000).collect();
        assert_eq!(chunks.iter().map(|chunk| chunk.records).collect::<Vec<_>>(), [2, 2, 1]);
        assert!(chunks.iter().all(|chunk| chunk.columns.is_empty()));
    }

    #[test]
    fn chunks_put_together_are_the_whole() {
        let columns = records(100, &all());
        let whole = columns.chunks(usize::MAX, usize::MAX).next().unwrap();
        let bytes = Chunk::byte_size;
        assert_eq!(bytes(&whole), columns.byte_size());
        for (records_max, bytes_max) in [(1, usize::MAX), (7, usize::MAX), (usize::MAX, 1), (usize::MAX, 100), (9, 64)]
        {
            let mut parts = vec![(Vec::new(), Vec::new()); whole.columns.len()];
            let mut count = 0;
            for chunk in columns.chunks(records_max, bytes_max) {
                assert!(chunk.records <= records_max && (bytes(&chunk) <= bytes_max || chunk.records == 1));
                count += chunk.records;
                for (part, column) in parts.iter_mut().zip(&chunk.columns) {
                    part.0.extend_from_slice(column.bytes);
                    part.1.extend_from_slice(column.lengths);
                }
            }
            assert_eq!(count, 100);
            for (part, column) in parts.iter().zip(&whole.columns) {
                assert_eq!((&part.0[..], &part.1[..]), (column.bytes, column.lengths), "{}", column.kind);
            }
        }
    }

    #[test]
    fn a_builder_used_again_starts_empty() {
        let columns = records(10, &all()).into_builder(&Reads { key: true, ..Reads::default() }).build();
        assert!(columns.is_empty());
        assert_eq!(columns.byte_size(), 0);
    }

    #[test]
    fn timestamps_named_headers_and_facts_have_columns_of_their_own() {
        let named_headers = vec!["a".to_owned(), "b".to_owned()];
        let facts = vec![Fact::Cause, Fact::Code, Fact::Hops, Fact::Stage];
        let reads = Reads { named_headers, timestamp: true, facts, ..Reads::default() };
        let mut builder = ColumnsBuilder::new(&reads);
        let failure = Failure { cause: 2, code: Some("schema"), hops: 1, ..Failure::default() };
        builder.push_failed(None, None, 7, [(&b"a"[..], Some(&b"1"[..])), (b"a", Some(b"2")), (b"b", None)], &failure);
        builder.push(None, None, -1, []);
        let columns = builder.build();
        let chunk = columns.chunks(10, 1000).next().unwrap();
        let found: Vec<_> = chunk.columns.iter().map(|it| (it.kind, it.bytes.to_vec(), it.lengths.to_vec())).collect();
        let times = [7_i64.to_le_bytes(), (-1_i64).to_le_bytes()].concat();
        let expected = [
            (7, times, vec![]),
            (256, b"2".to_vec(), vec![1, -2]),
            (257, vec![], vec![-1, -2]),
            (64, vec![], vec![2, 0]),
            (65, b"schema".to_vec(), vec![6, -1]),
            (70, vec![], vec![1, 0]),
        ];
        assert_eq!(found, expected, "a fact of the context has no column");
    }
}
