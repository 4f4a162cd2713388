//! One partition: its log, how far it may be read, and which batches it has taken.
//!
//! 1. [`check`]: what a batch must fulfil, and the fields that the broker fills in
//! 2. [`door`]: where every checked batch comes in: appended at once, or into the lane
//! 3. `intake`: what is under the lock that orders the batches, with the check of [`ottla_coordinator::sequence`]
//! 4. `lane`: the batches that cannot be appended at once, first in, first out
//! 5. [`landing`]: where a batch went
//! 6. [`watermark`]: how far the partition may be read, and the waiters for it to move
//! 7. `fetched`: what clients fetched from it
//! 8. [`snapshot`]: the producers on the disk
//! 9. [`set`]: the partitions of a topic, whose producers are saved together; [`list`]: more may come
//! 10. `abroad`: what snapshots of different topics have to know of each other
//! 11. `budget`: how many producers are remembered
//! 12. [`refusal`]: why a batch was not taken
//!
//! Everything that belongs to the order of batches is under one lock per partition, held from the sequence check to the
//! append, so that the order of the checks is the order of the log.

pub(crate) mod abroad;
pub(crate) mod budget;
pub mod check;
pub mod door;
mod fetched;
mod intake;
pub mod landing;
pub(crate) mod lane;
pub mod list;
pub mod refusal;
pub mod set;
pub mod snapshot;
pub mod watermark;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_coordinator::sequence::{Producer, Remembered, SequenceTable};
use ottla_log::PartitionLog;
use ottla_log::canary::{Canary, broken};
use ottla_wire::{Offset, Uuid};
use parking_lot::{Mutex, MutexGuard};

pub(crate) use intake::{Claim, Intake, append_refusal};
pub(crate) use landing::ticket;
pub use landing::{Landing, Moved, Outcome, Place, PlacedRun, Target, Ticket, TicketStub};
pub use list::PartitionList;
pub use refusal::Refusal;
pub use set::{PartitionSet, SaveError, Saved};
pub use watermark::{Bell, PartitionOffline, Registration, WaitFor, Watermark};

use budget::{ProducerBudget, ProducerShare};
use fetched::Fetched;
use intake::Unsaved;
use lane::{LaneShare, WaitingForPlugin};
use snapshot::PartitionSnapshot;

/// One partition of a topic.
pub struct Partition {
    /// The topic it belongs to.
    pub topic_id: Uuid,
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its number in the topic.
    pub index: i32,
    /// Its log.
    pub log: Arc<PartitionLog>,
    /// How far it may be read.
    pub watermark: Watermark,
    /// What was fetched from it since the start.
    pub fetched: Fetched,
    /// Entries of the route journal below it that were addressed here are in the snapshot on the disk.
    saved_mark: AtomicU64,
    intake: Mutex<Intake>,
    lanes: Arc<LaneShare>,
}

impl Partition {
    /// A partition over its log. Its producers are not known yet: [`crate::route`] finds them before the broker serves
    /// clients.
    pub(crate) fn open(
        topic_id: Uuid,
        topic: Arc<str>,
        index: i32,
        log: Arc<PartitionLog>,
        producers: &Arc<ProducerBudget>,
        lanes: &Arc<LaneShare>,
    ) -> Self {
        let watermark = Watermark::new(log.high_watermark());
        let (told, weak) = (watermark.clone(), Arc::downgrade(&log));
        log.on_advance(Box::new(move |high| {
            told.advance(high);
            if weak.upgrade().is_none_or(|log| log.is_offline() || log.is_deleted()) {
                told.close();
            }
        }));
        // It may have moved before the listener was there.
        watermark.advance(log.high_watermark());
        if log.is_offline() {
            watermark.close();
        }
        let intake = Intake { share: ProducerShare::of(producers), ..Intake::default() };
        let saved_mark = AtomicU64::new(0);
        let fetched = Fetched::default();
        let (intake, lanes) = (Mutex::new(intake), Arc::clone(lanes));
        Self { topic_id, topic, index, log, watermark, fetched, saved_mark, intake, lanes }
    }

    /// Tells all waiters that nothing more comes: the topic is being deleted.
    pub fn close(&self) {
        self.watermark.close();
    }

    /// Why nothing becomes durable here any more.
    pub(crate) fn offline_refusal(&self) -> Refusal {
        match self.log.offline_reason() {
            Some(reason) => Refusal::Storage(reason),
            None => Refusal::UnknownPartition,
        }
    }

    /// Appends a batch that the broker itself made, of no producer. The offset after its last record.
    pub(crate) fn append_own(&self, batch: &mut [u8]) -> Result<Offset, Refusal> {
        Ok(self.intake().write(&self.log, batch)?.end_offset)
    }

    /// What waits in its lane for the topic's plugin.
    pub(crate) fn waiting_for_plugin(&self) -> WaitingForPlugin {
        self.intake().lane.waiting_for_plugin()
    }

    pub(crate) fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock()
    }

    /// Puts the producers in place that a start has found.
    pub(crate) fn restore(&self, producers: &SequenceTable<Landing>, journal_mark: u64) {
        let mut intake = self.intake();
        intake.journal_mark = journal_mark;
        for (id, producer) in producers.iter() {
            intake.sequences.restore(id, producer.map(|landing| Place::Landed(landing.clone())));
        }
        while intake.count_producers() {}
    }

    /// Batches below it are in every snapshot that is taken from now on.
    pub(crate) fn entered_upto(&self) -> Offset {
        self.intake().entered_upto(&self.log)
    }

    /// From where on a start has to read the log that has a snapshot taken from now on.
    pub(crate) fn scan_from(&self) -> Offset {
        let intake = self.intake();
        let entered = intake.entered_upto(&self.log);
        intake.abroad.unsaved_from().map_or(entered, |from| from.min(entered))
    }

    /// Up to which mark entries of the route journal that were addressed here are in the snapshot on the disk.
    pub(crate) fn saved_mark(&self) -> u64 {
        self.saved_mark.load(Ordering::Acquire)
    }

    /// A snapshot with that mark is on the disk.
    pub(crate) fn note_saved_mark(&self, mark: u64) {
        self.saved_mark.fetch_max(mark, Ordering::AcqRel);
    }

    /// A snapshot of the producers. `scan_from` is how far batches were entered before the first snapshot of a partition of
    /// the topic was taken. With it the partitions of other topics that have to be durable before it is on the disk.
    pub(crate) fn snapshot(&self, scan_from: Offset) -> (PartitionSnapshot, Vec<Arc<Partition>>) {
        let mut intake = self.intake();
        intake.unsaved = Unsaved::default();
        let sent = intake.abroad.take_sent();
        let snapshot = PartitionSnapshot {
            index: self.index,
            scan_from,
            log_end: self.log.end_offset(),
            journal_mark: intake.journal_mark,
            producers: intake
                .sequences
                .iter()
                .filter_map(|(id, producer)| Some((id, landed_part(producer)?)))
                .collect(),
        };
        (snapshot, sent)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// A producer without its batches that still wait: they are in the route journal.
fn landed_part(producer: &Producer<Place>) -> Option<Producer<Landing>> {
    let is_waiting = |batch: &&Remembered<Place>| matches!(batch.place, Place::Waiting(_));
    if broken(Canary::ForgetWrapped) && producer.batches.iter().find(is_waiting).is_some_and(|it| it.first.get() == 0) {
        return None;
    }
    producer.settled(|place| match place {
        Place::Landed(landing) => Some(landing.clone()),
        Place::Waiting(_) => None,
    })
}
