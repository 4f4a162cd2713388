//! Two ways to hear what became of a record:
//!
//! * A [`Delivery`] for a single record: await it, or block on it. It costs a reference count, not an allocation.
//! * A [`DeliverySink`] for bindings: one call per produce response with all tickets that it settles.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ottla_wire::ErrorCode;

pub use crate::core::outcome::Placement;
use crate::core::outcome::{Outcome, Promise, Ticket};
use crate::error::{Classify, ProduceError};

/// The promise that `send` returns: await it, or [`wait`](Self::wait) for it. Dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "a delivery that is dropped unseen hides the failure of its record"]
pub struct Delivery {
    promise: Promise,
    /// Where our waker is kept, so that polling again replaces it.
    waker: Option<usize>,
}

impl Delivery {
    pub(crate) fn new(promise: Promise) -> Self {
        Self { promise, waker: None }
    }

    /// The result, if it is known.
    pub fn result(&self) -> Option<Result<Placement, ProduceError>> {
        self.promise.result()
    }

    /// Blocks this thread until the result is known or the time is up. Not for async code.
    pub fn wait(&self, timeout: Duration) -> Option<Result<Placement, ProduceError>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::from_hours(1),
            };
            let result = self.promise.wait_once(left);
            if result.is_some() || left.is_zero() {
                return result;
            }
        }
    }

    /// What keeps the producer from delivering at present, for a wait that ended without a result.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.promise.fate.trouble()
    }
}

impl Future for Delivery {
    type Output = Result<Placement, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { promise, waker } = &mut *self;
        promise.poll(cx.waker(), waker).map_or(Poll::Pending, Poll::Ready)
    }
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
    use crate::core::outcome::{Fate, Landing};

    #[tokio::test]
    async fn a_delivery_can_be_awaited_before_and_after_it_is_settled() {
        let fate = Fate::new(Arc::default());
        let delivery = |index| Delivery::new(Promise { fate: Arc::clone(&fate), index, timestamp_ms: 5 });
        let early = delivery(1);
        assert!(early.result().is_none());
        assert!(early.wait(Duration::ZERO).is_none());
        let waiting = tokio::spawn(early);
        tokio::task::yield_now().await;
        let result = Ok(Landing::Whole { base_offset: 40 });
        let outcome = Arc::new(Outcome { topic: "t".into(), partition: 0, append_time_ms: None, result });
        fate.settle(&outcome, 0..u32::MAX, 2);
        assert_eq!(waiting.await.unwrap().unwrap().offset, Some(43));
        assert_eq!(delivery(0).wait(Duration::ZERO).unwrap().unwrap().offset, Some(42));
    }
}
