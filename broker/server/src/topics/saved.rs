//! The producers of a topic written down, and how much of its partitions may go because of that.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_log::canary::{Canary, broken};
use ottla_log::{FlushError, StateWriteError};
use ottla_wire::{Offset, Uuid};

use super::{Topic, TopicTable};
use crate::partition::Partition;
use crate::partition::snapshot::TopicSnapshot;

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

/// How much of each partition may go: the producers of every batch below are on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved(Vec<Offset>);

impl Saved {
    /// The first offset of a partition that may not go.
    pub fn upto(&self, partition: i32) -> Offset {
        usize::try_from(partition).ok().and_then(|at| self.0.get(at)).copied().unwrap_or_default()
    }

    /// Writes down what is known now, so that batches may go. Blocks on the disk.
    pub fn now(topics: &TopicTable, topic: &Topic) -> Result<Self, Arc<SaveError>> {
        // What came from other topics may go once their snapshots have it.
        let senders: BTreeSet<Uuid> =
            topic.partitions.iter().flat_map(|it| it.intake().abroad.unsaved_senders().collect::<Vec<_>>()).collect();
        for sender in senders.iter().filter_map(|id| topics.get_by_id(id)) {
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
pub(crate) fn save(topic: &Topic) -> Result<Saved, Arc<SaveError>> {
    topic.saves.save(topic.saves.ask(), || save_known(topic))
}

fn save_known(topic: &Topic) -> Result<Saved, SaveError> {
    let is_held = topic.partitions.iter().any(|partition| partition.intake().held);
    if is_held && !broken(Canary::SaveWhileHeld) {
        return Err(SaveError::Held);
    }
    write_down(topic)
}

/// Writes the producers of a topic down as they are known. One call at a time: recovery, and [`save`]. A batch on its way
/// from the journal into several logs is in none of the snapshots until it is entered where it was addressed; so the logs
/// are to be read from its first part on.
pub(crate) fn write_down(topic: &Topic) -> Result<Saved, SaveError> {
    let Some(first) = topic.partitions.first() else { return Ok(Saved(Vec::new())) };
    // All ends before all snapshots: what one snapshot does not hold yet lies behind the end of every log it went to.
    let saved = Saved(topic.partitions.iter().map(|partition| partition.scan_from()).collect());
    let (snapshots, sent): (Vec<_>, Vec<_>) =
        topic.partitions.iter().zip(&saved.0).map(|(partition, upto)| partition.snapshot(*upto)).unzip();
    let snapshot = TopicSnapshot { topic_id: topic.id, partitions: snapshots };
    let written = (|| {
        // A snapshot must not know more than the logs will after a power cut.
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
    let marks = snapshot.partitions.iter().map(|partition| partition.journal_mark);
    for (((partition, upto), mark), sent) in topic.partitions.iter().zip(&saved.0).zip(marks).zip(sent) {
        if written.is_ok() {
            partition.note_saved_mark(mark);
        }
        let mut intake = partition.intake();
        if written.is_ok() {
            intake.saved_upto = intake.saved_upto.max(*upto);
            continue;
        }
        // The reason for the snapshot still stands.
        intake.unsaved.journaled = true;
        for target in &sent {
            intake.abroad.note_sent(target);
        }
    }
    written.map(|()| saved)
}

/// A topic that was deleted meanwhile needs no snapshot.
pub(crate) fn is_gone(topic: &Topic) -> bool {
    topic.partitions.first().is_none_or(|partition| partition.log.is_deleted())
}
