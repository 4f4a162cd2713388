//! Batches to send or to append.

use ottla_wire::record::{BatchBuilder, Codec, Header};
use ottla_wire::{ProducerEpoch, ProducerId, Sequence};

/// A batch of records with these values, one millisecond apart from `timestamp` on.
pub fn batch(codec: Codec, timestamp: i64, values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for (value, timestamp) in values.iter().zip(timestamp..) {
        builder.append(timestamp, None, Some(value), std::iter::empty()).unwrap();
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    bytes
}

/// A batch being put together.
#[derive(Clone)]
#[must_use]
pub struct Said {
    codec: Codec,
    producer: Option<(i64, i16, i32)>,
    timestamp: i64,
    records: Vec<(Option<String>, String)>,
}

/// A batch of records with these keys; each value says its key and its place in the batch.
pub fn said(keys: &str) -> Said {
    let records = keys.chars().enumerate().map(|(at, key)| (Some(key.to_string()), format!("{keys}#{at}")));
    Said { codec: Codec::None, producer: None, timestamp: 1_700_000_000_000, records: records.collect() }
}

impl Said {
    /// Compressed.
    pub fn codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// From an idempotent producer: id, epoch, first sequence.
    pub fn by(self, id: i64, epoch: i16, sequence: i32) -> Self {
        Self { producer: Some((id, epoch, sequence)), ..self }
    }

    /// Without keys.
    pub fn keyless(mut self) -> Self {
        self.records.iter_mut().for_each(|(key, _)| *key = None);
        self
    }

    /// With this value in front of each.
    pub fn tagged(mut self, tag: &str) -> Self {
        self.records.iter_mut().for_each(|(_, value)| *value = format!("{tag}{value}"));
        self
    }

    /// The values of its records.
    pub fn values(&self) -> Vec<String> {
        self.records.iter().map(|(_, value)| value.clone()).collect()
    }

    /// A builder that holds the records.
    pub fn builder(&self) -> BatchBuilder {
        let mut builder = BatchBuilder::new(self.codec);
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
        }
        for ((key, value), timestamp) in self.records.iter().zip(self.timestamp..) {
            let headers = [Header { key: b"h", value: Some(value.as_bytes()) }];
            let key = key.as_ref().map(String::as_bytes);
            builder.append(timestamp, key, Some(value.as_bytes()), headers.into_iter()).unwrap();
        }
        builder
    }

    /// The batch as it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.builder().finish(&mut bytes).unwrap();
        bytes
    }
}
