//! From time to time the producers are written down, and what the journal need not hold any more is cut off it.
//!
//! An entry may go when its batches are durable in their targets and the picture of the partition it was addressed to is
//! on the disk. So the order is: begin a new file of the journal, wait until all before it is carried out, take the
//! pictures, sync the logs, write the pictures, remove the old files.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ottla_log::{FlushError, JournalError, StateWriteError};

use super::Shared;
use crate::clock;
use crate::partition::snapshot::TopicSnapshot;
use crate::topics::Topic;

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

/// Why the producers of a topic were not written down.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// A log could not be made durable.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] StateWriteError),
}

impl Shared {
    /// The keeper's thread.
    pub(super) fn keep(&self) {
        while !self.stop.wait_or_nudge(self.keeper_rest()) {
            self.retry_held();
            self.checkpoint(Extent::Due);
        }
    }

    pub(super) fn checkpoint(&self, extent: Extent) {
        let cut = self.begin_cut().unwrap_or_else(|error| {
            tracing::warn!(%error, "the route journal is not cut");
            None
        });
        let topics: Vec<_> = self.topics.all().into_iter().filter(|topic| self.is_due(topic, extent)).collect();
        let all_saved = self.save_all(&topics);
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
            let grown = unsaved.bytes >= self.options.unsaved_bytes_max;
            unsaved.journaled || grown || (extent == Extent::Everything && unsaved.bytes > 0)
        })
    }

    /// Writes topics down; true when all are.
    fn save_all(&self, topics: &[Arc<Topic>]) -> bool {
        let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            while let Some(topic) = topics.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = save(topic, &self.applying)
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

    fn expire(&self, topic: &Topic) {
        let since_ms = clock::now_ms().saturating_sub(self.options.producer_expiration_ms);
        for partition in &topic.partitions {
            partition.intake().expire(since_ms);
        }
    }
}

/// Writes the producers of a topic down. `applying` is held by whoever is between the append of a batch's parts and the
/// entry of what became of it: a picture taken in between would know neither, while the logs already end behind the parts,
/// and a start would not look for them there.
pub(super) fn save(topic: &Topic, applying: &Mutex<()>) -> Result<(), SaveError> {
    let Some(first) = topic.partitions.first() else { return Ok(()) };
    // All ends before all pictures: what one picture does not hold yet lies behind the end of every log it went to.
    let still = applying.lock().unwrap_or_else(PoisonError::into_inner);
    let ends: Vec<_> = topic.partitions.iter().map(|partition| partition.log.end_offset()).collect();
    let pictures = topic.partitions.iter().zip(ends).map(|(partition, end)| partition.picture(end));
    let snapshot = TopicSnapshot { topic_id: topic.id, partitions: pictures.collect() };
    drop(still);
    let saved = (|| {
        // A picture must not know more than the log will after a power cut.
        for partition in &topic.partitions {
            partition.log.flush()?;
        }
        snapshot.write(&first.log)?;
        Ok(())
    })();
    if saved.is_err() {
        for partition in &topic.partitions {
            // Whatever it was for still has to be done.
            partition.intake().unsaved.journaled = true;
        }
    }
    saved
}

/// A topic that was deleted meanwhile needs no picture.
fn is_gone(topic: &Topic) -> bool {
    topic.partitions.first().is_none_or(|partition| partition.log.is_deleted())
}
