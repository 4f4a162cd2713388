//! Runs a rule with `cargo test`, without a broker and without WebAssembly.
//!
//! Records go through the same columns as in the broker, so a part that `READS` leaves out is missing here as well.
//!
//! ```
//! # use ottla_plugin::{Partitioner, Placement, Reads, Record};
//! # struct ByFirstByte;
//! # impl Partitioner for ByFirstByte {
//! #     const READS: Reads = Reads::value_prefix(1);
//! #     fn new(_: &str) -> Result<Self, String> { Ok(Self) }
//! #     fn partition(&self, record: &Record<'_>, partitions: u32) -> Placement {
//! #         (u32::from(record.value().unwrap_or_default()[0]) % partitions).into()
//! #     }
//! # }
//! use ottla_plugin::testing::{load, record};
//!
//! let plugin = load::<ByFirstByte>("").unwrap();
//! assert_eq!(plugin.partition(record().key("any").value("\u{5}..."), 4), 1);
//! ```

use crate::partitioner::{Partitioner, Placement, Placements};
use crate::policy::{Action, DeadLetterPolicy};
use crate::reads::Reads;
use crate::record::{ABSENT, Batch, kind};
use crate::serializer::{Serializer, Verdict};

/// A plugin that took its configuration, as on a topic of the broker.
#[derive(Debug)]
pub struct Loaded<P> {
    plugin: P,
    context: Vec<(String, String)>,
}

/// A record for a test; begin with [`record`].
#[derive(Debug, Clone, Default)]
pub struct TestRecord {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    timestamp_ms: Option<i64>,
    failure: (i32, Option<String>, Option<String>),
    tried: (i32, i32),
}

/// Starts a partitioner with this configuration, on a topic called `test`.
pub fn load<P: Partitioner>(config: &str) -> Result<Loaded<P>, String> {
    Ok(Loaded::of(P::new(config)?))
}

/// Starts a serializer with this configuration, on a topic called `test`.
pub fn load_serializer<P: Serializer>(config: &str) -> Result<Loaded<P>, String> {
    Ok(Loaded::of(P::new(config)?))
}

/// Starts a dead-letter policy with this configuration, on a topic called `test`.
pub fn load_policy<P: DeadLetterPolicy>(config: &str) -> Result<Loaded<P>, String> {
    Ok(Loaded::of(P::new(config)?))
}

/// A record without key, value and headers.
pub fn record() -> TestRecord {
    TestRecord::default()
}

impl TestRecord {
    /// The same record with this key.
    #[must_use]
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        Self { key: Some(key.as_ref().to_vec()), ..self }
    }

    /// The same record with this value.
    #[must_use]
    pub fn value(self, value: impl AsRef<[u8]>) -> Self {
        Self { value: Some(value.as_ref().to_vec()), ..self }
    }

    /// The same record with one more header.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), Some(value.as_ref().to_vec())));
        self
    }

    /// The same record with this timestamp.
    #[must_use]
    pub fn timestamp_ms(self, timestamp_ms: i64) -> Self {
        Self { timestamp_ms: Some(timestamp_ms), ..self }
    }

    /// The same record, failed for the first time.
    #[must_use]
    pub fn failed(self, cause: i32, code: Option<&str>, reason: &str) -> Self {
        let failure = (cause, code.map(str::to_owned), Some(reason.to_owned()));
        Self { failure, tried: (1, 0), ..self }
    }
}

impl<P> Loaded<P> {
    fn of(plugin: P) -> Self {
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        Self { plugin, context: vec![pair("topic", "test"), pair("partition", "0"), pair("stage", "produce")] }
    }

    /// The same plugin on a topic of this name.
    #[must_use]
    pub fn topic(mut self, name: &str) -> Self {
        self.context.retain(|(known, _)| known != "topic");
        self.context.push(("topic".to_owned(), name.to_owned()));
        self
    }
}

impl<P: Serializer> Loaded<P> {
    /// The verdict on one record before it is stored.
    pub fn encode(&self, record: TestRecord) -> Verdict {
        let records = [record];
        let columns = Columns::of(P::READS, &records);
        let batch = Batch::new(P::READS, &self.context, 1, 0, columns.iter());
        batch.records().next().map_or(Verdict::Accept, |record| self.plugin.encode(&record))
    }

    /// What a view shows of one stored record.
    pub fn decode(&self, record: TestRecord) -> Verdict {
        let records = [record];
        let columns = Columns::of(P::READS, &records);
        let batch = Batch::new(P::READS, &self.context, 1, 0, columns.iter());
        batch.records().next().map_or(Verdict::Accept, |record| self.plugin.decode(&record))
    }
}

impl<P: DeadLetterPolicy> Loaded<P> {
    /// What becomes of one record that [failed](TestRecord::failed).
    pub fn decide(&self, record: TestRecord) -> Action {
        let records = [record];
        let columns = Columns::of(P::READS, &records);
        let batch = Batch::new(P::READS, &self.context, 1, 0, columns.iter());
        batch.records().next().map_or(Action::Default, |failed| self.plugin.decide(&failed))
    }
}

impl<P: Partitioner> Loaded<P> {
    /// The partition of one record.
    ///
    /// # Panics
    /// If the plugin refuses the record, lets it stay, or names a partition that does not exist.
    pub fn partition(&self, record: TestRecord, partitions: u32) -> u32 {
        match self.place(record, partitions) {
            Placement::At(partition) => partition,
            other => panic!("{other:?}"),
        }
    }

    /// The placement of one record.
    ///
    /// # Panics
    /// If the plugin names a partition that does not exist.
    pub fn place(&self, record: TestRecord, partitions: u32) -> Placement {
        let records = [record];
        let columns = Columns::of(P::READS, &records);
        let batch = Batch::new(P::READS, &self.context, 1, partitions, columns.iter());
        let placement = batch.records().next().map_or(Placement::Stays, |it| self.plugin.partition(&it, partitions));
        if let Placement::At(partition) = &placement {
            assert!(*partition < partitions, "partition {partition} of {partitions} does not exist");
        }
        placement
    }

    /// The answer to a batch as the broker gets it, checked as it checks it: partitions, -1 for a record that stays and -2 for
    /// one that is refused.
    pub fn partition_batch(&self, records: &[TestRecord], partitions: u32) -> Result<Vec<i32>, String> {
        let columns = Columns::of(P::READS, records);
        let batch = Batch::new(P::READS, &self.context, records.len() as u32, partitions, columns.iter());
        let mut placements = Placements::default();
        self.plugin.partition_batch(&batch, &mut placements)?;
        let answer = placements.partitions;
        if answer.len() != records.len() {
            return Err(format!("{} answers for {} records", answer.len(), records.len()));
        }
        match answer.iter().find(|partition| **partition >= partitions as i32) {
            Some(partition) => Err(format!("partition {partition} of {partitions} does not exist")),
            None => Ok(answer),
        }
    }
}

/// Columns as the broker makes them.
struct Columns(Vec<(u32, Column)>);

#[derive(Default)]
struct Column {
    bytes: Vec<u8>,
    lengths: Vec<i32>,
}

impl Columns {
    /// What `reads` asks for of these records.
    fn of(reads: Reads, records: &[TestRecord]) -> Self {
        let mut columns: Vec<(u32, Column)> = Vec::new();
        let mut add = |kind: u32, fill: &dyn Fn(&mut Column, &TestRecord)| {
            let mut column = Column::default();
            for record in records {
                fill(&mut column, record);
            }
            columns.push((kind, column));
        };
        if reads.key() {
            add(kind::KEY, &|column, record| column.push(record.key.as_deref()));
        }
        if let Some(bytes_max) = reads.value() {
            add(kind::VALUE, &|column, record| {
                column.push(record.value.as_deref().map(|value| value.get(..bytes_max).unwrap_or(value)));
            });
        }
        if reads.headers() {
            add(kind::HEADER_COUNTS, &|column, record| column.lengths.push(record.headers.len() as i32));
            add(kind::HEADER_NAMES, &|column, record| {
                record.headers.iter().for_each(|(name, _)| column.push(Some(name)));
            });
            add(kind::HEADER_VALUES, &|column, record| {
                record.headers.iter().for_each(|(_, value)| column.push(value.as_deref()));
            });
        }
        if reads.timestamp() {
            add(kind::TIMESTAMP, &|column, record| {
                column.bytes.extend(record.timestamp_ms.unwrap_or(-1).to_le_bytes());
            });
        }
        for (kind, name) in (kind::NAMED_HEADER..).zip(reads.header_names()) {
            add(
                kind,
                &|column, record| match record.headers.iter().rev().find(|(found, _)| found == name.as_bytes()) {
                    Some((_, value)) => column.push(value.as_deref()),
                    None => column.lengths.push(ABSENT),
                },
            );
        }
        if reads.failure() {
            add(kind::CAUSE, &|column, record| column.lengths.push(record.failure.0));
            add(kind::FAILURE_CODE, &|column, record| column.push(record.failure.1.as_deref().map(str::as_bytes)));
            add(kind::FAILURE_REASON, &|column, record| column.push(record.failure.2.as_deref().map(str::as_bytes)));
        }
        if reads.attempts() {
            add(kind::ATTEMPTS, &|column, record| column.lengths.push(record.tried.0));
            add(kind::HOPS, &|column, record| column.lengths.push(record.tried.1));
        }
        Self(columns)
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &[u8], &[i32])> {
        self.0.iter().map(|(kind, column)| (*kind, &column.bytes[..], &column.lengths[..]))
    }
}

impl Column {
    fn push(&mut self, piece: Option<&[u8]>) {
        self.bytes.extend_from_slice(piece.unwrap_or_default());
        self.lengths.push(piece.map_or(-1, |piece| piece.len() as i32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Refusal;
    use crate::record::Record;

    /// Puts a record on the partition that its `to` header or its value names.
    #[derive(Debug)]
    struct AsTold;

    impl Partitioner for AsTold {
        const READS: Reads = Reads::HEADERS.and(Reads::value_prefix(2));

        fn new(config: &str) -> Result<Self, String> {
            if config.is_empty() { Ok(Self) } else { Err(format!("`{config}` means nothing here")) }
        }

        fn partition(&self, record: &Record<'_>, _partitions: u32) -> Placement {
            match record.headers().last(b"to").flatten().or(record.value()).unwrap_or_default() {
                b"stay" => Placement::Stays,
                b"no" => Placement::Refused(Refusal::because("told so")),
                told => std::str::from_utf8(told).ok().and_then(|text| text.parse().ok()).unwrap_or(0).into(),
            }
        }
    }

    #[test]
    fn a_rule_runs_as_in_the_broker() {
        let plugin = load::<AsTold>("").unwrap();
        let records = [record().header("to", "1").header("to", "2"), record().value("31x"), record().key("k")];
        assert_eq!(plugin.partition_batch(&records, 40), Ok(vec![2, 31, 0]));
        assert_eq!(plugin.partition(record().header("to", "7"), 8), 7);
        assert_eq!(plugin.partition_batch(&records, 20), Err("partition 31 of 20 does not exist".to_owned()));
        assert_eq!(plugin.partition_batch(&[record().header("to", "stay"), record().value("no")], 4), Ok(vec![-1, -2]));
        assert_eq!(load::<AsTold>("x").unwrap_err(), "`x` means nothing here");
    }

    /// Rejects records of before 1970, and tells them apart by a header.
    struct Dated;

    impl Serializer for Dated {
        const READS: Reads = Reads::TIMESTAMP.and(Reads::named_headers(&["source", "none"]));
        const CODES: &'static [&'static str] = &["time"];

        fn new(_: &str) -> Result<Self, String> {
            Ok(Self)
        }

        fn encode(&self, record: &Record<'_>) -> Verdict {
            assert_eq!(record.header("none"), None);
            let source = String::from_utf8_lossy(record.header("source").flatten().unwrap_or_default()).into_owned();
            if record.timestamp_ms() < 0 { Verdict::Reject(Refusal::new("time", source)) } else { Verdict::Accept }
        }
    }

    #[test]
    fn a_serializer_sees_timestamps_and_headers_by_name() {
        let plugin = load_serializer::<Dated>("").unwrap();
        let record = || record().header("source", "one").header("source", "two");
        assert_eq!(plugin.encode(record().timestamp_ms(5)), Verdict::Accept);
        assert_eq!(plugin.encode(record().timestamp_ms(-5)), Verdict::Reject(Refusal::new("time", "two")));
    }

    /// Keeps what a schema refused, and lets the rest be rejected.
    struct Keeps;

    impl DeadLetterPolicy for Keeps {
        const READS: Reads = Reads::FAILURE.and(Reads::ATTEMPTS);

        fn new(_: &str) -> Result<Self, String> {
            Ok(Self)
        }

        fn decide(&self, failed: &Record<'_>) -> Action {
            assert_eq!((failed.attempts(), failed.hops()), (1, 0));
            match (failed.cause(), failed.failure_code()) {
                (1, Some("schema")) => Action::DeadLetter(None),
                _ => Action::Reject,
            }
        }
    }

    #[test]
    fn a_policy_sees_why_a_record_failed() {
        let plugin = load_policy::<Keeps>("").unwrap();
        assert_eq!(plugin.decide(record().failed(1, Some("schema"), "no name")), Action::DeadLetter(None));
        assert_eq!(plugin.decide(record().failed(2, None, "a trap")), Action::Reject);
    }
}
