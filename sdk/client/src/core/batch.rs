//! Records of one partition that travel together: first open, then closed, in the end settled.

use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::record::{self as wire, BatchBuilder, Codec, record_bytes_max};

use crate::producer::{Fate, Outcome, ProducerRecord, Ticket};

/// Counts batches, so that an answer finds its batch even after others were settled. Also their order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BatchId(pub(crate) u64);

/// How the sender of a record wants to hear of it.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Not at all.
    Nothing,
    /// By a delivery that shares the batch's fate.
    Delivery,
    /// By a delivery that was handed out before the batch existed.
    Guest(Arc<Fate>),
    /// By a ticket.
    Ticket(u64),
}

/// Everyone who waits for one batch.
#[derive(Debug, Default)]
pub(crate) struct Parties {
    fate: Option<Arc<Fate>>,
    /// Deliveries that were given out with that fate.
    deliveries: usize,
    guests: Vec<(u32, Arc<Fate>)>,
    tickets: Vec<Ticket>,
}

impl Parties {
    /// Notes who waits for the record at `index`; returns the shared fate for a delivery.
    fn join(&mut self, claim: Claim, index: u32, timestamp_ms: i64) -> Option<Arc<Fate>> {
        match claim {
            Claim::Nothing => None,
            Claim::Delivery => {
                self.deliveries += 1;
                Some(Arc::clone(self.fate.get_or_insert_default()))
            }
            Claim::Guest(fate) => {
                self.guests.push((index, fate));
                None
            }
            Claim::Ticket(token) => {
                self.tickets.push(Ticket { token, index, timestamp_ms });
                None
            }
        }
    }

    /// Somebody who waits for a single record that is in no batch.
    pub(crate) fn of_one(claim: Claim, timestamp_ms: i64) -> Self {
        let mut parties = Self::default();
        parties.join(claim, 0, timestamp_ms);
        parties
    }

    /// Deliveries that were given out and dropped since: nobody will look at what became of their records.
    pub(crate) fn unwatched(&self) -> usize {
        let kept = self.fate.as_ref().map_or(0, |fate| Arc::strong_count(fate) - 1);
        let guests = self.guests.iter().filter(|(_, fate)| Arc::strong_count(fate) == 1).count();
        self.deliveries.saturating_sub(kept) + guests
    }

    /// Tells those with a delivery, returns the tickets.
    pub(crate) fn tell(self, outcome: &Arc<Outcome>) -> Vec<Ticket> {
        if let Some(fate) = self.fate {
            fate.settle(outcome, 0);
        }
        for (index, fate) in self.guests {
            fate.settle(outcome, index);
        }
        self.tickets
    }
}

/// A batch that still takes records.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    pub(crate) created_ms: u64,
    pub(crate) serial: u64,
    builder: BatchBuilder,
    charged_bytes: usize,
    parties: Parties,
}

impl OpenBatch {
    /// A batch whose first record, the `serial`th of this producer, arrives now.
    pub(crate) fn new(now_ms: u64, serial: u64, format: Format) -> Self {
        let builder = BatchBuilder::new(format.codec);
        let builder = match format.level {
            Some(level) => builder.level(level),
            None => builder,
        };
        Self { created_ms: now_ms, serial, builder, charged_bytes: 0, parties: Parties::default() }
    }

    /// Adds a record that takes `bytes` of the buffer; returns its index and, for [`Claim::Delivery`], the fate it shares.
    /// A record that no batch can hold gives the claim back.
    pub(crate) fn push(
        &mut self,
        record: &ProducerRecord<'_>,
        timestamp_ms: i64,
        bytes: usize,
        claim: Claim,
    ) -> Result<(u32, Option<Arc<Fate>>), Claim> {
        let appended = self.builder.append(timestamp_ms, record.key, record.value, wire_headers(record));
        let Ok(index) = appended.map(|index| index as u32) else { return Err(claim) };
        self.charged_bytes += bytes;
        Ok((index, self.parties.join(claim, index, timestamp_ms)))
    }

    /// About the size of the batch before compression.
    pub(crate) fn bytes(&self) -> usize {
        self.builder.uncompressed_bytes()
    }

    /// No more records.
    pub(crate) fn close(self, id: BatchId) -> Batch {
        let Self { created_ms, serial, builder, charged_bytes, parties } = self;
        let count = builder.record_count();
        Batch { id, created_ms, serial, charged_bytes, count, payload: Payload::Open(builder), parties }
    }
}

/// How the batches of a producer are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) codec: Codec,
    pub(crate) level: Option<i32>,
}

/// The most that a record takes in a batch.
pub(crate) fn record_bytes(record: &ProducerRecord<'_>) -> usize {
    record_bytes_max(record.key, record.value, wire_headers(record))
}

fn wire_headers<'a>(record: &ProducerRecord<'a>) -> impl ExactSizeIterator<Item = wire::Header<'a>> + Clone {
    record.headers.iter().map(|header| wire::Header { key: header.key.as_bytes(), value: header.value })
}

/// A batch that is complete.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) id: BatchId,
    pub(crate) created_ms: u64,
    /// The serial of its first record: flushing waits for everything up to a serial.
    pub(crate) serial: u64,
    /// What it takes of the producer's buffer.
    pub(crate) charged_bytes: usize,
    /// How many records.
    pub(crate) count: i32,
    pub(crate) payload: Payload,
    pub(crate) parties: Parties,
}

/// The records of a batch on their way.
#[derive(Debug)]
pub(crate) enum Payload {
    /// Written, not yet compressed.
    Open(BatchBuilder),
    /// As it travels, under the numbers of its first attempt.
    Sealed(Bytes),
    /// With the sender, who is sealing it, or freed.
    Away,
}

impl Payload {
    /// About how many bytes will travel.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Open(builder) => builder.uncompressed_bytes(),
            Self::Sealed(bytes) => bytes.len(),
            Self::Away => 0,
        }
    }

    /// The payload for one attempt. A builder is handed over for good, to come back sealed.
    pub(crate) fn lend(&mut self) -> Self {
        match self {
            Self::Sealed(bytes) => Self::Sealed(bytes.clone()),
            Self::Open(_) | Self::Away => std::mem::replace(self, Self::Away),
        }
    }
}

/// A batch whose records are settled: whom to tell what.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) parties: Parties,
}
