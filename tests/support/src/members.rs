//! Consumers of ours that share a topic in a group: what each was handed, what it owns, what it was told is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_client::{
    Classify, Consumer, ConsumerConfig, Event, Producer, ProducerConfig, ProducerRecord, TopicPartition,
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wait;

/// How long one commit, or a leave, may take while a broker is away.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
const RECORDS_PER_POLL: usize = 20;

/// What a member tells.
#[derive(Debug, Default)]
pub struct Story {
    /// Partition, offset and value of every record.
    pub got: Vec<(i32, i64, String)>,
    /// What it owned, change by change.
    pub owned: Vec<BTreeSet<i32>>,
    /// The offsets of which it was told that they are committed.
    pub committed: BTreeMap<i32, i64>,
    /// How often partitions were lost.
    pub lost: usize,
}

/// A member of a group.
pub struct Member {
    story: Arc<Mutex<Story>>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// A topic, the members that share it, and what was sent to it.
pub struct Sharing {
    runtime: Runtime,
    topic: String,
    partitions: i32,
    config: ConsumerConfig,
    producer: Producer,
    /// Those that are in.
    pub members: Vec<Member>,
    left: Vec<Member>,
    sent: BTreeSet<String>,
    round: usize,
}

impl Sharing {
    /// Members will be made of this configuration, which has a group.
    pub fn new(config: ConsumerConfig, topic: &str, partitions: i32) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let mut sending = ProducerConfig::default();
        sending.client.bootstrap.clone_from(&config.client.bootstrap);
        let producer = runtime.block_on(async { Producer::new(sending).expect("a producer") });
        let topic = topic.to_owned();
        Self {
            runtime,
            topic,
            partitions,
            config,
            producer,
            members: Vec::new(),
            left: Vec::new(),
            sent: BTreeSet::new(),
            round: 0,
        }
    }

    /// Another member.
    pub fn join(&mut self, instance: Option<&str>) {
        let mut config = self.config.clone();
        if let Some(group) = &mut config.group {
            group.instance_id = instance.map(str::to_owned);
        }
        let story = Arc::<Mutex<Story>>::default();
        let (stop, stopped) = watch::channel(false);
        let told = Arc::clone(&story);
        let topic = self.topic.clone();
        let task = self.runtime.spawn(async move {
            let consumer = Consumer::new(config).expect("a consumer");
            consumer.subscribe(&[topic]).expect("a subscription");
            read(&consumer, &told, &stopped).await;
            consumer.leave(PATIENCE).await.expect("the last commit");
        });
        self.members.push(Member { story, stop, task: Some(task) });
    }

    /// Has a member leave, and waits until it has.
    pub fn leave(&mut self, index: usize) {
        let mut member = self.members.remove(index);
        member.stop.send_replace(true);
        if let Some(task) = member.task.take() {
            self.runtime.block_on(task).expect("the member leaves");
        }
        self.left.push(member);
    }

    /// Ends a member without a word.
    pub fn cut_off(&mut self, index: usize) {
        let mut member = self.members.remove(index);
        if let Some(task) = member.task.take() {
            task.abort();
        }
        self.left.push(member);
    }

    /// Sends a round of records to every partition.
    pub fn produce(&mut self, count: usize) {
        let round = self.round;
        self.round += 1;
        let sent = (0..count).zip((0..self.partitions).cycle()).map(|(number, partition)| {
            let value = format!("{round}-{number}");
            let record = ProducerRecord::new(&self.topic).partition(partition).value(&value);
            let delivery = self.runtime.block_on(self.producer.send(&record)).expect("it is taken over");
            (value, delivery)
        });
        let sent: Vec<_> = sent.collect();
        for (value, delivery) in sent {
            self.runtime.block_on(delivery).expect("it is stored");
            self.sent.insert(value);
        }
    }

    /// Sends a round, and waits until every record so far was handed to a member.
    pub fn produce_and_wait(&mut self, count: usize) {
        self.produce(count);
        wait::until_true("every record is handed out", || self.missing().is_empty());
    }

    /// What was sent and handed to no member.
    pub fn missing(&self) -> Vec<String> {
        let stories: Vec<_> = self.ever().map(|member| member.story.lock()).collect();
        let got: BTreeSet<&String> =
            stories.iter().flat_map(|story| story.got.iter().map(|(_, _, value)| value)).collect();
        self.sent.iter().filter(|value| !got.contains(value)).cloned().collect()
    }

    /// Waits until each partition has one owner, and every member some.
    pub fn wait_until_shared(&self) {
        wait::until_true("each partition has one owner", || {
            let owned: Vec<BTreeSet<i32>> = self.members.iter().map(Member::owns).collect();
            let mut all: Vec<i32> = owned.iter().flatten().copied().collect();
            all.sort_unstable();
            all == (0..self.partitions).collect::<Vec<_>>() && owned.iter().all(|owned| !owned.is_empty())
        });
    }

    /// What the group has committed, asked for by a consumer that is not in it.
    pub fn committed(&self) -> BTreeMap<i32, i64> {
        let partitions: Vec<_> = (0..self.partitions).map(|it| TopicPartition::new(self.topic.as_str(), it)).collect();
        let committed = self.runtime.block_on(async {
            let consumer = Consumer::new(self.config.clone()).expect("a consumer");
            consumer.committed(&partitions, PATIENCE).await.expect("the committed offsets")
        });
        committed.into_iter().map(|(it, offset)| (it.partition, offset)).collect()
    }

    /// No commit that a member was told of is forgotten.
    pub fn assert_commits_kept(&self) {
        let committed = self.committed();
        for member in self.ever() {
            for (partition, offset) in &member.story.lock().committed {
                assert!(committed.get(partition) >= Some(offset), "partition {partition}: {offset} of {committed:?}");
            }
        }
    }

    /// Every offset of every partition was handed out, and what is committed is their end.
    pub fn assert_all_read(&self) {
        assert_eq!(self.missing(), [""; 0]);
        let mut offsets: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
        for member in self.ever() {
            for (partition, offset, _) in &member.story.lock().got {
                offsets.entry(*partition).or_default().insert(*offset);
            }
        }
        let ends: BTreeMap<i32, i64> =
            offsets.iter().map(|(partition, offsets)| (*partition, offsets.len() as i64)).collect();
        for (partition, offsets) in &offsets {
            assert!(offsets.iter().copied().eq(0..ends[partition]), "partition {partition}: an offset is missing");
        }
        assert_eq!(self.committed(), ends);
    }

    fn ever(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.left)
    }
}

impl Member {
    /// What it tells so far.
    pub fn story(&self) -> parking_lot::MutexGuard<'_, Story> {
        self.story.lock()
    }

    /// What it owns.
    pub fn owns(&self) -> BTreeSet<i32> {
        self.story.lock().owned.last().cloned().unwrap_or_default()
    }
}

async fn read(consumer: &Consumer, story: &Mutex<Story>, stopped: &watch::Receiver<bool>) {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    while !*stopped.borrow() {
        match consumer.next(RECORDS_PER_POLL, POLL).await {
            Ok(Event::Records(records)) if !records.is_empty() => {
                for record in records.iter() {
                    let value = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
                    story.lock().got.push((record.partition(), record.offset(), value));
                    next.insert(record.partition(), record.offset() + 1);
                }
                // What cannot be committed now is read again by whichever member gets the partition.
                if consumer.commit(PATIENCE).await.is_ok() {
                    story.lock().committed.append(&mut next);
                }
            }
            Ok(Event::Records(_)) => {}
            Ok(Event::Assigned(partitions)) => change(story, |owned| owned.extend(numbers(&partitions))),
            Ok(Event::Revoked(partitions)) => {
                next.retain(|partition, _| !numbers(&partitions).any(|it| it == *partition));
                change(story, |owned| numbers(&partitions).for_each(|it| _ = owned.remove(&it)));
            }
            Ok(Event::Lost(partitions)) => {
                story.lock().lost += 1;
                next.clear();
                change(story, |owned| numbers(&partitions).for_each(|it| _ = owned.remove(&it)));
            }
            Err(error) => assert!(!error.is_fatal(), "{error}"),
        }
    }
}

fn numbers(partitions: &[TopicPartition]) -> impl Iterator<Item = i32> {
    partitions.iter().map(|it| it.partition)
}

fn change(story: &Mutex<Story>, how: impl FnOnce(&mut BTreeSet<i32>)) {
    let mut story = story.lock();
    let mut owned = story.owned.last().cloned().unwrap_or_default();
    how(&mut owned);
    story.owned.push(owned);
}
