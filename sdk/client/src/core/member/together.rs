//! Members and the coordinator of our broker, both without a network: whatever order messages take, however slow the
//! application is, and whichever members come, go or start again, no two members read one partition, and in the end all of
//! them are read.
//!
//! No session runs out while something is at stake: a member that is cut off cannot know that its partitions are read
//! elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ottla_coordinator::group::{
    Client, Effect as Done, GroupConfig, Input, Record, Reply, Request, RequestId, Shard, Topic, Topics,
};
use ottla_wire::{ApiKey, ApiVersion, ErrorCode, Message, Uuid};
use proptest::prelude::*;

use super::messages::{self, Card};
use super::{Answer, Call, Effect, Member, Protocol, Seen, Settings, Wish};
use crate::core::assignor::Assignor;
use crate::core::backoff::Backoff;
use crate::core::topic_partition::TopicPartition;

const MEMBERS: usize = 4;
const TOPICS: [&str; 2] = ["orders", "payments"];
const ROUNDS_TO_SETTLE: usize = 600;

#[derive(Debug, Clone, Copy)]
enum Op {
    /// A member starts, or starts again without a word.
    Start(usize),
    Leave(usize),
    /// The application finishes with what it gives up.
    Finish(usize),
    /// Its subscription becomes another one.
    Subscribe(usize, u8),
    /// One of the messages under way arrives.
    Deliver(u8),
    /// One of them is lost, with its connection.
    Lose(u8),
    Pass(u16),
    /// The application stops polling for too long, and polls again later.
    FallAsleep(usize),
    BrokerStarts,
    Grow,
}

fn op() -> impl Strategy<Value = Op> {
    let member = || 0..MEMBERS;
    prop_oneof![
        3 => member().prop_map(Op::Start),
        1 => member().prop_map(Op::Leave),
        6 => member().prop_map(Op::Finish),
        1 => (member(), any::<u8>()).prop_map(|(member, which)| Op::Subscribe(member, which)),
        30 => any::<u8>().prop_map(Op::Deliver),
        1 => any::<u8>().prop_map(Op::Lose),
        6 => (1..900_u16).prop_map(Op::Pass),
        1 => member().prop_map(Op::FallAsleep),
        1 => Just(Op::BrokerStarts),
        1 => Just(Op::Grow),
    ]
}

/// How all members of a group are set.
fn kinds() -> impl Strategy<Value = (Protocol, Vec<Assignor>, bool)> {
    let classic = |assignors: &[Assignor]| (Protocol::Classic, assignors.to_vec());
    let kind = prop_oneof![
        Just(classic(&[Assignor::Range])),
        Just(classic(&[Assignor::RoundRobin])),
        Just(classic(&[Assignor::Sticky])),
        Just(classic(&[Assignor::CooperativeSticky])),
        Just(classic(&[Assignor::CooperativeSticky, Assignor::Range])),
        Just((Protocol::Consumer, vec![Assignor::Range])),
    ];
    (kind, any::<bool>()).prop_map(|((protocol, assignors), instances)| (protocol, assignors, instances))
}

struct Node {
    member: Member,
    card: Card,
    life: u64,
    /// What the application reads.
    reads: BTreeSet<TopicPartition>,
    gives_up: Option<(u64, Vec<TopicPartition>)>,
    last_poll_ms: u64,
    polls: bool,
}

/// A message under way, to or from the member of this life.
enum Post {
    Call(usize, u64, u64, Call),
    Answer(usize, u64, u64, Answer),
    Seen(usize, u64, Vec<Seen>),
}

struct World {
    kind: (Protocol, Vec<Assignor>, bool),
    shard: Shard,
    config: Arc<GroupConfig>,
    topics: Arc<Topics>,
    counts: BTreeMap<&'static str, i32>,
    log: Vec<Record>,
    wake_at_ms: Option<i64>,
    requests: HashMap<u64, (usize, u64, u64)>,
    last: u64,
    now_ms: u64,
    nodes: [Option<Node>; MEMBERS],
    posts: Vec<Post>,
}

impl World {
    fn new(kind: (Protocol, Vec<Assignor>, bool)) -> Self {
        let config = Arc::new(GroupConfig { initial_rebalance_delay_ms: 500, ..GroupConfig::default() });
        let counts: BTreeMap<_, _> = TOPICS.into_iter().zip([3, 2]).collect();
        let topics = topics(&counts);
        let mut shard = Shard::new(Arc::clone(&config), Arc::clone(&topics));
        shard.loaded(1);
        Self {
            kind,
            shard,
            config,
            topics,
            counts,
            log: Vec::new(),
            wake_at_ms: None,
            requests: HashMap::new(),
            last: 0,
            now_ms: 1,
            nodes: Default::default(),
            posts: Vec::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Start(at) => self.start(at),
            Op::Leave(at) => {
                if let Some(node) = &mut self.nodes[at] {
                    node.reads.clear();
                    node.member.leave(self.now_ms);
                }
                self.carry_out(at);
                self.nodes[at] = None;
            }
            Op::Finish(at) => self.finish(at),
            Op::Subscribe(at, which) => {
                if let Some(node) = &mut self.nodes[at] {
                    node.member.subscribe(wish(which), self.now_ms);
                }
                self.carry_out(at);
            }
            Op::Deliver(which) => self.deliver(usize::from(which)),
            Op::Lose(which) => {
                if !self.posts.is_empty() {
                    let lost = self.posts.remove(usize::from(which) % self.posts.len());
                    if let Post::Call(at, life, number, _) | Post::Answer(at, life, number, _) = lost {
                        self.posts.push(Post::Answer(at, life, number, Answer::Lost));
                    } else {
                        self.posts.push(lost);
                    }
                }
            }
            Op::Pass(ms) => self.pass(u64::from(ms)),
            Op::FallAsleep(at) => {
                if let Some(node) = &mut self.nodes[at] {
                    node.polls = false;
                    node.last_poll_ms = 0;
                    // What it was about to finish with is lost.
                    node.member.application.last_poll_ms = 0;
                }
                self.tick(at);
            }
            // A static member that took over a place which is not durable yet is fenced after a restart, as with Kafka.
            Op::BrokerStarts if self.kind.2 => {}
            Op::BrokerStarts => self.broker_starts(),
            Op::Grow => {
                *self.counts.get_mut(TOPICS[0]).unwrap() += 1;
                self.topics = topics(&self.counts);
                let topics = Arc::clone(&self.topics);
                self.step(Input::Topics { topics, deleted: Vec::new() });
            }
        }
        self.check();
    }

    /// A static member of the classic protocol that starts again gets its share back without a rebalance (KIP-345, KIP-814).
    /// What changed while it was away waits for the next one: a topic that grew, another subscription, partitions that a
    /// cooperative rebalance took from it.
    fn keeps_assignments(&self) -> bool {
        self.kind.0 == Protocol::Classic && self.kind.2
    }

    fn start(&mut self, at: usize) {
        let life = self.number();
        let (protocol, assignors, instances) = self.kind.clone();
        let instance_id: Option<Arc<str>> = instances.then(|| format!("instance-{at}").into());
        // KIP-848 keeps a static member's place until its session is over, if it ends without a word.
        let instance_id = instance_id.filter(|_| protocol == Protocol::Classic);
        let settings = Settings {
            protocol,
            assignors,
            instance_id: instance_id.clone(),
            heartbeat_interval_ms: 2_000,
            poll_interval_ms_max: 100_000,
            metadata_age_ms_max: 3_000,
            retry: Backoff::new(20, 200),
        };
        let card = Card {
            group_id: "g".into(),
            instance_id,
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
            broker_assignor: None,
        };
        let mut member = Member::new(settings, Uuid::from_u128(u128::from(life)).to_string().into());
        member.observe(true, self.now_ms, self.now_ms);
        member.subscribe(wish(0), self.now_ms);
        let node =
            Node { member, card, life, reads: BTreeSet::new(), gives_up: None, last_poll_ms: self.now_ms, polls: true };
        // A process that ended sends nothing more: as a static member it would fence the one that took its place.
        self.posts.retain(|post| !matches!(post, Post::Call(of, ..) if *of == at));
        self.nodes[at] = Some(node);
        self.carry_out(at);
    }

    fn finish(&mut self, at: usize) {
        let Some(node) = &mut self.nodes[at] else { return };
        node.polls = true;
        node.last_poll_ms = self.now_ms;
        if let Some((number, partitions)) = node.gives_up.take() {
            for partition in &partitions {
                node.reads.remove(partition);
            }
            node.member.finished(number, self.now_ms);
        }
        self.tick(at);
    }

    fn tick(&mut self, at: usize) {
        if let Some(node) = &mut self.nodes[at] {
            node.member.observe(node.polls, node.last_poll_ms, self.now_ms);
        }
        self.carry_out(at);
    }

    fn carry_out(&mut self, at: usize) {
        let Some(node) = &mut self.nodes[at] else { return };
        let life = node.life;
        for effect in node.member.take_effects() {
            match effect {
                Effect::Call(number, call) => self.posts.push(Post::Call(at, life, number, call)),
                Effect::LookUp(asked) => {
                    let seen = self
                        .topics
                        .iter()
                        .filter(|topic| asked.as_ref().is_none_or(|asked| asked.contains(&topic.name)));
                    let seen = seen.map(|topic| Seen {
                        name: Arc::clone(&topic.name),
                        id: topic.id,
                        partitions: topic.partitions,
                        internal: false,
                    });
                    self.posts.push(Post::Seen(at, life, seen.collect()));
                }
                Effect::GiveUp(number, partitions) => {
                    assert!(partitions.iter().all(|it| node.reads.contains(it)), "{partitions:?} of {:?}", node.reads);
                    node.gives_up = Some((number, partitions));
                }
                Effect::Lose(partitions) => {
                    node.gives_up = None;
                    for partition in &partitions {
                        node.reads.remove(partition);
                    }
                }
                Effect::Assign(partitions) => node.reads.extend(partitions),
                Effect::Refuse(code, message) => panic!("refused: {code:?} {message:?}"),
                Effect::TellLate | Effect::Left => {}
            }
        }
    }

    fn deliver(&mut self, which: usize) {
        if self.posts.is_empty() {
            return;
        }
        match self.posts.remove(which % self.posts.len()) {
            Post::Call(at, life, number, Call::FindCoordinator) => {
                self.posts.push(Post::Answer(at, life, number, Answer::Coordinator(1)));
            }
            Post::Call(at, life, number, call) => {
                // A farewell is sent by one that is gone already.
                let card = self.nodes[at].as_ref().map(|node| node.card.clone());
                let Some(card) = card else { return self.say_farewell(&call) };
                self.request(at, life, number, &card, &call);
            }
            Post::Answer(at, life, number, answer) => {
                let Some(node) = self.nodes[at].as_mut().filter(|node| node.life == life) else { return };
                node.member.answered(number, answer, self.now_ms);
                self.carry_out(at);
            }
            Post::Seen(at, life, seen) => {
                let Some(node) = self.nodes[at].as_mut().filter(|node| node.life == life) else { return };
                node.member.looked_up(Some(&seen), self.now_ms);
                self.carry_out(at);
            }
        }
    }

    fn say_farewell(&mut self, call: &Call) {
        if matches!(call, Call::Leave { .. }) || matches!(call, Call::Beat(beat) if beat.epoch < 0) {
            let card = Card {
                group_id: "g".into(),
                instance_id: None,
                session_timeout_ms: 0,
                rebalance_timeout_ms: 0,
                broker_assignor: None,
            };
            self.request(0, 0, 0, &card, call);
        }
    }

    fn request(&mut self, at: usize, life: u64, number: u64, card: &Card, call: &Call) {
        let (id, fresh) = (self.number(), Uuid::from_u128(u128::from(self.number()) << 64));
        self.requests.insert(id, (at, life, number));
        let version = |key: ApiKey| key.api().versions.max;
        match call {
            Call::Join { member_id, protocols, reason } => {
                let request = Request::JoinGroup(card.join(member_id, protocols, reason), fresh);
                self.ask(id, version(ApiKey::JoinGroup), request);
            }
            Call::Sync { generation, member_id, protocol, shares } => {
                let request = Request::SyncGroup(card.sync(*generation, member_id, protocol, shares));
                self.ask(id, version(ApiKey::SyncGroup), request);
            }
            Call::Heartbeat { generation, member_id } => {
                let request = Request::Heartbeat(card.heartbeat(*generation, member_id));
                self.ask(id, version(ApiKey::Heartbeat), request);
            }
            Call::Leave { member_id, reason } => {
                let request = Request::LeaveGroup(card.leave(member_id, reason));
                self.ask(id, version(ApiKey::LeaveGroup), request);
            }
            Call::Beat(beat) => {
                let request = Request::ConsumerGroupHeartbeat(card.beat(beat), fresh);
                self.ask(id, version(ApiKey::ConsumerGroupHeartbeat), request);
            }
            Call::FindCoordinator => {}
        }
    }

    fn ask(&mut self, id: u64, version: i16, request: Request<'_>) {
        let client = Client { id: "c", host: "/127.0.0.1" };
        self.step(Input::Request { id: RequestId(id), version, client, request });
    }

    fn step(&mut self, input: Input<'_>) {
        let mut effects = self.shard.step(self.now_ms as i64, input);
        while !effects.is_empty() {
            let mut durable = None;
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Done::Append { write, records } => {
                        self.log.extend(records);
                        durable = Some(write);
                    }
                    Done::Reply { request, reply } => self.reply(request.0, &reply),
                    Done::WakeAt { at_ms } => self.wake_at_ms = Some(at_ms),
                    Done::Event(_) => {}
                }
            }
            if let Some(write) = durable {
                effects = self.shard.step(self.now_ms as i64, Input::Durable(write));
            }
        }
    }

    fn reply(&mut self, id: u64, reply: &Reply) {
        let Some((at, life, number)) = self.requests.remove(&id) else { return };
        let answer = match reply {
            Reply::JoinGroup(reply) => messages::read_join(&reply.message(), &self.kind.1),
            Reply::SyncGroup(reply) => messages::read_sync(&reply.message()),
            Reply::Heartbeat(ErrorCode::None) => Answer::Done,
            Reply::Heartbeat(code) => messages::refused(*code),
            Reply::LeaveGroup(reply) => {
                let version = ApiVersion(ottla_wire::message::LeaveGroupRequest::VERSIONS.max);
                messages::read_leave(&reply.message(version))
            }
            Reply::ConsumerGroupHeartbeat(response) => messages::read_beat(response),
            other => panic!("{other:?}"),
        };
        self.posts.push(Post::Answer(at, life, number, answer));
    }

    /// Everything under way arrives, then time passes for all.
    fn pass(&mut self, ms: u64) {
        for _ in 0..200 {
            if self.posts.is_empty() {
                break;
            }
            self.deliver(0);
        }
        self.now_ms += ms;
        while self.wake_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms as i64) {
            self.wake_at_ms = None;
            self.step(Input::Wake);
        }
        for at in 0..MEMBERS {
            self.tick(at);
        }
    }

    /// With everything that is durable; what was under way is lost.
    fn broker_starts(&mut self) {
        let mut shard = Shard::new(Arc::clone(&self.config), Arc::clone(&self.topics));
        for record in &self.log {
            shard.replay(&record.key, record.value.as_deref()).unwrap();
        }
        self.shard = shard;
        self.wake_at_ms = None;
        let mut effects = self.shard.loaded(self.now_ms as i64);
        effects.retain(|effect| matches!(effect, Done::WakeAt { .. } | Done::Append { .. }));
        for effect in effects {
            match effect {
                Done::WakeAt { at_ms } => self.wake_at_ms = Some(at_ms),
                Done::Append { write, records } => {
                    self.log.extend(records);
                    self.step(Input::Durable(write));
                }
                Done::Reply { .. } | Done::Event(_) => {}
            }
        }
        for (_, (at, life, number)) in std::mem::take(&mut self.requests) {
            self.posts.push(Post::Answer(at, life, number, Answer::Lost));
        }
    }

    fn check(&self) {
        let mut readers: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            for partition in node.iter().flat_map(|node| &node.reads) {
                let other = readers.insert(partition, at);
                assert_eq!(other, None, "{partition} is read by member {at}, too");
            }
        }
    }

    /// All is delivered and every application does its part: then everything is read.
    fn settle(&mut self) {
        for at in 0..MEMBERS {
            if let Some(node) = &mut self.nodes[at] {
                node.member.subscribe(wish(0), self.now_ms);
                self.carry_out(at);
            }
        }
        let all: BTreeSet<TopicPartition> = (self.counts.iter())
            .flat_map(|(topic, count)| (0..*count).map(|partition| TopicPartition::new(*topic, partition)))
            .collect();
        let mut read = BTreeSet::new();
        for _ in 0..ROUNDS_TO_SETTLE {
            self.pass(500);
            for at in 0..MEMBERS {
                self.finish(at);
            }
            self.check();
            read = self.nodes.iter().flatten().flat_map(|node| node.reads.iter().cloned()).collect();
            let busy = self.nodes.iter().flatten().any(|node| node.member.rejoin.is_some());
            if (read == all || self.keeps_assignments())
                && !busy
                && self.nodes.iter().flatten().all(|node| node.member.stage == super::Stage::In)
            {
                return;
            }
        }
        if self.nodes.iter().any(Option::is_some) {
            let stages: Vec<_> =
                self.nodes.iter().flatten().map(|node| (node.member.stage, node.member.generation)).collect();
            panic!("{read:?} is read of {all:?} by members that are {stages:?}");
        }
    }
}

fn wish(which: u8) -> Wish {
    let topics: &[&str] = match which % 3 {
        0 => &TOPICS,
        1 => &TOPICS[..1],
        _ => &TOPICS[1..],
    };
    Wish::Topics(topics.iter().map(|topic| Arc::from(*topic)).collect())
}

fn topics(counts: &BTreeMap<&'static str, i32>) -> Arc<Topics> {
    let topic = |(at, (name, partitions)): (usize, (&&'static str, &i32))| Topic {
        name: Arc::from(*name),
        id: Uuid::from_u128(at as u128 + 1),
        partitions: *partitions,
    };
    Arc::new(counts.iter().enumerate().map(topic).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_members_read_one_partition_and_in_the_end_all_are_read(
        kind in kinds(),
        ops in proptest::collection::vec(op(), 20..120),
    ) {
        let mut world = World::new(kind);
        world.start(0);
        for op in ops {
            world.run(op);
        }
        world.settle();
    }
}
