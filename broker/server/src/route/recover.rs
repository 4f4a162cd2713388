//! What a start does before anybody is served: it finds the producers of every partition, and carries out what the
//! journal holds.
//!
//! The producers of a partition are those of the last picture, the batches that its log took since, and the entries of
//! the journal that were addressed to it, in the order of their sequence numbers. An entry is carried out unless the
//! batch before it was lost: then nobody was told that either of them is safe, the producer sends both again, and the
//! entry is dropped. That is decided by the numbers alone, so a crash during recovery changes nothing; and the pictures
//! that say so are written before the topic takes a batch, so what was dropped once does not come back after its number
//! was used again. A topic for which that cannot be done now is held: see [`super::held`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use ottla_log::canary::{Canary, broken};
use ottla_log::{AppendError, Journal, JournalEntry};
use ottla_stage::Run;
use ottla_wire::record::BatchHeader;
use ottla_wire::{Offset, ProducerEpoch, ProducerId, Sequence, Uuid};

use super::checkpoint::save;
use super::entry::{Entry, EntryRecords, Part};
use super::held::{Held, WaitsFor};
use super::{RouteOpenError, routes};
use crate::clock;
use crate::partition::sequence::{SequenceTable, Span, Tail, is_before};
use crate::partition::snapshot::{PartitionSnapshot, TopicSnapshot};
use crate::partition::{Claim, Landed, Moved, Partition, Target};
use crate::producer_ids::JOURNAL_PRODUCER;
use crate::topics::Topic;

/// What a start found in the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteReport {
    /// Entries in the journal.
    pub entries: usize,
    /// Batches that were appended to their targets now.
    pub batches_appended: usize,
    /// Entries dropped because the batch before them was lost, which nobody had been told was safe.
    pub entries_dropped: usize,
    /// Topics that take no batches yet, because their entries could not be carried out.
    pub topics_held: usize,
}

impl fmt::Display for RouteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, batches_appended, entries_dropped, topics_held } = self;
        write!(f, "route journal: {entries} entries, {batches_appended} batches appended, {entries_dropped} dropped")?;
        if *topics_held > 0 {
            write!(f, "; {topics_held} topics take no batches until theirs can be carried out")?;
        }
        Ok(())
    }
}

/// What a start made of the journal.
pub(super) struct Recovered {
    pub(super) report: RouteReport,
    /// Topics whose entries are still to be carried out.
    pub(super) held: Vec<Held>,
    /// Whether entries are still in the journal.
    pub(super) kept: bool,
}

pub(super) fn recover(
    topics: &[Arc<Topic>],
    journal: &Journal,
    entries: Vec<JournalEntry>,
) -> Result<Recovered, RouteOpenError> {
    let journal_end = journal.end().sequence;
    let mut report = RouteReport { entries: entries.len(), ..RouteReport::default() };
    let mut by_topic: HashMap<Uuid, Vec<JournalEntry>> = HashMap::new();
    for entry in entries {
        let topic_id = decode(&entry)?.topic_id;
        by_topic.entry(topic_id).or_default().push(entry);
    }
    let mut held = Vec::new();
    for topic in topics {
        let mut own = by_topic.remove(&topic.id).unwrap_or_default();
        if is_missing_a_partition(topic) && (!own.is_empty() || routes(topic, &topic.settings())) {
            held.push(Held::new(topic, WaitsFor::Directory));
            continue;
        }
        let state = TopicState::read(topic, !own.is_empty())?;
        // A picture of a later journal than there is: this one was moved away, or a power cut ended it earlier. Its mark
        // would let a later start pass over entries that are yet to come, so it is corrected on the disk now.
        let ahead = state.partitions.iter().any(|partition| partition.journal_mark > journal_end);
        if own.is_empty() && !ahead {
            state.install(None);
            continue;
        }
        own.shrink_to_fit();
        match state.carry_out(&own, journal_end, &mut report) {
            Ok(()) => {}
            Err(RouteOpenError::NotYet(reason)) => {
                tracing::error!(topic = %topic.name, reason, "takes no batches until the route journal is carried out");
                held.push(Held::new(topic, WaitsFor::Space { entries: own, journal_end }));
            }
            Err(error) => return Err(error),
        }
    }
    // Entries of a topic that was deleted went with it.
    let mut kept = false;
    if report.entries > 0 {
        let emptied = || journal.start_segment().and_then(|segment| journal.remove_before(segment));
        kept = !held.is_empty()
            || emptied()
                .inspect_err(
                    |error| tracing::warn!(%error, "what the route journal has is carried out, but stays in it"),
                )
                .is_err();
        tracing::info!("{report}");
    }
    report.topics_held = held.len();
    Ok(Recovered { report, held, kept })
}

/// What a start does whose route journal is in a log directory that is missing: what it holds is unknown, so topics with a
/// plugin wait for it.
pub(super) fn without_journal(topics: &[Arc<Topic>]) -> Result<Recovered, RouteOpenError> {
    let mut held = Vec::new();
    for topic in topics {
        if routes(topic, &topic.settings()) {
            held.push(Held::new(topic, WaitsFor::Directory));
        } else {
            TopicState::read(topic, false)?.install(None);
        }
    }
    let report = RouteReport { topics_held: held.len(), ..RouteReport::default() };
    Ok(Recovered { report, held, kept: false })
}

/// Finds the producers of a topic, carries out its entries, and writes down that they are.
pub(super) fn carry_out(
    topic: &Arc<Topic>,
    entries: &[JournalEntry],
    journal_end: u64,
    report: &mut RouteReport,
) -> Result<(), RouteOpenError> {
    TopicState::read(topic, true)?.carry_out(entries, journal_end, report)
}

fn is_missing_a_partition(topic: &Topic) -> bool {
    topic.partitions.iter().any(|partition| partition.log.is_offline())
}

fn decode(entry: &JournalEntry) -> Result<Entry<'_>, RouteOpenError> {
    Entry::decode(&entry.payload).map_err(|error| RouteOpenError::Replay(error.to_string()))
}

/// A topic as far as its producers are known.
struct TopicState {
    topic: Arc<Topic>,
    partitions: Vec<PartitionState>,
}

/// A partition as far as its producers are known.
struct PartitionState {
    partition: Arc<Partition>,
    table: SequenceTable<Landed>,
    /// Entries below it are in the table.
    journal_mark: u64,
    /// Producers that the picture has, with everything up to its end.
    pictured: HashSet<ProducerId>,
    /// Batches that the log took since the picture, per producer, not yet in the table. Only where the journal may say
    /// what came between them.
    since: HashMap<ProducerId, VecDeque<(Span, Offset)>>,
    /// Batches around the picture that may be those of entries that stayed.
    around: HashMap<(ProducerId, ProducerEpoch, Sequence), Offset>,
    /// The journal's own batches: by their first sequence, with their checksum.
    parts: HashMap<Sequence, (u32, Offset)>,
}

impl TopicState {
    fn read(topic: &Arc<Topic>, journaled: bool) -> Result<Self, RouteOpenError> {
        let snapshot = match topic.partitions.first() {
            Some(first) => TopicSnapshot::read(first.log.directory(), topic.id).unwrap_or_else(|error| {
                tracing::warn!(topic = %topic.name, %error, "the producers of a topic are looked up in its logs");
                None
            }),
            None => None,
        };
        let mut saved: HashMap<i32, PartitionSnapshot> =
            snapshot.into_iter().flat_map(|it| it.partitions).map(|it| (it.index, it)).collect();
        let read = |partition: &Arc<Partition>| {
            PartitionState::read(partition, saved.remove(&partition.index), journaled)
                .map_err(|error| RouteOpenError::Replay(format!("reading {partition:?}: {error}")))
        };
        let partitions = topic.partitions.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { topic: Arc::clone(topic), partitions })
    }

    fn carry_out(
        mut self,
        entries: &[JournalEntry],
        journal_end: u64,
        report: &mut RouteReport,
    ) -> Result<(), RouteOpenError> {
        for entry in entries {
            self.replay(entry.position.sequence, &decode(entry)?, report)?;
        }
        let topic = Arc::clone(&self.topic);
        self.install(Some(journal_end));
        save(&topic, &Mutex::default()).map_err(|error| RouteOpenError::NotYet(error.to_string()))
    }

    /// Carries out one entry, or finds that it was, or that it must not be.
    fn replay(&mut self, sequence: u64, entry: &Entry<'_>, report: &mut RouteReport) -> Result<(), RouteOpenError> {
        let state = at(&mut self.partitions, entry.addressed)?;
        state.take_before(entry.producer_id, entry.span);
        if sequence < state.journal_mark {
            // Its batches were durable before the picture that has it was written.
            return Ok(());
        }
        let known = state.knows(entry.producer_id, entry.span);
        let fits = known || state.fits(entry);
        match &entry.records {
            EntryRecords::Stayed(batch) => match state.found(entry.producer_id, entry.span) {
                _ if known => {}
                Some(offset) => state.take(entry, Landed::Here(offset)),
                None if fits => {
                    let offset = state.append(batch)?;
                    report.batches_appended += 1;
                    state.take(entry, Landed::Here(offset));
                }
                None => self.dropped(entry, report),
            },
            EntryRecords::Moved { runs, parts } => {
                let found = parts.iter().map(|part| self.found_part(part)).collect::<Result<Vec<_>, _>>()?;
                if !fits && found.iter().all(|(_, offset)| offset.is_none()) {
                    self.dropped(entry, report);
                    return Ok(());
                }
                let landed = self.complete(runs, parts, &found, report)?;
                at(&mut self.partitions, entry.addressed)?.take(entry, landed);
            }
        }
        Ok(())
    }

    fn dropped(&self, entry: &Entry<'_>, report: &mut RouteReport) {
        report.entries_dropped += 1;
        tracing::warn!(
            topic = %self.topic.name,
            partition = entry.addressed,
            producer = entry.producer_id.get(),
            sequence = entry.span.first.get(),
            "an entry of the route journal is dropped: the batch before it was never durable, so neither was acknowledged"
        );
    }

    /// Whether a part is in its target already, and under which claim.
    fn found_part(&mut self, part: &Part<'_>) -> Result<(Claim, Option<Offset>), RouteOpenError> {
        let header = BatchHeader::parse(part.batch).map_err(|error| RouteOpenError::Replay(error.to_string()))?;
        let claim = Claim::of(&header).filter(|claim| claim.producer_id == JOURNAL_PRODUCER);
        let claim = claim.ok_or_else(|| RouteOpenError::Replay("a batch without the journal's numbers".to_owned()))?;
        let target = at(&mut self.partitions, part.partition)?;
        // A sequence that was given out, dropped, and given out again belongs to other bytes.
        let found = target.parts.get(&claim.span.first).filter(|(crc, _)| *crc == header.crc);
        let found = found.filter(|_| !broken(Canary::ReplayTwice));
        Ok((claim, found.map(|(_, offset)| *offset)))
    }

    /// Appends the parts that are missing.
    fn complete(
        &mut self,
        runs: &[Run],
        parts: &[Part<'_>],
        found: &[(Claim, Option<Offset>)],
        report: &mut RouteReport,
    ) -> Result<Landed, RouteOpenError> {
        let mut targets = Vec::with_capacity(parts.len());
        for (part, (claim, offset)) in parts.iter().zip(found) {
            let target = at(&mut self.partitions, part.partition)?;
            let base_offset = if let Some(offset) = offset {
                *offset
            } else {
                report.batches_appended += 1;
                let offset = target.append(part.batch)?;
                target.table.take(JOURNAL_PRODUCER, claim.span, Landed::Here(offset), clock::now_ms());
                offset
            };
            let records = BatchHeader::parse(part.batch).map_or(0, |header| header.record_count);
            targets.push(Target { partition: part.partition, records, base_offset });
        }
        Ok(Landed::Moved(Arc::new(Moved { targets: targets.into(), runs: runs.into() })))
    }

    fn install(self, journal_end: Option<u64>) {
        for mut state in self.partitions {
            state.take_rest();
            state.partition.restore(&state.table, journal_end.unwrap_or(state.journal_mark));
        }
    }
}

fn at(partitions: &mut [PartitionState], index: i32) -> Result<&mut PartitionState, RouteOpenError> {
    let state = usize::try_from(index).ok().and_then(|index| partitions.get_mut(index));
    state.ok_or_else(|| RouteOpenError::Replay(format!("an entry names partition {index}, which is not there")))
}

impl PartitionState {
    fn read(
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
            pictured: HashSet::new(),
            since: HashMap::new(),
            around: HashMap::new(),
            parts: HashMap::new(),
        };
        // A log that ends before its picture was damaged: then all of it is read, and the picture is not contradicted.
        let (mut from, mut known_end) = (log.log_start_offset(), log.log_start_offset());
        if let Some(saved) = saved {
            if saved.log_end <= end {
                (from, known_end) = (saved.scan_from.max(from), saved.log_end);
            } else {
                known_end = end;
            }
            for (id, producer) in saved.producers {
                state.pictured.insert(id);
                state.table.restore(id, producer);
            }
        }
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
        let is_new = offset >= known_end || !self.pictured.contains(&producer_id);
        if producer_id == JOURNAL_PRODUCER {
            if journaled {
                self.parts.insert(span.first, (header.crc, offset));
            }
            if is_new {
                self.table.take(producer_id, span, Landed::Here(offset), clock::now_ms());
            }
        } else if !journaled {
            if is_new {
                self.table.take(producer_id, span, Landed::Here(offset), clock::now_ms());
            }
        } else if is_new {
            self.since.entry(producer_id).or_default().push_back((span, offset));
        } else {
            self.around.insert((producer_id, span.epoch, span.first), offset);
        }
    }

    /// Moves into the table what the log took from a producer before `span`.
    fn take_before(&mut self, id: ProducerId, span: Span) {
        let Some(since) = self.since.get_mut(&id) else { return };
        while let Some((found, offset)) = since.front().copied() {
            let before = found.epoch < span.epoch || (found.epoch == span.epoch && is_before(found.first, span.first));
            if !before {
                break;
            }
            since.pop_front();
            self.table.take(id, found, Landed::Here(offset), clock::now_ms());
        }
    }

    fn take_rest(&mut self) {
        for (id, since) in std::mem::take(&mut self.since) {
            for (span, offset) in since {
                self.table.take(id, span, Landed::Here(offset), clock::now_ms());
            }
        }
    }

    /// Whether the table has this very batch.
    fn knows(&self, id: ProducerId, span: Span) -> bool {
        let same = |producer: &crate::partition::sequence::Producer<Landed>| {
            producer.tail.epoch == span.epoch
                && producer.batches.iter().any(|batch| batch.first == span.first && batch.last == span.last)
        };
        self.table.get(id).is_some_and(same)
    }

    /// Whether the batch before an entry is there. A new epoch does not ask what became of the old one.
    fn fits(&self, entry: &Entry<'_>) -> bool {
        let Some(Tail { epoch, .. }) = entry.follows else { return true };
        epoch < entry.span.epoch || self.table.tail(entry.producer_id) == entry.follows
    }

    /// Finds a client's batch in the log.
    fn found(&mut self, id: ProducerId, span: Span) -> Option<Offset> {
        let since = self.since.get_mut(&id);
        if let Some(since) = since
            && let Some((_, offset)) = since.front().copied().filter(|(found, _)| *found == span)
        {
            since.pop_front();
            return Some(offset);
        }
        self.around.get(&(id, span.epoch, span.first)).copied()
    }

    fn take(&mut self, entry: &Entry<'_>, landed: Landed) {
        if self.knows(entry.producer_id, entry.span) {
            self.table.settle(entry.producer_id, entry.span, landed);
        } else {
            self.table.take(entry.producer_id, entry.span, landed, clock::now_ms());
        }
    }

    fn append(&mut self, batch: &[u8]) -> Result<Offset, RouteOpenError> {
        let appended = self.partition.log.append(&mut batch.to_vec());
        let appended = appended.map_err(|error| {
            let told = format!("{:?}: {error}", self.partition);
            match error {
                AppendError::NoSpace | AppendError::Io { .. } | AppendError::Offline { .. } => {
                    RouteOpenError::NotYet(told)
                }
                _ => RouteOpenError::Replay(told),
            }
        })?;
        Ok(appended.base_offset)
    }
}
