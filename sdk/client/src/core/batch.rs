//! Records of one partition that travel together: first open, then closed, in the end settled.

use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::record::{self as wire, BatchBuilder, Codec, record_bytes_max};

use super::outcome::{Fate, Outcome, Ticket};
use super::record::ProducerRecord;
use super::trouble::Trouble;

/// Counts batches, so that an answer finds its batch even after others were settled. Also their order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BatchId(pub(crate) u64);

/// How the sender of a record wants to hear of it.
#[derive(Debug)]
pub(crate) enum ReportTo {
    /// Not at all.
    Nothing,
    /// By a delivery that shares the batch's fate.
    Delivery,
    /// By a delivery that was handed out before the batch existed.
    Guest(Arc<Fate>),
    /// By a ticket.
    Ticket(u64),
}

/// All that wait for one batch.
#[derive(Debug, Default)]
pub(crate) struct Parties {
    shared: Option<SharedFate>,
    guests: Vec<(u32, Arc<Fate>)>,
    tickets: Vec<Ticket>,
}

/// The fate of those with a delivery.
#[derive(Debug)]
struct SharedFate {
    fate: Arc<Fate>,
    /// The records of this batch, as the fate counts them: from 0 on, unless the batch was split.
    first: u32,
    count: u32,
    /// Deliveries that were given out with it.
    deliveries: usize,
    /// Held by every batch that shares the fate.
    kin: Arc<()>,
}

impl Parties {
    /// Notes what waits for the record at `index`; returns the shared fate for a delivery.
    fn join(
        &mut self,
        report_to: ReportTo,
        index: u32,
        timestamp_ms: i64,
        trouble: &Arc<Trouble>,
    ) -> Option<Arc<Fate>> {
        match report_to {
            ReportTo::Nothing => None,
            ReportTo::Delivery => {
                let shared = self.shared.get_or_insert_with(|| SharedFate {
                    fate: Fate::new(Arc::clone(trouble)),
                    first: 0,
                    count: u32::MAX,
                    deliveries: 0,
                    kin: Arc::default(),
                });
                shared.deliveries += 1;
                Some(Arc::clone(&shared.fate))
            }
            ReportTo::Guest(fate) => {
                self.guests.push((index, fate));
                None
            }
            ReportTo::Ticket(token) => {
                self.tickets.push(Ticket { token, index, timestamp_ms });
                None
            }
        }
    }

    /// The sender of a single record that is in no batch.
    pub(crate) fn of_one(report_to: ReportTo, timestamp_ms: i64) -> Self {
        match report_to {
            ReportTo::Nothing | ReportTo::Delivery => Self::default(),
            ReportTo::Guest(fate) => Self { guests: vec![(0, fate)], ..Self::default() },
            ReportTo::Ticket(token) => {
                Self { tickets: vec![Ticket { token, index: 0, timestamp_ms }], ..Self::default() }
            }
        }
    }

    /// Deliveries that were given out and dropped since: what became of their records stays unseen.
    pub(crate) fn unwatched(&self) -> usize {
        let shared = self.shared.as_ref().map_or(0, |shared| {
            let kept = Arc::strong_count(&shared.fate).saturating_sub(Arc::strong_count(&shared.kin));
            shared.deliveries.saturating_sub(kept)
        });
        let guests = self.guests.iter().filter(|(_, fate)| Arc::strong_count(fate) == 1).count();
        shared + guests
    }

    /// Tells those with a delivery, returns the tickets.
    pub(crate) fn tell(self, outcome: &Arc<Outcome>) -> Vec<Ticket> {
        if let Some(SharedFate { fate, first, count, .. }) = self.shared {
            fate.settle(outcome, first..first.saturating_add(count), 0);
        }
        for (index, fate) in self.guests {
            fate.settle(outcome, 0..1, index);
        }
        self.tickets
    }

    /// Takes out those that wait for the records from `at` on, as the parties of a batch of `count` records of their own.
    fn split_off(&mut self, at: u32, count: u32) -> Self {
        let mut rest = Self::default();
        for guest in std::mem::take(&mut self.guests) {
            let (index, fate) = guest;
            if index < at { self.guests.push((index, fate)) } else { rest.guests.push((index - at, fate)) }
        }
        for ticket in std::mem::take(&mut self.tickets) {
            let moved = Ticket { index: ticket.index.saturating_sub(at), ..ticket };
            if ticket.index < at { self.tickets.push(ticket) } else { rest.tickets.push(moved) }
        }
        if let Some(shared) = &mut self.shared {
            let deliveries = shared.deliveries.min(count as usize);
            shared.deliveries -= deliveries;
            shared.count = at;
            let (fate, kin) = (Arc::clone(&shared.fate), Arc::clone(&shared.kin));
            rest.shared = Some(SharedFate { fate, first: shared.first + at, count, deliveries, kin });
        }
        rest
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
        Self { created_ms: now_ms, serial, builder: format.builder(), charged_bytes: 0, parties: Parties::default() }
    }

    /// Adds a record that takes `bytes` of the buffer; returns its index and, for [`ReportTo::Delivery`], the fate it
    /// shares. A record that no batch can hold gives `report_to` back.
    pub(crate) fn push(
        &mut self,
        record: &ProducerRecord<'_>,
        timestamp_ms: i64,
        bytes: usize,
        report_to: ReportTo,
        trouble: &Arc<Trouble>,
    ) -> Result<(u32, Option<Arc<Fate>>), ReportTo> {
        let appended = self.builder.append(timestamp_ms, record.key, record.value, wire_headers(record));
        let Ok(index) = appended.map(|index| index as u32) else { return Err(report_to) };
        self.charged_bytes += bytes;
        Ok((index, self.parties.join(report_to, index, timestamp_ms, trouble)))
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

impl Format {
    fn builder(self) -> BatchBuilder {
        let builder = BatchBuilder::new(self.codec);
        match self.level {
            Some(level) => builder.level(level),
            None => builder,
        }
    }
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

impl Batch {
    /// Takes out the second half of the records, as a batch of its own, where the broker found one too large. None, and
    /// nothing is changed, where there is one record, or it is not at hand.
    pub(crate) fn split_off(&mut self, second_id: BatchId, format: Format) -> Option<Self> {
        let Payload::Sealed(sealed) = &self.payload else { return None };
        let (first, second, at) = halves(sealed, format)?;
        let count = self.count - at;
        let charged_bytes = (self.charged_bytes as u64 * count as u64 / self.count.max(1) as u64) as usize;
        self.charged_bytes -= charged_bytes;
        self.count = at;
        self.payload = Payload::Open(first);
        Some(Self {
            id: second_id,
            created_ms: self.created_ms,
            serial: self.serial,
            charged_bytes,
            count,
            payload: Payload::Open(second),
            parties: self.parties.split_off(at as u32, count as u32),
        })
    }
}

/// The records of a batch, one half in each builder, and how many are in the first.
fn halves(sealed: &[u8], format: Format) -> Option<(BatchBuilder, BatchBuilder, i32)> {
    let batch = wire::Batch::parse(sealed).ok()?;
    let at = batch.header.record_count / 2;
    let records = batch.records(UNPACKED_BYTES_MAX).ok()?;
    let (mut first, mut second) = (format.builder(), format.builder());
    for (record, index) in records.iter().zip(0..) {
        let record = record.ok()?;
        let half = if index < at { &mut first } else { &mut second };
        half.append_record(batch.header.timestamp_of(&record), &record).ok()?;
    }
    (at > 0).then_some((first, second, at))
}

/// What a batch of our own may unpack to: no batch is larger before compression.
const UNPACKED_BYTES_MAX: usize = i32::MAX as usize;

/// The records of a batch on their way.
#[derive(Debug)]
pub(crate) enum Payload {
    /// Written, not yet compressed.
    Open(BatchBuilder),
    /// As it travels, under the numbers of its first attempt.
    Sealed(Bytes),
    /// With the sender, which is sealing it, or freed.
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
    /// How many there are.
    pub(crate) records: usize,
    pub(crate) parties: Parties,
}
