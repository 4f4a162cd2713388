//! Golden conversations: what a producer's outbox does, told as text.
//!
//! `conversations/*.txt` hold commands and, indented, all that came of them. A test runs the commands and compares the
//! transcript; with `REWRITE_CONVERSATIONS=1` it writes what happened instead, to be reviewed as a diff. The commands:
//!
//! ```text
//! topic NAME N            the topic has N partitions, led by broker 1
//! partitions NAME N       the topic was made anew, or grew, and has N partitions now
//! leader NAME P NODE|none a partition moved
//! identity ID EPOCH       the broker hands out a producer id
//! at MS                   time passes: what is too old is given up
//! send NAME-P COUNT       records, one byte each
//! key NAME KEY            a record with a key
//! flush                   nothing lingers
//! pack NODE               one request; it is called r1, r2, …
//! stored rN [BASE]        the broker's answers …
//! refused rN CODE
//! lost rN                 … or the end of the connection
//! spread rN I:P@O …       stored by a partitioner: from record I on, on partition P from offset O on
//! wants                   what the outbox waits for
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use ottla_wire::message::{MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use ottla_wire::{ErrorCode, ProducerEpoch, ProducerId};

use super::backoff::Backoff;
use super::batch::{BatchId, Format, Payload, ReportTo};
use super::lane::LaneId;
use super::metadata::Metadata;
use super::outbox::{Limits, Outbox};
use super::outcome::{Landing, Outcome, Run};
use super::record::ProducerRecord;
use super::sequence::Identity;
use super::verdict::Verdict;
use crate::Codec;

/// Bounds that are easy to reckon with: a batch holds two records of `send`, a pause takes 4 ms.
fn limits() -> Limits {
    Limits {
        linger_ms: 5,
        batch_bytes: 100,
        request_bytes_max: 1000,
        buffer_bytes: 1000,
        delivery_timeout_ms: 10_000,
        topic_wait_ms: 3_000,
        retry: Backoff::new(4, 4),
        format: Format { codec: Codec::None, level: None },
        idempotent: true,
    }
}

struct Conversation {
    outbox: Outbox,
    metadata: MetadataResponse<'static>,
    now_ms: u64,
    requests: HashMap<String, Vec<(LaneId, BatchId)>>,
    request_count: u64,
    record_count: u64,
    told: String,
}

impl Conversation {
    fn new(limits: Limits) -> Self {
        Self {
            outbox: Outbox::new(limits, Arc::default()),
            metadata: MetadataResponse { brokers: (1..=3).map(broker).collect(), ..MetadataResponse::default() },
            now_ms: 0,
            requests: HashMap::new(),
            request_count: 0,
            record_count: 0,
            told: String::new(),
        }
    }

    fn tell(&mut self, line: &str) {
        let _ = writeln!(self.told, "    {line}");
    }

    fn run(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            ["topic", name, partitions] => self.topic(name, partitions.parse().unwrap()),
            ["partitions", name, count] => self.partitions(name, count.parse().unwrap()),
            ["leader", name, partition, node] => self.leader(name, partition.parse().unwrap(), node.parse().ok()),
            ["identity", id, epoch] => {
                let (id, epoch) = (ProducerId(id.parse().unwrap()), ProducerEpoch(epoch.parse().unwrap()));
                self.outbox.identify(Identity { id, epoch });
            }
            ["at", ms] => {
                self.now_ms = ms.parse().unwrap();
                self.outbox.expire(self.now_ms);
            }
            ["send", place, count] => self.send(place, count.parse().unwrap()),
            ["key", topic, key] => {
                let record = ProducerRecord::new(topic).key(key).value("v");
                self.hand_over(&record);
            }
            ["flush"] => drop(self.outbox.flush()),
            ["pack", node] => self.pack(node.parse().unwrap()),
            ["stored", request, rest @ ..] => {
                let base_offset = rest.first().map_or(0, |base| base.parse().unwrap());
                self.answer(request, ErrorCode::None, &Landing::Whole { base_offset });
            }
            ["refused", request, code] => {
                let code = *ErrorCode::ALL.iter().find(|known| known.name() == *code).unwrap();
                self.answer(request, code, &Landing::Untold);
            }
            ["spread", request, runs @ ..] => {
                let runs = runs.iter().map(|run| parse_run(run)).collect();
                self.answer(request, ErrorCode::None, &Landing::Spread(runs));
            }
            ["lost", request] => {
                for (lane, batch) in self.under_way(request) {
                    self.outbox.lose(self.now_ms, lane, batch, &"the connection ended".into());
                }
            }
            ["wants"] => self.wants(),
            _ => panic!("no such command: {command}"),
        }
        for settled in self.outbox.take_settled() {
            let tickets = settled.parties.tell(&settled.outcome);
            let tokens: Vec<_> = tickets.iter().map(|ticket| ticket.token.to_string()).collect();
            let outcome = describe(&settled.outcome);
            self.tell(&format!("records {}: {outcome}", tokens.join(" ")));
        }
    }

    fn topic(&mut self, name: &str, partitions: i32) {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            leader_epoch: 0,
            ..Default::default()
        };
        self.metadata.topics.push(MetadataResponseTopic {
            name: Some(name.to_owned().into()),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        });
        self.learn();
    }

    fn partitions(&mut self, name: &str, count: i32) {
        self.metadata.topics.retain(|topic| topic.name.as_deref() != Some(name));
        self.topic(name, count);
    }

    fn leader(&mut self, name: &str, partition: usize, node: Option<i32>) {
        let topic = self.metadata.topics.iter_mut().find(|topic| topic.name.as_deref() == Some(name)).unwrap();
        topic.partitions[partition].leader_id = node.unwrap_or(-1);
        topic.partitions[partition].leader_epoch += 1;
        self.learn();
    }

    fn learn(&mut self) {
        let mut metadata = Metadata::default();
        metadata.merge(&self.metadata);
        let asked: Vec<_> = metadata.topics.keys().cloned().collect();
        self.outbox.learn(self.now_ms, &metadata, &asked);
    }

    fn send(&mut self, place: &str, count: usize) {
        let (topic, partition) = place.rsplit_once('-').unwrap();
        for _ in 0..count {
            self.hand_over(&ProducerRecord::new(topic).partition(partition.parse().unwrap()).value("v"));
        }
    }

    fn hand_over(&mut self, record: &ProducerRecord<'_>) {
        self.record_count += 1;
        let token = self.record_count;
        match self.outbox.append(self.now_ms, 0, record, ReportTo::Ticket(token)) {
            Ok(_) => {}
            Err(error) => self.tell(&format!("record {token}: {error}")),
        }
        // What is known of the cluster is known at once.
        let known = |topic: &MetadataResponseTopic<'_>| topic.name.as_deref() == Some(record.topic);
        if self.metadata.topics.iter().any(known) {
            self.learn();
        }
    }

    fn pack(&mut self, node: i32) {
        let parcels = self.outbox.pack_request(self.now_ms, node);
        if parcels.is_empty() {
            return self.tell("nothing");
        }
        self.request_count += 1;
        let name = format!("r{}", self.request_count);
        let mut handles = Vec::new();
        for parcel in parcels {
            let dispatch = parcel.dispatch;
            let count = match &dispatch.payload {
                Payload::Open(builder) => builder.record_count().to_string(),
                Payload::Sealed(_) => "again".to_owned(),
                Payload::Away => "away".to_owned(),
            };
            let Identity { id, epoch } = dispatch.identity;
            let (topic, partition, sequence) = (&parcel.topic, parcel.partition, dispatch.sequence);
            self.tell(&format!("{name} to {node}: {topic}-{partition} ({count}) as {id}/{epoch} from {sequence}"));
            let sealed = match dispatch.payload {
                Payload::Open(builder) => {
                    let mut sealed = Vec::new();
                    builder.finish(&mut sealed).unwrap();
                    sealed.into()
                }
                Payload::Sealed(sealed) => sealed,
                Payload::Away => bytes::Bytes::new(),
            };
            self.outbox.keep_sealed(parcel.lane, dispatch.batch, sealed);
            handles.push((parcel.lane, dispatch.batch));
        }
        self.requests.insert(name, handles);
    }

    fn under_way(&mut self, request: &str) -> Vec<(LaneId, BatchId)> {
        self.requests.remove(request).unwrap_or_else(|| {
            self.tell(&format!("{request} is not under way"));
            Vec::new()
        })
    }

    fn answer(&mut self, request: &str, code: ErrorCode, landing: &Landing) {
        let mut stale = false;
        for (lane, batch) in self.under_way(request) {
            let verdict = match code {
                ErrorCode::None => Verdict::stored(landing.clone()),
                code => Verdict::refused(code, None),
            };
            stale |= self.outbox.judge(self.now_ms, lane, batch, verdict);
        }
        if stale {
            self.tell("asks who leads");
        }
    }

    fn wants(&mut self) {
        let topics = self.outbox.wanted_topics();
        if !topics.is_empty() {
            self.tell(&format!("topics {}", topics.join(" ")));
        }
        if self.outbox.wants_identity() {
            self.tell("a producer id");
        }
        match self.outbox.next_ms(self.now_ms) {
            Some(ms) => self.tell(&format!("to look again at {ms}")),
            None => self.tell("nothing"),
        }
    }
}

fn broker(node_id: i32) -> MetadataResponseBroker<'static> {
    MetadataResponseBroker { node_id, host: "h".into(), port: 9092, ..Default::default() }
}

fn parse_run(text: &str) -> Run {
    let (first_index, place) = text.split_once(':').unwrap();
    let (partition, base_offset) = place.split_once('@').unwrap();
    Run {
        first_index: first_index.parse().unwrap(),
        partition: partition.parse().unwrap(),
        base_offset: base_offset.parse().unwrap(),
    }
}

fn describe(outcome: &Arc<Outcome>) -> String {
    match &outcome.result {
        Ok(Landing::Untold) => format!("stored in {}-{}", outcome.topic, outcome.partition),
        Ok(Landing::Whole { base_offset }) => {
            format!("stored in {}-{} at {base_offset}", outcome.topic, outcome.partition)
        }
        Ok(Landing::Spread(runs)) => {
            let runs: Vec<_> =
                runs.iter().map(|run| format!("{}: {}@{}", run.first_index, run.partition, run.base_offset)).collect();
            format!("spread over {} as {}", outcome.topic, runs.join(", "))
        }
        Err(error) => error.to_string(),
    }
}

/// Runs a file and returns it with what happened in place of what was expected.
fn transcript(text: &str) -> String {
    let mut limits = limits();
    let mut conversation: Option<Conversation> = None;
    let mut written = String::new();
    for line in text.lines().filter(|line| !line.starts_with("    ")) {
        written.push_str(line);
        written.push('\n');
        if let Some(setting) = line.strip_prefix("with ") {
            match setting {
                "no numbers" => limits.idempotent = false,
                _ => panic!("no such setting: {setting}"),
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            let conversation = conversation.get_or_insert_with(|| Conversation::new(limits));
            conversation.run(line);
            written.push_str(&std::mem::take(&mut conversation.told));
        }
    }
    written
}

#[test]
fn conversations_go_as_written() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conversations");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "the conversations are gone");
    for path in files {
        let expected = std::fs::read_to_string(&path).unwrap();
        let happened = transcript(&expected);
        if std::env::var_os("REWRITE_CONVERSATIONS").is_some() {
            std::fs::write(&path, happened).unwrap();
        } else {
            assert_eq!(happened, expected, "{}", path.display());
        }
    }
}
