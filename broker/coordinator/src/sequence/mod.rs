//! Which batches of which idempotent producers a partition has taken (KIP-98).
//!
//! Owns the last [`BATCHES_REMEMBERED`] batches of every producer and where each of them went (`P`), and for producers
//! of which nothing was taken yet the first batch that was refused. Checks a batch as
//! the client sent it, before any plugin sees it. No clock, no I/O, no lock: the owner of the table brings those, so a
//! conversation can be replayed as text (`sequences.txt`).

#![expect(
    clippy::disallowed_types,
    reason = "the table is asked once per batch, and no effect depends on the order of its producers"
)]

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};

use ottla_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence};

/// Batches per producer that are recognised when they come again. Kafka's clients keep at most as many in flight.
pub const BATCHES_REMEMBERED: usize = 5;

/// Producers without any batch of which a refusal is remembered. One more, and the oldest may begin anywhere again.
pub const REFUSALS_REMEMBERED: usize = 256;

/// A batch as the check sees it: the numbers of its first and its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The producer's incarnation.
    pub epoch: ProducerEpoch,
    /// Number of the first record.
    pub first: Sequence,
    /// Number of the last record; lower than the first when the numbers wrap inside the batch.
    pub last: Sequence,
}

impl Span {
    /// The span of `count` records from `first` on.
    pub fn new(epoch: ProducerEpoch, first: Sequence, count: i32) -> Self {
        Self { epoch, first, last: first.advance(count - 1) }
    }

    /// How many records the batch has.
    pub fn records(self) -> i64 {
        records(self.first, self.last)
    }
}

/// How many numbers there are from `first` to `last`.
fn records(first: Sequence, last: Sequence) -> i64 {
    i64::from(last.get().wrapping_sub(first.get()) & i32::MAX) + 1
}

/// Whether `one` comes before `other`. Numbers wrap, so "before" means less than half way round.
pub fn is_before(one: Sequence, other: Sequence) -> bool {
    let distance = other.get().wrapping_sub(one.get()) & i32::MAX;
    distance != 0 && distance < 1 << 30
}

/// The end of what a partition took from a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The producer's incarnation.
    pub epoch: ProducerEpoch,
    /// Number of the last record taken.
    pub last: Sequence,
}

/// What is to be done with a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Check<P> {
    /// It is the next one. With it the tail it follows on, none for a producer not known here.
    Next(Option<Tail>),
    /// It was taken before; here is where it went.
    Duplicate(P),
}

/// Why a batch was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// Records before it are missing, or it is an old batch that is no longer remembered.
    #[error("out of order: sequence {found} where {expected} is next")]
    OutOfOrder {
        /// The number that would have been accepted.
        expected: Sequence,
        /// The number of its first record.
        found: Sequence,
    },
    /// A later incarnation of the producer has written already.
    #[error("fenced: epoch {found} of a producer whose epoch is {current}")]
    StaleEpoch {
        /// The incarnation that writes.
        current: ProducerEpoch,
        /// The one in the batch.
        found: ProducerEpoch,
    },
}

impl SequenceError {
    /// Kafka's code for it.
    pub fn error_code(self) -> ErrorCode {
        match self {
            Self::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::StaleEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        }
    }
}

/// A batch that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered<P> {
    /// Number of its first record.
    pub first: Sequence,
    /// Number of its last record.
    pub last: Sequence,
    /// Where it went.
    pub place: P,
}

/// What is known of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer<P> {
    /// Its end.
    pub tail: Tail,
    /// When it last wrote, in milliseconds of the owner's clock.
    pub used_ms: i64,
    /// Its last batches of this incarnation, oldest first.
    pub batches: VecDeque<Remembered<P>>,
    /// Its end before the oldest of these; none where nothing was taken before, or where that is not known any more.
    pub before: Option<Tail>,
}

/// A batch that was refused although it was the first one that its producer sent here. It is nowhere, so nothing follows
/// on it; what was sent behind it waits until it comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    id: ProducerId,
    epoch: ProducerEpoch,
    first: Sequence,
    used_ms: i64,
}

/// The producers of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceTable<P> {
    producers: HashMap<ProducerId, Producer<P>>,
    /// The same producers in the order of their last use.
    by_use: BTreeSet<(i64, ProducerId)>,
    /// Of producers that are not known, at most one each, oldest first. In memory only.
    refused: VecDeque<Refused>,
}

impl<P> Default for SequenceTable<P> {
    fn default() -> Self {
        Self { producers: HashMap::new(), by_use: BTreeSet::new(), refused: VecDeque::new() }
    }
}

impl<P: Clone> SequenceTable<P> {
    /// What is to be done with this batch. Changes nothing.
    pub fn check(&self, id: ProducerId, span: Span) -> Result<Check<P>, SequenceError> {
        let Some(producer) = self.producers.get(&id) else {
            // Kafka forgets producers and so must accept one that it does not know anywhere in its numbers; but not
            // behind a batch that was refused and comes again, which would then be out of order for ever.
            let refused = self.refused.iter().find(|refused| refused.id == id && refused.epoch == span.epoch);
            return match refused {
                Some(&Refused { first: expected, .. }) if is_before(expected, span.first) => {
                    Err(SequenceError::OutOfOrder { expected, found: span.first })
                }
                _ => Ok(Check::Next(None)),
            };
        };
        let tail = producer.tail;
        if span.epoch < tail.epoch {
            return Err(SequenceError::StaleEpoch { current: tail.epoch, found: span.epoch });
        }
        let expected = if span.epoch > tail.epoch { Sequence(0) } else { tail.last.advance(1) };
        if span.epoch == tail.epoch
            && let Some(place) = producer.place_of(span)
        {
            return Ok(Check::Duplicate(place.clone()));
        }
        if span.first == expected {
            Ok(Check::Next(Some(tail)))
        } else {
            Err(SequenceError::OutOfOrder { expected, found: span.first })
        }
    }

    /// Remembers a batch as the last one of its producer, without a check.
    pub fn take(&mut self, id: ProducerId, span: Span, place: P, now_ms: i64) {
        let tail = Tail { epoch: span.epoch, last: span.last };
        let producer = match self.producers.entry(id) {
            Entry::Vacant(unknown) => {
                self.refused.retain(|refused| refused.id != id);
                self.by_use.insert((now_ms, id));
                // Most of those that come in crowds send no second batch.
                let batches = VecDeque::with_capacity(1);
                unknown.insert(Producer { tail, used_ms: now_ms, batches, before: None })
            }
            Entry::Occupied(known) => {
                let producer = known.into_mut();
                if producer.used_ms != now_ms {
                    self.by_use.remove(&(producer.used_ms, id));
                    self.by_use.insert((now_ms, id));
                }
                if producer.tail.epoch != span.epoch {
                    producer.batches.clear();
                }
                if producer.batches.is_empty() {
                    producer.before = Some(producer.tail);
                }
                producer
            }
        };
        producer.tail = tail;
        producer.used_ms = now_ms;
        if producer.batches.len() == BATCHES_REMEMBERED
            && let Some(oldest) = producer.batches.pop_front()
        {
            producer.before = Some(Tail { epoch: span.epoch, last: oldest.last });
        }
        if producer.batches.len() == 1 {
            producer.batches.reserve_exact(BATCHES_REMEMBERED - 1);
        }
        producer.batches.push_back(Remembered { first: span.first, last: span.last, place });
    }

    /// Remembers that a batch was refused which its producer will send again: nothing behind it is taken before. The numbers
    /// of a producer of which something was taken say so by themselves.
    pub fn refuse(&mut self, id: ProducerId, span: Span, now_ms: i64) {
        if self.producers.contains_key(&id) {
            return;
        }
        let refused = Refused { id, epoch: span.epoch, first: span.first, used_ms: now_ms };
        if let Some(known) = self.refused.iter_mut().find(|known| known.id == id) {
            let is_sooner = known.epoch == span.epoch && !is_before(known.first, span.first);
            if known.epoch < span.epoch || is_sooner {
                *known = refused;
            }
            return;
        }
        if self.refused.len() == REFUSALS_REMEMBERED {
            self.refused.pop_front();
        }
        self.refused.push_back(refused);
    }

    /// Forgets the last batch of a producer, which came to nothing: its numbers are the next ones again. `before` is
    /// where the producer's batches ended before it.
    pub fn give_back(&mut self, id: ProducerId, span: Span, before: Option<Tail>) {
        let last = Tail { epoch: span.epoch, last: span.last };
        let Some(producer) = self.producers.get_mut(&id).filter(|producer| producer.tail == last) else { return };
        match before {
            None => {
                self.by_use.remove(&(producer.used_ms, id));
                self.producers.remove(&id);
            }
            Some(before) => {
                producer.batches.pop_back();
                producer.tail = before;
            }
        }
    }

    /// Says where a remembered batch went after all. False when it is not remembered any more.
    pub fn settle(&mut self, id: ProducerId, span: Span, place: P) -> bool {
        let Some(producer) = self.producers.get_mut(&id).filter(|producer| producer.tail.epoch == span.epoch) else {
            return false;
        };
        match producer.batches.iter_mut().find(|batch| batch.first == span.first && batch.last == span.last) {
            Some(batch) => {
                batch.place = place;
                true
            }
            None => false,
        }
    }

    /// Where the producer's batches end.
    pub fn tail(&self, id: ProducerId) -> Option<Tail> {
        self.producers.get(&id).map(|producer| producer.tail)
    }

    /// What is known of a producer.
    pub fn get(&self, id: ProducerId) -> Option<&Producer<P>> {
        self.producers.get(&id)
    }

    /// Puts a producer back as it was kept somewhere.
    pub fn restore(&mut self, id: ProducerId, producer: Producer<P>) {
        self.refused.retain(|refused| refused.id != id);
        self.by_use.insert((producer.used_ms, id));
        if let Some(before) = self.producers.insert(id, producer)
            && self.producers.get(&id).is_some_and(|now| now.used_ms != before.used_ms)
        {
            self.by_use.remove(&(before.used_ms, id));
        }
    }

    /// Every producer, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &Producer<P>)> {
        self.producers.iter().map(|(id, producer)| (*id, producer))
    }

    /// How many producers are known.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether no producer is known.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Forgets, of the producers that `may_go` agrees to, the one that has been idle longest. False: there is none.
    pub fn forget_idlest(&mut self, may_go: impl Fn(ProducerId, &Producer<P>) -> bool) -> bool {
        let agreed = |&&(_, id): &&(i64, ProducerId)| self.producers.get(&id).is_some_and(|it| may_go(id, it));
        let Some(idlest) = self.by_use.iter().find(agreed).copied() else { return false };
        self.by_use.remove(&idlest);
        self.producers.remove(&idlest.1);
        true
    }

    /// Forgets the producers for which `keep` says no, asked with the time of their last use in milliseconds.
    pub fn retain(&mut self, mut keep: impl FnMut(ProducerId, i64) -> bool) {
        self.producers.retain(|id, producer| keep(*id, producer.used_ms));
        self.by_use.retain(|(_, id)| self.producers.contains_key(id));
        self.refused.retain(|refused| keep(refused.id, refused.used_ms));
    }
}

impl<P> Remembered<P> {
    /// How many records it has.
    pub fn records(&self) -> i64 {
        records(self.first, self.last)
    }

    /// The same batch in another place.
    pub fn with_place<Q>(&self, place: Q) -> Remembered<Q> {
        Remembered { first: self.first, last: self.last, place }
    }
}

impl<P> Producer<P> {
    /// The same producer with its places said in another way.
    pub fn map<Q>(&self, mut place: impl FnMut(&P) -> Q) -> Producer<Q> {
        let batches = self.batches.iter().map(|batch| batch.with_place(place(&batch.place))).collect();
        Producer { tail: self.tail, used_ms: self.used_ms, batches, before: self.before }
    }

    /// The producer as it was before the first of its batches for which `place` has no answer; none where nothing is
    /// known of it then.
    pub fn settled<Q>(&self, mut place: impl FnMut(&P) -> Option<Q>) -> Option<Producer<Q>> {
        let places = self.batches.iter().map_while(|batch| Some(batch.with_place(place(&batch.place)?)));
        let batches: VecDeque<_> = places.collect();
        let tail = if batches.len() == self.batches.len() {
            self.tail
        } else if let Some(Remembered { last, .. }) = batches.back() {
            Tail { epoch: self.tail.epoch, last: *last }
        } else {
            self.before?
        };
        Some(Producer { tail, used_ms: self.used_ms, batches, before: self.before })
    }

    fn place_of(&self, span: Span) -> Option<&P> {
        let same = |batch: &&Remembered<P>| batch.first == span.first && batch.last == span.last;
        self.batches.iter().rev().find(same).map(|batch| &batch.place)
    }
}

#[cfg(test)]
mod tests;
