//! Conversations about fetch sessions.
//!
//! ```text
//! bounds slots=2 partitions=10       the bounds of the cache
//! log packages/0 0..5                a partition: its first offset and its high watermark
//! error packages/0 6                 it has an error, by its code; 0: no more
//! a fetches packages/0@5 packages/1@0    with the session and the epoch that the client knows
//! a begins … / a finishes            the same in two steps, for what happens in between
//! ```
//!
//! `id=`, `epoch=`, `v=` and `forget=packages/1` change a request.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ottla_coordinator::fetch_session::{FetchSessionConfig, FetchSessions, Outcome, Plan, TopicRef};
use ottla_wire::message::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use ottla_wire::{ErrorCode, Uuid};

use crate::print;
use crate::script::milliseconds;

#[derive(Default)]
struct Log {
    start: i64,
    end: i64,
    error: i16,
}

#[derive(Default)]
struct Client {
    session_id: i32,
    epoch: i32,
    plan: Option<Plan>,
}

#[derive(Default)]
struct Stage {
    sessions: FetchSessions,
    now_ms: i64,
    logs: BTreeMap<String, Log>,
    clients: BTreeMap<String, Client>,
    last_id: i32,
    out: String,
}

/// Runs a conversation and writes it down, with what comes out today.
pub(crate) fn replay(conversation: &str) -> String {
    if conversation.starts_with("##") {
        return conversation.to_owned();
    }
    let mut script = Stage::default();
    for line in conversation.lines().filter(|line| !line.starts_with('>')) {
        let _ = writeln!(script.out, "{line}");
        if !line.starts_with('#') {
            script.line(line);
        }
    }
    script.out.trim_end().to_owned()
}

fn id_of(name: &str) -> Uuid {
    Uuid::from_u128(name.bytes().fold(0, |id, byte| (id << 8) | u128::from(byte)))
}

impl Stage {
    fn say(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.out, "> {text}");
    }

    fn line(&mut self, line: &str) {
        let set: BTreeMap<&str, &str> = line.split(' ').filter_map(|word| word.split_once('=')).collect();
        let words: Vec<&str> = line.split(' ').filter(|word| !word.contains('=')).collect();
        let number = |key: &str| set.get(key).map(|value| value.parse::<i32>().unwrap());
        match words[..] {
            ["bounds"] => {
                let mut config = FetchSessionConfig::default();
                config.slots_max = number("slots").map_or(config.slots_max, |slots| slots as usize);
                config.partitions_max = number("partitions").map_or(config.partitions_max, |count| count as usize);
                self.sessions = FetchSessions::new(config);
            }
            ["log", partition, range] => {
                let (start, end) = range.split_once("..").unwrap();
                let log = self.logs.entry(partition.to_owned()).or_default();
                (log.start, log.end) = (start.parse().unwrap(), end.parse().unwrap());
            }
            ["error", partition, code] => {
                self.logs.entry(partition.to_owned()).or_default().error = code.parse().unwrap();
            }
            ["count"] => {
                let text = format!("{} sessions, {} partitions", self.sessions.len(), self.sessions.partitions());
                self.say(text);
            }
            [time] if time.starts_with('+') => self.now_ms += milliseconds(&time[1..]),
            [who, what @ ("fetches" | "begins"), ref partitions @ ..] => {
                self.begin(who, partitions, &set);
                if what == "fetches" {
                    self.finish(who);
                }
            }
            [who, "finishes"] => self.finish(who),
            _ => panic!("what is meant by: {line}"),
        }
    }

    fn begin(&mut self, who: &str, partitions: &[&str], set: &BTreeMap<&str, &str>) {
        let number = |key: &str| set.get(key).map(|value| value.parse::<i32>().unwrap());
        let version = number("v").unwrap_or(17) as i16;
        let topic =
            |name: &str| if version >= 13 { (String::new(), id_of(name)) } else { (name.to_owned(), Uuid::nil()) };
        let topics = partitions.iter().map(|partition| {
            let (place, offset) = partition.split_once('@').unwrap();
            let (name, partition) = print::partition(place);
            let partition =
                FetchPartition { partition, fetch_offset: offset.parse().unwrap(), ..FetchPartition::default() };
            let (name, topic_id) = topic(name);
            FetchTopic { topic: name.into(), topic_id, partitions: vec![partition] }
        });
        let forgotten = set.get("forget").into_iter().flat_map(|places| places.split(',')).map(|place| {
            let (name, partition) = print::partition(place);
            let (name, topic_id) = topic(name);
            ForgottenTopic { topic: name.into(), topic_id, partitions: vec![partition] }
        });
        let client = self.clients.entry(who.to_owned()).or_default();
        let request = FetchRequest {
            session_id: number("id").unwrap_or(client.session_id),
            session_epoch: number("epoch").unwrap_or(client.epoch),
            topics: topics.collect(),
            forgotten_topics_data: forgotten.collect(),
            ..FetchRequest::default()
        };
        match self.sessions.begin(self.now_ms, version, &request) {
            Ok(plan) => client.plan = Some(plan),
            Err(error) => self.refused(who, error),
        }
    }

    /// A client that is refused starts over.
    fn refused(&mut self, who: &str, error: ErrorCode) {
        let client = self.clients.entry(who.to_owned()).or_default();
        (client.session_id, client.epoch) = (0, 0);
        self.say(format!("{who}: {error}"));
    }

    fn finish(&mut self, who: &str) {
        let Some(plan) = self.clients.get_mut(who).and_then(|client| client.plan.take()) else { return };
        let name = |topic: &TopicRef| match topic {
            TopicRef::Name(name) => name.to_string(),
            TopicRef::Id(id) => {
                let bytes = id.as_u128().to_be_bytes().into_iter().filter(|byte| *byte != 0).collect();
                String::from_utf8(bytes).unwrap()
            }
        };
        let places: Vec<String> = plan
            .partitions
            .iter()
            .map(|wanted| format!("{}/{}", name(&wanted.topic), wanted.partition.partition))
            .collect();
        let outcomes: Vec<Outcome> = plan
            .partitions
            .iter()
            .zip(&places)
            .map(|(wanted, place)| {
                let log = self.logs.entry(place.clone()).or_default();
                Outcome {
                    error: ErrorCode::from_code(log.error),
                    high_watermark: log.end,
                    log_start_offset: log.start,
                    has_news: log.error == 0 && wanted.partition.fetch_offset < log.end,
                }
            })
            .collect();
        self.last_id += 1;
        match self.sessions.finish(self.now_ms, self.last_id, &plan, &outcomes) {
            Err(error) => self.refused(who, error),
            Ok(answer) => {
                let told: Vec<String> = (places.iter().zip(&plan.partitions).zip(&outcomes))
                    .zip(&answer.included)
                    .filter(|(_, included)| **included)
                    .map(|(((place, wanted), outcome), _)| match outcome.error {
                        ErrorCode::None if outcome.has_news => {
                            format!("{place} {}..{}", wanted.partition.fetch_offset, outcome.high_watermark)
                        }
                        ErrorCode::None => format!("{place} {}.. nothing", wanted.partition.fetch_offset),
                        error => format!("{place} {error}"),
                    })
                    .collect();
                let told = if told.is_empty() { "nothing new".to_owned() } else { told.join(", ") };
                let client = self.clients.entry(who.to_owned()).or_default();
                client.session_id = answer.session_id;
                client.epoch = if answer.session_id == 0 { 0 } else { client.epoch + 1 };
                self.say(format!("{who}: session {}: {told}", answer.session_id));
            }
        }
    }
}
