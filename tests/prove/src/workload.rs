//! Producers that remember what was acknowledged, and a consumer that remembers what it saw. What they remember is in
//! this process, out of reach of all that happens to the broker and its disk.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ottla_tests::connection::Connection;
use ottla_tests::connection::request_frame;
use ottla_tests::produce::produce_request;
use ottla_tests::syscalls::Ack;
use ottla_wire::ErrorCode;
use ottla_wire::message::ProduceRequest;

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
        let mut socket = Connection::open(address)?;
        if self.identity.is_none() {
            match socket.new_producer()? {
                Ok(sender) => self.identity = Some((sender.producer_id, sender.epoch)),
                Err(code) => return Ok(Stopped::Refused(code, Instant::now())),
            }
        }
        let (mut sent, mut made) = (0, 0);
        loop {
            while sent < PIPELINE && (sent < self.waiting.len() || more(made)) {
                if sent == self.waiting.len() {
                    made += 1;
                    self.make();
                }
                let Some(next) = self.waiting.get(sent) else { break };
                socket.send_request(11, &produce_request(&self.topic, self.partition, &next.bytes))?;
                sent += 1;
            }
            if sent == 0 {
                return Ok(Stopped::Told);
            }
            let stream_position = socket.bytes_received();
            let (code, base_offset) = socket.receive_response::<ProduceRequest<'_>, _>(11, |response| {
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
            let answer = Ack { receiver: socket.local_address(), stream_position, batches };
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
    request_frame(11, 1, &produce_request(topic, 0, batch))
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
        let Ok(mut socket) = Connection::open(address) else { return Ok(()) };
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
