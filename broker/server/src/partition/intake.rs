//! What a partition knows of batches on their way in, under one lock: it is held from the sequence check to the append, so
//! that the order of the checks is the order of the log.

use ottla_coordinator::sequence::{Check, Remembered, SequenceTable, Span, Tail};
use ottla_log::canary::{Canary, broken};
use ottla_log::{AppendError, Appended, PartitionLog};
use ottla_wire::record::BatchHeader;
use ottla_wire::{Offset, ProducerId, Sequence};

use super::abroad::Abroad;
use super::budget::ProducerShare;
use super::check::span_of;
use super::lane::Lane;
use super::{Landing, Outcome, Place, Refusal};
use crate::clock;
use crate::producer_ids::JOURNAL_PRODUCER;

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
    /// Why no batch is taken: what the route journal has for the topic could not be carried out yet, and what is known of
    /// producers is not whole before it is.
    pub(crate) held: Option<Refusal>,
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
        span_of(header).map(|span| Self { producer_id: header.producer_id, span })
    }

    /// How many records the batch has.
    pub(crate) fn records(&self) -> i64 {
        self.span.records()
    }
}

/// A batch that is the next of its producer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Next {
    /// What came before it.
    pub(crate) follows: Option<Tail>,
    /// The end of the batch before it, where that lies in this log: it has to be durable before anything that this
    /// batch does elsewhere can be seen.
    pub(crate) after: Offset,
}

impl Intake {
    /// Batches below it are in every snapshot that is taken from now on.
    pub(crate) fn entered_upto(&self, log: &PartitionLog) -> Offset {
        let end = log.end_offset();
        self.unentered.filter(|_| !broken(Canary::SaveWithoutParts)).map_or(end, |from| from.min(end))
    }

    /// The sequence check. The error is the answer to a batch that is not the next one: where it is if it was taken before,
    /// otherwise why it is not taken.
    pub(crate) fn admit(&self, claim: Option<Claim>) -> Result<Next, Outcome> {
        let follows = match claim.map(|claim| self.sequences.check(claim.producer_id, claim.span)) {
            Some(Ok(Check::Duplicate(place))) => return Err(Ok(place)),
            Some(Err(error)) => return Err(Err(error.into())),
            Some(Ok(Check::Next(follows))) => follows,
            None => None,
        };
        if let Some(left) = &self.left {
            return Err(Err(left.clone()));
        }
        let (Some(claim), Some(_)) = (claim, follows) else { return Ok(Next::default()) };
        let before = self.sequences.get(claim.producer_id).and_then(|producer| producer.batches.back());
        let after = match before.map(|batch| &batch.place) {
            Some(Place::Landed(Landing::Here { end_offset, .. })) => *end_offset,
            // The route journal keeps these in order by itself.
            Some(Place::Landed(Landing::Moved(_) | Landing::Scattered { .. }) | Place::Waiting(_)) | None => Offset(0),
        };
        Ok(Next { follows, after })
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

    /// Remembers where a batch landed.
    pub(super) fn land(&mut self, claim: Option<Claim>, landing: Landing) -> Place {
        let place = Place::Landed(landing);
        if let Some(claim) = claim {
            self.take(claim, place.clone());
        }
        place
    }

    /// Appends a batch that is the next of its producer, and remembers it.
    pub(crate) fn append(&mut self, log: &PartitionLog, batch: &mut [u8], claim: Option<Claim>) -> Outcome {
        if let Err(known) = self.admit(claim) {
            return known;
        }
        let appended = self.write(log, batch).inspect_err(|_| self.refuse(claim))?;
        Ok(self.land(claim, appended.into()))
    }

    /// Appends a batch, of whichever producer.
    pub(super) fn write(&mut self, log: &PartitionLog, batch: &mut [u8]) -> Result<Appended, Refusal> {
        let appended = log.append(batch).map_err(append_refusal)?;
        self.unsaved.bytes += appended.bytes;
        Ok(appended)
    }

    /// Forgets the producers that wrote nothing since `since_ms`.
    pub(crate) fn expire(&mut self, since_ms: i64) {
        if self.lane.is_free() && self.left.is_none() {
            self.sequences.retain(|id, used_ms| id == JOURNAL_PRODUCER || used_ms >= since_ms);
            self.share.count(self.sequences.len());
        }
    }

    /// Counts the producers, and forgets one that can be spared if there are too many. Whether it did.
    pub(super) fn count_producers(&mut self) -> bool {
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
