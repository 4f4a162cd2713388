//! A driver without a disk and a network: the log is a list, the clock a number, and each client has a name.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ottla_coordinator::group::{
    Client, Effect, GroupConfig, Input, Record, Reply, Request, RequestId, Shard, Text, Topic, Topics, WriteId,
};
use ottla_wire::Uuid;

/// What a shard did, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    Append(u64, Vec<Record>),
    Reply(String, Reply),
    Event(ottla_coordinator::group::Event),
}

/// How the disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// Every write is durable before the next input.
    Prompt,
    /// Writes wait until they are let go.
    Waits,
}

/// A shard with its surroundings.
pub(crate) struct Stage {
    pub(crate) shard: Shard,
    pub(crate) now_ms: i64,
    pub(crate) disk: Disk,
    pub(crate) topics: Arc<Topics>,
    config: Arc<GroupConfig>,
    /// What is durable.
    pub(crate) log: Vec<Record>,
    /// What is not yet.
    pub(crate) writes: VecDeque<(WriteId, Vec<Record>)>,
    wake_at_ms: Option<i64>,
    requests: BTreeMap<u64, String>,
    last_request: u64,
    last_fresh: u128,
    seen: Vec<Seen>,
}

impl Stage {
    pub(crate) fn new(config: GroupConfig) -> Self {
        let config = Arc::new(config);
        let topics = Arc::new(Topics::default());
        let mut stage = Self {
            shard: Shard::new(Arc::clone(&config), Arc::clone(&topics)),
            now_ms: 0,
            disk: Disk::Prompt,
            topics,
            config,
            log: Vec::new(),
            writes: VecDeque::new(),
            wake_at_ms: None,
            requests: BTreeMap::new(),
            last_request: 0,
            last_fresh: 0,
            seen: Vec::new(),
        };
        stage.load();
        stage
    }

    /// An id that was not there before.
    pub(crate) fn fresh(&mut self) -> Uuid {
        self.last_fresh += 1;
        Uuid::from_u128(self.last_fresh)
    }

    /// The settings of the next start.
    pub(crate) fn set_config(&mut self, config: GroupConfig) {
        self.config = Arc::new(config);
    }

    /// What happened since this was last asked.
    pub(crate) fn seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// Asks in the name of a client.
    pub(crate) fn ask(&mut self, who: &str, version: i16, request: Request<'_>) {
        self.last_request += 1;
        self.requests.insert(self.last_request, who.to_owned());
        let client = Client { id: who, host: "/127.0.0.1" };
        self.step(Input::Request { id: RequestId(self.last_request), version, client, request });
    }

    pub(crate) fn step(&mut self, input: Input<'_>) {
        let effects = self.shard.step(self.now_ms, input);
        self.carry_out(effects);
        if self.disk == Disk::Prompt {
            self.let_writes_go();
        }
    }

    /// Makes all writes durable.
    pub(crate) fn let_writes_go(&mut self) {
        while let Some((write, records)) = self.writes.pop_front() {
            self.log.extend(records);
            let effects = self.shard.step(self.now_ms, Input::Durable(write));
            self.carry_out(effects);
        }
    }

    /// The clock goes on; the shard is woken when it asked to be, not before.
    pub(crate) fn pass(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        while let Some(at_ms) = self.wake_at_ms.filter(|at_ms| *at_ms <= end_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            self.wake_at_ms = None;
            self.step(Input::Wake);
        }
        self.now_ms = end_ms;
    }

    /// The topics change.
    pub(crate) fn set_topics(&mut self, topics: impl IntoIterator<Item = (String, i32)>) {
        let topic = |(name, partitions): (String, i32)| {
            let known = self.topics.named(&name).map(|topic| topic.id);
            // An id that says the name, and another one if the topic is made again.
            let id =
                known.unwrap_or_else(|| Uuid::from_u128(name.bytes().fold(0, |id, byte| (id << 8) | u128::from(byte))));
            Topic { name: Text::from(name), id, partitions }
        };
        let new: Topics = topics.into_iter().map(topic).collect();
        let gone = self.topics.iter().filter(|topic| new.named(&topic.name).is_none());
        let deleted = gone.map(|topic| Text::clone(&topic.name)).collect();
        self.topics = Arc::new(new);
        let topics = Arc::clone(&self.topics);
        self.step(Input::Topics { topics, deleted });
    }

    /// The broker ends without warning and starts again: what was not durable is lost.
    pub(crate) fn restart(&mut self) {
        self.writes.clear();
        self.requests.clear();
        self.wake_at_ms = None;
        self.shard = Shard::new(Arc::clone(&self.config), Arc::clone(&self.topics));
        self.load();
    }

    /// The broker starts and has not read its log yet.
    pub(crate) fn restart_and_wait(&mut self) {
        self.restart();
        self.shard = Shard::new(Arc::clone(&self.config), Arc::clone(&self.topics));
        self.wake_at_ms = None;
    }

    pub(crate) fn load(&mut self) {
        // What a log compacted to its end would hold, and what it held before, say the same.
        for record in &self.log {
            self.shard.replay(&record.key, record.value.as_deref()).expect("own records read");
        }
        let effects = self.shard.loaded(self.now_ms);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append { write, records } => {
                    self.seen.push(Seen::Append(write.0, records.clone()));
                    self.writes.push_back((write, records));
                }
                Effect::Reply { request, reply } => {
                    let who = self.requests.remove(&request.0).expect("a request is answered once");
                    self.seen.push(Seen::Reply(who, reply));
                }
                Effect::WakeAt { at_ms } => self.wake_at_ms = Some(at_ms),
                Effect::Event(event) => self.seen.push(Seen::Event(event)),
            }
        }
    }

    /// Requests that have no answer yet.
    pub(crate) fn waiting(&self) -> Vec<&str> {
        self.requests.values().map(String::as_str).collect()
    }
}
