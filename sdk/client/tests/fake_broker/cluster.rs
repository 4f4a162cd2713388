//! A cluster of three brokers in simulated time: a network of pipes, Kafka's own rules about leaders and sequence numbers,
//! and a script of what goes wrong. The same seed plays the same script, but hash maps and `select!` draw their own order: a
//! seed that fails now and then wants many runs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_client::{Connecting, Network, Outlet, Wire};
use ottla_wire::message::{
    FetchRecords, FetchRequest, FetchResponse, FetchableTopicResponse, InitProducerIdResponse,
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse, MetadataResponse,
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic, PartitionData, PartitionProduceResponse,
    ProduceRequest,
};
use ottla_wire::record::{Batch, set_base_offset, set_leader_epoch};
use ottla_wire::{ApiKey, ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Uuid};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep};

use crate::broker::{Reply, Request, versions};
use crate::producing::answer_each;

/// Node ids, from 1 on.
pub(crate) const NODES: i32 = 3;
/// What a connection takes in although its broker does not read: less than a large request, so that one can get stuck halfway.
const PIPE_BYTES: usize = 512;
/// A broker refuses larger batches: half of the games' `batch_bytes` get there.
const BATCH_RECORDS_MAX: usize = 12;
/// The broker refuses every record with such a token.
pub(crate) fn is_refused(token: u64) -> bool {
    token % 37 == 36
}

/// A number from the dice: the same seed plays the same game.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    pub(crate) fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll(high - low + 1)
    }
}

/// What a broker does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Nothing listens, and what was connected is not.
    Refusing,
    /// It takes connections, reads nothing and answers nothing until it thaws.
    Hanging,
    /// It answers late.
    Late,
    /// It answers with bytes that are no answer.
    Garbling,
    /// It ends the connection before it works on a request …
    DroppingBefore,
    /// … or after it.
    DroppingAfter,
}

const MOODS: [Mood; 6] =
    [Mood::Refusing, Mood::Hanging, Mood::Late, Mood::Garbling, Mood::DroppingBefore, Mood::DroppingAfter];

/// What a broker remembers of a producer on a partition.
struct Known {
    epoch: ProducerEpoch,
    next: Sequence,
    last: VecDeque<(Sequence, i64)>,
}

pub(crate) struct Partition {
    leader: i32,
    epoch: i32,
    /// Tokens of the records, by offset.
    pub(crate) log: Vec<u64>,
    /// Batches as they are fetched: first offset, offset behind, bytes.
    batches: Vec<(i64, i64, Vec<u8>)>,
    producers: HashMap<ProducerId, Known>,
}

impl Partition {
    fn new(leader: i32) -> Self {
        Self { leader, epoch: 0, log: Vec::new(), batches: Vec::new(), producers: HashMap::new() }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<i64, ErrorCode> {
        let batch = Batch::parse(bytes).map_err(|_| ErrorCode::CorruptMessage)?;
        batch.check_crc().map_err(|_| ErrorCode::CorruptMessage)?;
        let records = batch.records(1 << 20).map_err(|_| ErrorCode::CorruptMessage)?;
        let token = |value: &[u8]| std::str::from_utf8(value).unwrap().parse::<u64>().unwrap();
        let tokens: Vec<u64> = records.iter().map(|record| token(record.unwrap().value.unwrap())).collect();
        let (id, epoch, sequence) = (batch.header.producer_id, batch.header.producer_epoch, batch.header.base_sequence);
        if let Some(known) = self.producers.get(&id) {
            if epoch < known.epoch {
                return Err(ErrorCode::InvalidProducerEpoch);
            }
            if epoch == known.epoch {
                if let Some((_, base)) = known.last.iter().find(|(first, _)| *first == sequence) {
                    return Ok(*base);
                }
                if sequence != known.next {
                    return Err(ErrorCode::OutOfOrderSequenceNumber);
                }
            } else if sequence != Sequence(0) {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
        }
        if tokens.len() > BATCH_RECORDS_MAX {
            return Err(ErrorCode::MessageTooLarge);
        }
        if tokens.iter().any(|token| is_refused(*token)) {
            return Err(ErrorCode::InvalidRecord);
        }
        let base = self.log.len() as i64;
        let next = sequence.advance(tokens.len() as i32);
        self.log.extend(&tokens);
        let mut stored = bytes.to_vec();
        set_base_offset(&mut stored, Offset(base));
        set_leader_epoch(&mut stored, LeaderEpoch(self.epoch));
        self.batches.push((base, self.log.len() as i64, stored));
        let known = self.producers.entry(id).or_insert_with(|| Known { epoch, next, last: VecDeque::new() });
        if known.epoch != epoch {
            known.epoch = epoch;
            known.last.clear();
        }
        known.next = next;
        known.last.push_back((sequence, base));
        if known.last.len() > 5 {
            known.last.pop_front();
        }
        Ok(base)
    }

    /// Whole batches from this offset on.
    fn read(&self, offset: i64, bytes_max: i32) -> Result<Vec<u8>, ErrorCode> {
        if !(0..=self.log.len() as i64).contains(&offset) {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let mut read = Vec::new();
        for (_, _, bytes) in self.batches.iter().filter(|(_, end, _)| *end > offset) {
            if !read.is_empty() && read.len() + bytes.len() > bytes_max.max(0) as usize {
                break;
            }
            read.extend_from_slice(bytes);
        }
        Ok(read)
    }
}

/// The topic `t` as it was made once; made anew, it is another one.
pub(crate) struct Topic {
    pub(crate) id: u128,
    pub(crate) partitions: Vec<Partition>,
}

pub(crate) struct State {
    pub(crate) dice: Dice,
    moods: [Mood; NODES as usize],
    /// None while it is being made anew.
    topic: Option<Topic>,
    /// Earlier ones of its name.
    pub(crate) gone: Vec<Topic>,
    next_producer: i64,
    /// Nothing goes wrong any more.
    calm: bool,
    /// Connections that a broker holds.
    pub(crate) open: usize,
    /// Requests that arrived.
    pub(crate) requests: usize,
    second: u64,
    idle_this_second: usize,
    /// All requests of this second, by API.
    by_api: BTreeMap<&'static str, usize>,
    /// The same of the busiest second.
    pub(crate) busiest: BTreeMap<&'static str, usize>,
    /// Requests that moved no record, in the busiest second.
    pub(crate) idle_requests_max: usize,
}

impl State {
    /// The topic as it is now.
    pub(crate) fn topic(&self) -> &Topic {
        self.topic.as_ref().unwrap()
    }

    fn mood(&self, node: i32) -> Mood {
        self.moods[node as usize - 1]
    }

    fn count_request(&mut self, started: Instant, key: ApiKey) {
        let second = started.elapsed().as_secs();
        if second != self.second {
            let by_api = std::mem::take(&mut self.by_api);
            if self.idle_this_second > self.idle_requests_max {
                (self.idle_requests_max, self.busiest) = (self.idle_this_second, by_api);
            }
            (self.second, self.idle_this_second) = (second, 0);
        }
        self.requests += 1;
        *self.by_api.entry(key.name()).or_default() += 1;
        self.idle_this_second += 1;
    }

    /// A request that was counted moved records.
    fn moved_records(&mut self) {
        self.idle_this_second = self.idle_this_second.saturating_sub(1);
    }

    fn well_node(&mut self) -> i32 {
        let start = self.dice.roll(NODES as u64) as i32;
        (0..NODES).map(|step| (start + step) % NODES + 1).find(|node| self.mood(*node) == Mood::Well).unwrap_or(1)
    }

    fn new_topic(&mut self, id: u128, partitions: u64) {
        let partitions = (0..partitions).map(|_| Partition::new(self.dice.roll(NODES as u64) as i32 + 1)).collect();
        self.topic = Some(Topic { id, partitions });
    }
}

/// See the module. Clones are the same cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    state: Arc<Mutex<State>>,
    /// Halves of connections that clients have not let go of.
    held: Arc<AtomicUsize>,
    started: Instant,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cluster")
    }
}

impl Cluster {
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = State {
            dice: Dice(seed.wrapping_mul(0x0123_4567_89ab_cdef)),
            moods: [Mood::Well; NODES as usize],
            topic: None,
            gone: Vec::new(),
            next_producer: 100,
            calm: false,
            open: 0,
            requests: 0,
            second: 0,
            idle_this_second: 0,
            by_api: BTreeMap::new(),
            busiest: BTreeMap::new(),
            idle_requests_max: 0,
        };
        let partitions = state.dice.between(1, 4);
        state.new_topic(1, partitions);
        Self { state: Arc::new(Mutex::new(state)), held: Arc::default(), started: Instant::now() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Halves of connections that clients have not let go of.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// All nodes hang until they are thawed.
    pub(crate) fn freeze(&self) {
        self.state().moods = [Mood::Hanging; NODES as usize];
    }

    pub(crate) fn thaw(&self) {
        self.state().moods = [Mood::Well; NODES as usize];
    }

    pub(crate) fn bootstrap() -> String {
        (1..=NODES).map(|node| format!("node{node}:1")).collect::<Vec<_>>().join(",")
    }

    /// Makes trouble for so long, then none.
    pub(crate) async fn make_trouble(&self, duration: Duration) {
        let may_be_made_anew = self.state().dice.one_in(4);
        while self.started.elapsed() < duration {
            let pause = self.state().dice.between(20, 500);
            sleep(Duration::from_millis(pause)).await;
            let event = self.state().dice.roll(10);
            match event {
                0..=5 => self.upset_a_node(),
                6..=7 => {
                    let mut state = self.state();
                    let leader = state.well_node();
                    let partitions = state.topic().partitions.len() as u64;
                    let at = state.dice.roll(partitions) as usize;
                    let partition = &mut state.topic.as_mut().unwrap().partitions[at];
                    (partition.leader, partition.epoch) = (leader, partition.epoch + 1);
                }
                8 => {
                    let mut state = self.state();
                    let leader = state.well_node();
                    let partitions = &mut state.topic.as_mut().unwrap().partitions;
                    if partitions.len() < 6 {
                        partitions.push(Partition::new(leader));
                    }
                }
                _ if may_be_made_anew && self.state().gone.is_empty() => {
                    let topic = self.state().topic.take().unwrap();
                    let absence = self.state().dice.between(1, 1_000);
                    sleep(Duration::from_millis(absence)).await;
                    let mut state = self.state();
                    let partitions = state.dice.between(1, 4);
                    state.new_topic(topic.id + 1, partitions);
                    state.gone.push(topic);
                }
                _ => {}
            }
        }
        let mut state = self.state();
        state.calm = true;
        state.moods = [Mood::Well; NODES as usize];
    }

    fn upset_a_node(&self) {
        let (node, duration) = {
            let mut state = self.state();
            let node = state.dice.roll(NODES as u64) as i32 + 1;
            let mood = MOODS[state.dice.roll(MOODS.len() as u64) as usize];
            state.moods[node as usize - 1] = mood;
            (node, state.dice.between(50, 3_000))
        };
        let cluster = self.clone();
        tokio::spawn(async move {
            // After a while the others take over what it leads, as a controller makes them.
            sleep(Duration::from_millis(duration.min(300))).await;
            {
                let mut state = cluster.state();
                let leader = state.well_node();
                if matches!(state.mood(node), Mood::Refusing | Mood::Hanging) && state.dice.one_in(2) {
                    let partitions = state.topic.iter_mut().flat_map(|topic| &mut topic.partitions);
                    for partition in partitions.filter(|partition| partition.leader == node) {
                        (partition.leader, partition.epoch) = (leader, partition.epoch + 1);
                    }
                }
            }
            sleep(Duration::from_millis(duration)).await;
            cluster.state().moods[node as usize - 1] = Mood::Well;
        });
    }

    async fn serve(self, node: i32, mut stream: DuplexStream) {
        self.state().open += 1;
        let _ = self.answer_all(node, &mut stream).await;
        self.state().open -= 1;
    }

    async fn answer_all(&self, node: i32, stream: &mut DuplexStream) -> io::Result<()> {
        let address = "127.0.0.1:1".parse().unwrap();
        loop {
            self.wait_for_thaw(node).await;
            let length = stream.read_i32().await?;
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut frame).await?;
            let request = Request::parse(&frame, address);
            let delay = {
                let mut state = self.state();
                state.count_request(self.started, request.key);
                let late = if state.mood(node) == Mood::Late { 1_500 } else { 3 };
                state.dice.between(1, late)
            };
            sleep(Duration::from_millis(delay)).await;
            self.wait_for_thaw(node).await;
            let mood = self.state().mood(node);
            let reply = match mood {
                Mood::Refusing | Mood::DroppingBefore => return Ok(()),
                Mood::Garbling => {
                    let bytes = self.state().dice.between(0, 60) as usize;
                    let head = [((bytes + 4) as i32).to_be_bytes(), request.correlation_id.to_be_bytes()].concat();
                    Reply::Bytes([head, vec![0xa5; bytes]].concat())
                }
                _ => self.work(node, &request).await,
            };
            if let (Reply::Bytes(bytes), false) = (reply, mood == Mood::DroppingAfter) {
                stream.write_all(&bytes).await?;
            } else {
                return Ok(());
            }
        }
    }

    async fn wait_for_thaw(&self, node: i32) {
        while self.state().mood(node) == Mood::Hanging {
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn work(&self, node: i32, request: &Request) -> Reply {
        match request.key {
            ApiKey::ApiVersions => request.answer(&versions()),
            ApiKey::Metadata => self.metadata(request),
            ApiKey::InitProducerId => {
                let mut state = self.state();
                state.next_producer += 1;
                let producer_id = state.next_producer;
                request.answer(&InitProducerIdResponse { producer_id, ..InitProducerIdResponse::default() })
            }
            ApiKey::Produce => self.produce(node, request),
            ApiKey::Fetch => self.fetch(node, request).await,
            ApiKey::ListOffsets => self.list_offsets(node, request),
            _ => Reply::Close,
        }
    }

    fn metadata(&self, request: &Request) -> Reply {
        let mut state = self.state();
        // A broker may lag behind: it names the leaders of an epoch ago.
        let lags = !state.calm && state.dice.one_in(10);
        let broker = |node_id| MetadataResponseBroker {
            node_id,
            host: format!("node{node_id}").into(),
            port: 1,
            ..MetadataResponseBroker::default()
        };
        let brokers = (1..=NODES).filter(|node| state.mood(*node) != Mood::Refusing).map(broker).collect();
        let mut topic = MetadataResponseTopic { name: Some("t".into()), ..MetadataResponseTopic::default() };
        match &state.topic {
            Some(known) => {
                topic.topic_id = Uuid::from_u128(known.id);
                topic.partitions = known
                    .partitions
                    .iter()
                    .zip(0..)
                    .map(|(partition, partition_index)| MetadataResponsePartition {
                        partition_index,
                        leader_id: if lags { partition.leader % NODES + 1 } else { partition.leader },
                        leader_epoch: partition.epoch - i32::from(lags),
                        ..MetadataResponsePartition::default()
                    })
                    .collect();
            }
            None => topic.error_code = ErrorCode::UnknownTopicOrPartition,
        }
        request.answer(&MetadataResponse { brokers, controller_id: 1, topics: vec![topic], ..Default::default() })
    }

    fn produce(&self, node: i32, request: &Request) -> Reply {
        let produce: ProduceRequest<'_> = request.read();
        let mut answers = HashMap::new();
        for data in produce.topic_data.iter().flat_map(|topic| &topic.partition_data) {
            let mut state = self.state();
            let fails_late = !state.calm && state.dice.one_in(20);
            let fails_early = !state.calm && state.dice.one_in(20);
            let appended = match led_by(&mut state, node, data.index) {
                Err(code) => Err(code),
                Ok(_) if fails_early => Err(ErrorCode::NotEnoughReplicas),
                Ok(partition) => partition.append(data.records.unwrap_or_default()),
            };
            let appended = if fails_late && appended.is_ok() { Err(ErrorCode::RequestTimedOut) } else { appended };
            answers.insert(data.index, appended);
        }
        if answers.values().any(Result::is_ok) {
            self.state().moved_records();
        }
        answer_each(request, |index| match answers[&index] {
            Ok(base_offset) => PartitionProduceResponse { base_offset, ..PartitionProduceResponse::default() },
            Err(error_code) => PartitionProduceResponse { error_code, base_offset: -1, ..Default::default() },
        })
    }

    async fn fetch(&self, node: i32, request: &Request) -> Reply {
        let fetch: FetchRequest<'_> = request.read();
        let until = Instant::now() + Duration::from_millis(fetch.max_wait_ms.max(0) as u64);
        loop {
            let mut parts = Vec::new();
            for asked in fetch.topics.iter().flat_map(|topic| &topic.partitions) {
                let mut state = self.state();
                let led = led_by(&mut state, node, asked.partition);
                let read = led.and_then(|partition| {
                    let read = partition.read(asked.fetch_offset, asked.partition_max_bytes)?;
                    Ok((read, partition.log.len() as i64))
                });
                parts.push((asked.partition, read));
            }
            let news = |part: &(i32, Result<(Vec<u8>, i64), ErrorCode>)| {
                part.1.as_ref().is_ok_and(|(read, _)| read.is_empty())
            };
            if Instant::now() >= until || !parts.iter().all(news) {
                if parts.iter().any(|(_, read)| read.as_ref().is_ok_and(|(records, _)| !records.is_empty())) {
                    self.state().moved_records();
                }
                let partitions = parts.iter().map(|(partition_index, read)| match read {
                    Ok((records, end)) => PartitionData {
                        partition_index: *partition_index,
                        high_watermark: *end,
                        log_start_offset: 0,
                        records: FetchRecords::Bytes(records),
                        ..PartitionData::default()
                    },
                    Err(error_code) => PartitionData {
                        partition_index: *partition_index,
                        error_code: *error_code,
                        ..PartitionData::default()
                    },
                });
                let partitions = partitions.collect();
                let topic = FetchableTopicResponse { topic: "t".into(), partitions, ..Default::default() };
                return request.answer(&FetchResponse { responses: vec![topic], ..FetchResponse::default() });
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn list_offsets(&self, node: i32, request: &Request) -> Reply {
        let asked: ListOffsetsRequest<'_> = request.read();
        let mut state = self.state();
        let topics = asked.topics.iter().map(|topic| ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|asked| {
                    let end = led_by(&mut state, node, asked.partition_index).map(|known| known.log.len() as i64);
                    ListOffsetsPartitionResponse {
                        partition_index: asked.partition_index,
                        error_code: end.err().unwrap_or(ErrorCode::None),
                        offset: if asked.timestamp == -2 { 0 } else { end.unwrap_or(-1) },
                        ..ListOffsetsPartitionResponse::default()
                    }
                })
                .collect(),
        });
        let topics = topics.collect();
        request.answer(&ListOffsetsResponse { topics, ..ListOffsetsResponse::default() })
    }
}

fn led_by(state: &mut State, node: i32, partition: i32) -> Result<&mut Partition, ErrorCode> {
    let topic = state.topic.as_mut().ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topic.partitions.get_mut(partition as usize).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if partition.leader == node { Ok(partition) } else { Err(ErrorCode::NotLeaderOrFollower) }
}

impl Network for Cluster {
    fn connect(&self, host: &str, _port: u16) -> Connecting {
        let node: i32 = host.strip_prefix("node").unwrap().parse().unwrap();
        let cluster = self.clone();
        Box::pin(async move {
            sleep(Duration::from_millis(1)).await;
            if cluster.state().mood(node) == Mood::Refusing {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            let (read, write) = tokio::io::split(near);
            let (read, write) = (Half::of(&cluster, read), Half::of(&cluster, write));
            tokio::spawn(cluster.serve(node, far));
            Ok(Wire { read: Box::new(read), write: Box::new(write) })
        })
    }
}

/// The client's half of a connection, counted for as long as the client has it.
struct Half<T> {
    pipe: T,
    held: Arc<AtomicUsize>,
}

impl<T> Half<T> {
    fn of(cluster: &Cluster, pipe: T) -> Self {
        cluster.held.fetch_add(1, Ordering::Relaxed);
        Self { pipe, held: Arc::clone(&cluster.held) }
    }
}

impl<T> Drop for Half<T> {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Half<ReadHalf<DuplexStream>> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, into)
    }
}

impl Outlet for Half<WriteHalf<DuplexStream>> {}

impl AsyncWrite for Half<WriteHalf<DuplexStream>> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
