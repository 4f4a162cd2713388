//! Thousands of random lives of an outbox against a model of a broker that loses requests and answers, moves leaders and
//! refuses batches. In every run: each record is settled once, what is called stored is stored once and in order,
//! what is called not stored is not.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::message::{MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use ottla_wire::record::batches;
use ottla_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence};

use super::backoff::{Backoff, scramble};
use super::batch::{BatchId, Format, Payload, ReportTo};
use super::lane::LaneId;
use super::metadata::Metadata;
use super::outbox::{Limits, Outbox};
use super::outcome::Landing;
use super::record::ProducerRecord;
use super::sequence::Identity;
use super::verdict::Verdict;
use crate::Codec;
use crate::error::ProduceError;

const PARTITIONS: usize = 2;
const RECORDS: u64 = 120;

/// A number from the dice: the same seed plays the same game.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        scramble(self.0) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// What a broker remembers of a producer on a partition.
struct Known {
    epoch: ProducerEpoch,
    next: Sequence,
    last: VecDeque<(Sequence, i64)>,
}

/// A partition as Kafka's brokers keep it.
#[derive(Default)]
struct ModelPartition {
    log: Vec<u64>,
    producers: HashMap<ProducerId, Known>,
}

impl ModelPartition {
    fn append(&mut self, identity: Identity, sequence: Sequence, tokens: &[u64]) -> Result<i64, ErrorCode> {
        if let Some(known) = self.producers.get(&identity.id) {
            if identity.epoch < known.epoch {
                return Err(ErrorCode::InvalidProducerEpoch);
            }
            if identity.epoch == known.epoch {
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
        // Nothing known of the producer: any number is a first one.
        if tokens.iter().any(|token| token % 17 == 16) {
            return Err(ErrorCode::InvalidRecord);
        }
        let base = self.log.len() as i64;
        self.log.extend(tokens);
        let next = sequence.advance(tokens.len() as i32);
        let known = self.producers.entry(identity.id).or_insert_with(|| Known {
            epoch: identity.epoch,
            next,
            last: VecDeque::new(),
        });
        if known.epoch != identity.epoch {
            known.epoch = identity.epoch;
            known.last.clear();
        }
        known.next = next;
        known.last.push_back((sequence, base));
        if known.last.len() > 5 {
            known.last.pop_front();
        }
        Ok(base)
    }
}

struct Part {
    lane: LaneId,
    batch: BatchId,
    partition: usize,
    identity: Identity,
    sequence: Sequence,
    tokens: Vec<u64>,
}

/// A request, and its answers once the broker has worked on it.
type UnderWay = (Vec<Part>, Option<Answers>);
type Answers = Vec<Result<i64, ErrorCode>>;

struct Game {
    dice: Dice,
    outbox: Outbox,
    now_ms: u64,
    partitions: [ModelPartition; PARTITIONS],
    /// Requests on the connection, oldest first.
    line: VecDeque<UnderWay>,
    /// Requests of connections that ended, which the broker had received and works on later.
    stragglers: VecDeque<Vec<Part>>,
    stored: HashMap<u64, (usize, Option<i64>)>,
    failed: HashMap<u64, ProduceError>,
    next_producer: i64,
}

impl Game {
    fn new(seed: u64, delivery_timeout_ms: u64) -> Self {
        let limits = Limits {
            linger_ms: 2,
            batch_bytes: 120,
            request_bytes_max: 1000,
            buffer_bytes: 1 << 20,
            delivery_timeout_ms,
            topic_wait_ms: 1 << 40,
            retry: Backoff::new(3, 20),
            format: Format { codec: Codec::None, level: None },
            idempotent: true,
        };
        Self {
            dice: Dice(seed << 20),
            outbox: Outbox::new(limits, Arc::default()),
            now_ms: 0,
            partitions: std::array::from_fn(|_| ModelPartition::default()),
            line: VecDeque::new(),
            stragglers: VecDeque::new(),
            stored: HashMap::new(),
            failed: HashMap::new(),
            next_producer: 0,
        }
    }

    fn play(&mut self) {
        let mut sent = 0;
        while sent < RECORDS || !self.outbox.is_empty() || !self.line.is_empty() {
            // Towards the end, the world calms down, so that the game ends.
            let calm = self.now_ms > 3_000;
            match self.dice.roll(10) {
                0..=2 if sent < RECORDS => {
                    self.send(sent);
                    sent += 1;
                }
                3..=4 => self.pack(),
                5 => self.work(calm),
                6..=7 => self.answer(),
                8 if !calm && self.dice.one_in(6) => self.cut(),
                8 => self.work_late(),
                _ => self.pass_time(),
            }
            self.collect();
        }
    }

    fn send(&mut self, token: u64) {
        let (value, partition) = (token.to_string(), self.dice.roll(PARTITIONS as u64) as i32);
        let record = ProducerRecord::new("t").partition(partition).value(&value);
        self.outbox.append(self.now_ms, 0, &record, ReportTo::Ticket(token)).unwrap();
    }

    fn pass_time(&mut self) {
        self.now_ms += 1 + self.dice.roll(5);
        self.outbox.expire(self.now_ms);
        if self.outbox.wants_identity() && self.dice.one_in(2) {
            self.next_producer += 1;
            let epoch = ProducerEpoch(0);
            self.outbox.identify(Identity { id: ProducerId(self.next_producer), epoch });
        }
        if !self.outbox.wanted_topics().is_empty() {
            self.learn();
        }
    }

    fn learn(&mut self) {
        let partition =
            |partition_index| MetadataResponsePartition { partition_index, leader_id: 1, ..Default::default() };
        let topic = MetadataResponseTopic {
            name: Some("t".into()),
            partitions: (0..PARTITIONS as i32).map(partition).collect(),
            ..Default::default()
        };
        let mut metadata = Metadata::default();
        let broker = MetadataResponseBroker { node_id: 1, host: "h".into(), port: 9092, ..Default::default() };
        metadata.merge(&MetadataResponse { brokers: vec![broker], topics: vec![topic], ..Default::default() });
        self.outbox.learn(self.now_ms, &metadata, &["t".into()]);
    }

    fn pack(&mut self) {
        if self.line.len() >= 5 {
            return;
        }
        let mut parts = Vec::new();
        for parcel in self.outbox.pack_request(self.now_ms, 1) {
            let dispatch = parcel.dispatch;
            let sealed = match dispatch.payload {
                Payload::Open(builder) => {
                    let mut bytes = Vec::new();
                    builder.finish(&mut bytes).unwrap();
                    Bytes::from(bytes)
                }
                Payload::Sealed(sealed) => sealed,
                Payload::Away => panic!("a batch without bytes is sent"),
            };
            let batch = batches(&sealed).next().unwrap().unwrap().records(1 << 20).unwrap();
            let token = |value: &[u8]| std::str::from_utf8(value).unwrap().parse().unwrap();
            let tokens = batch.iter().map(|record| token(record.unwrap().value.unwrap())).collect();
            self.outbox.keep_sealed(parcel.lane, dispatch.batch, sealed);
            let (identity, sequence) = (dispatch.identity, dispatch.sequence);
            let partition = parcel.partition as usize;
            parts.push(Part { lane: parcel.lane, batch: dispatch.batch, partition, identity, sequence, tokens });
        }
        if !parts.is_empty() {
            self.line.push_back((parts, None));
        }
    }

    /// The broker works on the oldest request that it has not worked on.
    fn work(&mut self, calm: bool) {
        let Some((parts, answers)) = self.line.iter_mut().find(|(_, answers)| answers.is_none()) else { return };
        let mut given = Vec::new();
        for part in parts {
            given.push(if !calm && self.dice.one_in(6) {
                Err(ErrorCode::NotLeaderOrFollower)
            } else {
                let partition = &mut self.partitions[part.partition];
                let appended = partition.append(part.identity, part.sequence, &part.tokens);
                // Sometimes it appends and then cannot say so.
                if !calm && appended.is_ok() && self.dice.one_in(12) {
                    Err(ErrorCode::RequestTimedOut)
                } else {
                    appended
                }
            });
        }
        *answers = Some(given);
    }

    fn answer(&mut self) {
        if self.line.front().is_none_or(|(_, answers)| answers.is_none()) {
            return;
        }
        let Some((parts, Some(answers))) = self.line.pop_front() else { return };
        for (part, answer) in parts.iter().zip(answers) {
            let verdict = match answer {
                Ok(base_offset) => Verdict::stored(Landing::Whole { base_offset }),
                Err(code) => Verdict::refused(code, None),
            };
            self.outbox.judge(self.now_ms, part.lane, part.batch, verdict);
        }
    }

    /// The broker works on a request whose connection ended long ago.
    fn work_late(&mut self) {
        for part in self.stragglers.pop_front().into_iter().flatten() {
            let _ = self.partitions[part.partition].append(part.identity, part.sequence, &part.tokens);
        }
    }

    /// The connection ends: the broker may have worked on any number of the oldest requests, and may hold the others.
    fn cut(&mut self) {
        for _ in 0..self.dice.roll(4) {
            self.work(false);
        }
        let holds = self.dice.one_in(2);
        for (parts, answers) in std::mem::take(&mut self.line) {
            for part in &parts {
                self.outbox.lose(self.now_ms, part.lane, part.batch, &"cut".into());
            }
            if holds && answers.is_none() {
                self.stragglers.push_back(parts);
            }
        }
    }

    fn collect(&mut self) {
        for settled in self.outbox.take_settled() {
            let outcome = Arc::clone(&settled.outcome);
            for ticket in settled.parties.tell(&outcome) {
                let again = match &outcome.result {
                    Ok(Landing::Whole { base_offset }) => {
                        let offset = base_offset + i64::from(ticket.index);
                        self.stored.insert(ticket.token, (outcome.partition as usize, Some(offset))).is_some()
                    }
                    Ok(_) => self.stored.insert(ticket.token, (outcome.partition as usize, None)).is_some(),
                    Err(error) => self.failed.insert(ticket.token, error.clone()).is_some(),
                };
                assert!(!again, "record {} is settled twice", ticket.token);
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.stored.len() + self.failed.len(), RECORDS as usize);
        let mut found: HashSet<u64> = HashSet::new();
        for partition in &self.partitions {
            assert!(partition.log.is_sorted_by(|a, b| a < b), "doubled or out of order: {:?}", partition.log);
            found.extend(&partition.log);
        }
        for (token, (partition, offset)) in &self.stored {
            assert!(self.partitions[*partition].log.contains(token), "record {token} is called stored");
            if let Some(offset) = offset {
                assert_eq!(self.partitions[*partition].log[*offset as usize], *token, "at the wrong place");
            }
        }
        for (token, error) in &self.failed {
            let may_be_there = matches!(
                error,
                ProduceError::TimedOut { in_doubt: true, .. } | ProduceError::Refused { in_doubt: true, .. }
            );
            assert!(may_be_there || !found.contains(token), "record {token} is there, and was said to be not: {error}");
        }
    }
}

#[test]
fn whatever_the_network_does_records_are_stored_once_and_in_order() {
    for seed in 0..3_000 {
        let mut game = Game::new(seed, 1 << 40);
        game.play();
        game.check();
        let refused =
            |error: &ProduceError| matches!(error, ProduceError::Refused { code: ErrorCode::InvalidRecord, .. });
        assert!(game.failed.values().all(refused), "seed {seed}: {:?}", game.failed);
    }
}

#[test]
fn what_is_given_up_is_never_called_stored_and_hurts_nothing_else() {
    let mut in_doubt = 0;
    for seed in 0..3_000 {
        let mut game = Game::new(seed, 40);
        game.play();
        game.check();
        let doubtful = |error: &&ProduceError| matches!(error, ProduceError::TimedOut { in_doubt: true, .. });
        in_doubt += game.failed.values().filter(doubtful).count();
    }
    assert!(in_doubt > 1_000, "the game is too easy: {in_doubt}");
}
