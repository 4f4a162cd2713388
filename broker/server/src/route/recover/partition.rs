//! One partition: the producers of its snapshot, and the batches that its log took since.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use ottla_log::{AppendError, Appended};
use ottla_wire::record::BatchHeader;
use ottla_wire::{Offset, ProducerEpoch, ProducerId, Sequence};

use super::super::RouteOpenError;
use super::super::entry::Entry;
use crate::clock;
use crate::partition::snapshot::PartitionSnapshot;
use crate::partition::{Claim, Landing, Partition};
use crate::producer_ids::JOURNAL_PRODUCER;
use ottla_coordinator::sequence::{Producer, SequenceTable, Span, Tail, is_before};

/// A partition as far as its producers are known.
pub(super) struct PartitionState {
    pub(super) partition: Arc<Partition>,
    pub(super) table: SequenceTable<Landing>,
    /// Entries below it are in the table.
    pub(super) journal_mark: u64,
    /// Producers that the snapshot has, with everything up to its end.
    in_snapshot: HashSet<ProducerId>,
    /// Batches that the log took since the snapshot, per producer, not yet in the table. Only where the journal may say
    /// what came between them.
    since: HashMap<ProducerId, VecDeque<(Span, Offset)>>,
    /// Batches around the snapshot that may be those of entries that stayed.
    around: HashMap<(ProducerId, ProducerEpoch, Sequence), Offset>,
    /// How many producers are remembered at most.
    producers_max: usize,
    /// From where on the log was read.
    pub(super) read_from: Offset,
    /// The journal's own batches: by their first sequence, with their checksum.
    pub(super) parts: HashMap<Sequence, (u32, Offset)>,
}

impl PartitionState {
    pub(super) fn read(
        partition: &Arc<Partition>,
        saved: Option<PartitionSnapshot>,
        journaled: bool,
    ) -> Result<Self, ottla_log::LocateError> {
        let log = &partition.log;
        let end = log.end_offset();
        let mut state = Self {
            partition: Arc::clone(partition),
            table: SequenceTable::default(),
            journal_mark: saved.as_ref().map_or(0, |saved| saved.journal_mark),
            in_snapshot: HashSet::new(),
            since: HashMap::new(),
            around: HashMap::new(),
            producers_max: partition.intake().share.producers_max(),
            read_from: log.log_start_offset(),
            parts: HashMap::new(),
        };
        // A log that ends before its snapshot was damaged: then all of it is read, and the snapshot is not contradicted.
        let (mut from, mut known_end) = (log.log_start_offset(), log.log_start_offset());
        if let Some(saved) = saved {
            if saved.log_end <= end {
                partition.intake().saved_upto = saved.scan_from;
                (from, known_end) = (saved.scan_from.max(from), saved.log_end);
            } else {
                known_end = end;
            }
            for (id, producer) in saved.producers {
                state.in_snapshot.insert(id);
                state.table.restore(id, producer);
            }
        }
        state.read_from = from;
        if from < end {
            log.scan_batches(from, |header| state.see(header, from, known_end, journaled))?;
            // So that the next stop writes down what was looked up now.
            partition.intake().unsaved.bytes += 1;
        }
        Ok(state)
    }

    /// Takes note of a batch of the log.
    fn see(&mut self, header: &BatchHeader, from: Offset, known_end: Offset, journaled: bool) {
        let Some(claim) = Claim::of(header).filter(|_| header.base_offset >= from && !header.is_control()) else {
            return;
        };
        let Claim { producer_id, span } = claim;
        let offset = header.base_offset;
        let is_new = offset >= known_end || !self.in_snapshot.contains(&producer_id);
        if producer_id == JOURNAL_PRODUCER {
            if journaled {
                self.parts.insert(span.first, (header.crc, offset));
            }
            if is_new {
                self.take_found(producer_id, span, offset);
            }
        } else if !journaled {
            if is_new {
                self.take_found(producer_id, span, offset);
            }
        } else if is_new {
            self.since.entry(producer_id).or_default().push_back((span, offset));
        } else {
            self.around.insert((producer_id, span.epoch, span.first), offset);
        }
    }

    /// Moves into the table what the log took from a producer before `span`.
    pub(super) fn take_before(&mut self, id: ProducerId, span: Span) {
        let Some(since) = self.since.get_mut(&id) else { return };
        while let Some((found, offset)) = since.front().copied() {
            let before = found.epoch < span.epoch || (found.epoch == span.epoch && is_before(found.first, span.first));
            if !before {
                break;
            }
            since.pop_front();
            self.table.take(id, found, Landing::here(offset, found.records()), clock::now_ms());
        }
    }

    /// Moves a batch of the log into the table, in which there are never more producers than are remembered.
    fn take_found(&mut self, id: ProducerId, span: Span, offset: Offset) {
        self.table.take(id, span, Landing::here(offset, span.records()), clock::now_ms());
        if self.table.len() > self.producers_max {
            self.table.forget_idlest(|id, _| id != JOURNAL_PRODUCER);
        }
    }

    pub(super) fn take_rest(&mut self) {
        for (id, since) in std::mem::take(&mut self.since) {
            for (span, offset) in since {
                self.take_found(id, span, offset);
            }
        }
    }

    /// Whether the table has this very batch.
    pub(super) fn knows(&self, id: ProducerId, span: Span) -> bool {
        let same = |producer: &Producer<Landing>| {
            producer.tail.epoch == span.epoch
                && producer.batches.iter().any(|batch| batch.first == span.first && batch.last == span.last)
        };
        self.table.get(id).is_some_and(same)
    }

    /// Whether the batch before an entry is there. A new epoch does not ask what became of the old one.
    pub(super) fn fits(&self, entry: &Entry<'_>) -> bool {
        let Some(Tail { epoch, .. }) = entry.follows else { return true };
        epoch < entry.span.epoch || self.table.tail(entry.producer_id) == entry.follows
    }

    /// Finds a client's batch in the log.
    pub(super) fn found(&mut self, id: ProducerId, span: Span) -> Option<Landing> {
        let since = self.since.get_mut(&id);
        if let Some(since) = since
            && let Some((_, offset)) = since.front().copied().filter(|(found, _)| *found == span)
        {
            since.pop_front();
            return Some(Landing::here(offset, span.records()));
        }
        let offset = self.around.get(&(id, span.epoch, span.first));
        offset.map(|offset| Landing::here(*offset, span.records()))
    }

    pub(super) fn take(&mut self, entry: &Entry<'_>, landing: Landing) {
        if self.knows(entry.producer_id, entry.span) {
            self.table.settle(entry.producer_id, entry.span, landing);
        } else {
            self.table.take(entry.producer_id, entry.span, landing, clock::now_ms());
        }
    }

    pub(super) fn append(&mut self, batch: &[u8]) -> Result<Appended, RouteOpenError> {
        let appended = self.partition.log.append(&mut batch.to_vec());
        appended.map_err(|error| {
            let told = format!("{:?}: {error}", self.partition);
            match error {
                AppendError::NoSpace | AppendError::Io { .. } | AppendError::Offline { .. } => {
                    RouteOpenError::NotYet(told)
                }
                _ => RouteOpenError::Replay(told),
            }
        })
    }
}
