//! The batches of one partition that cannot be appended at once: first in, first out.
//!
//! A partition whose batches no plugin looks at has an empty lane and appends under its lock at once. As soon as a batch
//! has to go through a plugin, or an earlier one has left for another partition and is not there yet, later ones queue
//! up behind it, those that stay as well as those that leave. The workers of the route take them out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use ottla_front::{Charge, Memory, Use};
use ottla_log::canary::{Canary, broken};
use ottla_wire::record::BatchHeader;

use super::TicketStub;

/// A batch that waits for the plugin.
#[derive(Debug)]
pub(crate) struct Job {
    /// The batch, checked.
    pub(crate) batch: BytesMut,
    /// Its header.
    pub(crate) header: BatchHeader,
    /// Its memory.
    pub(crate) charge: Charge,
    /// Tells its producer where it went. With the connection gone the batch goes its way all the same.
    pub(crate) stub: TicketStub,
}

/// Batches that wait for a plugin.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct WaitingForPlugin {
    /// Number of batches.
    pub(crate) batches: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
}

/// The batches addressed to one partition that are not appended yet.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Those that wait for the plugin.
    waiting: VecDeque<Job>,
    /// A worker has the lane, or will get it: no other one takes from `waiting` or goes past it.
    busy: bool,
    /// Those behind the plugin that wait for their turn in the order of the route journal.
    pub(crate) routed: usize,
}

impl Lane {
    /// Whether a batch may be appended at once.
    pub(crate) fn is_free(&self) -> bool {
        !self.busy && self.routed == 0
    }

    /// Puts a batch at the end. True: the lane needs a worker.
    pub(crate) fn push(&mut self, job: Job) -> bool {
        self.waiting.push_back(job);
        !std::mem::replace(&mut self.busy, true)
    }

    /// What waits for the plugin.
    pub(crate) fn waiting_for_plugin(&self) -> WaitingForPlugin {
        WaitingForPlugin { batches: self.waiting.len(), bytes: self.waiting.iter().map(|job| job.batch.len()).sum() }
    }

    /// The next batch for the worker that has the lane; with none left the lane is given back.
    pub(super) fn pop(&mut self) -> Option<Job> {
        let job = self.waiting.pop_front();
        self.busy = job.is_some();
        job
    }
}

/// Bytes of the batches that wait in lanes, over all topics. A request may be answered, at its timeout, while its batch
/// still waits: what bounds requests does not bound this.
#[derive(Debug)]
pub(crate) struct LaneBudget {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl LaneBudget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: AtomicUsize::new(0) }
    }
}

/// What the lanes of one topic take of the budget.
#[derive(Debug)]
pub(crate) struct LaneShare {
    budget: Arc<LaneBudget>,
    bytes: AtomicUsize,
}

impl LaneShare {
    pub(crate) fn of(budget: &Arc<LaneBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: AtomicUsize::new(0) }
    }

    /// Takes room for a batch. A topic may fill as much as it leaves free, so that one topic never fills all; one that has
    /// nothing there always gets a batch in, as long as there is memory.
    pub(super) fn take(&self, memory: &Arc<Memory>, bytes: usize) -> Option<Charge> {
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let all = self.budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        let free = self.budget.bytes_max.saturating_sub(all);
        let shares = own + bytes <= free || (broken(Canary::NoLaneShare) && bytes <= free);
        let charge = (shares || own == 0).then(|| memory.take(Use::Lanes, 0, bytes)).flatten();
        if charge.is_none() {
            self.give_back(bytes);
        }
        charge
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_fills_half_of_the_lanes_and_every_other_one_gets_a_batch_in() {
        let memory = Memory::new(1 << 20);
        let budget = Arc::new(LaneBudget::new(100));
        let topics: Vec<LaneShare> = (0..20).map(|_| LaneShare::of(&budget)).collect();
        let fill = |topic: &LaneShare| std::iter::from_fn(|| topic.take(&memory, 10)).count();
        let taken: Vec<usize> = topics.iter().map(fill).collect();
        assert_eq!(taken[..3], [5, 3, 1], "as much as each leaves free");
        assert!(
            taken[3..].iter().all(|batches| *batches == 1),
            "the floor of a topic, although nothing is left: {taken:?}"
        );
        topics[0].give_back(50);
        assert_eq!(fill(&topics[0]), 1, "the others have more than all");
    }
}
