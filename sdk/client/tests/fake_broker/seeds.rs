//! Games in simulated time: a producer and a consumer against a cluster in which everything goes wrong that a seed can think
//! of, and a model of what must have been told.
//!
//! * Every record is settled once, and truthfully: stored where it is said to be, once; not stored if that is said.
//! * A consumer skips no offset without an error, and reads every record in the end.
//! * Nothing spins: requests per second are bounded, and simulated time goes on only while all tasks wait.
//! * Nothing leaks: no connection, no task, no byte is left after the end, also where the end comes while no broker reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_client::{
    Assignment, ClientConfig, ConsumeError, Consumer, ConsumerConfig, Delivery, OffsetReset, Placement, ProduceError,
    Producer, ProducerConfig, ProducerRecord, SendError, StartFrom,
};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, Dice, State, Topic, is_refused};

const SEEDS_VARIABLE: &str = "OTTLA_CLIENT_SEEDS";
const SEEDS: u64 = 200;
const RECORDS: u64 = 150;
const TROUBLE: Duration = Duration::from_secs(8);
/// As simulated: long after everything must have been settled.
const PATIENCE: Duration = Duration::from_mins(10);
/// Requests that move no record: long polls of two fetchers for each of three brokers, and questions after failures, which
/// have pauses of 10 to 200 ms.
const IDLE_REQUESTS_PER_SECOND_MAX: usize = 400;

/// A record, as it was told: where it is, or why it is not known to be anywhere.
type Told = Result<Placement, ProduceError>;

struct Game {
    seed: u64,
    dice: Dice,
    cluster: Cluster,
}

impl Game {
    fn new(seed: u64) -> Self {
        Self { seed, dice: Dice(seed ^ 0x5eed), cluster: Cluster::new(seed) }
    }

    fn client(&mut self) -> ClientConfig {
        let mut config = ClientConfig::new(&Cluster::bootstrap());
        config.network = Arc::new(self.cluster.clone());
        config.connect_timeout_ms = 500;
        config.request_timeout_ms = 1_000;
        config.metadata_age_ms_max = self.dice.between(500, 5_000);
        config.retry_backoff_ms = 10;
        config.retry_backoff_ms_max = 200;
        config.reconnect_backoff_ms = 10;
        config.reconnect_backoff_ms_max = 200;
        config
    }

    fn producer(&mut self) -> Producer {
        let mut config = ProducerConfig::default();
        config.client = self.client();
        config.linger_ms = self.dice.between(0, 20);
        config.batch_bytes = self.dice.between(100, 1_000) as usize;
        config.requests_in_flight_max = self.dice.between(1, 5) as usize;
        config.delivery_timeout_ms = if self.dice.one_in(2) { 1_500 } else { 120_000 };
        Producer::new(config).unwrap()
    }

    /// Sends all records, and waits until they are settled.
    async fn send(mut self, producer: &Producer) -> HashMap<u64, Told> {
        let mut deliveries: Vec<(u64, Delivery)> = Vec::new();
        let mut told = HashMap::new();
        for token in 0..RECORDS {
            let (value, key) = (token.to_string(), (token % 11).to_string());
            let record = ProducerRecord::new("t").value(&value);
            let record = match self.dice.roll(3) {
                0 => record.partition(self.dice.roll(3) as i32),
                1 => record.key(&key),
                _ => record,
            };
            match producer.send(&record).await {
                Ok(delivery) => deliveries.push((token, delivery)),
                Err(SendError::NoSuchPartition { topic, partition, count }) => {
                    told.insert(token, Err(ProduceError::NoSuchPartition { topic, partition, count }));
                }
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
            if self.dice.one_in(3) {
                sleep(Duration::from_millis(self.dice.between(1, 120))).await;
            }
        }
        for (token, delivery) in deliveries {
            let settled = timeout(PATIENCE, delivery).await;
            let settled = settled.unwrap_or_else(|_| panic!("seed {}: record {token} is never settled", self.seed));
            assert!(told.insert(token, settled).is_none());
        }
        told
    }
}

/// What is told must be so: of the topic as it is now, and as it was before it was made anew.
fn check_truth(seed: u64, told: &HashMap<u64, Told>, topics: &[&Topic]) {
    let mut places: HashMap<u64, Vec<(usize, i64)>> = HashMap::new();
    for topic in topics {
        for (index, partition) in topic.partitions.iter().enumerate() {
            for (offset, token) in (0..).zip(&partition.log) {
                places.entry(*token).or_default().push((index, offset));
            }
            // A topic that was made anew takes any first number: what was under way at that moment may overtake the rest.
            let ordered = topics.len() > 1 || partition.log.is_sorted();
            let once = partition.log.iter().collect::<HashSet<_>>().len() == partition.log.len();
            assert!(ordered && once, "seed {seed}: doubled or out of order in partition {index}: {:?}", partition.log);
        }
    }
    for (token, told) in told {
        let found = places.get(token).map_or(&[][..], Vec::as_slice);
        match told {
            Ok(place) => {
                let is_there = found.iter().any(|(partition, offset)| {
                    *partition == place.partition as usize && place.offset.is_none_or(|told| told == *offset)
                });
                assert!(is_there, "seed {seed}: record {token} is told to be at {place:?}, it is at {found:?}");
                // A topic that was made anew knows nothing of the producer, and a record whose answer was lost goes there.
                assert!(found.len() < 2 || topics.len() > 1, "seed {seed}: record {token} is stored at {found:?}");
            }
            Err(ProduceError::TimedOut { in_doubt: true, .. } | ProduceError::Refused { in_doubt: true, .. }) => {}
            // What was stored in the topic of before is gone with it.
            Err(ProduceError::NoSuchPartition { .. }) if topics.len() > 1 => {}
            Err(error) => assert!(found.is_empty(), "seed {seed}: record {token} is stored at {found:?}: {error}"),
        }
        assert!(told.is_err() || !is_refused(*token), "seed {seed}: record {token} was to be refused");
    }
    assert_eq!(told.len(), RECORDS as usize, "seed {seed}");
}

/// Reads until told to stop; every offset of every partition comes in turn, or an error says why not.
struct Reader {
    consumer: Consumer,
    /// The next offset of each partition; none when an error said that it may be elsewhere.
    expected: BTreeMap<i32, Option<i64>>,
    read: Vec<(i32, i64, u64)>,
    /// Errors that it was told.
    told: usize,
    /// Whether it gives partitions back and takes them again while it reads, and how often it did.
    is_restless: bool,
    reassigned: usize,
    dice: Dice,
}

impl Reader {
    async fn start(game: &mut Game, policy: OffsetReset, is_restless: bool) -> Self {
        let mut config = ConsumerConfig::default();
        config.client = game.client();
        config.offset_reset = policy;
        config.partition_bytes_max = game.dice.between(1, 1_000) as i32;
        config.buffer_bytes = game.dice.between(1, 10_000) as usize;
        config.unreachable_ms_max = 5_000;
        let consumer = Consumer::new(config).unwrap();
        loop {
            match consumer.assign_topic("t", StartFrom::Earliest).await {
                Ok(partitions) => {
                    let expected = partitions.into_iter().map(|partition| (partition, Some(0))).collect();
                    let dice = Dice(game.seed ^ 0x7ea);
                    return Self { consumer, expected, read: Vec::new(), told: 0, is_restless, reassigned: 0, dice };
                }
                Err(ConsumeError::Connection(_) | ConsumeError::UnknownTopic { .. }) => {
                    sleep(Duration::from_millis(100)).await;
                }
                Err(error) => panic!("seed {}: {error}", game.seed),
            }
        }
    }

    async fn poll(&mut self, seed: u64) {
        if self.is_restless && self.dice.one_in(4) {
            self.reassign(seed).await;
        }
        let polled = self.consumer.poll(7, Duration::from_millis(300)).await;
        self.told += usize::from(polled.is_err());
        match polled {
            Ok(records) => {
                assert!(records.len() <= 7, "seed {seed}");
                for record in records.iter() {
                    let (partition, offset) = (record.partition(), record.offset());
                    let expected = self.expected.get_mut(&partition).unwrap();
                    assert!(
                        expected.is_none_or(|expected| expected == offset),
                        "seed {seed}: partition {partition} goes on at {offset} instead of {expected:?}"
                    );
                    *expected = Some(offset + 1);
                    let token = std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap();
                    self.read.push((partition, offset, token));
                }
            }
            Err(ConsumeError::Connection(_)) => {}
            Err(
                ConsumeError::OffsetOutOfRange { partition, .. }
                | ConsumeError::Truncated { partition, .. }
                | ConsumeError::Refused { partition, .. },
            ) => self.restart(partition),
            Err(ConsumeError::NoSuchPartition { partition, .. }) => {
                self.consumer.unassign("t", partition);
                self.expected.remove(&partition);
            }
            Err(ConsumeError::UnknownTopic { .. }) => {
                for partition in self.expected.clone().into_keys() {
                    self.restart(partition);
                }
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }

    /// Gives a partition back and takes it again a little before where it was: an answer to the earlier reader may be on its way.
    async fn reassign(&mut self, seed: u64) {
        let known: Vec<_> = self.expected.iter().filter_map(|(partition, next)| Some((*partition, (*next)?))).collect();
        let Some((partition, next)) = known.get(self.dice.roll(known.len().max(1) as u64) as usize).copied() else {
            return;
        };
        self.consumer.unassign("t", partition);
        let offset = next.saturating_sub(self.dice.between(0, 20) as i64).max(0);
        let again = [Assignment { topic: "t".into(), partition, start: StartFrom::Offset(offset) }];
        self.reassigned += 1;
        loop {
            match self.consumer.assign(&again).await {
                Ok(()) => {
                    self.expected.insert(partition, Some(offset));
                    return;
                }
                Err(ConsumeError::NoSuchPartition { .. }) => {
                    self.expected.remove(&partition);
                    return;
                }
                Err(ConsumeError::Connection(_) | ConsumeError::UnknownTopic { .. }) => {
                    sleep(Duration::from_millis(100)).await;
                }
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
    }

    fn restart(&mut self, partition: i32) {
        self.consumer.seek("t", partition, StartFrom::Earliest).unwrap();
        self.expected.insert(partition, None);
    }

    /// Reads on until the end of every partition it reads.
    async fn catch_up(&mut self, seed: u64, cluster: &Cluster) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ends: Vec<i64> = {
                let state = cluster.state();
                state.topic().partitions.iter().map(|partition| partition.log.len() as i64).collect()
            };
            let behind = self.expected.iter().any(|(partition, next)| {
                let end = ends.get(*partition as usize).copied();
                // An empty partition has nothing to be read after an error; its end says nothing.
                end.is_none_or(|end| next.map_or(end > 0, |next| next != end))
            });
            if !behind {
                return;
            }
            assert!(Instant::now() < deadline, "seed {seed}: reads {:?} and not on to {ends:?}", self.expected);
            self.poll(seed).await;
        }
    }
}

fn check_reading(seed: u64, reader: &Reader, topics: &[&Topic]) {
    for (partition, offset, token) in &reader.read {
        let is_there = topics.iter().any(|topic| {
            let partition = topic.partitions.get(*partition as usize);
            partition.and_then(|partition| partition.log.get(*offset as usize)) == Some(token)
        });
        assert!(is_there, "seed {seed}: record {token} was read at {offset} of {partition}");
    }
}

/// What happened in all games, to see that they are hard.
#[derive(Debug, Default)]
struct Tally {
    games: usize,
    requests: usize,
    stored: usize,
    in_doubt: usize,
    refused: usize,
    timed_out: usize,
    partition_gone: usize,
    read: usize,
    told_to_readers: usize,
    topics_made_anew: usize,
    reassigned: usize,
    ended_in_silence: usize,
    idle_requests_per_second_max: usize,
}

impl Tally {
    fn count(&mut self, told: &Told) {
        match told {
            Ok(_) => self.stored += 1,
            Err(ProduceError::TimedOut { in_doubt: true, .. } | ProduceError::Refused { in_doubt: true, .. }) => {
                self.in_doubt += 1;
            }
            Err(ProduceError::TimedOut { .. }) => self.timed_out += 1,
            Err(ProduceError::Refused { .. }) => self.refused += 1,
            Err(_) => self.partition_gone += 1,
        }
    }
}

async fn play(seed: u64, tally: &mut Tally) {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let alive_before = alive();
    let mut game = Game::new(seed);
    let cluster = game.cluster.clone();
    let trouble = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.make_trouble(TROUBLE).await }
    });
    let producer = game.producer();
    let mut reader = Reader::start(&mut game, OffsetReset::Fail, true).await;
    let sending = Game { seed, dice: Dice(seed ^ 0xabc), cluster: cluster.clone() }.send(&producer);
    let reading = async {
        while !trouble.is_finished() {
            reader.poll(seed).await;
        }
    };
    // Neither is cancelled: a reader that has given a partition back would not take it again.
    let (told, ()) = tokio::join!(sending, reading);
    trouble.await.unwrap();
    // Upset nodes have calmed down by then.
    sleep(Duration::from_secs(5)).await;
    reader.is_restless = false;
    reader.catch_up(seed, &cluster).await;
    assert_eq!(producer.buffered_bytes(), 0, "seed {seed}");

    let mut fresh = Reader::start(&mut game, OffsetReset::Earliest, false).await;
    fresh.catch_up(seed, &cluster).await;
    {
        let state = cluster.state();
        let topics: Vec<&Topic> = std::iter::once(state.topic()).chain(&state.gone).collect();
        check_truth(seed, &told, &topics);
        check_reading(seed, &reader, &topics);
        let all: usize = state.topic().partitions.iter().map(|partition| partition.log.len()).sum();
        assert_eq!(fresh.read.len(), all, "seed {seed}: not everything is read");
        tally.games += 1;
        for told in told.values() {
            tally.count(told);
        }
        tally.requests += state.requests;
        tally.read += reader.read.len();
        tally.told_to_readers += reader.told;
        tally.reassigned += reader.reassigned;
        tally.topics_made_anew += state.gone.len();
        tally.idle_requests_per_second_max = tally.idle_requests_per_second_max.max(state.idle_requests_max);
        let State { idle_requests_max, busiest, .. } = &*state;
        assert!(
            *idle_requests_max < IDLE_REQUESTS_PER_SECOND_MAX,
            "seed {seed}: {idle_requests_max} idle requests in a second: {busiest:?}"
        );
    }
    let ends_in_silence = game.dice.one_in(2);
    if ends_in_silence {
        tally.ended_in_silence += 1;
        cluster.freeze();
        send_in_vain(&producer).await;
    }
    let is_settled = producer.close(Duration::from_secs(5)).await;
    assert!(is_settled || ends_in_silence, "seed {seed}");
    drop((producer, reader, fresh));
    // The slowest broker takes 1.5 s for an answer, a long poll half a second.
    sleep(Duration::from_secs(10)).await;
    assert_eq!(cluster.held(), 0, "seed {seed}: the client holds halves of connections that it gave up");
    cluster.thaw();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.state().open, 0, "seed {seed}: connections stay open");
    assert_eq!(alive(), alive_before, "seed {seed}: tasks are left");
}

/// Records whose requests do not fit into what a connection takes in.
async fn send_in_vain(producer: &Producer) {
    for token in RECORDS..RECORDS + 20 {
        let value = format!("{token:0>700}");
        drop(producer.send(&ProducerRecord::new("t").value(&value).partition(0)).await);
    }
    sleep(Duration::from_secs(3)).await;
}

/// 200 games, or those that `OTTLA_CLIENT_SEEDS` says: a number of games, `=SEED` for one, or `FIRST..END`.
#[test]
fn whatever_the_cluster_does_every_record_is_settled_and_read_and_nothing_spins_or_leaks() {
    let asked = std::env::var(SEEDS_VARIABLE).unwrap_or_default();
    let seed = |text: &str| text.parse::<u64>().unwrap();
    let seeds = match (asked.strip_prefix('='), asked.split_once("..")) {
        (Some(one), _) => seed(one)..seed(one) + 1,
        (None, Some((first, end))) => seed(first)..seed(end),
        (None, None) => 0..asked.parse().unwrap_or(SEEDS),
    };
    let mut tally = Tally::default();
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let game = async { timeout(Duration::from_hours(1), play(seed, &mut tally)).await };
        runtime.block_on(game).unwrap_or_else(|_| panic!("seed {seed} never ends"));
    }
    println!("{tally:?}");
    if tally.games >= SEEDS as usize {
        let Tally { games, requests, stored, read, in_doubt, refused, timed_out, partition_gone, .. } = tally;
        assert!(tally.idle_requests_per_second_max > 10 && read > stored / 2, "the games are too slow: {tally:?}");
        assert!(stored > games * RECORDS as usize / 2 && requests > games * 150, "the games are too short: {tally:?}");
        let enough = [in_doubt, refused, timed_out, partition_gone, tally.told_to_readers, tally.topics_made_anew];
        assert!(tally.reassigned > games && tally.ended_in_silence > games / 4, "the games are too even: {tally:?}");
        assert!(enough.iter().all(|count| *count >= games / 20), "the games are too easy: {tally:?}");
    }
}
