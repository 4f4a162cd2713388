//! A producer and a consumer that go on while a cluster is upset, and what must be true of them afterwards.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_client::{
    Assignment, ConsumeError, Consumer, ConsumerConfig, Placement, ProduceError, Producer, ProducerConfig,
    ProducerRecord, SendError, StartFrom, TopicDescription,
};
use ottla_tests::wait;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Between two records.
const PACE: Duration = Duration::from_millis(3);
/// What a delivery may take; the client's own limit is shorter.
const PATIENCE: Duration = Duration::from_mins(3);

/// How far a topic is that is deleted and made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// As it was.
    Before = 0,
    /// It is being deleted, is gone, or is there again.
    Away = 1,
    /// There for a while.
    Anew = 2,
}

/// What was told of a record, and the phases when it was sent and when it was settled.
struct Settled {
    told: Result<Placement, ProduceError>,
    sent_in: Phase,
    told_in: Phase,
}

/// What both sides share with the test.
struct Shared {
    topic: String,
    bootstrap: String,
    consumer: Consumer,
    stopping: AtomicBool,
    phase: AtomicU8,
    acknowledged: AtomicUsize,
    acknowledged_by_partition: Mutex<BTreeMap<i32, usize>>,
    /// The next offset of each partition; none where an error said that it may be elsewhere.
    expected: Mutex<BTreeMap<i32, Option<i64>>>,
}

pub(crate) struct Traffic {
    shared: Arc<Shared>,
    sending: JoinHandle<HashMap<u64, Settled>>,
    reading: JoinHandle<Vec<(i32, i64, u64)>>,
}

/// What was sent, told and read in the end.
pub(crate) struct Finished {
    shared: Arc<Shared>,
    told: HashMap<u64, Settled>,
    read: Vec<(i32, i64, u64)>,
}

impl Traffic {
    /// Starts both sides on a topic.
    pub(crate) fn start(runtime: &Runtime, bootstrap: &str, topic: &str) -> Self {
        let _guard = runtime.enter();
        let consumer = Consumer::new(ConsumerConfig::new(bootstrap)).expect("a consumer");
        let partitions = runtime.block_on(consumer.assign_topic(topic, StartFrom::Earliest)).expect("the topic");
        let shared = Arc::new(Shared {
            topic: topic.to_owned(),
            bootstrap: bootstrap.to_owned(),
            consumer,
            stopping: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Before as u8),
            acknowledged: AtomicUsize::new(0),
            acknowledged_by_partition: Mutex::default(),
            expected: Mutex::new(partitions.into_iter().map(|partition| (partition, Some(0))).collect()),
        });
        let sending = runtime.spawn(send(Arc::clone(&shared)));
        let reading = runtime.spawn(read(Arc::clone(&shared)));
        Self { shared, sending, reading }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.shared.topic
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.shared.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// Waits until so many more records are acknowledged.
    pub(crate) fn wait_for_more(&self, records: usize) {
        let enough = self.shared.acknowledged.load(Ordering::SeqCst) + records;
        wait::until_true("more records to be acknowledged", || {
            self.check_alive();
            self.shared.acknowledged.load(Ordering::SeqCst) >= enough
        });
    }

    /// Waits until records are acknowledged in this partition.
    pub(crate) fn wait_for_use_of(&self, partition: i32) {
        wait::until_true("a record in a new partition", || {
            self.check_alive();
            self.shared.acknowledged_by_partition.lock().unwrap().contains_key(&partition)
        });
    }

    /// Lets the consumer read these partitions, too.
    pub(crate) fn read_also(&self, runtime: &Runtime, partitions: Range<i32>) {
        let topic: Arc<str> = self.shared.topic.as_str().into();
        let start = StartFrom::Earliest;
        let assignments: Vec<_> =
            partitions.clone().map(|partition| Assignment { topic: Arc::clone(&topic), partition, start }).collect();
        self.shared.expected.lock().unwrap().extend(partitions.map(|partition| (partition, Some(0))));
        wait::until_true("the new partitions to be assigned", || {
            runtime.block_on(self.shared.consumer.assign(&assignments)).is_ok()
        });
    }

    /// Stops sending, and reads what is left.
    pub(crate) fn finish(self, runtime: &Runtime) -> Finished {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let (told, read) = runtime.block_on(async { (self.sending.await.unwrap(), self.reading.await.unwrap()) });
        Finished { shared: self.shared, told, read }
    }

    /// A side that panicked says why when it is joined; waiting on would hide it.
    fn check_alive(&self) {
        assert!(!self.sending.is_finished() && !self.reading.is_finished(), "one side has ended");
    }
}

impl Shared {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Before,
            1 => Phase::Away,
            _ => Phase::Anew,
        }
    }
}

/// Sends one token after the other, with a key, with a partition, or with neither, until told to stop; waits for all answers.
async fn send(shared: Arc<Shared>) -> HashMap<u64, Settled> {
    let mut config = ProducerConfig::default();
    config.client = ottla_client::ClientConfig::new(&shared.bootstrap);
    config.client.metadata_age_ms_max = 2_000;
    let producer = Producer::new(config).expect("a producer");
    let mut deliveries = JoinSet::new();
    let mut settled = HashMap::new();
    for token in 0_u64.. {
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        let (value, key) = (token.to_string(), (token % 31).to_string());
        let record = ProducerRecord::new(&shared.topic).value(&value);
        let record = match token % 3 {
            0 => record.partition((token / 3 % 2) as i32),
            1 => record.key(&key),
            _ => record,
        };
        let sent_in = shared.phase();
        match producer.send(&record).await {
            Ok(delivery) => {
                let shared = Arc::clone(&shared);
                deliveries.spawn(async move {
                    let told = timeout(PATIENCE, delivery).await;
                    let told = told.unwrap_or_else(|_| panic!("record {token} is never settled"));
                    if let Ok(place) = &told {
                        shared.acknowledged.fetch_add(1, Ordering::SeqCst);
                        *shared.acknowledged_by_partition.lock().unwrap().entry(place.partition).or_default() += 1;
                    }
                    (token, Settled { told, sent_in, told_in: shared.phase() })
                });
            }
            Err(SendError::NoSuchPartition { topic, partition, count }) => {
                let told = Err(ProduceError::NoSuchPartition { topic, partition, count });
                settled.insert(token, Settled { told, sent_in, told_in: sent_in });
            }
            Err(error) => panic!("record {token}: {error}"),
        }
        sleep(PACE).await;
    }
    while let Some(delivery) = deliveries.join_next().await {
        let (token, told) = delivery.expect("a delivery");
        assert!(settled.insert(token, told).is_none(), "record {token} is settled twice");
    }
    assert_eq!(producer.buffered_bytes(), 0);
    assert!(producer.close(PATIENCE).await);
    settled
}

/// Polls until the sender has stopped and nothing comes any more.
async fn read(shared: Arc<Shared>) -> Vec<(i32, i64, u64)> {
    let mut read = Vec::new();
    loop {
        let stopping = shared.stopping.load(Ordering::SeqCst);
        let polled = shared.consumer.poll(500, Duration::from_secs(2)).await;
        match polled {
            Ok(records) if records.is_empty() && stopping => return read,
            Ok(records) => {
                let mut expected = shared.expected.lock().unwrap();
                for record in records.iter() {
                    let (partition, offset) = (record.partition(), record.offset());
                    let next = expected.get_mut(&partition).expect("an assigned partition");
                    assert!(next.is_none_or(|next| next == offset), "partition {partition}: {offset} after {next:?}");
                    *next = Some(offset + 1);
                    read.push((partition, offset, token_of(record.value().expect("a value"))));
                }
            }
            Err(ConsumeError::Connection(error)) => eprintln!("the consumer is told: {error}"),
            Err(ConsumeError::NoSuchPartition { partition, .. }) => {
                shared.consumer.unassign(&shared.topic, partition);
                shared.expected.lock().unwrap().remove(&partition);
            }
            Err(
                ConsumeError::OffsetOutOfRange { partition, .. }
                | ConsumeError::Truncated { partition, .. }
                | ConsumeError::Refused { partition, .. },
            ) => restart(&shared, &[partition]),
            Err(ConsumeError::UnknownTopic { .. }) => {
                let all: Vec<i32> = shared.expected.lock().unwrap().keys().copied().collect();
                restart(&shared, &all);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// An error said that a partition may be another one now.
fn restart(shared: &Shared, partitions: &[i32]) {
    assert_ne!(shared.phase(), Phase::Before, "nothing was taken from the topic yet");
    for partition in partitions {
        shared.consumer.seek(&shared.topic, *partition, StartFrom::Earliest).expect("an assigned partition");
        shared.expected.lock().unwrap().insert(*partition, None);
    }
}

fn token_of(value: &[u8]) -> u64 {
    std::str::from_utf8(value).expect("text").parse().expect("a token")
}

impl Finished {
    /// Every record that was sent is stored once, at the place that was told, in the order of sending, and was read.
    pub(crate) fn check_that_all_is_there(&self, runtime: &Runtime, topic: &TopicDescription) {
        let log = self.log(runtime, topic);
        for (token, settled) in &self.told {
            let place = settled.told.as_ref().unwrap_or_else(|error| panic!("record {token}: {error}"));
            assert_eq!(at(&log, place), Some(token), "record {token} is told to be at {place:?}");
        }
        let stored: usize = log.values().map(Vec::len).sum();
        assert_eq!(stored, self.told.len(), "each record is stored once, and no other");
        for (partition, tokens) in &log {
            assert!(tokens.is_sorted(), "the order of partition {partition}");
        }
        assert_eq!(self.read.len(), stored, "the consumer read each record once");
        for (partition, offset, token) in &self.read {
            assert_eq!(log[partition].get(*offset as usize), Some(token));
        }
        println!("{}: {stored} records, each stored once, told truthfully and read", self.shared.topic);
    }

    /// Of a topic that was made anew: what is told is so, nothing is doubled, and nothing is there that is told not to be.
    pub(crate) fn check_what_was_told(&self, runtime: &Runtime, topic: &TopicDescription) {
        let log = self.log(runtime, topic);
        let mut places: HashMap<u64, usize> = HashMap::new();
        for token in log.values().flatten() {
            *places.entry(*token).or_default() += 1;
        }
        assert!(places.values().all(|count| *count == 1), "doubled: {places:?}");
        let (mut anew, mut failed) = (0, 0);
        for (token, Settled { told, sent_in, told_in }) in &self.told {
            match told {
                // What was settled before the topic went is gone with it, and what was settled meanwhile may be.
                Ok(place) if (*sent_in, *told_in) == (Phase::Anew, Phase::Anew) => {
                    anew += 1;
                    assert_eq!(at(&log, place), Some(token), "record {token} is told to be at {place:?}");
                }
                Ok(_)
                | Err(ProduceError::TimedOut { in_doubt: true, .. } | ProduceError::Refused { in_doubt: true, .. }) => {
                }
                Err(error) => {
                    failed += 1;
                    assert!(!places.contains_key(token), "record {token} is stored: {error}");
                }
            }
        }
        assert!(anew > 0, "no record was sent to the topic as it is now");
        assert!(places.keys().all(|token| self.told.contains_key(token)));
        let total = self.told.len();
        println!(
            "{}: {total} records settled, {anew} sent and stored after it was made anew, {failed} refused",
            self.shared.topic
        );
    }

    /// The whole topic, read anew.
    fn log(&self, runtime: &Runtime, topic: &TopicDescription) -> BTreeMap<i32, Vec<u64>> {
        let _guard = runtime.enter();
        let consumer = Consumer::new(ConsumerConfig::new(&self.shared.bootstrap)).expect("a consumer");
        runtime.block_on(async {
            consumer.assign_topic(&topic.name, StartFrom::Earliest).await.expect("the topic");
            let ends: BTreeMap<i32, i64> =
                consumer.end_offsets(&topic.name).await.expect("the ends").into_iter().collect();
            let mut log: BTreeMap<i32, Vec<u64>> = ends.keys().map(|partition| (*partition, Vec::new())).collect();
            let is_read = |log: &BTreeMap<i32, Vec<u64>>| ends.iter().all(|(at, end)| log[at].len() as i64 == *end);
            while !is_read(&log) {
                let records = timeout(PATIENCE, consumer.poll(500, PATIENCE)).await.expect("records").expect("records");
                for record in records.iter() {
                    let tokens = log.get_mut(&record.partition()).expect("a partition");
                    assert_eq!(record.offset(), tokens.len() as i64);
                    tokens.push(token_of(record.value().expect("a value")));
                }
            }
            log
        })
    }
}

fn at<'l>(log: &'l BTreeMap<i32, Vec<u64>>, place: &Placement) -> Option<&'l u64> {
    log.get(&place.partition)?.get(usize::try_from(place.offset?).ok()?)
}
