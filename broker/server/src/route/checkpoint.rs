//! From time to time the producers are written down, and what the journal need not hold any more is cut off it.
//!
//! An entry may go when its batches are durable in their targets and the picture of the partition it was addressed to is
//! on the disk. So the order is: begin a new file of the journal, wait until all before it is carried out, take the
//! pictures, sync the logs, write the pictures, remove the old files.
//!
//! The pictures are also what lets old records go: [`Saved`] says up to where.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ottla_log::canary::{Canary, broken};
use ottla_log::{FlushError, JournalError, StateWriteError};
use ottla_wire::Offset;

use super::Shared;
use crate::clock;
use crate::partition::Partition;
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
    /// They are not known yet.
    #[error("what the route journal has for the topic is not carried out yet, so its producers are not known")]
    Held,
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

/// How much of each partition may go: the producers of every batch below are on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved(Vec<Offset>);

impl Saved {
    /// The first offset of a partition that may not go.
    pub fn upto(&self, partition: i32) -> Offset {
        usize::try_from(partition).ok().and_then(|at| self.0.get(at)).copied().unwrap_or_default()
    }

    /// Writes down what is known now, so that batches may go. Blocks on the disk.
    pub fn now(topic: &Topic) -> Result<Self, Arc<SaveError>> {
        let senders =
            || topic.partitions.iter().flat_map(|it| it.intake().abroad.unsaved_senders().collect::<Vec<_>>());
        // What came from other topics may go once their snapshots have it.
        let senders: BTreeMap<_, _> = senders().map(|sender| (sender.id, sender)).collect();
        for sender in senders.into_values() {
            save(&sender)?;
        }
        save(topic)
    }

    /// What was written down last: that much may go where nothing can be written now.
    pub fn last(topic: &Topic) -> Self {
        let upto = |partition: &Arc<Partition>| {
            let intake = partition.intake();
            if intake.held {
                Offset(0)
            } else if intake.sequences.is_empty() {
                // There is nothing to write down.
                intake.entered_upto(&partition.log)
            } else {
                intake.saved_upto
            }
        };
        Self(topic.partitions.iter().map(upto).collect())
    }
}

/// Writes the producers of a topic down, unless they are not known yet. Callers that come during a save share the next.
pub(super) fn save(topic: &Topic) -> Result<Saved, Arc<SaveError>> {
    topic.saves.save(topic.saves.ask(), || save_known(topic))
}

fn save_known(topic: &Topic) -> Result<Saved, SaveError> {
    let is_held = topic.partitions.iter().any(|partition| partition.intake().held);
    if is_held && !broken(Canary::SaveWhileHeld) {
        return Err(SaveError::Held);
    }
    write_down(topic)
}

/// Writes the producers of a topic down as they are known. One call at a time: recovery, and [`save`]. A batch on its way from the journal into several logs is in
/// none of the pictures until it is entered where it was addressed; so the logs are to be read from its first part on.
pub(super) fn write_down(topic: &Topic) -> Result<Saved, SaveError> {
    let Some(first) = topic.partitions.first() else { return Ok(Saved(Vec::new())) };
    // All ends before all pictures: what one picture does not hold yet lies behind the end of every log it went to.
    let saved = Saved(topic.partitions.iter().map(|partition| partition.scan_from()).collect());
    let (pictures, sent): (Vec<_>, Vec<_>) =
        topic.partitions.iter().zip(&saved.0).map(|(partition, upto)| partition.picture(*upto)).unzip();
    let snapshot = TopicSnapshot { topic_id: topic.id, partitions: pictures };
    let written = (|| {
        // A picture must not know more than the logs will after a power cut.
        for partition in topic.partitions.iter().chain(sent.iter().flatten()) {
            match partition.log.flush() {
                // What was sent to a topic that is gone went with it.
                Err(_) if partition.log.is_deleted() && partition.topic_id != topic.id => {}
                flushed => _ = flushed?,
            }
        }
        snapshot.write(&first.log)?;
        Ok(())
    })();
    let marks = snapshot.partitions.iter().map(|picture| picture.journal_mark);
    for (((partition, upto), mark), sent) in topic.partitions.iter().zip(&saved.0).zip(marks).zip(sent) {
        if written.is_ok() {
            partition.note_saved_mark(mark);
        }
        let mut intake = partition.intake();
        if written.is_ok() {
            intake.saved_upto = intake.saved_upto.max(*upto);
            continue;
        }
        // Whatever it was for still has to be done.
        intake.unsaved.journaled = true;
        for target in &sent {
            intake.abroad.note_sent(target);
        }
    }
    written.map(|()| saved)
}

/// A topic that was deleted meanwhile needs no picture.
fn is_gone(topic: &Topic) -> bool {
    topic.partitions.first().is_none_or(|partition| partition.log.is_deleted())
}
