//! The partitions of one topic. Their producers are saved together, in one snapshot: when, how, and how much of the partitions
//! may go because of that.

use std::collections::BTreeSet;
use std::iter::Flatten;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ottla_front::{Memory, Use};
use ottla_log::canary::{Canary, broken};
use ottla_log::{FlushError, StateWriteError};
use ottla_wire::{Offset, Uuid};

use super::Partition;
use super::list::{PartitionList, Parts};
use super::snapshot::{Saves, TopicSnapshot};

/// Topics that are saved at the same time: each waits for the disk on its own.
const SAVES_AT_ONCE: usize = 8;

/// Why the producers of a topic were not saved.
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
}

/// Which topics are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Those that the journal waits for, and those that have grown by so many bytes.
    Grown(u64),
    /// All that have changed: the broker stops.
    Changed,
}

/// The partitions of one topic, by index.
#[derive(Debug)]
pub struct PartitionSet {
    topic_id: Uuid,
    all: PartitionList,
    saves: Saves<Saved, SaveError>,
    /// What a snapshot is charged to for as long as it is in memory.
    memory: Arc<Memory>,
}

impl PartitionSet {
    /// The partitions of a topic, in the order of their indexes.
    pub(crate) fn new(topic_id: Uuid, all: Vec<Arc<Partition>>, memory: &Arc<Memory>) -> Self {
        Self { topic_id, all: all.into(), saves: Saves::default(), memory: Arc::clone(memory) }
    }

    /// The partition with this index.
    pub fn at(&self, index: i32) -> Option<&Arc<Partition>> {
        usize::try_from(index).ok().and_then(|index| self.all.get(index))
    }

    fn is_deleted(&self) -> bool {
        self.all.first().is_none_or(|partition| partition.log.is_deleted())
    }
}

impl Deref for PartitionSet {
    type Target = PartitionList;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<'a> IntoIterator for &'a PartitionSet {
    type Item = &'a Arc<Partition>;
    type IntoIter = Flatten<Parts<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

impl PartitionSet {
    /// Saves the producers of the topic, unless they are not known yet. Callers that come during a save share the next.
    /// Blocks on the disk.
    pub(crate) fn save(&self) -> Result<Saved, Arc<SaveError>> {
        self.saves.save(self.saves.ask(), || self.save_known())
    }

    fn save_known(&self) -> Result<Saved, SaveError> {
        let is_held = self.iter().any(|partition| partition.intake().held.is_some());
        if is_held && !broken(Canary::SaveWhileHeld) {
            return Err(SaveError::Held);
        }
        self.write_down()
    }

    /// Writes the producers of the topic down as they are known. One call at a time: recovery, and [`save`](Self::save).
    /// A batch on its way from the journal into several logs is in none of the snapshots until it is entered where it was
    /// addressed; so the logs are to be read from its first part on.
    pub(crate) fn write_down(&self) -> Result<Saved, SaveError> {
        let Some(first) = self.first() else { return Ok(Saved(Vec::new())) };
        // All ends before all snapshots: what one snapshot does not hold yet lies behind the end of every log it went to.
        let saved = Saved(self.iter().map(|partition| partition.scan_from()).collect());
        let (partitions, sent): (Vec<_>, Vec<_>) =
            self.iter().zip(&saved.0).map(|(partition, upto)| partition.snapshot(*upto)).unzip();
        let snapshot = TopicSnapshot { topic_id: self.topic_id, partitions };
        let mut charge = self.memory.charge(Use::Snapshots);
        charge.set(snapshot.memory_bytes());
        let written = (|| {
            // A snapshot must not know more than the logs will after a power cut.
            for partition in self.iter().chain(sent.iter().flatten()) {
                match partition.log.flush() {
                    // What was sent to a topic that is gone went with it.
                    Err(_) if partition.log.is_deleted() && partition.topic_id != self.topic_id => {}
                    flushed => _ = flushed?,
                }
            }
            snapshot.write(&first.log)?;
            Ok(())
        })();
        let marks = snapshot.partitions.iter().map(|partition| partition.journal_mark);
        for (((partition, upto), mark), sent) in self.iter().zip(&saved.0).zip(marks).zip(sent) {
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

    /// What was saved last: that much may go where nothing can be written now.
    pub fn last_saved(&self) -> Saved {
        let upto = |partition: &Arc<Partition>| {
            let intake = partition.intake();
            if intake.held.is_some() {
                Offset(0)
            } else if intake.sequences.is_empty() {
                // There is nothing to save.
                intake.entered_upto(&partition.log)
            } else {
                intake.saved_upto
            }
        };
        Saved(self.iter().map(upto).collect())
    }

    /// The other topics whose snapshots do not have what they sent here.
    pub(crate) fn unsaved_senders(&self) -> BTreeSet<Uuid> {
        self.iter().flat_map(|it| it.intake().abroad.unsaved_senders().collect::<Vec<_>>()).collect()
    }

    /// Forgets the producers that wrote nothing since `since_ms`.
    pub(crate) fn expire(&self, since_ms: i64) {
        for partition in self {
            partition.intake().expire(since_ms);
        }
    }

    fn is_due(&self, due: Due) -> bool {
        self.iter().any(|partition| {
            let intake = partition.intake();
            if intake.held.is_some() {
                return false;
            }
            let unsaved = intake.unsaved;
            // A snapshot that was written once can be overwritten on a full disk.
            let is_new = intake.saved_upto == Offset(0) && !intake.sequences.is_empty() && !partition.log.is_offline();
            let has_grown = match due {
                Due::Grown(bytes) => unsaved.bytes >= bytes,
                Due::Changed => unsaved.bytes > 0,
            };
            unsaved.journaled || is_new || has_grown
        })
    }
}

/// Saves the topics that are due; true when all of them are.
pub(crate) fn save_due<'a>(topics: impl IntoIterator<Item = &'a PartitionSet>, due: Due) -> bool {
    let topics: Vec<_> = topics.into_iter().filter(|topic| topic.is_due(due)).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(topic) = topics.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = topic.save()
                && !topic.is_deleted()
            {
                failed.fetch_add(1, Ordering::Relaxed);
                let name = topic.first().map_or("", |partition| &*partition.topic);
                tracing::warn!(topic = name, %error, "the producers of a topic are not written down");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..topics.len().min(SAVES_AT_ONCE) {
            scope.spawn(work);
        }
        work();
    });
    failed.into_inner() == 0
}
