//! What a plugin is given: records, read out of flat columns without copying.

use crate::reads::Reads;

/// The kinds of column, as numbered in `plugins/wit/README.md`.
pub(crate) mod kind {
    pub(crate) const KEY: u32 = 1;
    pub(crate) const VALUE: u32 = 2;
    pub(crate) const VALUE_PREFIX: u32 = 3;
    pub(crate) const HEADER_COUNTS: u32 = 4;
    pub(crate) const HEADER_NAMES: u32 = 5;
    pub(crate) const HEADER_VALUES: u32 = 6;
}

/// The records of one call, and where they go.
#[derive(Debug)]
pub struct Batch<'a> {
    reads: Reads,
    context: &'a [(String, String)],
    records: u32,
    partitions: u32,
    key: Flat<'a>,
    value: Flat<'a>,
    header_counts: &'a [i32],
    header_names: Flat<'a>,
    header_values: Flat<'a>,
}

/// One record, as far as the plugin reads it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    batch: &'a Batch<'a>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

/// The headers of a record: names and values, in their order. A name may come more than once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    names: Flat<'a>,
    values: Flat<'a>,
}

/// Iterates over the [`Headers`] of a record.
#[derive(Debug, Clone)]
pub struct HeaderIter<'a> {
    rest: Headers<'a>,
}

/// Iterates over the records of a [`Batch`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    batch: &'a Batch<'a>,
    left: u32,
    key: Flat<'a>,
    value: Flat<'a>,
    header_counts: &'a [i32],
    headers: Headers<'a>,
}

/// Pieces of bytes in a row, each with its length; -1 is null. Iterating takes the next piece off the front.
#[derive(Debug, Clone, Copy, Default)]
struct Flat<'a> {
    bytes: &'a [u8],
    lengths: &'a [i32],
}

impl<'a> Flat<'a> {
    /// The next piece; a column that is too short has only nulls left.
    fn take(&mut self) -> Option<&'a [u8]> {
        let (&length, lengths) = self.lengths.split_first()?;
        self.lengths = lengths;
        let (piece, bytes) = self.bytes.split_at_checked(usize::try_from(length).ok()?)?;
        self.bytes = bytes;
        Some(piece)
    }
}

impl<'a> Batch<'a> {
    pub(crate) fn new<'c: 'a>(
        reads: Reads,
        context: &'a [(String, String)],
        records: u32,
        partitions: u32,
        columns: impl Iterator<Item = (u32, &'c [u8], &'c [i32])>,
    ) -> Self {
        let mut batch = Self {
            reads,
            context,
            records,
            partitions,
            key: Flat::default(),
            value: Flat::default(),
            header_counts: &[],
            header_names: Flat::default(),
            header_values: Flat::default(),
        };
        for (kind, bytes, lengths) in columns {
            let flat = Flat { bytes, lengths };
            match kind {
                kind::KEY => batch.key = flat,
                kind::VALUE | kind::VALUE_PREFIX => batch.value = flat,
                kind::HEADER_COUNTS => batch.header_counts = lengths,
                kind::HEADER_NAMES => batch.header_names = flat,
                kind::HEADER_VALUES => batch.header_values = flat,
                _ => {}
            }
        }
        batch
    }

    /// Name of the topic.
    ///
    /// # Panics
    /// If the plugin's `READS` does not contain [`Reads::TOPIC`].
    pub fn topic(&self) -> &'a str {
        assert!(self.reads.topic(), "to read the topic's name, say so in READS: Reads::TOPIC");
        self.context("topic").unwrap_or_default()
    }

    /// A text of the context, by its name.
    pub fn context(&self, name: &str) -> Option<&'a str> {
        self.context.iter().find(|(found, _)| found == name).map(|(_, text)| text.as_str())
    }

    /// How many partitions the topic has; every answer is below.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The records in their order; the same as [`Batch::records`].
    pub fn iter(&'a self) -> Records<'a> {
        self.records()
    }

    /// The records in their order.
    pub fn records(&'a self) -> Records<'a> {
        Records {
            batch: self,
            left: self.records,
            key: self.key,
            value: self.value,
            header_counts: self.header_counts,
            headers: Headers { names: self.header_names, values: self.header_values },
        }
    }
}

impl<'a> IntoIterator for &'a Batch<'a> {
    type Item = Record<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.records()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        self.left = self.left.checked_sub(1)?;
        let mut headers = Headers::default();
        if let Some((&count, counts)) = self.header_counts.split_first() {
            self.header_counts = counts;
            headers = self.headers.take(usize::try_from(count).unwrap_or(0));
        }
        Some(Record { batch: self.batch, key: self.key.take(), value: self.value.take(), headers })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Records<'_> {}

impl<'a> Record<'a> {
    /// The key; `None` if the record has none.
    ///
    /// # Panics
    /// If the plugin's `READS` does not contain [`Reads::KEY`].
    pub fn key(&self) -> Option<&'a [u8]> {
        assert!(self.batch.reads.key(), "to read keys, say so in READS: Reads::KEY");
        self.key
    }

    /// The value, or its beginning if `READS` asks for a prefix; `None` if the record has none.
    ///
    /// # Panics
    /// If the plugin's `READS` does not contain [`Reads::VALUE`] or a [`Reads::value_prefix`].
    pub fn value(&self) -> Option<&'a [u8]> {
        assert!(self.batch.reads.value().is_some(), "to read values, say so in READS: Reads::VALUE");
        self.value
    }

    /// The headers.
    ///
    /// # Panics
    /// If the plugin's `READS` does not contain [`Reads::HEADERS`].
    pub fn headers(&self) -> Headers<'a> {
        assert!(self.batch.reads.headers(), "to read headers, say so in READS: Reads::HEADERS");
        self.headers
    }

    /// The batch that the record came in, with the name of the topic.
    pub fn batch(&self) -> &'a Batch<'a> {
        self.batch
    }
}

impl<'a> Headers<'a> {
    /// The headers in their order.
    pub fn iter(&self) -> HeaderIter<'a> {
        HeaderIter { rest: *self }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.lengths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.lengths.is_empty()
    }

    /// The value of the last header with this name, as Kafka's own clients pick it: `Some(None)` if that one is null.
    pub fn last(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.iter().filter(|(found, _)| *found == name).last().map(|(_, value)| value)
    }

    /// Takes the next header off the front.
    fn take_one(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        if self.is_empty() {
            return None;
        }
        Some((self.names.take().unwrap_or_default(), self.values.take()))
    }

    /// Takes the headers of one record off the front.
    fn take(&mut self, count: usize) -> Self {
        let taken = Self {
            names: Flat { lengths: front(self.names.lengths, count), ..self.names },
            values: Flat { lengths: front(self.values.lengths, count), ..self.values },
        };
        for _ in 0..taken.len() {
            self.take_one();
        }
        taken
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.rest.take_one()
    }
}

fn front(lengths: &[i32], count: usize) -> &[i32] {
    lengths.get(..count).unwrap_or(lengths)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Reads = Reads::KEY.and(Reads::VALUE).and(Reads::HEADERS);

    fn batch<'a>(records: u32, columns: &[(u32, &'a [u8], &'a [i32])]) -> Batch<'a> {
        Batch::new(ALL, &[], records, 4, columns.iter().copied())
    }

    #[test]
    fn columns_come_back_as_records() {
        let batch = batch(
            3,
            &[
                (kind::KEY, b"ab", &[1, -1, 1]),
                (kind::VALUE, b"xyz", &[0, 3, -1]),
                (kind::HEADER_COUNTS, b"", &[0, 2, 1]),
                (kind::HEADER_NAMES, b"hho", &[1, 1, 1]),
                (kind::HEADER_VALUES, b"12", &[1, -1, 1]),
                (77, b"?", &[1]),
            ],
        );
        let records: Vec<_> = batch.records().collect();
        assert_eq!(records.iter().map(Record::key).collect::<Vec<_>>(), [Some(&b"a"[..]), None, Some(b"b")]);
        assert_eq!(records.iter().map(Record::value).collect::<Vec<_>>(), [Some(&b""[..]), Some(b"xyz"), None]);
        let headers: Vec<Vec<_>> = records.iter().map(|record| record.headers().iter().collect()).collect();
        assert_eq!(headers[0], []);
        assert_eq!(headers[1], [(&b"h"[..], Some(&b"1"[..])), (b"h", None)]);
        assert_eq!(headers[2], [(&b"o"[..], Some(&b"2"[..]))]);
        assert_eq!(records[1].headers().last(b"h"), Some(None));
        assert_eq!(records[1].headers().last(b"o"), None);
    }

    #[test]
    fn short_columns_end_in_nulls_not_in_a_panic() {
        let batch =
            batch(2, &[(kind::KEY, b"a", &[9]), (kind::HEADER_COUNTS, b"", &[7]), (kind::HEADER_NAMES, b"", &[])]);
        assert!(batch.records().all(|record| record.key().is_none() && record.headers().is_empty()));
        assert_eq!(batch.records().len(), 2);
    }

    #[test]
    #[should_panic(expected = "READS: Reads::VALUE")]
    fn reading_what_was_not_asked_for_is_told_at_once() {
        let batch = Batch::new(Reads::KEY, &[], 1, 1, std::iter::empty());
        assert!(batch.records().all(|record| record.value().is_none()));
    }
}
