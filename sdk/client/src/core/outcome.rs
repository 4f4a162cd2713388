//! What became of records: one shared outcome per batch, found again by index.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::trouble::Trouble;
use crate::error::{ProduceError, RecordError};

/// Where a record is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition: the addressed one, or the one that the topic's partitioner chose in the broker.
    pub partition: i32,
    /// The offset; none when the broker does not tell (acks=0, a routed batch seen through a stock protocol).
    pub offset: Option<i64>,
    /// The record's timestamp, or the broker's when the topic stamps records itself.
    pub timestamp_ms: i64,
}

/// A run of records of one batch that went to the same partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Index in the batch of the run's first record.
    pub(crate) first_index: u32,
    /// Where it went.
    pub(crate) partition: i32,
    /// Offset of the first record.
    pub(crate) base_offset: i64,
}

/// Where a whole batch went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Landing {
    /// Stored, the broker does not tell where.
    Untold,
    /// One after another on the addressed partition.
    Whole {
        /// Offset of the first record.
        base_offset: i64,
    },
    /// Spread by the broker; runs in batch order, the first starts at index 0.
    Spread(Vec<Run>),
}

/// What the broker said about one batch.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) topic: Arc<str>,
    /// The addressed partition, -1 if it was never chosen.
    pub(crate) partition: i32,
    /// The broker's timestamp when it stamps records itself.
    pub(crate) append_time_ms: Option<i64>,
    pub(crate) result: Result<Landing, ProduceError>,
}

impl Outcome {
    /// A failure that holds for every record alike.
    pub(crate) fn failed(topic: Arc<str>, partition: i32, error: ProduceError) -> Arc<Self> {
        Arc::new(Self { topic, partition, append_time_ms: None, result: Err(error) })
    }

    /// Partition and offset of one record.
    pub(crate) fn locate(&self, index: u32) -> Result<(i32, Option<i64>), ProduceError> {
        match &self.result {
            Ok(Landing::Untold) => Ok((self.partition, None)),
            Ok(Landing::Whole { base_offset }) => Ok((self.partition, Some(base_offset + i64::from(index)))),
            Ok(Landing::Spread(runs)) => {
                let after = runs.partition_point(|run| run.first_index <= index);
                Ok(match after.checked_sub(1).and_then(|at| runs.get(at)) {
                    Some(run) => (run.partition, Some(run.base_offset + i64::from(index - run.first_index))),
                    None => (self.partition, None),
                })
            }
            Err(error) => Err(error_of(index, error)),
        }
    }

    pub(crate) fn placement(&self, index: u32, timestamp_ms: i64) -> Result<Placement, ProduceError> {
        let (partition, offset) = self.locate(index)?;
        let timestamp_ms = self.append_time_ms.unwrap_or(timestamp_ms);
        Ok(Placement { topic: Arc::clone(&self.topic), partition, offset, timestamp_ms })
    }
}

/// The record that the broker named gets its own words, its neighbours learn which one it was.
fn error_of(index: u32, error: &ProduceError) -> ProduceError {
    let ProduceError::Refused { topic, partition, code, record_errors, in_doubt: false, .. } = error else {
        return error.clone();
    };
    let own = record_errors.iter().find(|named| named.index == index);
    match (own, record_errors.first()) {
        (Some(named), _) => ProduceError::InvalidRecord {
            topic: Arc::clone(topic),
            partition: *partition,
            code: *code,
            message: Arc::clone(&named.message),
            record_errors: Arc::clone(record_errors),
        },
        (None, Some(RecordError { index, message })) => ProduceError::Refused {
            topic: Arc::clone(topic),
            partition: *partition,
            code: *code,
            message: Some(format!("record {index} of its batch was refused: {message}").into()),
            record_errors: Arc::clone(record_errors),
            in_doubt: false,
        },
        (None, None) => error.clone(),
    }
}

/// A record's ticket on an [`Ack`](crate::Ack): the caller's token, kept until the record's batch is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) token: u64,
    /// Index in the batch.
    pub(crate) index: u32,
    pub(crate) timestamp_ms: i64,
}

/// What is shared by the deliveries of one batch (or by the one delivery of a record that waits for its topic).
#[derive(Debug)]
pub(crate) struct Fate {
    state: Mutex<FateState>,
    settled: Condvar,
    trouble: Arc<Trouble>,
}

#[derive(Debug, Default)]
struct FateState {
    /// One for the whole batch, unless the batch was split.
    pieces: Vec<Piece>,
    /// By record: a waker is woken whenever a piece is settled, and comes back if it was another one's.
    wakers: Vec<(u32, Waker)>,
}

/// The outcome of some records in a row.
#[derive(Debug)]
struct Piece {
    records: Range<u32>,
    outcome: Arc<Outcome>,
    /// The index in the outcome's batch of the first of them.
    first_index: u32,
}

/// One record's share of a fate.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) fate: Arc<Fate>,
    pub(crate) index: u32,
    pub(crate) timestamp_ms: i64,
}

impl Fate {
    pub(crate) fn new(trouble: Arc<Trouble>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), settled: Condvar::new(), trouble })
    }

    fn lock(&self) -> MutexGuard<'_, FateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what became of these records, the first of which has `first_index` in the outcome's batch. The first word stands.
    pub(crate) fn settle(&self, outcome: &Arc<Outcome>, records: Range<u32>, first_index: u32) {
        let wakers = {
            let mut state = self.lock();
            if state.pieces.iter().any(|piece| piece.records.contains(&records.start)) {
                return;
            }
            state.pieces.push(Piece { records, outcome: Arc::clone(outcome), first_index });
            std::mem::take(&mut state.wakers)
        };
        self.settled.notify_all();
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// What stands in the way of what is not settled yet.
    pub(crate) fn trouble(&self) -> Option<Arc<str>> {
        self.trouble.words()
    }
}

impl FateState {
    fn read(&self, index: u32, timestamp_ms: i64) -> Option<Result<Placement, ProduceError>> {
        let piece = self.pieces.iter().find(|piece| piece.records.contains(&index))?;
        Some(piece.outcome.placement(index - piece.records.start + piece.first_index, timestamp_ms))
    }
}

impl Promise {
    /// The result, if it is known.
    pub(crate) fn result(&self) -> Option<Result<Placement, ProduceError>> {
        self.fate.lock().read(self.index, self.timestamp_ms)
    }

    /// Waits for a piece to be settled, at most this long. The result, if it is known then.
    pub(crate) fn wait_once(&self, timeout: Duration) -> Option<Result<Placement, ProduceError>> {
        let state = self.fate.lock();
        if let Some(result) = state.read(self.index, self.timestamp_ms) {
            return Some(result);
        }
        let state = self.fate.settled.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0;
        state.read(self.index, self.timestamp_ms)
    }

    /// The result, or this waker is woken when it may be known. `place` is where the waker was kept the last time.
    pub(crate) fn poll(&self, waker: &Waker, place: &mut Option<usize>) -> Option<Result<Placement, ProduceError>> {
        let mut state = self.fate.lock();
        if let Some(result) = state.read(self.index, self.timestamp_ms) {
            return Some(result);
        }
        let kept = place.and_then(|at| state.wakers.get_mut(at)).filter(|(index, _)| *index == self.index);
        if let Some((_, kept)) = kept {
            kept.clone_from(waker);
        } else {
            state.wakers.push((self.index, waker.clone()));
            *place = Some(state.wakers.len() - 1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use ottla_wire::ErrorCode;

    use super::*;

    fn spread() -> Outcome {
        Outcome {
            topic: "t".into(),
            partition: 0,
            append_time_ms: None,
            result: Ok(Landing::Spread(vec![
                Run { first_index: 0, partition: 2, base_offset: 70 },
                Run { first_index: 2, partition: 5, base_offset: 9 },
            ])),
        }
    }

    #[test]
    fn every_record_of_a_routed_batch_knows_its_true_place() {
        let outcome = spread();
        let places: Vec<_> = (0..4).map(|index| outcome.locate(index).unwrap()).collect();
        assert_eq!(places, [(2, Some(70)), (2, Some(71)), (5, Some(9)), (5, Some(10))]);
    }

    #[test]
    fn a_refused_record_gets_its_own_words_and_its_neighbours_learn_which_it_was() {
        let outcome = Outcome {
            result: Err(ProduceError::Refused {
                topic: "t".into(),
                partition: 0,
                code: ErrorCode::InvalidRecord,
                message: None,
                record_errors: [RecordError { index: 1, message: "no section".into() }].into(),
                in_doubt: false,
            }),
            ..spread()
        };
        assert!(
            matches!(outcome.locate(1), Err(ProduceError::InvalidRecord { message, .. }) if &*message == "no section")
        );
        let neighbour = outcome.locate(0).unwrap_err().to_string();
        assert_eq!(neighbour, "t-0: INVALID_RECORD: record 1 of its batch was refused: no section");
    }

    #[test]
    fn the_pieces_of_a_batch_that_was_split_are_known_one_by_one() {
        let fate = Fate::new(Arc::default());
        let promise = |index| Promise { fate: Arc::clone(&fate), index, timestamp_ms: 5 };
        let stored = |base_offset| Arc::new(Outcome { result: Ok(Landing::Whole { base_offset }), ..spread() });
        fate.settle(&stored(100), 3..6, 0);
        assert!(promise(2).result().is_none());
        assert_eq!(promise(4).result().unwrap().unwrap().offset, Some(101));
        fate.settle(&stored(40), 0..3, 0);
        fate.settle(&stored(7), 0..3, 0);
        assert_eq!(promise(2).result().unwrap().unwrap().offset, Some(42), "the first word stands");
    }
}
