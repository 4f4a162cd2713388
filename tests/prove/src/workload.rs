//! Producers that remember what was acknowledged, and a consumer that remembers what it saw. What they remember is in
//! this process, out of reach of all that happens to the broker and its disk.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ottla_tests::connection::Connection;
use ottla_tests::syscalls::Ack;
use ottla_wire::message::{
    ApiVersionsRequest, FetchPartition, FetchRecords, FetchRequest, FetchTopic, InitProducerIdRequest,
    InitProducerIdResponse, PartitionProduceData, ProduceRequest, TopicProduceData,
};
use ottla_wire::{ErrorCode, Request, RequestHeader, decode_response, encode_request};

use crate::content::{Entry, Identity, Sender, batch, entries, first_batch};
use crate::seed::Seed;

/// Requests that a producer has under way at once; the broker knows as many batches of each producer again.
pub const PIPELINE: usize = 5;

/// Batches that can be taken back.
const ANSWERED_MAX: usize = 1024;

/// Records that were acknowledged, at their offsets.
#[derive(Clone, Debug)]
pub struct Acked {
    /// The first of them.
    pub first: Identity,
    /// How many.
    pub count: u32,
    /// Offset of the first.
    pub base_offset: i64,
    /// Which answer said so.
    pub answer: Ack,
    /// When it was read.
    pub at: Instant,
}

/// Why a producer stopped.
#[derive(Clone, Debug)]
pub enum Stopped {
    /// It was told to, and everything it sent is acknowledged.
    Told,
    /// The broker is gone.
    Gone(String),
    /// The broker refused a batch.
    Refused(ErrorCode, Instant),
}

/// A batch that is not acknowledged yet.
#[derive(Clone, Debug)]
struct Sent {
    first: Identity,
    count: u32,
    bytes: Vec<u8>,
}

/// An idempotent producer with acks=all to one partition. It outlives the broker and goes on where it was.
#[derive(Debug)]
pub struct Producer {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What was acknowledged, in order.
    pub acked: Vec<Acked>,
    tag: u32,
    filler_max: u64,
    records_max: u64,
    next_number: u64,
    made_bytes: u64,
    sequence: i32,
    identity: Option<(i64, i16)>,
    waiting: VecDeque<Sent>,
    /// The batches of the last acknowledgements, in case these turn out to be worth nothing.
    answered: VecDeque<Sent>,
    seed: Seed,
}

impl Producer {
    /// A producer whose records carry `tag`; their values have up to `filler_max` bytes more than they need.
    pub fn new(tag: u32, topic: &str, partition: i32, filler_max: u64, seed: u64) -> Producer {
        Producer {
            topic: topic.to_owned(),
            partition,
            acked: Vec::new(),
            tag,
            filler_max,
            records_max: 4,
            next_number: 0,
            made_bytes: 0,
            sequence: 0,
            identity: None,
            waiting: VecDeque::new(),
            answered: VecDeque::new(),
            seed: Seed::new(seed ^ u64::from(tag) << 32),
        }
    }

    /// How many records it has made so far.
    pub fn made(&self) -> u64 {
        self.next_number
    }

    /// How many bytes the batches have that it has made so far.
    pub fn made_bytes(&self) -> u64 {
        self.made_bytes
    }

    /// The tag of its records.
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// Produces until `stop`, the broker's end, or a refusal. What is not acknowledged by then is sent again next time.
    pub fn run(&mut self, address: SocketAddr, stop: &AtomicBool) -> Stopped {
        self.attempt(address, &mut |_| !stop.load(Ordering::Relaxed))
            .unwrap_or_else(|gone| Stopped::Gone(gone.to_string()))
    }

    /// Sends what is left, then up to `batches` more, and waits for the answers.
    pub fn send(&mut self, address: SocketAddr, batches: usize) -> Stopped {
        let attempt = self.attempt(address, &mut |made| made < batches);
        attempt.unwrap_or_else(|gone| Stopped::Gone(gone.to_string()))
    }

    /// Takes back what was acknowledged from `moment` on, to be sent again; how many records that is. Once the power goes
    /// nothing leaves a machine: an answer that leaves a process which outlives its disk by a moment proves nothing, as
    /// the sync before it may have ended with the journal that it waited for.
    pub fn forget_since(&mut self, moment: Instant) -> u64 {
        let mut records = 0;
        while let Some(acked) = self.acked.pop_if(|acked| acked.at >= moment) {
            while let Some(batch) = self.answered.pop_back() {
                let found = batch.first == acked.first;
                self.waiting.push_front(batch);
                if found {
                    break;
                }
            }
            records += u64::from(acked.count);
        }
        records
    }

    /// Leaves out what was taken back and is there after all, except for as many batches as a producer may have under
    /// way: of those the broker has to know by itself.
    pub fn find_again(&mut self, log: &[Entry]) {
        let there: HashSet<Identity> = log.iter().map(|entry| entry.identity).collect();
        while self.waiting.len() > PIPELINE && self.waiting.front().is_some_and(|sent| there.contains(&sent.first)) {
            self.waiting.pop_front();
        }
    }

    fn attempt(&mut self, address: SocketAddr, more: &mut dyn FnMut(usize) -> bool) -> io::Result<Stopped> {
        let mut socket = Socket::open(address)?;
        if self.identity.is_none() {
            let request = InitProducerIdRequest { transaction_timeout_ms: 1000, ..InitProducerIdRequest::default() };
            let answer =
                |response: InitProducerIdResponse| (response.error_code, response.producer_id, response.producer_epoch);
            let (code, id, epoch) = socket.call(4, &request, answer)?;
            if code != ErrorCode::None {
                return Ok(Stopped::Refused(code, Instant::now()));
            }
            self.identity = Some((id, epoch));
        }
        let (mut sent, mut made) = (0, 0);
        loop {
            while sent < PIPELINE && (sent < self.waiting.len() || more(made)) {
                if sent == self.waiting.len() {
                    made += 1;
                    self.make();
                }
                let Some(next) = self.waiting.get(sent) else { break };
                let data = PartitionProduceData { index: self.partition, records: Some(&next.bytes) };
                let data = TopicProduceData {
                    name: self.topic.as_str().into(),
                    partition_data: vec![data],
                    ..Default::default()
                };
                let request = ProduceRequest {
                    acks: -1,
                    timeout_ms: 30_000,
                    topic_data: vec![data],
                    ..ProduceRequest::default()
                };
                socket.send(11, &request)?;
                sent += 1;
            }
            if sent == 0 {
                return Ok(Stopped::Told);
            }
            let stream_position = socket.connection.bytes_received();
            let (code, base_offset) = socket.receive::<ProduceRequest<'_>, _>(11, |response| {
                let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
                answer.map_or((ErrorCode::None, -1), |answer| (answer.error_code, answer.base_offset))
            })?;
            if !matches!(code, ErrorCode::None | ErrorCode::DuplicateSequenceNumber) {
                return Ok(Stopped::Refused(code, Instant::now()));
            }
            sent -= 1;
            let Some(batch) = self.waiting.pop_front() else { break };
            let (first, count) = (batch.first, batch.count);
            self.answered.push_back(batch);
            if self.answered.len() > ANSWERED_MAX {
                self.answered.pop_front();
            }
            if code == ErrorCode::DuplicateSequenceNumber {
                // It is there, and so long ago that the broker does not know where any more.
                continue;
            }
            let batches = vec![(format!("{}-{}", self.topic, self.partition), base_offset)];
            let answer = Ack { receiver: socket.connection.local_address(), stream_position, batches };
            self.acked.push(Acked { first, count, base_offset, answer, at: Instant::now() });
        }
        Ok(Stopped::Told)
    }

    fn make(&mut self) {
        let count = 1 + self.seed.within(0..self.records_max) as u32;
        let first = Identity { tag: self.tag, number: self.next_number };
        let (producer_id, epoch) = self.identity.unwrap_or((-1, -1));
        let sender = Sender { producer_id, epoch, sequence: self.sequence };
        let bytes = batch(first, count, self.filler_max, timestamp_of(first.number), Some(sender));
        self.next_number += u64::from(count);
        self.made_bytes += bytes.len() as u64;
        self.sequence += count.cast_signed();
        self.waiting.push_back(Sent { first, count, bytes });
    }
}

/// Rises with the number, so that searches by time have an answer.
pub fn timestamp_of(number: u64) -> i64 {
    1_700_000_000_000 + number as i64
}

/// A produce request of one batch to partition 0, its length in front.
pub fn produce_frame(topic: &str, batch: &[u8]) -> Vec<u8> {
    let data = PartitionProduceData { index: 0, records: Some(batch) };
    let data = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![data], ..ProduceRequest::default() };
    let mut bytes = Vec::new();
    encode_request(&RequestHeader::of::<ProduceRequest<'_>>(11, 1, Some("prove".into())), &request, &mut bytes);
    bytes
}

/// Requests and answers, several of them under way, every failure an error.
#[derive(Debug)]
pub struct Socket {
    /// The connection.
    pub connection: Connection,
    sent: i32,
    received: i32,
}

impl Socket {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Socket> {
        Ok(Socket { connection: Connection::open(address)?, sent: 0, received: 0 })
    }

    /// Names itself as one of our own clients: those see placements and may use our own APIs.
    pub fn name_as_ottla(&mut self) -> io::Result<()> {
        let name =
            ApiVersionsRequest { client_software_name: "ottla".into(), client_software_version: "0.0.0-test".into() };
        self.call(3, &name, |_| ())
    }

    /// Sends a request.
    pub fn send<'r, R: Request<'r>>(&mut self, version: i16, request: &R) -> io::Result<()> {
        self.sent += 1;
        let mut bytes = Vec::new();
        encode_request(&RequestHeader::of::<R>(version, self.sent, Some("prove".into())), request, &mut bytes);
        self.connection.send(&bytes)
    }

    /// Receives the answer to the request `R` that is next in turn.
    pub fn receive<'r, R: Request<'r>, T>(
        &mut self,
        version: i16,
        read: impl FnOnce(R::Response<'_>) -> T,
    ) -> io::Result<T> {
        let frame = self.connection.receive_frame()?;
        let (correlation_id, response) = decode_response(version, &frame).map_err(io::Error::other)?;
        self.received += 1;
        if correlation_id != self.received {
            return Err(io::Error::other(format!("answer {correlation_id} instead of {}", self.received)));
        }
        Ok(read(response))
    }

    /// Sends a request and receives its answer.
    pub fn call<'r, R: Request<'r>, T>(
        &mut self,
        version: i16,
        request: &R,
        read: impl FnOnce(R::Response<'_>) -> T,
    ) -> io::Result<T> {
        self.send(version, request)?;
        self.receive::<R, T>(version, read)
    }

    /// Fetches from `offset` of a partition on: the bytes of whole batches, or the error the partition answered with.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> io::Result<Fetched> {
        self.ask(topic, partition, offset, max_wait_ms)?;
        self.answered()
    }

    /// Asks for the same and does not wait for the answer.
    pub fn ask(&mut self, topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> io::Result<()> {
        let partition =
            FetchPartition { partition, fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
        let topic = FetchTopic { topic: topic.into(), partitions: vec![partition], ..FetchTopic::default() };
        let request = FetchRequest { max_wait_ms, min_bytes: 1, topics: vec![topic], ..FetchRequest::default() };
        self.send(11, &request)
    }

    /// The answer to the fetch that is next in turn.
    pub fn answered(&mut self) -> io::Result<Fetched> {
        self.receive::<FetchRequest<'_>, _>(11, |response| {
            let found = response.responses.first().and_then(|topic| topic.partitions.first());
            let Some(found) = found else { return Fetched { code: response.error_code, ..Fetched::default() } };
            let bytes = if let FetchRecords::Bytes(bytes) = &found.records { bytes.to_vec() } else { Vec::new() };
            Fetched {
                code: found.error_code,
                high_watermark: found.high_watermark,
                start: found.log_start_offset,
                bytes,
            }
        })
    }
}

/// What a fetch of one partition brought.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// What the partition answered.
    pub code: ErrorCode,
    /// How far records are visible.
    pub high_watermark: i64,
    /// The first offset there is.
    pub start: i64,
    /// Whole batches, the last one perhaps cut off.
    pub bytes: Vec<u8>,
}

/// A record that a consumer was shown.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The record.
    pub entry: Entry,
    /// When the answer was read.
    pub at: Instant,
}

/// Reads at the head of a partition and remembers what it was shown.
#[derive(Debug, Default)]
pub struct Consumer {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Every record it was shown, as often as it was shown one.
    pub seen: Vec<Seen>,
    next_offset: i64,
}

impl Consumer {
    /// A consumer from the beginning on.
    pub fn new(topic: &str, partition: i32) -> Consumer {
        Consumer { topic: topic.to_owned(), partition, ..Consumer::default() }
    }

    /// Reads until `stop` or the broker's end; what it was shown wrongly is an error.
    pub fn run(&mut self, address: SocketAddr, stop: &AtomicBool) -> Result<(), String> {
        let Ok(mut socket) = Socket::open(address) else { return Ok(()) };
        while !stop.load(Ordering::Relaxed) {
            let Ok(fetched) = socket.fetch(&self.topic, self.partition, self.next_offset, 100) else { break };
            if fetched.code != ErrorCode::None {
                break;
            }
            let (mut rest, at) = (fetched.bytes.as_slice(), Instant::now());
            while !rest.is_empty() {
                // Only a batch that is cut off at the end of an answer may be incomplete.
                let Ok(raw) = first_batch(rest) else { break };
                let found = entries(&raw)?;
                let new = found.into_iter().filter(|entry| entry.offset >= self.next_offset);
                self.seen.extend(new.map(|entry| Seen { entry, at }));
                self.next_offset = self.next_offset.max(raw.last_offset + 1);
                rest = &rest[raw.bytes.len()..];
            }
        }
        Ok(())
    }

    /// Takes back what it was shown from `moment` on, as [`Producer::forget_since`] does.
    pub fn forget_since(&mut self, moment: Instant) {
        while let Some(seen) = self.seen.pop_if(|seen| seen.at >= moment) {
            self.next_offset = self.next_offset.min(seen.entry.offset);
        }
    }
}
