//! Which batches of which idempotent producers a partition has taken (KIP-98).
//!
//! Owns the last [`BATCHES_REMEMBERED`] batches of every producer and where each of them went (`P`). Checks a batch as
//! the client sent it, before any plugin sees it. No clock, no I/O, no lock: whoever owns the table brings those, so a
//! conversation can be replayed as text (`golden/sequences.txt`).

use std::collections::{HashMap, VecDeque};

use ottla_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence};

/// Batches per producer that are recognised when they come again. Kafka's clients keep at most as many in flight.
pub const BATCHES_REMEMBERED: usize = 5;

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
}

/// The producers of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceTable<P> {
    producers: HashMap<ProducerId, Producer<P>>,
}

impl<P> Default for SequenceTable<P> {
    fn default() -> Self {
        Self { producers: HashMap::new() }
    }
}

impl<P: Clone> SequenceTable<P> {
    /// What is to be done with this batch. Changes nothing.
    pub fn check(&self, id: ProducerId, span: Span) -> Result<Check<P>, SequenceError> {
        let Some(producer) = self.producers.get(&id) else {
            // Kafka forgets producers and so must accept one that it does not know anywhere in its numbers.
            return Ok(Check::Next(None));
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

    /// Remembers a batch as the last one of its producer, whatever came before.
    pub fn take(&mut self, id: ProducerId, span: Span, place: P, now_ms: i64) {
        let tail = Tail { epoch: span.epoch, last: span.last };
        let producer = self.producers.entry(id).or_insert_with(|| Producer {
            tail,
            used_ms: now_ms,
            batches: VecDeque::with_capacity(BATCHES_REMEMBERED),
        });
        if producer.tail.epoch != span.epoch {
            producer.batches.clear();
        }
        producer.tail = tail;
        producer.used_ms = now_ms;
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Remembered { first: span.first, last: span.last, place });
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
        self.producers.insert(id, producer);
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

    /// Forgets the producers for which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(ProducerId, &Producer<P>) -> bool) {
        self.producers.retain(|id, producer| keep(*id, producer));
    }
}

impl<P> Remembered<P> {
    /// How many records it has.
    pub fn records(&self) -> i64 {
        i64::from(self.last.get().wrapping_sub(self.first.get()) & i32::MAX) + 1
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
        Producer { tail: self.tail, used_ms: self.used_ms, batches }
    }

    fn place_of(&self, span: Span) -> Option<&P> {
        let same = |batch: &&Remembered<P>| batch.first == span.first && batch.last == span.last;
        self.batches.iter().rev().find(same).map(|batch| &batch.place)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Replays the left sides of a conversation and writes the right sides.
    fn replay(conversation: &str) -> String {
        let mut table = SequenceTable::default();
        let mut taken = 0;
        let mut transcript = String::new();
        for line in conversation.lines() {
            let Some((question, _)) = line.split_once(" = ") else {
                if line.trim().is_empty() {
                    (table, taken) = (SequenceTable::default(), 0);
                }
                let _ = writeln!(transcript, "{line}");
                continue;
            };
            let numbers: Vec<i64> = question
                .split(|c: char| !c.is_ascii_digit())
                .filter(|digits| !digits.is_empty())
                .map(|digits| digits.parse().unwrap())
                .collect();
            let [id, epoch, first, last] = numbers[..] else { panic!("{line}") };
            let (first, last) = (Sequence(first as i32), Sequence(last as i32));
            let span = Span { epoch: ProducerEpoch(epoch as i16), first, last };
            let answer = match table.check(ProducerId(id), span) {
                Ok(Check::Next(_)) => {
                    taken += 1;
                    table.take(ProducerId(id), span, taken, 0);
                    format!("batch {taken}")
                }
                Ok(Check::Duplicate(batch)) => format!("batch {batch} again"),
                Err(error) => format!("{} {error}", error.error_code().code()),
            };
            let _ = writeln!(transcript, "{question} = {answer}");
        }
        transcript
    }

    /// The conversations of `golden/sequences.txt` hold word by word. `OTTLA_GOLDEN=write` writes them anew, for
    /// review as text.
    #[test]
    fn conversations_hold() {
        let golden = include_str!("golden/sequences.txt");
        let transcript = replay(golden);
        if std::env::var("OTTLA_GOLDEN").is_ok_and(|value| value == "write") {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/partition/golden/sequences.txt");
            std::fs::write(path, &transcript).unwrap();
        }
        assert_eq!(transcript, golden);
    }

    #[test]
    fn a_count_becomes_a_span_that_may_wrap() {
        let span = Span::new(ProducerEpoch(0), Sequence(i32::MAX - 1), 4);
        assert_eq!((span.first, span.last), (Sequence(i32::MAX - 1), Sequence(1)));
    }

    #[test]
    fn a_settled_batch_answers_its_retry_from_its_new_place() {
        let mut table = SequenceTable::default();
        let span = Span::new(ProducerEpoch(3), Sequence(0), 10);
        table.take(ProducerId(1), span, "waiting", 0);
        assert!(table.settle(ProducerId(1), span, "stored"));
        assert_eq!(table.check(ProducerId(1), span), Ok(Check::Duplicate("stored")));
        let other = Span { last: Sequence(3), ..span };
        assert!(!table.settle(ProducerId(1), other, "lost"));
        let later = Span { epoch: ProducerEpoch(4), ..span };
        assert!(!table.settle(ProducerId(1), later, "lost"));
    }

    #[test]
    fn before_is_told_across_the_wrap() {
        for (one, other) in [(0, 1), (i32::MAX, 0), (i32::MAX - 4, 4), (5, 1 << 20)] {
            assert!(is_before(Sequence(one), Sequence(other)), "{one} {other}");
            assert!(!is_before(Sequence(other), Sequence(one)), "{one} {other}");
            assert!(!is_before(Sequence(one), Sequence(one)));
        }
    }

    #[test]
    fn a_remembered_batch_counts_its_records_across_the_wrap() {
        let remembered = |first, last| Remembered { first: Sequence(first), last: Sequence(last), place: () };
        assert_eq!(remembered(0, 0).records(), 1);
        assert_eq!(remembered(10, 19).records(), 10);
        assert_eq!(remembered(i32::MAX - 1, 2).records(), 5);
    }

    #[test]
    fn forgotten_producers_may_go_on_anywhere() {
        let mut table = SequenceTable::default();
        table.take(ProducerId(1), Span::new(ProducerEpoch(0), Sequence(0), 1), (), 10);
        table.take(ProducerId(2), Span::new(ProducerEpoch(0), Sequence(0), 1), (), 20);
        table.retain(|_, producer| producer.used_ms >= 15);
        assert_eq!(table.len(), 1);
        let far = Span::new(ProducerEpoch(0), Sequence(77), 1);
        assert_eq!(table.check(ProducerId(1), far), Ok(Check::Next(None)));
        assert!(table.check(ProducerId(2), far).is_err());
    }
}
