//! What became of a record: one shared outcome per batch, two ways to hear of it.
//!
//! * A [`Delivery`] for a single record: await it, or block on it. It costs a reference count, not an allocation.
//! * A [`DeliverySink`] for bindings: one call per produce response with all tickets that it settles.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ottla_wire::ErrorCode;

use crate::error::ProduceError;

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
    /// Words about single records of a refused batch.
    pub(crate) record_errors: Vec<(u32, Arc<str>)>,
}

impl Outcome {
    /// A failure that holds for every record alike.
    pub(crate) fn failed(topic: Arc<str>, partition: i32, error: ProduceError) -> Arc<Self> {
        Arc::new(Self { topic, partition, append_time_ms: None, result: Err(error), record_errors: Vec::new() })
    }

    /// Partition and offset of one record.
    fn locate(&self, index: u32) -> Result<(i32, Option<i64>), ProduceError> {
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
            Err(error) => Err(self.error_of(index, error)),
        }
    }

    fn error_of(&self, index: u32, error: &ProduceError) -> ProduceError {
        let code = match error {
            ProduceError::Refused { code, .. } if !self.record_errors.is_empty() => *code,
            _ => return error.clone(),
        };
        match self.record_errors.iter().find(|(at, _)| *at == index) {
            Some((_, message)) => ProduceError::InvalidRecord {
                topic: Arc::clone(&self.topic),
                partition: self.partition,
                code,
                message: Arc::clone(message),
            },
            None => ProduceError::Refused {
                topic: Arc::clone(&self.topic),
                partition: self.partition,
                code,
                message: Some(Arc::from("another record of the same batch was refused")),
            },
        }
    }

    fn placement(&self, index: u32, timestamp_ms: i64) -> Result<Placement, ProduceError> {
        let (partition, offset) = self.locate(index)?;
        let timestamp_ms = self.append_time_ms.unwrap_or(timestamp_ms);
        Ok(Placement { topic: Arc::clone(&self.topic), partition, offset, timestamp_ms })
    }
}

/// What is shared by the deliveries of one batch (or by the one delivery of a record that waits for its topic).
#[derive(Debug, Default)]
pub(crate) struct Fate {
    state: Mutex<FateState>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct FateState {
    /// The outcome and the index in its batch of this fate's record 0.
    outcome: Option<(Arc<Outcome>, u32)>,
    wakers: Vec<Waker>,
}

impl Fate {
    fn lock(&self) -> MutexGuard<'_, FateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what became of the batch. The first word stands.
    pub(crate) fn settle(&self, outcome: &Arc<Outcome>, first_index: u32) {
        let wakers = {
            let mut state = self.lock();
            if state.outcome.is_some() {
                return;
            }
            state.outcome = Some((Arc::clone(outcome), first_index));
            std::mem::take(&mut state.wakers)
        };
        self.settled.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The promise that `send` returns: await it, or [`wait`](Self::wait) for it. Dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "a delivery that nobody looks at hides the failure of its record"]
pub struct Delivery {
    fate: Arc<Fate>,
    index: u32,
    timestamp_ms: i64,
    /// Where in the fate's list our waker is kept, so that polling again replaces it.
    waker: Option<usize>,
}

impl Delivery {
    pub(crate) fn new(fate: Arc<Fate>, index: u32, timestamp_ms: i64) -> Self {
        Self { fate, index, timestamp_ms, waker: None }
    }

    /// The result, if it is known.
    pub fn result(&self) -> Option<Result<Placement, ProduceError>> {
        self.read(&self.fate.lock())
    }

    /// Blocks this thread until the result is known or the time is up. Not for async code.
    pub fn wait(&self, timeout: Duration) -> Option<Result<Placement, ProduceError>> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.fate.lock();
        loop {
            if let Some(result) = self.read(&state) {
                return Some(result);
            }
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::from_hours(1),
            };
            if left.is_zero() {
                return None;
            }
            state = self.fate.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn read(&self, state: &FateState) -> Option<Result<Placement, ProduceError>> {
        let (outcome, first_index) = state.outcome.as_ref()?;
        Some(outcome.placement(first_index + self.index, self.timestamp_ms))
    }
}

impl Future for Delivery {
    type Output = Result<Placement, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fate = Arc::clone(&self.fate);
        let mut state = fate.lock();
        if let Some(result) = self.read(&state) {
            return Poll::Ready(result);
        }
        if let Some(kept) = self.waker.and_then(|at| state.wakers.get_mut(at)) {
            kept.clone_from(cx.waker());
        } else {
            state.wakers.push(cx.waker().clone());
            self.waker = Some(state.wakers.len() - 1);
        }
        Poll::Pending
    }
}

/// A record's claim on an [`Ack`]: the caller's token, kept until the record's batch is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) token: u64,
    /// Index in the batch.
    pub(crate) index: u32,
    pub(crate) timestamp_ms: i64,
}

/// Hears of records sent with a ticket, in groups: one call per produce response, however many records it settles.
///
/// Called on a runtime thread: hand over and return, do not block.
pub trait DeliverySink: Send + Sync {
    /// These records are settled, for good or ill.
    fn delivered(&self, batches: Vec<AckBatch>);
}

/// The settled tickets of one batch.
#[derive(Debug)]
pub struct AckBatch {
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) tickets: Vec<Ticket>,
}

/// One settled ticket.
#[derive(Debug)]
pub struct Ack {
    /// The number given to `send_ticket`.
    pub token: u64,
    /// The record's timestamp, or the broker's.
    pub timestamp_ms: i64,
    /// Partition, and offset if told; or why not.
    pub result: Result<(i32, Option<i64>), ProduceError>,
}

impl AckBatch {
    /// The topic of all of them.
    pub fn topic(&self) -> &Arc<str> {
        &self.outcome.topic
    }

    /// The addressed partition of all of them (-1 if the topic never became known).
    pub fn partition(&self) -> i32 {
        self.outcome.partition
    }

    /// How many records this settles.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether it settles none.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// The error of the batch, if it failed; single records may know better, see [`Ack::result`].
    pub fn error(&self) -> Option<&ProduceError> {
        self.outcome.result.as_ref().err()
    }

    /// The code of that error, if it came from the broker.
    pub fn code(&self) -> Option<ErrorCode> {
        use crate::error::Classify;
        self.error().and_then(Classify::code)
    }

    /// One after another, in the order of sending.
    pub fn iter(&self) -> impl Iterator<Item = Ack> + '_ {
        self.tickets.iter().map(|ticket| Ack {
            token: ticket.token,
            timestamp_ms: self.outcome.append_time_ms.unwrap_or(ticket.timestamp_ms),
            result: self.outcome.locate(ticket.index),
        })
    }
}

#[cfg(test)]
mod tests {
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
            record_errors: Vec::new(),
        }
    }

    #[test]
    fn every_record_of_a_routed_batch_knows_its_true_place() {
        let outcome = spread();
        let places: Vec<_> = (0..4).map(|index| outcome.locate(index).unwrap()).collect();
        assert_eq!(places, [(2, Some(70)), (2, Some(71)), (5, Some(9)), (5, Some(10))]);
    }

    #[test]
    fn a_refused_record_gets_its_own_words_and_its_neighbours_learn_why() {
        let outcome = Outcome {
            result: Err(ProduceError::Refused {
                topic: "t".into(),
                partition: 0,
                code: ErrorCode::InvalidRecord,
                message: None,
            }),
            record_errors: vec![(1, "no section".into())],
            ..spread()
        };
        assert!(
            matches!(outcome.locate(1), Err(ProduceError::InvalidRecord { message, .. }) if &*message == "no section")
        );
        assert!(
            matches!(outcome.locate(0), Err(ProduceError::Refused { message: Some(m), .. }) if m.contains("another"))
        );
    }

    #[tokio::test]
    async fn a_delivery_can_be_awaited_before_and_after_it_is_settled() {
        let fate = Arc::new(Fate::default());
        let early = Delivery::new(Arc::clone(&fate), 1, 5);
        assert!(early.result().is_none());
        assert!(early.wait(Duration::ZERO).is_none());
        let waiting = tokio::spawn(early);
        tokio::task::yield_now().await;
        fate.settle(&Arc::new(Outcome { result: Ok(Landing::Whole { base_offset: 40 }), ..spread() }), 2);
        fate.settle(&Arc::new(spread()), 0);
        assert_eq!(waiting.await.unwrap().unwrap().offset, Some(43));
        let late = Delivery::new(fate, 0, 5);
        assert_eq!(late.wait(Duration::ZERO).unwrap().unwrap().offset, Some(42));
    }
}
