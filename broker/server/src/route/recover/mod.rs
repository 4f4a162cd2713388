//! What a start does before it serves clients: it finds the producers of every partition, and carries out what the
//! journal holds.
//!
//! The producers of a partition are those of the last snapshot, the batches that its log took since, and the entries of
//! the journal that were addressed to it, in the order of their sequence numbers. An entry is carried out unless the
//! batch before it was lost: then neither of the two was acknowledged, the producer sends both again, and the entry is
//! dropped. The numbers alone decide that, so a crash during recovery changes nothing; and the snapshots that say so are
//! written before the topic takes a batch, so what was dropped once does not come back after its number
//! was used again. A topic for which that cannot be done now is held: see [`super::held`].
//!
//! Topics between which entries move batches are one group: their entries are carried out in the order of the journal, and
//! all of them are held where one is. Each has a snapshot of its own, so a group is written down twice: first with logs
//! that are read from where this start read them, then with logs that are read from their end. A crash between two of
//! these files finds the parts that an older one of them does not have.

mod partition;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use ottla_log::canary::{Canary, broken};
use ottla_log::{Journal, JournalEntry};
use ottla_stage::Run;
use ottla_wire::record::BatchHeader;
use ottla_wire::{Offset, Uuid};

use super::RouteOpenError;
use super::entry::{Entry, EntryRecords, Part};
use super::held::{Held, WaitsFor};
use crate::clock;
use crate::partition::snapshot::{PartitionSnapshot, TopicSnapshot};
use crate::partition::{Claim, Landing, Moved, Partition, Target};
use crate::producer_ids::JOURNAL_PRODUCER;
use crate::topics::Topic;
use partition::PartitionState;

/// What a start found in the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteReport {
    /// Entries in the journal.
    pub entries: usize,
    /// Batches that were appended to their targets now.
    pub batches_appended: usize,
    /// Entries dropped because the batch before them was lost, which was never acknowledged.
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
    let mut held = Vec::new();
    for Group { topics, mut entries } in groups(topics, entries)? {
        let waits = |topic: &Arc<Topic>| {
            is_missing_a_partition(topic) && (!entries.is_empty() || topic.is_routed(&topic.settings()))
        };
        if topics.iter().any(waits) {
            held.push(Held::new(topics, WaitsFor::Directory));
            continue;
        }
        let state = GroupState::read(&topics, !entries.is_empty())?;
        // A snapshot of a later journal than there is: this one was moved away, or a power cut ended it earlier. Its mark
        // would let a later start pass over entries that are yet to come, so it is corrected on the disk now.
        if entries.is_empty() && !state.is_ahead_of(journal_end) {
            state.install(None);
            continue;
        }
        entries.shrink_to_fit();
        match state.carry_out(&entries, journal_end, &mut report) {
            Ok(()) => {}
            Err(RouteOpenError::NotYet(reason)) => {
                tracing::error!(?topics, reason, "take no batches until the route journal is carried out");
                held.push(Held::new(topics, WaitsFor::Space { entries, journal_end }));
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
    }
    report.topics_held = held.iter().map(|held| held.topics.len()).sum();
    Ok(Recovered { report, held, kept })
}

/// What a start does whose route journal is in a log directory that is missing: what it holds is unknown, so topics with a
/// plugin wait for it.
pub(super) fn without_journal(topics: &[Arc<Topic>]) -> Result<Recovered, RouteOpenError> {
    let mut held = Vec::new();
    for topic in topics {
        if topic.is_routed(&topic.settings()) {
            held.push(Held::new(vec![Arc::clone(topic)], WaitsFor::Directory));
        } else {
            let state = GroupState::read(std::slice::from_ref(topic), false)?;
            state.keep_what_was_moved();
            state.install(None);
        }
    }
    let report = RouteReport { topics_held: held.len(), ..RouteReport::default() };
    Ok(Recovered { report, held, kept: false })
}

/// Topics between which entries of the journal move batches, and these entries in their order.
struct Group {
    topics: Vec<Arc<Topic>>,
    entries: Vec<JournalEntry>,
}

/// Puts topics together that one start has to carry out together. Most are alone. Entries of a topic that was deleted went
/// with it.
fn groups(topics: &[Arc<Topic>], entries: Vec<JournalEntry>) -> Result<Vec<Group>, RouteOpenError> {
    let mut group_of: HashMap<Uuid, usize> = topics.iter().enumerate().map(|(at, topic)| (topic.id, at)).collect();
    for entry in &entries {
        let entry = decode(entry)?;
        let EntryRecords::Moved { parts, .. } = &entry.records else { continue };
        for part in parts.iter().filter(|part| part.topic_id != entry.topic_id) {
            if let (Some(&one), Some(&other)) = (group_of.get(&entry.topic_id), group_of.get(&part.topic_id)) {
                group_of.values_mut().filter(|group| **group == other).for_each(|group| *group = one);
            }
        }
    }
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for topic in topics {
        let group = group_of.get(&topic.id).copied().unwrap_or_default();
        let group = groups.entry(group).or_insert_with(|| Group { topics: Vec::new(), entries: Vec::new() });
        group.topics.push(Arc::clone(topic));
    }
    for entry in entries {
        let topic_id = decode(&entry)?.topic_id;
        if let Some(group) = group_of.get(&topic_id).and_then(|group| groups.get_mut(group)) {
            group.entries.push(entry);
        }
    }
    Ok(groups.into_values().collect())
}

/// Finds the producers of topics, carries out the entries between them, and writes down that they are.
pub(super) fn carry_out(
    topics: &[Arc<Topic>],
    entries: &[JournalEntry],
    journal_end: u64,
    report: &mut RouteReport,
) -> Result<(), RouteOpenError> {
    GroupState::read(topics, true)?.carry_out(entries, journal_end, report)
}

fn is_missing_a_partition(topic: &Topic) -> bool {
    topic.partitions.iter().any(|partition| partition.log.is_offline())
}

fn decode(entry: &JournalEntry) -> Result<Entry<'_>, RouteOpenError> {
    Entry::decode(&entry.payload).map_err(|error| RouteOpenError::Replay(error.to_string()))
}

/// Topics as far as their producers are known.
struct GroupState(Vec<TopicState>);

/// A topic as far as its producers are known.
struct TopicState {
    topic: Arc<Topic>,
    partitions: Vec<PartitionState>,
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
}

impl GroupState {
    fn read(topics: &[Arc<Topic>], journaled: bool) -> Result<Self, RouteOpenError> {
        topics.iter().map(|topic| TopicState::read(topic, journaled)).collect::<Result<_, _>>().map(Self)
    }

    /// Sees to it that a later start, which has the journal, finds what was moved here.
    fn keep_what_was_moved(&self) {
        let partitions = self.0.iter().flat_map(|topic| &topic.partitions);
        for state in partitions.filter(|state| state.table.get(JOURNAL_PRODUCER).is_some()) {
            state.partition.intake().unentered = Some(state.read_from);
        }
    }

    fn is_ahead_of(&self, journal_end: u64) -> bool {
        self.0.iter().flat_map(|topic| &topic.partitions).any(|partition| partition.journal_mark > journal_end)
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
        let topics: Vec<_> = self.0.iter().map(|state| Arc::clone(&state.topic)).collect();
        let is_alone = topics.len() == 1;
        for partition in self.0.iter().flat_map(|state| &state.partitions) {
            partition.partition.intake().unentered = Some(partition.read_from).filter(|_| !is_alone);
        }
        self.install(Some(journal_end));
        let write_all = || topics.iter().try_for_each(|topic| topic.partitions.write_down().map(|_| ()));
        let written = write_all().and_then(|()| {
            if is_alone {
                return Ok(());
            }
            // As long as one of them may be the one before, another start has to find the parts in the logs of all.
            for partition in topics.iter().flat_map(|topic| &topic.partitions) {
                partition.intake().unentered = None;
            }
            write_all()
        });
        written.map_err(|error| RouteOpenError::NotYet(error.to_string()))
    }

    /// The topic with this id, if it is still there.
    fn topic(&mut self, topic_id: Uuid) -> Option<&mut TopicState> {
        self.0.iter_mut().find(|state| state.topic.id == topic_id)
    }

    fn at(&mut self, topic_id: Uuid, index: i32) -> Result<&mut PartitionState, RouteOpenError> {
        let partitions = self.topic(topic_id).map(|state| &mut state.partitions);
        let state = usize::try_from(index).ok().and_then(|index| partitions?.get_mut(index));
        state.ok_or_else(|| {
            RouteOpenError::Replay(format!("an entry names partition {index} of {topic_id}, which is not there"))
        })
    }

    /// Carries out one entry, or finds that it was, or that it must not be.
    fn replay(&mut self, sequence: u64, entry: &Entry<'_>, report: &mut RouteReport) -> Result<(), RouteOpenError> {
        let state = self.at(entry.topic_id, entry.addressed)?;
        state.take_before(entry.producer_id, entry.span);
        if sequence < state.journal_mark {
            // Its batches were durable before the snapshot that has it was written.
            return Ok(());
        }
        let known = state.knows(entry.producer_id, entry.span);
        let fits = known || state.fits(entry);
        match &entry.records {
            EntryRecords::Stayed(batch) => match state.found(entry.producer_id, entry.span) {
                _ if known => {}
                Some(landing) => state.take(entry, landing),
                None if fits => {
                    let appended = state.append(batch)?;
                    report.batches_appended += 1;
                    state.take(entry, appended.into());
                }
                None => dropped(entry, report),
            },
            EntryRecords::Moved { runs, parts } => {
                let found = parts.iter().map(|part| self.found_part(part)).collect::<Result<Vec<_>, _>>()?;
                if !fits && found.iter().all(|found| !matches!(found, Found::At(..))) {
                    dropped(entry, report);
                    return Ok(());
                }
                let landing = self.complete(runs, parts, &found, report)?;
                self.at(entry.topic_id, entry.addressed)?.take(entry, landing);
            }
        }
        Ok(())
    }

    /// Whether a part is in its target already, and under which claim.
    fn found_part(&mut self, part: &Part<'_>) -> Result<Found, RouteOpenError> {
        let header = BatchHeader::parse(part.batch).map_err(|error| RouteOpenError::Replay(error.to_string()))?;
        let claim = Claim::of(&header).filter(|claim| claim.producer_id == JOURNAL_PRODUCER);
        let claim = claim.ok_or_else(|| RouteOpenError::Replay("a batch without the journal's numbers".to_owned()))?;
        if self.topic(part.topic_id).is_none() {
            return Ok(Found::Gone);
        }
        let target = self.at(part.topic_id, part.partition)?;
        // A sequence that was given out, dropped, and given out again belongs to other bytes.
        let found = target.parts.get(&claim.span.first).filter(|(crc, _)| *crc == header.crc);
        let found = found.filter(|_| !broken(Canary::ReplayTwice));
        Ok(found.map_or(Found::Missing(claim), |(_, offset)| Found::At(*offset)))
    }

    /// Appends the parts that are missing.
    fn complete(
        &mut self,
        runs: &[Run],
        parts: &[Part<'_>],
        found: &[Found],
        report: &mut RouteReport,
    ) -> Result<Landing, RouteOpenError> {
        let mut targets = Vec::with_capacity(parts.len());
        for (part, found) in parts.iter().zip(found) {
            let base_offset = match found {
                Found::Gone => Offset::NONE,
                Found::At(offset) => *offset,
                Found::Missing(claim) => {
                    let target = self.at(part.topic_id, part.partition)?;
                    report.batches_appended += 1;
                    let appended = target.append(part.batch)?;
                    target.table.take(JOURNAL_PRODUCER, claim.span, appended.into(), clock::now_ms());
                    appended.base_offset
                }
            };
            let records = BatchHeader::parse(part.batch).map_or(0, |header| header.record_count);
            targets.push(Target { topic_id: part.topic_id, partition: part.partition, records, base_offset });
        }
        Ok(Landing::Moved(Arc::new(Moved { targets: targets.into(), runs: runs.into() })).remembered())
    }

    fn install(self, journal_end: Option<u64>) {
        for mut state in self.0.into_iter().flat_map(|topic| topic.partitions) {
            state.take_rest();
            state.partition.restore(&state.table, journal_end.unwrap_or(state.journal_mark));
        }
    }
}

/// Where a part of an entry is.
enum Found {
    /// In its target.
    At(Offset),
    /// Nowhere yet; these are its numbers.
    Missing(Claim),
    /// Its topic was deleted, and it went with that.
    Gone,
}

fn dropped(entry: &Entry<'_>, report: &mut RouteReport) {
    report.entries_dropped += 1;
    tracing::warn!(
        topic = %entry.topic_id,
        partition = entry.addressed,
        producer = entry.producer_id.get(),
        sequence = entry.span.first.get(),
        "an entry of the route journal is dropped: the batch before it was never durable, so neither was acknowledged"
    );
}
