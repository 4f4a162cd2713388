//! The way of batches from the check to the append, for one addressed partition: first in, first out.
//!
//! A partition whose batches no plugin looks at has an empty lane and appends under its lock at once. As soon as a batch
//! has to go through a plugin, or an earlier one has left for another partition and is not there yet, later ones queue
//! up behind it, those that stay as well as those that leave.

use std::collections::VecDeque;

use bytes::BytesMut;
use ottla_front::Charge;
use ottla_wire::record::BatchHeader;
use tokio::sync::oneshot;

use super::{Place, Refusal};

/// A batch that waits for the stage.
#[derive(Debug)]
pub(crate) struct Job {
    /// The batch, checked.
    pub(crate) batch: BytesMut,
    /// Its header.
    pub(crate) header: BatchHeader,
    /// Its memory.
    pub(crate) charge: Charge,
    /// Who wants to know where it went. Nobody, when its connection is gone; it goes its way all the same.
    pub(crate) reply: oneshot::Sender<Result<Place, Refusal>>,
}

/// The batches addressed to one partition that are not appended yet.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Those that wait for the stage.
    pub(crate) waiting: VecDeque<Job>,
    /// A worker has the lane, or will get it: nobody else takes from `waiting` or goes past it.
    pub(crate) busy: bool,
    /// Those behind the stage that wait for their turn in the order of the route journal.
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

    /// The next batch for the worker that has the lane; with none left the lane is given back.
    pub(crate) fn pop(&mut self) -> Option<Job> {
        let job = self.waiting.pop_front();
        self.busy = job.is_some();
        job
    }
}
