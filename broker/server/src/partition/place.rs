//! Where the records of a batch went: as a whole to the partition it was addressed to, or split over several.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_stage::Run;
use ottla_wire::{Offset, Uuid};
use tokio::sync::watch;

use super::Refusal;

/// Where a batch that was taken went, or will go.
#[derive(Debug, Clone)]
pub enum Place {
    /// It is in the log.
    Landed(Landed),
    /// It waits for its turn behind the route journal; the ticket will say.
    Waiting(Ticket),
}

/// Where the records of a batch are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landed {
    /// In one piece on the addressed partition, from this offset on.
    Here(Offset),
    /// Moved by a plugin.
    Moved(Arc<Moved>),
    /// Moved by a plugin, to more partitions than are [remembered](Self::remembered).
    Scattered {
        /// The topics of these partitions.
        topics: Arc<[Uuid]>,
    },
}

/// Most bytes that are remembered of where one batch went.
pub const PLACE_BYTES_MAX: usize = 1024;

impl Landed {
    /// As much of it as is remembered for a batch that comes again: at most [`PLACE_BYTES_MAX`]. Of a batch in too many
    /// runs the targets are left, so that its producer hears that it was taken, once that is durable, but not where each
    /// record is; of one with too many targets their topics.
    #[must_use]
    pub fn remembered(self) -> Self {
        let Self::Moved(moved) = &self else { return self };
        let (targets_bytes, runs_bytes) = (size_of_val(&*moved.targets), size_of_val(&*moved.runs));
        if targets_bytes + runs_bytes <= PLACE_BYTES_MAX {
            return self;
        }
        if targets_bytes <= PLACE_BYTES_MAX {
            return Self::Moved(Arc::new(Moved { targets: moved.targets.clone(), runs: Box::default() }));
        }
        let topics: BTreeSet<Uuid> = moved.targets.iter().map(|target| target.topic_id).collect();
        Self::Scattered { topics: topics.into_iter().collect() }
    }
}

/// How the records of one batch were spread: in batch order, run by run, over batches of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The batches that were appended, one per partition.
    pub targets: Box<[Target]>,
    /// Runs of consecutive records with the same target, in batch order; none where they are not remembered.
    pub runs: Box<[Run]>,
}

/// The part of a batch that one partition got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The topic.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// How many records.
    pub records: i32,
    /// Offset of the first of them; the others follow without a gap.
    pub base_offset: Offset,
}

/// Records of a batch that are consecutive in a partition, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedRun {
    /// The topic.
    pub topic_id: Uuid,
    /// Index in the batch of the first of them.
    pub first_index: i32,
    /// How many records.
    pub records: i32,
    /// The partition.
    pub partition: i32,
    /// Offset of the first of them.
    pub base_offset: Offset,
}

impl Moved {
    /// Every run with its offsets, in batch order.
    pub fn placed_runs(&self) -> Vec<PlacedRun> {
        let mut next: Vec<Offset> = self.targets.iter().map(|target| target.base_offset).collect();
        let mut first_index = 0;
        let mut placed = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let records = run.records as i32;
            if let (Some(target), Some(offset)) =
                (self.targets.get(run.target as usize), next.get_mut(run.target as usize))
            {
                let Target { topic_id, partition, .. } = *target;
                placed.push(PlacedRun { topic_id, first_index, records, partition, base_offset: *offset });
                *offset = offset.advance(i64::from(records));
            }
            first_index += records;
        }
        placed
    }
}

/// What became of a batch that had to wait: where it is, or why it is nowhere.
pub type Outcome = Result<Landed, Arc<Refusal>>;

/// Tells what becomes of a batch that waits, to its producer and to later requests that send it again.
#[derive(Debug, Clone)]
pub struct Ticket(watch::Receiver<Option<Outcome>>);

/// Fills in a [`Ticket`].
#[derive(Debug)]
pub struct TicketStub(watch::Sender<Option<Outcome>>);

/// A ticket and the stub that fills it in.
pub fn ticket() -> (TicketStub, Ticket) {
    let (stub, ticket) = watch::channel(None);
    (TicketStub(stub), Ticket(ticket))
}

impl TicketStub {
    /// Says what became of the batch.
    pub fn settle(self, outcome: Outcome) {
        self.0.send_replace(Some(outcome));
    }
}

impl Ticket {
    /// Waits for what becomes of the batch. A stub that was dropped means that the broker stops.
    pub async fn outcome(mut self) -> Outcome {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(Arc::new(Refusal::Stopping))),
            Err(_) => Err(Arc::new(Refusal::Stopping)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_get_the_offsets_that_their_records_have() {
        let topic_id = Uuid::nil();
        let target = |partition, records, base| Target { topic_id, partition, records, base_offset: Offset(base) };
        let run = |records, target| Run { records, target };
        let moved = Moved {
            targets: Box::new([target(4, 3, 100), target(0, 2, 7)]),
            runs: Box::new([run(2, 0), run(1, 1), run(1, 0), run(1, 1)]),
        };
        let placed: Vec<_> = moved
            .placed_runs()
            .iter()
            .map(|run| (run.first_index, run.records, run.partition, run.base_offset.get()))
            .collect();
        assert_eq!(placed, [(0, 2, 4, 100), (2, 1, 0, 7), (3, 1, 4, 102), (4, 1, 0, 8)]);
    }

    #[test]
    fn what_is_remembered_of_a_batch_is_bounded() {
        let moved = |targets: i32, runs: u32| {
            let target = |partition| Target {
                topic_id: Uuid::from_u128(u128::from(partition % 2 == 0)),
                partition,
                records: 1,
                base_offset: Offset(0),
            };
            Landed::Moved(Arc::new(Moved {
                targets: (0..targets).map(target).collect(),
                runs: (0..runs).map(|run| Run { records: 1, target: run % targets as u32 }).collect(),
            }))
        };
        assert_eq!(moved(16, 64).remembered(), moved(16, 64));
        assert_eq!(moved(16, 1_000_000).remembered(), moved(16, 0));
        let topics = Arc::new([Uuid::from_u128(0), Uuid::from_u128(1)]);
        assert_eq!(moved(1000, 1000).remembered(), Landed::Scattered { topics });
        assert_eq!(Landed::Here(Offset(7)).remembered(), Landed::Here(Offset(7)));
    }

    #[tokio::test]
    async fn everybody_with_the_ticket_hears_the_outcome() {
        let (stub, ticket) = ticket();
        let asked_again = ticket.clone();
        stub.settle(Ok(Landed::Here(Offset(5))));
        assert_eq!(ticket.outcome().await.unwrap(), Landed::Here(Offset(5)));
        assert_eq!(asked_again.outcome().await.unwrap(), Landed::Here(Offset(5)));
    }

    #[tokio::test]
    async fn a_stop_answers_those_who_wait() {
        let (stub, ticket) = ticket();
        drop(stub);
        assert!(matches!(*ticket.outcome().await.unwrap_err(), Refusal::Stopping));
    }
}
