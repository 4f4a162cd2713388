//! The journal's thread: what came together becomes durable together.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use ottla_log::canary::{Canary, broken};
use ottla_log::{Durability, JournalError};
use ottla_wire::record::set_producer;
use ottla_wire::{ProducerEpoch, Sequence};

use super::entry::{Entry, EntryRecords, Part};
use super::obstacle::Obstacle;
use super::order::{Item, ItemRecords};
use super::{Shared, target};
use crate::partition::{Claim, Partition, Refusal};
use crate::producer_ids::JOURNAL_PRODUCER;

/// Bytes of batches that are synced together at most; what has come meanwhile rides the next sync.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// The epoch under which the journal writes.
pub(super) const JOURNAL_EPOCH: ProducerEpoch = ProducerEpoch(0);

impl Shared {
    /// Puts items into the journal, in their order, until the order is closed and empty.
    pub(super) fn write_all(&self, written: &SyncSender<Vec<Item>>) {
        let mut buffer = Vec::new();
        while let Some(mut group) = self.order.take(GROUP_BYTES_MAX) {
            if let Err(refusal) = self.write_group(&mut group, &mut buffer) {
                // Applying it after all would put batches into the targets that no journal vouches for.
                self.fail_unwritten(group, &refusal);
                continue;
            }
            // The applier ends after this thread.
            if written.send(group).is_err() {
                return;
            }
        }
    }

    /// Lets items fail of which the journal may have an entry or not, and with them what waits behind them. Where no entry
    /// was written the numbers are free again, for the same batch to come again; where one was, the next start says what
    /// became of it.
    fn fail_unwritten(&self, mut group: Vec<Item>, refusal: &Refusal) {
        while let Some(addressed) = group.first().map(|item| Arc::clone(&item.addressed)) {
            let (mut failed, rest) = group.into_iter().partition(|item| Arc::ptr_eq(&item.addressed, &addressed));
            group = rest;
            if !broken(Canary::AcceptBehindFailedJournal) {
                self.fail_addressed(&addressed, &mut failed, refusal);
            }
            for item in failed {
                self.finish(item, Err(refusal.clone()));
            }
        }
    }

    fn fail_addressed(&self, addressed: &Arc<Partition>, failed: &mut Vec<Item>, refusal: &Refusal) {
        let mut intake = addressed.intake();
        failed.extend(self.order.take_addressed(addressed));
        for item in failed.iter().rev() {
            if item.mark.is_some() {
                self.stuck.store(true, Ordering::Release);
                intake.left.get_or_insert_with(|| refusal.clone());
            } else if let Some(claim) = item.claim {
                intake.give_back(claim, item.follows);
            }
        }
    }

    /// Gives the new batches of an item the journal's producer id and their sequence on each target.
    fn seal(&self, item: &mut Item) {
        let ItemRecords::Moves(split) = &mut item.records else { return };
        for part in &mut split.parts {
            let target = target(&self.topics, &item.topic, part);
            let first = next_sequence(target.as_ref(), part.records);
            set_producer(&mut part.bytes, JOURNAL_PRODUCER, JOURNAL_EPOCH, first);
        }
    }

    fn write_group(&self, group: &mut [Item], buffer: &mut Vec<u8>) -> Result<(), Refusal> {
        let journal = || self.journal.as_ref().ok_or_else(no_journal);
        let mut sync = false;
        for item in group.iter_mut() {
            let Some(claim) = item.claim else { continue };
            self.seal(item);
            buffer.clear();
            entry_of(item, &claim).encode(buffer);
            let position = self.until_done("writing the route journal", || {
                journal()?.append(&[IoSlice::new(buffer)]).map_err(obstacle)
            })?;
            item.mark = Some(position.sequence + 1);
            self.journal_bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            sync |= item.addressed.log.durability() == Durability::Fsync;
        }
        if sync {
            self.until_done("syncing the route journal", || journal()?.sync().map_err(obstacle))?;
        }
        if self.journal_bytes.load(Ordering::Relaxed) >= self.options.journal_bytes_max {
            self.stop.nudge();
        }
        Ok(())
    }
}

fn no_journal() -> Obstacle {
    let reason = "the log directory of the route journal is missing; a start that finds it is needed".to_owned();
    Obstacle::Final(Refusal::Storage(reason))
}

#[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
fn obstacle(error: JournalError) -> Obstacle {
    match error {
        JournalError::NoSpace | JournalError::Io { .. } => Obstacle::Passing(error.to_string()),
        JournalError::Offline { .. } | JournalError::TooLarge { .. } => {
            Obstacle::Final(Refusal::Storage(error.to_string()))
        }
    }
}

/// The journal's next sequence on a target, advanced by `records`. Only the journal's thread calls it.
fn next_sequence(target: Option<&Arc<Partition>>, records: i32) -> Sequence {
    let Some(target) = target else { return Sequence(0) };
    let mut intake = target.intake();
    let next = intake.journal_next.unwrap_or_else(|| match intake.sequences.tail(JOURNAL_PRODUCER) {
        Some(tail) => tail.last.advance(1),
        None => Sequence(0),
    });
    intake.journal_next = Some(next.advance(records));
    next
}

fn entry_of<'a>(item: &'a Item, claim: &Claim) -> Entry<'a> {
    let records = match &item.records {
        ItemRecords::Stays { batch, .. } => EntryRecords::Stayed(batch),
        ItemRecords::Moves(split) => EntryRecords::Moved {
            runs: split.runs.clone(),
            parts: split
                .parts
                .iter()
                .map(|part| Part { topic_id: part.topic_id, partition: part.partition, batch: &part.bytes })
                .collect(),
        },
    };
    Entry {
        topic_id: item.topic.id,
        addressed: item.addressed.index,
        producer_id: claim.producer_id,
        span: claim.span,
        follows: item.follows,
        plugin: item.plugin,
        records,
    }
}
