//! Records whose topic is not known yet: kept whole, since their partition cannot be chosen yet.

use super::batch::ReportTo;
use super::record::{Header, ProducerRecord};

/// A record with memory of its own.
#[derive(Debug)]
pub(crate) struct OwnedRecord {
    topic: Box<str>,
    partition: Option<i32>,
    key: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
    headers: Vec<OwnedHeader>,
}

#[derive(Debug)]
struct OwnedHeader {
    key: Box<str>,
    value: Option<Box<[u8]>>,
}

impl OwnedRecord {
    fn copy(record: &ProducerRecord<'_>) -> Self {
        Self {
            topic: record.topic.into(),
            partition: record.partition,
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: record
                .headers
                .iter()
                .map(|header| OwnedHeader { key: header.key.into(), value: header.value.map(Into::into) })
                .collect(),
        }
    }

    /// Calls `f` with the record as it was handed over.
    pub(crate) fn with<T>(&self, timestamp_ms: i64, f: impl FnOnce(&ProducerRecord<'_>) -> T) -> T {
        let headers: Vec<Header<'_>> =
            self.headers.iter().map(|header| Header { key: &header.key, value: header.value.as_deref() }).collect();
        f(&ProducerRecord {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
            timestamp_ms: Some(timestamp_ms),
        })
    }
}

/// A record in the waiting room of its topic.
#[derive(Debug)]
pub(crate) struct WaitingRecord {
    record: OwnedRecord,
    report_to: ReportTo,
    pub(crate) timestamp_ms: i64,
    pub(crate) bytes: usize,
    pub(crate) serial: u64,
    pub(crate) created_ms: u64,
}

impl WaitingRecord {
    pub(crate) fn new(
        record: &ProducerRecord<'_>,
        timestamp_ms: i64,
        bytes: usize,
        serial: u64,
        created_ms: u64,
        report_to: ReportTo,
    ) -> Self {
        Self { record: OwnedRecord::copy(record), report_to, timestamp_ms, bytes, serial, created_ms }
    }

    pub(crate) fn with_record<T>(&self, f: impl FnOnce(&ProducerRecord<'_>) -> T) -> T {
        self.record.with(self.timestamp_ms, f)
    }

    pub(crate) fn into_parts(self) -> (OwnedRecord, ReportTo) {
        (self.record, self.report_to)
    }
}
