//! Runs a rule with `cargo test`, without a broker and without WebAssembly.
//!
//! Records go through the same columns as in the broker, so a part that `READS` leaves out is missing here as well.
//!
//! ```
//! # use ottla_plugin::{Partitioner, Reads, Record};
//! # struct ByFirstByte;
//! # impl Partitioner for ByFirstByte {
//! #     const READS: Reads = Reads::value_prefix(1);
//! #     fn new(_: &str) -> Result<Self, String> { Ok(Self) }
//! #     fn partition(&self, record: &Record<'_>, partitions: u32) -> u32 {
//! #         u32::from(record.value().unwrap_or_default()[0]) % partitions
//! #     }
//! # }
//! use ottla_plugin::testing::{load, record};
//!
//! let plugin = load::<ByFirstByte>("").unwrap();
//! assert_eq!(plugin.partition(record().key("any").value("\u{5}..."), 4), 1);
//! ```

use crate::partitioner::Partitioner;
use crate::record::{Batch, kind};

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
}

/// Starts the plugin with this configuration, on a topic called `test`.
pub fn load<P: Partitioner>(config: &str) -> Result<Loaded<P>, String> {
    Ok(Loaded { plugin: P::new(config)?, context: vec![("topic".to_owned(), "test".to_owned())] })
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
}

impl<P: Partitioner> Loaded<P> {
    /// The same plugin on a topic of this name.
    #[must_use]
    pub fn topic(mut self, name: &str) -> Self {
        self.context = vec![("topic".to_owned(), name.to_owned())];
        self
    }

    /// The partition of one record.
    ///
    /// # Panics
    /// If the plugin refuses the record or names a partition that does not exist.
    pub fn partition(&self, record: TestRecord, partitions: u32) -> u32 {
        match self.partition_batch(&[record], partitions).as_deref() {
            Ok([partition]) => *partition,
            Ok(other) => unreachable!("{} answers for one record", other.len()),
            Err(reason) => panic!("{reason}"),
        }
    }

    /// The partitions of a batch, checked as the broker checks them.
    pub fn partition_batch(&self, records: &[TestRecord], partitions: u32) -> Result<Vec<u32>, String> {
        let (reads, mut columns) = (P::READS, Columns::default());
        for record in records {
            if reads.key() {
                columns.key.push(record.key.as_deref());
            }
            if let Some(bytes_max) = reads.value() {
                let prefix = record.value.as_deref().map(|value| value.get(..bytes_max).unwrap_or(value));
                columns.value.push(prefix);
            }
            if reads.headers() {
                columns.header_counts.lengths.push(record.headers.len() as i32);
                for (name, value) in &record.headers {
                    columns.header_names.push(Some(name));
                    columns.header_values.push(value.as_deref());
                }
            }
        }
        let batch = Batch::new(reads, &self.context, records.len() as u32, partitions, columns.all().into_iter());
        let answer = self.plugin.partition_batch(&batch)?;
        if answer.len() != records.len() {
            return Err(format!("{} answers for {} records", answer.len(), records.len()));
        }
        match answer.iter().find(|&&partition| partition >= partitions) {
            Some(partition) => Err(format!("partition {partition} of {partitions} does not exist")),
            None => Ok(answer),
        }
    }
}

#[derive(Default)]
struct Columns {
    key: Column,
    value: Column,
    header_counts: Column,
    header_names: Column,
    header_values: Column,
}

#[derive(Default)]
struct Column {
    bytes: Vec<u8>,
    lengths: Vec<i32>,
}

impl Columns {
    fn all(&self) -> [(u32, &[u8], &[i32]); 5] {
        [
            (kind::KEY, &self.key.bytes, &self.key.lengths),
            (kind::VALUE, &self.value.bytes, &self.value.lengths),
            (kind::HEADER_COUNTS, &self.header_counts.bytes, &self.header_counts.lengths),
            (kind::HEADER_NAMES, &self.header_names.bytes, &self.header_names.lengths),
            (kind::HEADER_VALUES, &self.header_values.bytes, &self.header_values.lengths),
        ]
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
    use crate::reads::Reads;
    use crate::record::Record;

    /// Puts a record on the partition that its `to` header or its value names.
    #[derive(Debug)]
    struct AsTold;

    impl Partitioner for AsTold {
        const READS: Reads = Reads::HEADERS.and(Reads::value_prefix(2));

        fn new(config: &str) -> Result<Self, String> {
            if config.is_empty() { Ok(Self) } else { Err(format!("`{config}` means nothing here")) }
        }

        fn partition(&self, record: &Record<'_>, _partitions: u32) -> u32 {
            let told = record.headers().last(b"to").flatten().or(record.value()).unwrap_or_default();
            std::str::from_utf8(told).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
        }
    }

    #[test]
    fn a_rule_runs_as_in_the_broker() {
        let plugin = load::<AsTold>("").unwrap();
        let records = [record().header("to", "1").header("to", "2"), record().value("31x"), record().key("k")];
        assert_eq!(plugin.partition_batch(&records, 40), Ok(vec![2, 31, 0]));
        assert_eq!(plugin.partition(record().header("to", "7"), 8), 7);
        assert_eq!(plugin.partition_batch(&records, 20), Err("partition 31 of 20 does not exist".to_owned()));
        assert_eq!(load::<AsTold>("x").unwrap_err(), "`x` means nothing here");
    }
}
