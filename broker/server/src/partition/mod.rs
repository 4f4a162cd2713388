//! One partition: its log, how far it may be read, and which batches it has taken.
//!
//! 1. [`check`]: what a batch must fulfil, and the fields that the broker fills in
//! 2. [`ottla_coordinator::sequence`]: idempotent producers, checked on the batch as it was sent
//! 3. `lane`: the batches that cannot be appended at once, first in, first out
//! 4. [`place`]: where a batch went
//! 5. [`watermark`]: how far the partition may be read, and who waits for it to move
//! 6. [`snapshot`]: the producers on the disk, one of [`saves`] at a time
//! 7. [`abroad`]: what snapshots of different topics have to know of each other
//! 8. [`budget`]: how many producers are remembered
//! 9. [`refusal`]: why a batch was not taken
//!
//! Everything that belongs to the order of batches is under one lock per partition, held from the sequence check to the
//! append, so that the order of the checks is the order of the log.

pub(crate) mod abroad;
pub(crate) mod budget;
pub mod check;
pub(crate) mod lane;
pub mod place;
pub mod refusal;
pub(crate) mod saves;
pub mod snapshot;
pub mod watermark;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use ottla_log::canary::{Canary, broken};
use ottla_log::{AppendError, Appended, PartitionLog};
use ottla_wire::record::BatchHeader;
use ottla_wire::{Offset, ProducerId, Sequence, Uuid};
use parking_lot::{Mutex, MutexGuard};

pub use place::{Landed, Moved, Outcome, Place, PlacedRun, Target, Ticket, TicketStub};
pub use refusal::Refusal;
pub use watermark::{Bell, PartitionOffline, Registration, WaitFor, Watermark};

use crate::clock;
use crate::producer_ids::JOURNAL_PRODUCER;
use abroad::Abroad;
use budget::{ProducerBudget, ProducerShare};
use lane::Lane;
use ottla_coordinator::sequence::{Check, Producer, Remembered, SequenceTable, Span, Tail};
use snapshot::PartitionSnapshot;

/// One partition of a topic.
pub struct Partition {
    /// The topic it belongs to.
    pub topic_id: Uuid,
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its number in the topic.
    pub index: i32,
    /// Its log.
    pub log: Arc<PartitionLog>,
    /// How far it may be read.
    pub watermark: Watermark,
    /// What was fetched from it since the start.
    pub fetched: Fetched,
    /// Entries of the route journal below it that were addressed here are in the snapshot on the disk.
    saved_mark: AtomicU64,
    intake: Mutex<Intake>,
}

/// Batches that wait for a plugin.
#[derive(Debug, Default, Clone, Copy)]
pub struct WaitingForPlugin {
    /// How many.
    pub batches: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// What clients fetched from a partition: two relaxed additions per answer.
#[derive(Debug, Default)]
pub struct Fetched {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Fetched {
    /// An answer has these in it.
    pub(crate) fn note(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Offsets that were asked for and answered.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes of their batches, as they are stored.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What a partition knows of batches on their way in.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    pub(crate) sequences: SequenceTable<Place>,
    pub(crate) share: ProducerShare,
    pub(crate) lane: Lane,
    /// Entries of the route journal below this mark that were addressed here are done.
    pub(crate) journal_mark: u64,
    /// The route journal's next sequence on this partition, once it has one.
    pub(crate) journal_next: Option<Sequence>,
    pub(crate) unsaved: Unsaved,
    /// What the route journal has for the topic could not be carried out yet: no batch is taken before it is, and what
    /// is known of producers is not whole.
    pub(crate) held: bool,
    /// Why a batch that was addressed here failed after the route journal had it. The next start carries it out, and no
    /// batch is taken before: it would be one that follows a failed one.
    pub(crate) left: Option<Refusal>,
    /// The first batch of the route in the log that is not entered where it was addressed: in no snapshot yet.
    pub(crate) unentered: Option<Offset>,
    /// The producers of every batch below it are on the disk.
    pub(crate) saved_upto: Offset,
    pub(crate) abroad: Abroad,
}

/// What the last snapshot does not know.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Unsaved {
    /// Bytes appended since.
    pub(crate) bytes: u64,
    /// Whether an entry of the route journal was addressed or sent here since.
    pub(crate) journaled: bool,
}

/// A batch of an idempotent producer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) producer_id: ProducerId,
    pub(crate) span: Span,
}

impl Claim {
    /// Of a batch whose header was checked.
    pub(crate) fn of(header: &BatchHeader) -> Option<Self> {
        check::span_of(header).map(|span| Self { producer_id: header.producer_id, span })
    }
}

/// A batch that may be appended together with others.
#[derive(Debug)]
pub(crate) struct Unplaced {
    batch: BytesMut,
    records: i64,
    claim: Option<Claim>,
}

impl Unplaced {
    /// A batch whose header was checked.
    pub(crate) fn new(batch: BytesMut, header: &BatchHeader) -> Self {
        Self { batch, records: i64::from(header.last_offset_delta) + 1, claim: Claim::of(header) }
    }
}

/// What the sequence check says.
#[derive(Debug)]
pub(crate) enum Admission {
    /// The batch is the next one.
    Next {
        /// What came before it.
        follows: Option<Tail>,
        /// The end of the batch before it, where that lies in this log: it has to be durable before anything that this
        /// batch does elsewhere can be seen.
        after: Offset,
    },
    /// It was taken before.
    Duplicate(Place),
}

impl Partition {
    /// A partition over its log. Its producers are not known yet: [`crate::route`] finds them before anybody is served.
    pub(crate) fn open(
        topic_id: Uuid,
        topic: Arc<str>,
        index: i32,
        log: Arc<PartitionLog>,
        budget: &Arc<ProducerBudget>,
    ) -> Self {
        let watermark = Watermark::new(log.high_watermark());
        let (told, weak) = (watermark.clone(), Arc::downgrade(&log));
        log.on_advance(Box::new(move |high| {
            told.advance(high);
            if weak.upgrade().is_none_or(|log| log.is_offline() || log.is_deleted()) {
                told.close();
            }
        }));
        // It may have moved before the listener was there.
        watermark.advance(log.high_watermark());
        if log.is_offline() {
            watermark.close();
        }
        let intake = Intake { share: ProducerShare::of(budget), ..Intake::default() };
        let saved_mark = AtomicU64::new(0);
        let fetched = Fetched::default();
        Self { fetched, topic_id, topic, index, log, watermark, saved_mark, intake: Mutex::new(intake) }
    }

    /// Tells everybody who waits that nothing more comes: the topic is being deleted.
    pub fn close(&self) {
        self.watermark.close();
    }

    /// Appends a batch that the broker itself made, of no producer.
    pub(crate) fn append_own(&self, batch: &mut [u8]) -> Result<Appended, Refusal> {
        self.intake().append(&self.log, batch, None)
    }

    /// What waits in its lane for the topic's plugin.
    pub fn waiting_for_plugin(&self) -> WaitingForPlugin {
        let intake = self.intake();
        let waiting = &intake.lane.waiting;
        WaitingForPlugin { batches: waiting.len(), bytes: waiting.iter().map(|job| job.batch.len()).sum() }
    }

    pub(crate) fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock()
    }

    /// Puts the producers in place that a start has found.
    pub(crate) fn restore(&self, producers: &SequenceTable<Landed>, journal_mark: u64) {
        let mut intake = self.intake();
        intake.journal_mark = journal_mark;
        for (id, producer) in producers.iter() {
            intake.sequences.restore(id, producer.map(|landed| Place::Landed(landed.clone())));
        }
        while intake.count_producers() {}
    }

    /// Batches below it are in every snapshot that is taken from now on.
    pub(crate) fn entered_upto(&self) -> Offset {
        self.intake().entered_upto(&self.log)
    }

    /// From where on a start has to read the log that has a snapshot taken from now on.
    pub(crate) fn scan_from(&self) -> Offset {
        let intake = self.intake();
        let entered = intake.entered_upto(&self.log);
        intake.abroad.unsaved_from().map_or(entered, |from| from.min(entered))
    }

    /// Up to which mark entries of the route journal that were addressed here are in the snapshot on the disk.
    pub(crate) fn saved_mark(&self) -> u64 {
        self.saved_mark.load(Ordering::Acquire)
    }

    /// A snapshot with that mark is on the disk.
    pub(crate) fn note_saved_mark(&self, mark: u64) {
        self.saved_mark.fetch_max(mark, Ordering::AcqRel);
    }

    /// A snapshot of the producers. `scan_from` is how far batches were entered before the first partition of the topic
    /// took its snapshot. With it the partitions of other topics that have to be durable before it is on the disk.
    pub(crate) fn snapshot(&self, scan_from: Offset) -> (PartitionSnapshot, Vec<Arc<Partition>>) {
        let mut intake = self.intake();
        intake.unsaved = Unsaved::default();
        let sent = intake.abroad.take_sent();
        let snapshot = PartitionSnapshot {
            index: self.index,
            scan_from,
            log_end: self.log.end_offset(),
            journal_mark: intake.journal_mark,
            producers: intake
                .sequences
                .iter()
                .filter_map(|(id, producer)| Some((id, landed_part(producer)?)))
                .collect(),
        };
        (snapshot, sent)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

impl Intake {
    /// See [`Partition::entered_upto`].
    pub(crate) fn entered_upto(&self, log: &PartitionLog) -> Offset {
        let end = log.end_offset();
        self.unentered.filter(|_| !broken(Canary::SaveWithoutParts)).map_or(end, |from| from.min(end))
    }

    /// The sequence check.
    pub(crate) fn admit(&self, claim: Option<Claim>) -> Result<Admission, Refusal> {
        let none = Admission::Next { follows: None, after: Offset(0) };
        let left = || self.left.clone().unwrap_or(Refusal::Stopping);
        let Some(claim) = claim else {
            return if self.left.is_some() { Err(left()) } else { Ok(none) };
        };
        match self.sequences.check(claim.producer_id, claim.span)? {
            Check::Duplicate(place) => Ok(Admission::Duplicate(place)),
            Check::Next(_) if self.left.is_some() => Err(left()),
            Check::Next(None) => Ok(none),
            Check::Next(follows) => {
                let before = self.sequences.get(claim.producer_id).and_then(|producer| producer.batches.back());
                let after = match before {
                    Some(batch) => match batch.place {
                        Place::Landed(Landed::Here(base)) => base.advance(batch.records()),
                        // The route journal keeps these in order by itself.
                        Place::Landed(Landed::Moved(_) | Landed::Scattered { .. }) | Place::Waiting(_) => Offset(0),
                    },
                    None => Offset(0),
                };
                Ok(Admission::Next { follows, after })
            }
        }
    }

    /// Makes the numbers of a batch free again that was taken and then came to nothing. Those behind it come before it:
    /// the last one that was taken is given back first.
    pub(crate) fn give_back(&mut self, claim: Claim, before: Option<Tail>) {
        self.sequences.give_back(claim.producer_id, claim.span, before);
        self.refuse(Some(claim));
    }

    /// Remembers that a batch was refused, where nothing else would keep those from being taken that were sent behind it
    /// and are under way.
    pub(crate) fn refuse(&mut self, claim: Option<Claim>) {
        if let Some(claim) = claim {
            self.sequences.refuse(claim.producer_id, claim.span, clock::now_ms());
        }
    }

    /// Remembers a batch as the last one of its producer, and forgets another producer where there are too many.
    pub(crate) fn take(&mut self, claim: Claim, place: Place) {
        self.sequences.take(claim.producer_id, claim.span, place, clock::now_ms());
        // Two for one: so they become fewer where the others' share has grown.
        let _ = self.count_producers() && self.count_producers();
    }

    /// Forgets the producers that wrote nothing since `since_ms`.
    pub(crate) fn expire(&mut self, since_ms: i64) {
        if self.lane.is_free() && self.left.is_none() {
            self.sequences.retain(|id, used_ms| id == JOURNAL_PRODUCER || used_ms >= since_ms);
            self.share.count(self.sequences.len());
        }
    }

    /// Counts the producers, and forgets one that can be spared if there are too many. Whether it did.
    fn count_producers(&mut self) -> bool {
        self.share.count(self.sequences.len());
        if !self.share.is_exceeded() {
            return false;
        }
        let is_waiting = |batch: &Remembered<Place>| matches!(batch.place, Place::Waiting(_));
        // Of one whose batch waits, that batch would be taken twice.
        let forgotten = self
            .sequences
            .forget_idlest(|id, producer| id != JOURNAL_PRODUCER && !producer.batches.iter().any(is_waiting));
        if forgotten {
            self.share.count(self.sequences.len());
            self.share.note_forgotten();
        }
        forgotten
    }

    /// Appends a batch that was admitted under the same lock, and remembers it.
    pub(crate) fn append(
        &mut self,
        log: &PartitionLog,
        batch: &mut [u8],
        claim: Option<Claim>,
    ) -> Result<Appended, Refusal> {
        let appended = log.append(batch).map_err(append_refusal).inspect_err(|_| self.refuse(claim))?;
        self.unsaved.bytes += appended.bytes;
        if let Some(claim) = claim {
            self.take(claim, Place::Landed(Landed::Here(appended.base_offset)));
        }
        Ok(appended)
    }

    /// Whether a batch would be the next of its producer once `joined` are appended: so surely that it can be appended
    /// together with them. Where the answer is no, it is checked by itself afterwards.
    pub(crate) fn follows(&self, joined: &[Unplaced], claim: Option<Claim>) -> bool {
        let Some(claim) = claim else { return true };
        let check = self.sequences.check(claim.producer_id, claim.span);
        let before = joined.iter().rev().filter_map(|it| it.claim).find(|it| it.producer_id == claim.producer_id);
        match before {
            Some(before) => {
                let next = before.span.epoch == claim.span.epoch && before.span.last.advance(1) == claim.span.first;
                next && !matches!(check, Ok(Check::Duplicate(_)))
            }
            None => matches!(check, Ok(Check::Next(_))),
        }
    }

    /// Appends batches in one write, the first of them admitted under the same lock and each of the others found to
    /// [follow](Self::follows). If that fails each is checked and tried by itself: the fault of one must not be the
    /// others'. Where each went comes back in turn.
    pub(crate) fn append_joined(
        &mut self,
        log: &PartitionLog,
        mut joined: Vec<Unplaced>,
    ) -> Vec<Result<Place, Refusal>> {
        if joined.len() > 1 {
            let mut buffers: Vec<&mut [u8]> = joined.iter_mut().map(|it| &mut *it.batch).collect();
            if let Ok(appended) = log.append_gathered(&mut buffers) {
                self.unsaved.bytes += appended.bytes;
                let mut next = appended.base_offset;
                let placed = joined.iter().map(|it| {
                    let base = next;
                    next = base.advance(it.records);
                    let place = Place::Landed(Landed::Here(base));
                    if let Some(claim) = it.claim {
                        self.take(claim, place.clone());
                    }
                    Ok(place)
                });
                return placed.collect();
            }
        }
        let alone = joined.into_iter().map(|mut it| match self.admit(it.claim)? {
            Admission::Duplicate(place) => Ok(place),
            Admission::Next { .. } => {
                let appended = self.append(log, &mut it.batch, it.claim)?;
                Ok(Place::Landed(Landed::Here(appended.base_offset)))
            }
        });
        alone.collect()
    }
}

/// A producer without its batches that still wait: they are in the route journal.
fn landed_part(producer: &Producer<Place>) -> Option<Producer<Landed>> {
    let is_waiting = |batch: &&Remembered<Place>| matches!(batch.place, Place::Waiting(_));
    if broken(Canary::ForgetWrapped) && producer.batches.iter().find(is_waiting).is_some_and(|it| it.first.get() == 0) {
        return None;
    }
    producer.settled(|place| match place {
        Place::Landed(landed) => Some(landed.clone()),
        Place::Waiting(_) => None,
    })
}

/// What the log says about an append, as the producer gets to hear it.
#[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
pub(crate) fn append_refusal(error: AppendError) -> Refusal {
    match error {
        AppendError::Deleted => Refusal::UnknownPartition,
        AppendError::Closed => Refusal::Stopping,
        AppendError::TooLarge { bytes, max } => Refusal::TooLarge { bytes: bytes as usize, bytes_max: max as usize },
        AppendError::Malformed { .. } => Refusal::Corrupt(error.to_string()),
        AppendError::NoSpace => Refusal::DiskFull,
        AppendError::OffsetsExhausted | AppendError::Offline { .. } | AppendError::Io { .. } => {
            Refusal::Storage(error.to_string())
        }
    }
}
