//! What a crash can leave on the disk, image by image, and whether recovery makes the right thing of it.
//!
//! A history is a row of batches from idempotent producers: some stay, some are spread by a plugin, some stay behind one
//! that was spread. A power cut keeps any prefix of the journal and any prefix of each log that the order of the syncs
//! allows. From every such image the broker recovers, the producers send again all that was not acknowledged,
//! now under a plugin that moves nothing, and then every record must be there exactly once.

use std::collections::{BTreeMap, HashMap};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_front::Memory;
use ottla_log::{JournalEntry, LogDir, LogOptions};
use ottla_stage::split::split;
use ottla_wire::record::{Batch, BatchBuilder, Codec, set_producer};
use ottla_wire::{ProducerEpoch, ProducerId, Sequence, Uuid};
use proptest::collection::vec;
use proptest::prelude::*;

use super::entry::{Entry, EntryRecords, Part};
use super::recover::{Recovered, RouteReport, recover};
use super::writer::JOURNAL_EPOCH;
use crate::config::{Config, TopicSettings};
use crate::log_dirs::LogDirs;
use crate::meta::{LocalStore, MetadataStore};
use crate::partition::snapshot::TopicSnapshot;
use crate::partition::{Claim, Landing, Partition, Place};
use crate::producer_ids::JOURNAL_PRODUCER;
use crate::topics::{NewTopic, Topic, TopicTable};
use ottla_coordinator::sequence::{Span, Tail};

/// Partitions of the two topics; a history numbers all of them through.
const PARTITIONS: [i32; 2] = [3, 1];
const TOPICS: [&str; 2] = ["t", "u"];
const LOGS: usize = 4;
/// Where it does not matter which they are.
const TOPIC_IDS: [Uuid; 2] = [Uuid::from_u128(1), Uuid::from_u128(2)];
const NO_PLUGIN: [u8; 32] = [0; 32];

/// The topic and the partition in it that a history means by a number.
pub(super) fn place(number: i32) -> (usize, i32) {
    if number < PARTITIONS[0] { (0, number) } else { (1, number - PARTITIONS[0]) }
}

/// One batch of a history.
#[derive(Debug, Clone)]
struct Sent {
    producer: i64,
    addressed: i32,
    /// Where a plugin sends each record.
    answer: Vec<i32>,
    /// Whether it came while an earlier one of its partition was in the journal.
    behind: bool,
}

impl Sent {
    fn stays(&self) -> bool {
        self.answer.iter().all(|partition| *partition == self.addressed)
    }
}

/// A batch that a log got.
#[derive(Debug, Clone)]
struct Appended {
    bytes: Vec<u8>,
    /// Which batch of the history it is of.
    sent: usize,
}

/// What the running broker wrote, in its order.
#[derive(Debug, Default)]
struct Written {
    /// Entries of the journal, with the batch of the history each is of.
    journal: Vec<(usize, Vec<u8>)>,
    logs: [Vec<Appended>; LOGS],
    /// The batches as they were sent.
    sent: Vec<Vec<u8>>,
    /// For a batch in the journal: the last one of its producer before it that went straight into the log.
    after: HashMap<usize, usize>,
}

fn claim_of(batch: &[u8]) -> Claim {
    Claim::of(&Batch::parse(batch).unwrap().header).unwrap()
}

/// What the broker writes for a history, if nothing goes wrong.
fn run(history: &[Sent], topic_ids: [Uuid; 2]) -> Written {
    let mut written = Written::default();
    let mut tails: HashMap<(i64, i32), (Tail, usize)> = HashMap::new();
    let mut next = [Sequence(0); LOGS];
    for (index, sent) in history.iter().enumerate() {
        let count = sent.answer.len() as i32;
        let before = tails.get(&(sent.producer, sent.addressed)).copied();
        let first = before.map_or(Sequence(0), |(tail, _)| tail.last.advance(1));
        let span = Span::new(ProducerEpoch(0), first, count);
        let mut builder = BatchBuilder::new(Codec::None).producer(ProducerId(sent.producer), span.epoch, first);
        for at in 0..count {
            builder.append(1000, None, Some(format!("{index}/{at}").as_bytes()), [].into_iter()).unwrap();
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        written.sent.push(bytes.clone());
        let follows = before.map(|(tail, _)| tail);
        tails.insert((sent.producer, sent.addressed), (Tail { epoch: span.epoch, last: span.last }, index));
        let entry = |records| {
            let mut payload = Vec::new();
            let (topic, addressed) = place(sent.addressed);
            let entry = Entry {
                topic_id: topic_ids[topic],
                addressed,
                producer_id: ProducerId(sent.producer),
                span,
                follows,
                plugin: NO_PLUGIN,
                records,
            };
            entry.encode(&mut payload);
            (index, payload)
        };
        if sent.stays() {
            if sent.behind {
                written.journal.push(entry(EntryRecords::Stayed(&bytes)));
            }
            written.logs[sent.addressed as usize].push(Appended { bytes, sent: index });
        } else {
            let batch = Batch::parse(&bytes).unwrap();
            let mut split = split(&batch, &batch.records(1 << 20).unwrap(), Uuid::nil(), &sent.answer).unwrap();
            for part in &mut split.parts {
                let target = part.partition as usize;
                set_producer(&mut part.bytes, JOURNAL_PRODUCER, JOURNAL_EPOCH, next[target]);
                next[target] = next[target].advance(part.records);
            }
            let parts = split.parts.iter().map(|part| {
                let (topic, partition) = place(part.partition);
                Part { topic_id: topic_ids[topic], partition, batch: &part.bytes }
            });
            written.journal.push(entry(EntryRecords::Moved { runs: split.runs.clone(), parts: parts.collect() }));
            for part in split.parts {
                written.logs[part.partition as usize].push(Appended { bytes: part.bytes, sent: index });
            }
        }
        let journaled = written.journal.last().is_some_and(|(last, _)| *last == index);
        if let Some((_, before)) = before.filter(|_| journaled) {
            // One in the journal has waited itself, and the journal is carried out in order.
            let in_journal = written.journal.iter().any(|(other, _)| *other == before);
            let direct = if in_journal { written.after.get(&before).copied() } else { Some(before) };
            written.after.extend(direct.map(|direct| (index, direct)));
        }
    }
    written
}

/// How much of everything a crash has left.
#[derive(Debug, Clone)]
struct Image {
    journal: usize,
    logs: [usize; LOGS],
}

impl Written {
    fn left(&self, image: &Image) -> impl Iterator<Item = (usize, &Appended)> {
        (0..).zip(&self.logs).zip(image.logs).flat_map(|((log, all), left)| all[..left].iter().map(move |it| (log, it)))
    }

    /// Whether the order in which the broker syncs allows it: nothing of an entry is in a log before the entry is in
    /// the journal, and before the batch in front of it is durable; and a batch goes straight into its log only when
    /// the entries before it are done.
    fn allows(&self, history: &[Sent], image: &Image) -> bool {
        let journaled: Vec<usize> = self.journal.iter().map(|(sent, _)| *sent).collect();
        let kept = &journaled[..image.journal];
        self.left(image).all(|(_, appended)| {
            let sent = appended.sent;
            if journaled.contains(&sent) {
                let before = self.after.get(&sent);
                return kept.contains(&sent)
                    && before.is_none_or(|before| self.left(image).any(|(_, it)| it.sent == *before));
            }
            let lane = |other: &&usize| **other < sent && history[**other].addressed == history[sent].addressed;
            journaled.iter().filter(lane).all(|other| kept.contains(other))
        })
    }

    /// Whether all of a batch is in the logs: only then may its producer have been told.
    fn is_complete(&self, image: &Image, sent: usize) -> bool {
        let all = self.logs.iter().flatten().filter(|it| it.sent == sent).count();
        self.left(image).filter(|(_, it)| it.sent == sent).count() == all
    }
}

/// A data directory with two topics.
pub(super) struct World {
    pub(super) meta: Arc<dyn MetadataStore>,
    pub(super) topics: Arc<TopicTable>,
    pub(super) log: Arc<LogDirs>,
}

impl World {
    pub(super) fn open(dir: &Path) -> Self {
        let (log, _) = LogDir::open(&dir.join("log"), LogOptions::default()).unwrap();
        let log = Arc::new(LogDirs::single(log));
        let meta: Arc<dyn MetadataStore> = Arc::new(LocalStore::open(dir, log.copy_homes(), &[]).unwrap().0);
        let memory = Memory::new(1 << 30);
        let topics = TopicTable::open(&Config::default(), Arc::clone(&meta), Arc::clone(&log), memory).unwrap();
        let topics = Arc::new(topics);
        Self { meta, topics, log }
    }

    pub(super) fn topic(&self, number: usize) -> Arc<Topic> {
        if let Some(topic) = self.topics.get(TOPICS[number]) {
            return topic;
        }
        let settings = TopicSettings::defaults(&Config::default());
        let (name, partition_count) = (TOPICS[number].to_owned(), PARTITIONS[number]);
        self.topics.create(NewTopic { name, partition_count, settings }).unwrap()
    }

    pub(super) fn topic_ids(&self) -> [Uuid; 2] {
        [0, 1].map(|number| self.topic(number).id)
    }

    pub(super) fn partition(&self, number: i32) -> Arc<Partition> {
        let (topic, partition) = place(number);
        Arc::clone(self.topic(topic).partition(partition).unwrap())
    }

    /// Where the snapshot of a topic lies.
    fn snapshot(&self, topic: usize) -> PathBuf {
        let topic = self.topic(topic);
        TopicSnapshot::path(topic.partitions.first().unwrap().log.directory(), topic.id)
    }

    pub(super) fn recover(&self) -> RouteReport {
        let recovered = self.try_to_recover();
        assert!(recovered.held.is_empty() && !recovered.kept);
        recovered.report
    }

    fn try_to_recover(&self) -> Recovered {
        let (journal, entries) = self.log.journal_home().unwrap().open_journal("route").unwrap();
        let entries: Vec<JournalEntry> = entries.collect::<Result<_, _>>().unwrap();
        recover(&self.topics.all(), &journal, entries).unwrap()
    }

    /// Every value in the logs: partition and offset, by value.
    pub(super) fn values(&self) -> BTreeMap<String, Vec<(i32, i64)>> {
        let mut values: BTreeMap<String, Vec<(i32, i64)>> = BTreeMap::new();
        for number in 0..LOGS as i32 {
            let partition = self.partition(number);
            let end = partition.log.end_offset();
            let mut offset = partition.log.log_start_offset();
            while let Some((bytes, range)) = partition.log.read_batches(offset, 1, end).unwrap() {
                offset = range.next_offset;
                let batch = Batch::parse(&bytes).unwrap();
                for record in &batch.records(1 << 20).unwrap() {
                    let record = record.unwrap();
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    values.entry(value).or_default().push((number, batch.header.offset_of(&record).get()));
                }
            }
        }
        values
    }

    fn paint(&self, written: &Written, image: &Image) {
        for ((number, all), left) in (0..).zip(&written.logs).zip(image.logs) {
            let partition = self.partition(number);
            for appended in &all[..left] {
                partition.log.append(&mut appended.bytes.clone()).unwrap();
            }
        }
        let (journal, _) = self.log.journal_home().unwrap().open_journal("route").unwrap();
        for (_, payload) in &written.journal[..image.journal] {
            journal.append(&[IoSlice::new(payload)]).unwrap();
        }
    }

    /// Sends again, in order, what was not acknowledged, to a broker whose plugin moves nothing.
    fn send_again(&self, history: &[Sent], written: &Written, acked: impl Fn(usize) -> bool) {
        let values = self.values();
        for (index, sent) in history.iter().enumerate().filter(|(index, _)| !acked(*index)) {
            let partition = self.partition(sent.addressed);
            let mut intake = partition.intake();
            let claim = claim_of(&written.sent[index]);
            let known = match intake.admit(Some(claim)) {
                Ok(_) => {
                    intake.append(&partition.log, &mut written.sent[index].clone(), Some(claim)).unwrap();
                    continue;
                }
                Err(known) => known.unwrap_or_else(|error| panic!("batch {index}: {error}")),
            };
            match known {
                // What it is told is where its records are.
                Place::Landed(Landing::Here { base_offset: base, .. }) => {
                    for at in 0..sent.answer.len() {
                        let place = (sent.addressed, base.get() + at as i64);
                        assert_eq!(values.get(&format!("{index}/{at}")), Some(&vec![place]));
                    }
                }
                Place::Landed(Landing::Moved(moved)) => {
                    for run in moved.placed_runs() {
                        let abroad = if run.topic_id == self.topic(0).id { 0 } else { PARTITIONS[0] };
                        for at in 0..run.records {
                            let place = (abroad + run.partition, run.base_offset.get() + i64::from(at));
                            let value = format!("{index}/{}", run.first_index + at);
                            assert_eq!(values.get(&value), Some(&vec![place]));
                        }
                    }
                }
                Place::Landed(Landing::Scattered { .. }) => {
                    panic!("so few targets are remembered")
                }
                Place::Waiting(_) => panic!("nothing waits after recovery"),
            }
        }
    }

    fn assert_once(&self, history: &[Sent], told: &str) {
        let values = self.values();
        let expected = history
            .iter()
            .enumerate()
            .flat_map(|(index, sent)| (0..sent.answer.len()).map(move |at| format!("{index}/{at}")));
        let expected: Vec<String> = expected.collect();
        for value in &expected {
            let places = values.get(value).map_or(0, Vec::len);
            assert_eq!(places, 1, "{value} is there {places} times: {told}");
        }
        assert_eq!(values.len(), expected.len(), "{told}");
    }
}

/// Recovers from an image as often as `crashes` says, each time from the journal as the crash left it, and checks.
fn check(history: &[Sent], image: &Image, acks: usize, crashes: usize) {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path());
    let written = run(history, world.topic_ids());
    if !written.allows(history, image) {
        return;
    }
    world.paint(&written, image);
    drop(world);
    let journal = dir.path().join("log/route");
    let kept: Vec<_> = std::fs::read_dir(&journal)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    let told = format!("{history:?} {image:?}");
    for _ in 0..crashes {
        // It got as far as the logs, and neither the snapshot nor the cut of the journal survived.
        World::open(dir.path()).recover();
        std::fs::remove_dir_all(&journal).unwrap();
        std::fs::create_dir(&journal).unwrap();
        for (path, bytes) in &kept {
            std::fs::write(path, bytes).unwrap();
        }
        let world = World::open(dir.path());
        for topic in [0, 1] {
            let snapshot = world.snapshot(topic);
            if snapshot.exists() {
                std::fs::remove_file(snapshot).unwrap();
            }
        }
    }
    // Or it got as far as the snapshot of one topic, and not that of the other.
    if let Some(unwritten) = crashes.checked_sub(1) {
        let world = World::open(dir.path());
        let snapshot = world.snapshot(unwritten % 2);
        std::fs::create_dir(&snapshot).unwrap();
        let recovered = world.try_to_recover();
        let is_written = recovered.held.is_empty();
        drop((recovered, world));
        std::fs::remove_dir(&snapshot).unwrap();
        if is_written {
            // Its snapshot was not asked for; the journal is cut, and what was in it is counted no more.
            let world = World::open(dir.path());
            world.recover();
            world.send_again(history, &written, |index| is_acked(history, &written, image, acks, index));
            return world.assert_once(history, &told);
        }
    }
    let world = World::open(dir.path());
    let report = world.recover();
    assert_eq!(report.entries, image.journal, "{told}");
    world.send_again(history, &written, |index| is_acked(history, &written, image, acks, index));
    world.assert_once(history, &told);
    // And once more, from the snapshot.
    drop(world);
    let world = World::open(dir.path());
    assert_eq!(world.recover(), RouteReport::default(), "{told}");
    world.send_again(history, &written, |_| false);
    world.assert_once(history, &told);
}

/// Acknowledged are, per producer and partition, the first `acks` at most, and none before an incomplete one.
fn is_acked(history: &[Sent], written: &Written, image: &Image, acks: usize, index: usize) -> bool {
    let Sent { producer, addressed, .. } = history[index];
    let mine = (0..history.len())
        .filter(|other| history[*other].producer == producer && history[*other].addressed == addressed);
    mine.take_while(|other| written.is_complete(image, *other)).take(acks).any(|other| other == index)
}

fn sent(producer: i64, addressed: i32, answer: &[i32], behind: bool) -> Sent {
    Sent { producer, addressed, answer: answer.to_vec(), behind }
}

/// Every image that a crash can leave of a short history with everything in it.
#[test]
fn every_image_of_a_short_history_recovers_to_each_record_once() {
    let history = [
        sent(1, 0, &[0, 0], false),
        sent(1, 0, &[1, 0, 2], false),
        sent(1, 0, &[0], true),
        sent(2, 1, &[1], false),
        sent(2, 1, &[0, 3], false),
        sent(3, 3, &[1], false),
    ];
    let written = run(&history, TOPIC_IDS);
    let mut images = 0;
    for journal in 0..=written.journal.len() {
        for a in 0..=written.logs[0].len() {
            for b in 0..=written.logs[1].len() {
                for c in 0..=written.logs[2].len() {
                    for d in 0..=written.logs[3].len() {
                        let image = Image { journal, logs: [a, b, c, d] };
                        if written.allows(&history, &image) {
                            images += 1;
                            check(&history, &image, images % 4, images % 3);
                        }
                    }
                }
            }
        }
    }
    assert!(images > 100, "{images}");
}

/// Each case syncs a few dozen times, so there are few of them unless more are asked for.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40)
}

fn histories() -> impl Strategy<Value = Vec<Sent>> {
    let answer = vec(0..LOGS as i32, 1..4);
    let one = (1..3_i64, 0..LOGS as i32, answer, any::<bool>(), any::<bool>());
    let one = one.prop_map(|(producer, addressed, mut answer, stays, behind)| {
        if stays {
            answer.fill(addressed);
        }
        Sent { producer, addressed, answer, behind }
    });
    // A producer keeps five in flight at most, so no more than five can be sent again.
    vec(one, 1..20).prop_map(|history| {
        let mut counts: HashMap<(i64, i32), usize> = HashMap::new();
        let few = |sent: &Sent| {
            let count = counts.entry((sent.producer, sent.addressed)).or_default();
            *count += 1;
            *count <= 5
        };
        let mut few = few;
        history.into_iter().filter(|sent| few(sent)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Any history, and any image of it that a crash can leave.
    #[test]
    fn any_image_of_any_history_recovers_to_each_record_once(
        history in histories(), shares in (0..=100_usize, [0..=100_usize, 0..=100, 0..=100, 0..=100]), acks in 0..6_usize,
        crashes in 0..3_usize,
    ) {
        let written = run(&history, TOPIC_IDS);
        let share = |count: usize, percent: usize| (count * percent).div_ceil(100);
        let mut image = Image { journal: share(written.journal.len(), shares.0), logs: [0; LOGS] };
        for (log, (all, percent)) in written.logs.iter().zip(shares.1).enumerate() {
            image.logs[log] = share(all.len(), percent);
        }
        // The nearest image that can be: shorten logs until it is one.
        while !written.allows(&history, &image) {
            let longest = (0..image.logs.len()).max_by_key(|log| image.logs[*log]).unwrap();
            image.logs[longest] -= 1;
        }
        check(&history, &image, acks, crashes);
    }
}
