//! What a plugin is given: records, read out of flat columns without copying.

use crate::reads::Reads;

/// The kinds of column, as numbered in `plugins/wit/README.md`.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))] // only a component answers
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
    pub(crate) const CAUSE: u32 = 64;
    pub(crate) const FAILURE_CODE: u32 = 65;
    pub(crate) const FAILURE_REASON: u32 = 66;
    pub(crate) const ATTEMPTS: u32 = 67;
    pub(crate) const HOPS: u32 = 70;
    pub(crate) const DELAY_MS: u32 = 80;
    pub(crate) const TARGET: u32 = 81;
    pub(crate) const NAMED_HEADER: u32 = 256;
}

/// The length of a piece that is absent in a call, or unchanged in an answer.
pub(crate) const ABSENT: i32 = -2;

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
    timestamps: &'a [u8],
    named_headers: Vec<Indexed<'a>>,
    causes: &'a [i32],
    codes: Indexed<'a>,
    reasons: Indexed<'a>,
    attempts: &'a [i32],
    hops: &'a [i32],
}

/// One record, as far as the plugin reads it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    batch: &'a Batch<'a>,
    at: usize,
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

/// A column whose pieces are looked up by record.
#[derive(Debug, Clone, Default)]
struct Indexed<'a> {
    flat: Flat<'a>,
    starts: Vec<usize>,
}

impl<'a> Indexed<'a> {
    fn of(flat: Flat<'a>) -> Self {
        let mut at = 0;
        let starts = flat.lengths.iter().map(|&length| {
            let start = at;
            at += usize::try_from(length).unwrap_or(0);
            start
        });
        Self { starts: starts.collect(), flat }
    }

    /// The outer none: absent; the inner one: null.
    #[expect(clippy::option_option, reason = "absent, null, or bytes")]
    fn get(&self, at: usize) -> Option<Option<&'a [u8]>> {
        let length = *self.flat.lengths.get(at).filter(|length| **length != ABSENT)?;
        let start = *self.starts.get(at)?;
        let Ok(length) = usize::try_from(length) else { return Some(None) };
        Some(self.flat.bytes.get(start..start + length))
    }

    fn text(&self, at: usize) -> Option<&'a str> {
        std::str::from_utf8(self.get(at)??).ok()
    }
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
            timestamps: &[],
            named_headers: vec![Indexed::default(); reads.header_names().len()],
            causes: &[],
            codes: Indexed::default(),
            reasons: Indexed::default(),
            attempts: &[],
            hops: &[],
        };
        for (kind, bytes, lengths) in columns {
            let flat = Flat { bytes, lengths };
            match kind {
                kind::KEY => batch.key = flat,
                kind::VALUE | kind::VALUE_PREFIX => batch.value = flat,
                kind::HEADER_COUNTS => batch.header_counts = lengths,
                kind::HEADER_NAMES => batch.header_names = flat,
                kind::HEADER_VALUES => batch.header_values = flat,
                kind::TIMESTAMP => batch.timestamps = bytes,
                kind::CAUSE => batch.causes = lengths,
                kind::FAILURE_CODE => batch.codes = Indexed::of(flat),
                kind::FAILURE_REASON => batch.reasons = Indexed::of(flat),
                kind::ATTEMPTS => batch.attempts = lengths,
                kind::HOPS => batch.hops = lengths,
                kind::NAMED_HEADER.. => {
                    if let Some(named) = batch.named_headers.get_mut((kind - kind::NAMED_HEADER) as usize) {
                        *named = Indexed::of(flat);
                    }
                }
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

    /// The partition that the batch was addressed to.
    ///
    /// # Panics
    /// If the plugin's `READS` does not contain [`Reads::PARTITION`].
    pub fn partition(&self) -> u32 {
        assert!(self.reads.partition(), "to read the partition, say so in READS: Reads::PARTITION");
        self.context("partition").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// At which point of their way the records failed: `produce`, `share`, `group`, `view` or `redrive`.
    ///
    /// # Panics
    /// If the plugin's `READS` does not contain [`Reads::STAGE`].
    pub fn stage(&self) -> &'a str {
        assert!(self.reads.stage(), "to read the stage, say so in READS: Reads::STAGE");
        self.context("stage").unwrap_or_default()
    }

    /// A text of the context, by its name.
    pub fn context(&self, name: &str) -> Option<&'a str> {
        self.context.iter().find(|(found, _)| found == name).map(|(_, text)| text.as_str())
    }

    /// How many partitions the topic has; every answer is below. Partitioners alone are told, others get 0.
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
        let at = (self.batch.records - 1 - self.left) as usize;
        Some(Record { batch: self.batch, at, key: self.key.take(), value: self.value.take(), headers })
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

    /// The last value of the header with this name: `None` without such a header, `Some(None)` if it is null.
    ///
    /// # Panics
    /// If the plugin's `READS` does not name the header in [`Reads::named_headers`].
    pub fn header(&self, name: &str) -> Option<Option<&'a [u8]>> {
        let at = self.batch.reads.header_names().iter().position(|known| *known == name);
        let at = at.expect("to read a header by its name, say so in READS: Reads::named_headers");
        self.batch.named_headers.get(at)?.get(self.at)
    }

    /// The timestamp, in milliseconds since 1970; -1 where there is none.
    ///
    /// # Panics
    /// If the plugin's `READS` does not contain [`Reads::TIMESTAMP`].
    pub fn timestamp_ms(&self) -> i64 {
        assert!(self.batch.reads.timestamp(), "to read timestamps, say so in READS: Reads::TIMESTAMP");
        self.batch.timestamps.as_chunks::<8>().0.get(self.at).map_or(-1, |bytes| i64::from_le_bytes(*bytes))
    }

    /// Why it failed, as a number of the table of causes.
    ///
    /// # Panics
    /// If the policy's `READS` does not contain [`Reads::FAILURE`].
    pub fn cause(&self) -> i32 {
        assert!(self.batch.reads.failure(), "to read why a record failed, say so in READS: Reads::FAILURE");
        self.batch.causes.get(self.at).copied().unwrap_or_default()
    }

    /// The code of the failure, if it has one.
    ///
    /// # Panics
    /// If the policy's `READS` does not contain [`Reads::FAILURE`].
    pub fn failure_code(&self) -> Option<&'a str> {
        assert!(self.batch.reads.failure(), "to read why a record failed, say so in READS: Reads::FAILURE");
        self.batch.codes.text(self.at)
    }

    /// The reason of the failure, for people.
    ///
    /// # Panics
    /// If the policy's `READS` does not contain [`Reads::FAILURE`].
    pub fn failure_reason(&self) -> Option<&'a str> {
        assert!(self.batch.reads.failure(), "to read why a record failed, say so in READS: Reads::FAILURE");
        self.batch.reasons.text(self.at)
    }

    /// How often it was tried.
    ///
    /// # Panics
    /// If the policy's `READS` does not contain [`Reads::ATTEMPTS`].
    pub fn attempts(&self) -> i32 {
        assert!(self.batch.reads.attempts(), "to read attempts, say so in READS: Reads::ATTEMPTS");
        self.batch.attempts.get(self.at).copied().unwrap_or_default()
    }

    /// How often it was dead-lettered before.
    ///
    /// # Panics
    /// If the policy's `READS` does not contain [`Reads::ATTEMPTS`].
    pub fn hops(&self) -> i32 {
        assert!(self.batch.reads.attempts(), "to read hops, say so in READS: Reads::ATTEMPTS");
        self.batch.hops.get(self.at).copied().unwrap_or_default()
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
