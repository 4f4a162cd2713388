//! Idempotent producers that pipeline, lose connections and answers, give up waiting, and come again with what was
//! acknowledged, too, as clients do that never got the answer.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla_tests::connection::Connection;
use ottla_tests::produce::produce_request;
use ottla_wire::ErrorCode;
use ottla_wire::message::ProduceRequest;

use super::model::{At, KEYS};
use crate::content::{Identity, Sender, keyed_batch};
use crate::seed::Seed;
use crate::workload::{PIPELINE, timestamp_of};

/// A version whose answers say where records went.
const PRODUCE_VERSION: i16 = 11;
/// No answer for so long is none: every request asks for one sooner.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a refused producer waits before it tries again.
const REST: Duration = Duration::from_millis(10);
/// When a patient request asks for its answer, in milliseconds.
const TIMEOUT_MS: u64 = 1500;

/// How a producer treats its connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner {
    /// It waits for every answer.
    Patient,
    /// Some requests are to be answered at once, and some connections end before their answers.
    Rash,
    /// Every request is to be answered within so many milliseconds.
    Within(u64),
}

/// The bit of a generation that says that the topic is being deleted and made again.
pub(super) const BEING_MADE: u32 = 1;

/// Tags that no producer has had yet.
static TAGS: AtomicU32 = AtomicU32::new(1);

/// What a producer sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) filler_max: u64,
    pub(super) records_max: u64,
    pub(super) has_keys: bool,
    /// Its numbers begin shortly before the last one, and a batch ends with it.
    pub(super) wraps: bool,
}

/// A producer to one partition of a topic.
#[derive(Debug)]
pub(super) struct Producer {
    /// The topic: its place in the storm, its name, and its generation: it rises by one when the topic is deleted, and by
    /// one when it is there again.
    pub(super) topic: usize,
    pub(super) name: String,
    pub(super) generation: Arc<AtomicU32>,
    pub(super) addressed: i32,
    pub(super) current: Incarnation,
    /// Earlier producer ids, with everything sent under them.
    pub(super) past: Vec<Incarnation>,
    /// Answers that break a promise.
    pub(super) wrongs: Vec<String>,
    shape: Shape,
    random: Seed,
}

/// One producer id.
#[derive(Debug)]
pub(super) struct Incarnation {
    pub(super) tag: u32,
    pub(super) generation: u32,
    pub(super) batches: Vec<Sent>,
    id: Option<(i64, i16)>,
    next_number: u64,
    sequence: i32,
}

/// A batch that was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) answer: Option<Answer>,
    /// When it was sent, and when that was acknowledged, for the last time.
    went_out: Instant,
    acknowledged: Option<Instant>,
    sequence: i32,
}

impl Sent {
    /// Whether it was acknowledged before `moment`, as often as it was sent.
    pub(super) fn is_settled_before(&self, moment: Instant) -> bool {
        self.acknowledged.is_some_and(|at| at >= self.went_out && at < moment)
    }
}

/// An acknowledgement.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Where its records are, in turn.
    pub(super) places: Vec<At>,
    pub(super) at: Instant,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// Everything it sent is acknowledged.
    Done,
    /// It dropped the connection.
    Dropped,
    /// A batch was refused.
    Refused(ErrorCode),
}

impl Producer {
    pub(super) fn new(
        (topic, name, generation): (usize, &str, &Arc<AtomicU32>),
        addressed: i32,
        shape: Shape,
        seed: u64,
    ) -> Producer {
        let mut random = Seed::new(seed ^ (addressed as u64 + 1) << 40 ^ (topic as u64 + 1) << 48);
        let current = Incarnation::new(generation.load(Ordering::Acquire), shape, &mut random);
        Producer {
            topic,
            name: name.to_owned(),
            generation: Arc::clone(generation),
            addressed,
            current,
            past: Vec::new(),
            wrongs: Vec::new(),
            shape,
            random,
        }
    }

    /// Goes on under another producer id; what is not acknowledged stays unsure.
    pub(super) fn retire(&mut self) {
        let new = Incarnation::new(self.generation.load(Ordering::Acquire), self.shape, &mut self.random);
        self.past.push(std::mem::replace(&mut self.current, new));
    }

    /// Produces until `stop`, at most `batches` new ones.
    pub(super) fn run(&mut self, address: SocketAddr, stop: &AtomicBool, batches: usize) {
        let mut left = batches;
        while !stop.load(Ordering::Acquire) {
            let made = self.current.batches.len();
            let mut more = |now: usize| now < left && !stop.load(Ordering::Acquire);
            let end = self.attempt(address, &mut more, Manner::Rash);
            left = left.saturating_sub(self.current.batches.len().saturating_sub(made));
            if !matches!(end, Ok(End::Done | End::Dropped)) || left == 0 {
                thread::sleep(REST);
            }
        }
    }

    /// Sends what is not acknowledged and `batches` new ones, until everything is acknowledged. An error says what it
    /// was refused with in the end.
    pub(super) fn finish(&mut self, address: SocketAddr, batches: usize, patience: Duration) -> Result<(), String> {
        let begun = Instant::now();
        let (start, mut last) = (self.current.batches.len(), String::new());
        while begun.elapsed() < patience {
            let left = batches.saturating_sub(self.current.batches.len().saturating_sub(start));
            last = match self.attempt(address, &mut |now| now < left, Manner::Patient) {
                Ok(End::Done) => return Ok(()),
                Ok(End::Refused(code)) => format!("is refused with {code:?}"),
                Ok(End::Dropped) => "is not sent".to_owned(),
                Err(error) => error.to_string(),
            };
            thread::sleep(REST);
        }
        let open = self.current.batches.iter().find(|sent| sent.answer.is_none());
        let open = open.map(|sent| (sent.first, sent.sequence));
        Err(format!(
            "{}-{}: the batch (record, sequence) {open:?} of {} {last} after {} s",
            self.name,
            self.addressed,
            self.current.tag,
            patience.as_secs()
        ))
    }

    /// One connection: a few batches that were acknowledged, all that were not, and new ones while `more` says so.
    pub(super) fn attempt(
        &mut self,
        address: SocketAddr,
        more: &mut dyn FnMut(usize) -> bool,
        manner: Manner,
    ) -> io::Result<End> {
        let generation = self.generation.load(Ordering::Acquire);
        if generation & BEING_MADE != 0 {
            return Ok(End::Dropped);
        }
        if generation != self.current.generation {
            self.retire();
        }
        let mut socket = Connection::open(address)?;
        socket.set_patience(PATIENCE);
        socket.name_as_ottla()?;
        if let Some(code) = self.current.introduce(&mut socket)? {
            return Ok(End::Refused(code));
        }
        let is_rash = matches!(manner, Manner::Rash);
        let drops_after = if is_rash && self.random.one_in(2) { Some(self.random.within(1..40)) } else { None };
        let mut again = self.again();
        let first = again.front().copied();
        let (mut sent, mut made, mut answered, mut refused) = (VecDeque::new(), 0, 0, None);
        loop {
            while refused.is_none() && sent.len() < PIPELINE {
                if self.generation.load(Ordering::Acquire) != generation {
                    return Ok(End::Dropped);
                }
                let index = match again.pop_front() {
                    Some(index) => index,
                    None if self.current.open().is_none_or(|open| self.current.batches.len() < open + PIPELINE)
                        && more(made) =>
                    {
                        made += 1;
                        self.make()
                    }
                    None => break,
                };
                let timeout_ms = match manner {
                    Manner::Rash if self.random.one_in(4) => self.random.within(1..100),
                    Manner::Rash | Manner::Patient => TIMEOUT_MS,
                    Manner::Within(timeout_ms) => timeout_ms,
                };
                self.send(&mut socket, index, timeout_ms as i32)?;
                sent.push_back(index);
            }
            let Some(index) = sent.pop_front() else { break };
            if drops_after.is_some_and(|after| answered >= after) {
                return Ok(End::Dropped);
            }
            let code = self.receive(&mut socket, index)?;
            answered += 1;
            if code != ErrorCode::None && refused.is_none() {
                refused = Some(End::Refused(code));
                if first == Some(index) {
                    self.note_refusal(code, index);
                }
            }
        }
        Ok(refused.unwrap_or(End::Done))
    }

    /// What is sent first: everything without an answer, and before it up to as many batches as the broker knows.
    fn again(&mut self) -> VecDeque<usize> {
        let len = self.current.batches.len();
        let open = self.current.open().unwrap_or(len);
        let known = (PIPELINE - (len - open).min(PIPELINE)).min(open);
        let from = open - self.random.within(0..known as u64 + 1) as usize;
        (from..len).filter(|index| *index < open || self.current.batches[*index].answer.is_none()).collect()
    }

    fn make(&mut self) -> usize {
        let mut count = 1 + self.random.within(0..self.shape.records_max) as i32;
        // The numbers end with a batch: the next one begins with 0.
        count = count.min((i32::MAX - self.current.sequence).saturating_add(1).max(1));
        let Incarnation { sequence, next_number, batches, .. } = &mut self.current;
        batches.push(Sent {
            first: *next_number,
            count: count.cast_unsigned(),
            answer: None,
            went_out: Instant::now(),
            acknowledged: None,
            sequence: *sequence,
        });
        *next_number += u64::from(count.cast_unsigned());
        *sequence = sequence.wrapping_add(count) & i32::MAX;
        batches.len() - 1
    }

    fn send(&mut self, socket: &mut Connection, index: usize, timeout_ms: i32) -> io::Result<()> {
        let Incarnation { tag, id, batches, .. } = &mut self.current;
        batches[index].went_out = Instant::now();
        let Sent { first, count, sequence, .. } = batches[index];
        let (producer_id, epoch) = id.unwrap_or((-1, -1));
        let sender = Some(Sender { producer_id, epoch, sequence });
        let identity = Identity { tag: *tag, number: first };
        let has_keys = self.shape.has_keys;
        let key = |it: Identity| has_keys.then(|| format!("{}-{}", it.tag, it.number % KEYS));
        let bytes = keyed_batch(identity, count, self.shape.filler_max, timestamp_of(first), sender, key);
        let request = ProduceRequest { timeout_ms, ..produce_request(&self.name, self.addressed, &bytes) };
        socket.send_request(PRODUCE_VERSION, &request)
    }

    fn receive(&mut self, socket: &mut Connection, index: usize) -> io::Result<ErrorCode> {
        let (code, base_offset, placements) = socket
            .receive_response::<ProduceRequest<'_>, _>(PRODUCE_VERSION, |response| {
                let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
                answer.map(|answer| (answer.error_code, answer.base_offset, answer.placements.clone()))
            })?
            .ok_or_else(|| io::Error::other("an answer without a partition"))?;
        if code != ErrorCode::None {
            return Ok(code);
        }
        let sent = &mut self.current.batches[index];
        let now = Instant::now();
        sent.acknowledged = Some(now);
        if self.generation.load(Ordering::Acquire) != self.current.generation {
            // The topic is another one by now, maybe.
            sent.answer.get_or_insert(Answer { places: Vec::new(), at: now });
            return Ok(code);
        }
        let row = |partition, base: i64, count: i32| (0..count).map(move |place| (partition, base + i64::from(place)));
        let places: Vec<At> = if placements.is_empty() {
            row(self.addressed, base_offset, sent.count.cast_signed()).collect()
        } else {
            placements.iter().flat_map(|it| row(it.partition, it.base_offset, it.count)).collect()
        };
        let wrong = match &sent.answer {
            _ if places.len() != sent.count as usize => Some(format!("was answered with {places:?}")),
            Some(before) if before.places != places => {
                Some(format!("was answered with {:?}, and when it came again with {places:?}", before.places))
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            let Sent { first, count, sequence, .. } = sent;
            let (topic, tag) = (&self.name, self.current.tag);
            self.wrongs.push(format!(
                "{topic}: the batch of {count} from record {first} of {tag} on, sequence {sequence}, {wrong}"
            ));
        }
        sent.answer.get_or_insert(Answer { places, at: now });
        Ok(code)
    }

    /// A batch that was acknowledged and comes first again, among the last that the broker knows, is known.
    fn note_refusal(&mut self, code: ErrorCode, index: usize) {
        let sent = &self.current.batches[index];
        let is_forgotten = matches!(code, ErrorCode::OutOfOrderSequenceNumber | ErrorCode::DuplicateSequenceNumber);
        if sent.answer.is_some() && is_forgotten {
            let Sent { first, count, sequence, .. } = sent;
            let (topic, tag) = (&self.name, self.current.tag);
            self.wrongs.push(format!(
                "{topic}: the batch of {count} from record {first} of {tag} on, sequence {sequence}, was acknowledged, and {code:?} when it came again"
            ));
        }
    }

    /// What was acknowledged since `moment` may be lost: another producer id goes on.
    pub(super) fn lose_since(&mut self, moment: Instant) {
        for sent in self.past.iter_mut().chain([&mut self.current]).flat_map(|it| &mut it.batches) {
            sent.answer.take_if(|answer| answer.at >= moment);
        }
        self.retire();
    }
}

impl Incarnation {
    fn new(generation: u32, shape: Shape, random: &mut Seed) -> Incarnation {
        let sequence = if shape.wraps { i32::MAX - random.within(0..30) as i32 } else { 0 };
        let tag = TAGS.fetch_add(1, Ordering::Relaxed);
        Incarnation { tag, generation, batches: Vec::new(), id: None, next_number: 0, sequence }
    }

    /// The number of the next record.
    pub(super) fn goes_on_at(&self) -> i32 {
        self.sequence
    }

    /// The first batch without an answer.
    pub(super) fn open(&self) -> Option<usize> {
        // Those before the last few are answered.
        self.batches.iter().position(|sent| sent.answer.is_none())
    }

    /// Asks for a producer id; a code if there is none.
    fn introduce(&mut self, socket: &mut Connection) -> io::Result<Option<ErrorCode>> {
        if self.id.is_some() {
            return Ok(None);
        }
        match socket.new_producer()? {
            Ok(sender) => self.id = Some((sender.producer_id, sender.epoch)),
            Err(code) => return Ok(Some(code)),
        }
        Ok(None)
    }
}
