//! From time to time the producers are written down, and what the journal need not hold any more is cut off it.
//!
//! An entry may go when its batches are durable in their targets and the snapshot of the partition it was addressed to is
//! on the disk. So the order is: begin a new file of the journal, wait until all before it is carried out, take the
//! snapshots, sync the logs, write the snapshots, remove the old files.
//!
//! The snapshots are also what lets old records go: [`Saved`](crate::topics::Saved) says up to where.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ottla_log::JournalError;
use ottla_wire::Offset;

use super::Shared;
use crate::clock;
use crate::topics::Topic;
use crate::topics::saved::{is_gone, save};

/// How long a cut waits for the entries before it to be carried out; then it is left to the next time.
const CUT_PATIENCE: Duration = Duration::from_secs(5);
const CUT_POLL: Duration = Duration::from_millis(5);
/// Topics that are written down at the same time: each waits for the disk on its own.
const WRITERS_MAX: usize = 8;

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Topics that the journal waits for, or that have grown enough.
    Due,
    /// Everything that has changed: the broker stops.
    Everything,
}

impl Shared {
    /// The keeper's thread.
    pub(super) fn keep(&self) {
        while !self.stop.wait_or_nudge(self.keeper_rest()) {
            self.retry_held();
            self.checkpoint(Extent::Due);
            self.plugins.tell_unmentioned_failures();
        }
    }

    pub(super) fn checkpoint(&self, extent: Extent) {
        let cut = self.begin_cut().unwrap_or_else(|error| {
            tracing::warn!(%error, "the route journal is not cut");
            None
        });
        let mut topics = self.topics.all();
        for topic in &topics {
            self.expire(topic);
        }
        match self.topics.producers.take_forgotten() {
            0 => {}
            forgotten => {
                tracing::warn!(forgotten, "more producers than ottla.producer.ids.max: idle ones are forgotten");
            }
        }
        topics.retain(|topic| self.is_due(topic, extent));
        let all_saved = save_all(&topics);
        self.plugins.forget_topics(|id| self.topics.get_by_id(&id).is_none());
        let Some((journal, segment)) = self.journal.as_ref().zip(cut) else { return };
        if !all_saved || self.is_any_held() {
            // The next cut takes these along.
            self.journal_bytes.fetch_add(1, Ordering::Relaxed);
        } else if let Err(error) = journal.remove_before(segment) {
            tracing::warn!(%error, "old files of the route journal stay");
        }
    }

    /// Begins a new file of the journal and waits until everything before it is carried out. None: nothing to cut.
    fn begin_cut(&self) -> Result<Option<u64>, JournalError> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let bytes = self.journal_bytes.swap(0, Ordering::Relaxed);
        if bytes == 0 {
            return Ok(None);
        }
        let segment = journal.start_segment().inspect_err(|_| {
            self.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
        })?;
        let deadline = Instant::now() + CUT_PATIENCE;
        while self.applied.load(Ordering::Acquire) < segment {
            if self.stuck.load(Ordering::Acquire) || Instant::now() >= deadline || self.stop.wait(CUT_POLL) {
                // The next cut takes these along.
                self.journal_bytes.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            }
        }
        Ok(Some(segment))
    }

    fn is_due(&self, topic: &Topic, extent: Extent) -> bool {
        topic.partitions.iter().any(|partition| {
            let intake = partition.intake();
            if intake.held {
                return false;
            }
            let unsaved = intake.unsaved;
            // What is written down once can be overwritten on a full disk.
            let is_new = intake.saved_upto == Offset(0) && !intake.sequences.is_empty() && !partition.log.is_offline();
            let grown = unsaved.bytes >= self.options.unsaved_bytes_max;
            unsaved.journaled || grown || is_new || (extent == Extent::Everything && unsaved.bytes > 0)
        })
    }

    fn expire(&self, topic: &Topic) {
        let since_ms = clock::now_ms().saturating_sub(self.options.producer_expiration_ms);
        for partition in &topic.partitions {
            partition.intake().expire(since_ms);
        }
    }
}

/// Writes topics down; true when all are.
fn save_all(topics: &[Arc<Topic>]) -> bool {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(topic) = topics.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = save(topic)
                && !is_gone(topic)
            {
                failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(topic = %topic.name, %error, "the producers of a topic are not written down");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..topics.len().min(WRITERS_MAX) {
            scope.spawn(work);
        }
        work();
    });
    failed.into_inner() == 0
}
