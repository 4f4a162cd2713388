//! Random joins, syncs, heartbeats, commits, leaves, time and restarts, with clients of both protocols in one group, against
//! what must always hold:
//!
//! * No two members of a generation own one partition, as the clients see it.
//! * The assignment of a group that says it is stable is complete.
//! * No commit of an older generation or epoch is accepted; what was answered is not lost and does not go back.
//! * A restart with everything durable changes nothing that is told of a settled group.

use std::collections::{BTreeMap, BTreeSet};

use ottla_coordinator::group::{EventKind, GroupConfig, Input, JoinReply, Reply, Request};
use ottla_wire::ErrorCode;
use ottla_wire::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription,
};
use ottla_wire::message::*;
use ottla_wire::offsets_topic::GroupRecord;
use proptest::prelude::*;

use crate::print;
use crate::stage::{Disk, Seen, Stage};

const GROUP: &str = "orders";
const TOPIC: &str = "packages";
const CLIENTS: usize = 5;

/// What a client does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// JoinGroup, or the first ConsumerGroupHeartbeat.
    Join,
    Sync,
    /// Heartbeat; of a consumer it says what it owns, without what it has revoked.
    Beat,
    /// A consumer lets go of what it has to revoke, and does not say so yet.
    Revoke,
    Leave,
    /// A commit at the generation the client knows.
    Commit,
    /// A commit at a generation before that.
    LateCommit,
    /// The process ends and starts again without a word. A static one keeps its instance id.
    Reborn,
    /// It speaks the other protocol from now on, after it left.
    Switch,
}

/// One step.
#[derive(Debug, Clone, Copy)]
enum Op {
    Client(usize, Act),
    Pass(u16),
    DiskWaits,
    DiskGoes,
    /// The broker ends; of the writes under way, this many survive.
    Restart(u8),
    /// The broker ends and starts when everything is durable.
    CleanRestart,
    Grow,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Join),
        6 => Just(Act::Sync),
        6 => Just(Act::Beat),
        3 => Just(Act::Revoke),
        1 => Just(Act::Leave),
        3 => Just(Act::Commit),
        1 => Just(Act::LateCommit),
        1 => Just(Act::Reborn),
        1 => Just(Act::Switch),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => (0..CLIENTS, act()).prop_map(|(client, act)| Op::Client(client, act)),
        4 => (1..8_000_u16).prop_map(Op::Pass),
        1 => Just(Op::DiskWaits),
        2 => Just(Op::DiskGoes),
        1 => any::<u8>().prop_map(Op::Restart),
        1 => Just(Op::CleanRestart),
        1 => Just(Op::Grow),
    ]
}

#[derive(Debug, Default)]
struct Client {
    is_consumer: bool,
    instance: Option<String>,
    member_id: String,
    /// Generation, or member epoch.
    generation: i32,
    joined: Option<JoinReply>,
    is_synced: bool,
    /// What it reads, including what it has yet to revoke.
    owned: BTreeSet<i32>,
    /// What it was told last that it may own.
    told: BTreeSet<i32>,
    waits: bool,
    /// Counts its processes: an answer to one that is gone reaches nobody.
    life: u32,
    /// The commit that waits for its answer: generation and offset.
    commit: Option<(i32, i64)>,
}

impl Client {
    fn reset(&mut self) {
        self.member_id.clear();
        self.life += 1;
        self.commit = None;
        self.start_over();
    }

    /// Like a consumer that was fenced: it lets go of everything and joins again as the same member.
    fn start_over(&mut self) {
        self.generation = if self.is_consumer { 0 } else { -1 };
        self.joined = None;
        self.is_synced = false;
        self.owned.clear();
        self.told.clear();
        self.waits = false;
    }
}

struct World {
    stage: Stage,
    clients: Vec<Client>,
    partitions: i32,
    /// The current generation of the classic group, as its events and records say.
    generation: i32,
    /// What leaders have handed in, by generation.
    assignments: BTreeMap<i32, Vec<BTreeMap<String, BTreeSet<i32>>>>,
    next_offset: i64,
    acked: Option<i64>,
    /// Commits that were sent and may become durable without an answer.
    unanswered: BTreeSet<i64>,
    consumers_born: u32,
}

impl World {
    fn new(config: GroupConfig, kinds: &[bool]) -> Self {
        let mut stage = Stage::new(config);
        stage.set_topics([(TOPIC.to_owned(), 3)]);
        let clients = (0..CLIENTS).map(|index| {
            let mut client = Client {
                is_consumer: kinds[index],
                instance: (index % 3 == 2).then(|| format!("i{index}")),
                ..Client::default()
            };
            client.reset();
            client
        });
        Self {
            stage,
            clients: clients.collect(),
            partitions: 3,
            generation: 0,
            assignments: BTreeMap::new(),
            next_offset: 0,
            acked: None,
            unanswered: BTreeSet::new(),
            consumers_born: 0,
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Client(index, act) => self.act(index, act),
            Op::Pass(ms) => self.stage.pass(i64::from(ms)),
            Op::DiskWaits => self.stage.disk = Disk::Waits,
            Op::DiskGoes => {
                self.stage.disk = Disk::Prompt;
                self.stage.let_writes_go();
            }
            Op::Restart(survive) => self.restart(usize::from(survive)),
            Op::CleanRestart => {
                self.stage.let_writes_go();
                self.learn();
                let before = self.settled();
                self.restart(0);
                if let Some(before) = before {
                    assert_eq!(Some(before), self.settled(), "a restart changed a settled group");
                }
            }
            Op::Grow => {
                self.partitions = (self.partitions + 1).min(8);
                self.stage.set_topics([(TOPIC.to_owned(), self.partitions)]);
            }
        }
        self.learn();
        self.check();
    }

    /// What is told of a group in which nothing is under way.
    fn settled(&self) -> Option<String> {
        let consumer = self.stage.shard.describe_consumer(GROUP);
        if consumer.error_code.is_none() {
            return Some(print::described_consumer(&consumer));
        }
        let classic = self.stage.shard.describe(6, GROUP);
        (classic.group_state == "Stable").then(|| print::described(&classic))
    }

    fn restart(&mut self, survive: usize) {
        // What the log has of the writes under way at the moment of the crash.
        for _ in 0..survive.min(self.stage.writes.len()).min(3) {
            if let Some((_, records)) = self.stage.writes.pop_front() {
                self.stage.log.extend(records);
            }
        }
        self.stage.restart();
        for client in &mut self.clients {
            // Its connection is gone, and with it what it waited for.
            client.waits = false;
            client.commit = None;
        }
        self.generation = 0;
        for record in self.stage.log.clone() {
            self.note_record(&record);
        }
    }

    fn note_record(&mut self, record: &ottla_coordinator::group::Record) {
        let decoded = GroupRecord::decode(&record.key, record.value.as_deref()).unwrap().unwrap();
        if let GroupRecord::GroupMetadata { value, .. } = decoded {
            self.generation = value.map_or(0, |value| value.generation);
        }
    }

    fn act(&mut self, index: usize, act: Act) {
        let client = &mut self.clients[index];
        let who = format!("{index}.{}", client.life);
        match act {
            Act::Join if client.is_consumer => self.beat_consumer(index, true),
            Act::Join if !client.waits => {
                // An eager consumer lets go of everything before it joins.
                client.owned.clear();
                (client.is_synced, client.waits) = (false, true);
                let mut metadata = Vec::new();
                let subscription = ConsumerProtocolSubscription { topics: vec![TOPIC.into()], ..Default::default() };
                subscription.write(1, &mut metadata);
                let request = JoinGroupRequest {
                    group_id: GROUP.into(),
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 20_000,
                    member_id: client.member_id.clone().into(),
                    group_instance_id: client.instance.clone().map(Into::into),
                    protocol_type: "consumer".into(),
                    protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: &metadata }],
                    reason: None,
                };
                let fresh = self.stage.fresh();
                self.stage.ask(&who, 9, Request::JoinGroup(request, fresh));
            }
            Act::Sync if !client.is_consumer && !client.waits => self.sync(index),
            Act::Beat if client.is_consumer => self.beat_consumer(index, false),
            Act::Beat if client.generation >= 0 => {
                let request = HeartbeatRequest {
                    group_id: GROUP.into(),
                    generation_id: client.generation,
                    member_id: client.member_id.clone().into(),
                    group_instance_id: client.instance.clone().map(Into::into),
                };
                self.stage.ask(&who, 4, Request::Heartbeat(request));
            }
            Act::Revoke => client.owned = client.owned.intersection(&client.told).copied().collect(),
            Act::Leave => self.leave(index),
            Act::Commit => self.commit(index, 0),
            Act::LateCommit => self.commit(index, 1),
            Act::Reborn => client.reset(),
            Act::Switch => {
                self.leave(index);
                let client = &mut self.clients[index];
                client.is_consumer = !client.is_consumer;
                client.reset();
            }
            _ => {}
        }
    }

    fn sync(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(joined) = client.joined.clone().filter(|_| !client.is_synced) else { return };
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let mut parts: BTreeMap<String, BTreeSet<i32>> =
            joined.members.iter().map(|member| (member.member_id.to_string(), BTreeSet::new())).collect();
        if leads {
            let members: Vec<String> = parts.keys().cloned().collect();
            for partition in 0..self.partitions {
                let member = &members[partition as usize % members.len()];
                parts.get_mut(member).unwrap().insert(partition);
            }
            self.assignments.entry(joined.generation).or_default().push(parts.clone());
        }
        client.waits = true;
        let who = format!("{index}.{}", client.life);
        let assignments: Vec<(String, Vec<u8>)> = parts
            .iter()
            .filter(|_| leads)
            .map(|(member, partitions)| {
                let partitions = partitions.iter().copied().collect();
                let assigned_partitions = vec![ConsumerProtocolPartitions { topic: TOPIC.into(), partitions }];
                let mut bytes = Vec::new();
                ConsumerProtocolAssignment { assigned_partitions, ..Default::default() }.write(1, &mut bytes);
                (member.clone(), bytes)
            })
            .collect();
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: client.generation,
            member_id: client.member_id.clone().into(),
            group_instance_id: client.instance.clone().map(Into::into),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: assignments
                .iter()
                .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id: member_id.into(), assignment })
                .collect(),
        };
        self.stage.ask(&who, 5, Request::SyncGroup(request));
    }

    fn beat_consumer(&mut self, index: usize, joins: bool) {
        let client = &mut self.clients[index];
        if client.waits {
            return;
        }
        let joins = joins && client.generation == 0 || client.generation == 0;
        if client.member_id.is_empty() {
            self.consumers_born += 1;
            client.member_id = format!("c{}", self.consumers_born);
        }
        client.waits = true;
        let who = format!("{index}.{}", client.life);
        let topic_id = self.stage.topics.named(TOPIC).unwrap().id;
        let owned = ConsumerGroupTopicPartitions { topic_id, partitions: client.owned.iter().copied().collect() };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: client.member_id.clone().into(),
            member_epoch: client.generation,
            instance_id: client.instance.clone().map(Into::into),
            rebalance_timeout_ms: if joins { 20_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec![TOPIC.into()]),
            topic_partitions: Some(if owned.partitions.is_empty() { Vec::new() } else { vec![owned] }),
            ..Default::default()
        };
        let fresh = self.stage.fresh();
        self.stage.ask(&who, 1, Request::ConsumerGroupHeartbeat(request, fresh));
    }

    fn leave(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.member_id.is_empty() {
            return;
        }
        let (member_id, instance) = (client.member_id.clone(), client.instance.clone());
        let is_consumer = client.is_consumer;
        client.reset();
        if is_consumer {
            let request = ConsumerGroupHeartbeatRequest {
                group_id: GROUP.into(),
                member_id: member_id.into(),
                member_epoch: -1,
                instance_id: instance.map(Into::into),
                ..Default::default()
            };
            let fresh = self.stage.fresh();
            self.stage.ask("leaver", 1, Request::ConsumerGroupHeartbeat(request, fresh));
        } else {
            let member = LeavingMember {
                member_id: member_id.into(),
                group_instance_id: instance.map(Into::into),
                reason: None,
            };
            let request = LeaveGroupRequest { group_id: GROUP.into(), members: vec![member], ..Default::default() };
            self.stage.ask("leaver", 5, Request::LeaveGroup(request));
        }
    }

    fn commit(&mut self, index: usize, late: i32) {
        let client = &mut self.clients[index];
        if client.commit.is_some() || client.generation < late || client.member_id.is_empty() {
            return;
        }
        let generation = client.generation - late;
        self.next_offset += 1;
        client.commit = Some((generation, self.next_offset));
        let partition = OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: self.next_offset,
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic { name: TOPIC.into(), partitions: vec![partition], ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: generation,
            member_id: client.member_id.clone().into(),
            group_instance_id: client.instance.clone().map(Into::into),
            topics: vec![topic],
            ..Default::default()
        };
        // Whether the commit may be accepted is decided by what the group is like now.
        let consumer = self.stage.shard.describe_consumer(GROUP);
        let may = if consumer.error_code.is_none() {
            let member = consumer.members.iter().find(|member| *member.member_id == client.member_id);
            member.is_some_and(|member| member.member_epoch == generation)
        } else {
            let classic = self.stage.shard.describe(6, GROUP);
            classic.members.iter().any(|member| *member.member_id == client.member_id) && generation == self.generation
        };
        let writes = self.stage.writes.len();
        let who = format!("commit {index}.{}", client.life);
        self.unanswered.insert(self.next_offset);
        let disk = std::mem::replace(&mut self.stage.disk, Disk::Waits);
        self.stage.ask(&who, 9, Request::OffsetCommit(request));
        let is_accepted = self.stage.writes.len() > writes;
        assert!(may || !is_accepted, "a commit at {generation} was accepted");
        self.stage.disk = disk;
        if disk == Disk::Prompt {
            self.stage.let_writes_go();
        }
    }

    /// What the clients learn, and what the model does.
    fn learn(&mut self) {
        for seen in self.stage.seen() {
            match seen {
                Seen::Event(event) => match event.kind {
                    EventKind::Generation(generation) => self.generation = generation,
                    EventKind::Upgraded => self.assignments.clear(),
                    _ => {}
                },
                Seen::Append(_, records) => {
                    for record in records {
                        let decoded = GroupRecord::decode(&record.key, record.value.as_deref()).unwrap().unwrap();
                        if let GroupRecord::GroupMetadata { value: Some(value), .. } = decoded {
                            self.generation = self.generation.max(value.generation);
                        }
                    }
                }
                Seen::Reply(who, reply) => self.answered(&who, reply),
            }
        }
    }

    fn answered(&mut self, who: &str, reply: Reply) {
        let Some((name, life)) = who.split_once('.') else { return };
        if let Some(index) = name.strip_prefix("commit ") {
            return self.commit_answered(index.parse().unwrap(), life, &reply);
        }
        let index: usize = name.parse().unwrap();
        let client = &mut self.clients[index];
        if client.life.to_string() != life {
            return;
        }
        match reply {
            Reply::JoinGroup(reply) if !client.is_consumer => {
                client.waits = false;
                match reply.error {
                    ErrorCode::None => {
                        client.member_id = reply.member_id.to_string();
                        client.generation = reply.generation;
                        client.is_synced = false;
                        client.joined = Some(reply);
                    }
                    ErrorCode::MemberIdRequired => client.member_id = reply.member_id.to_string(),
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => client.reset(),
                    _ => {}
                }
            }
            Reply::SyncGroup(reply) if !client.is_consumer => {
                client.waits = false;
                match reply.error {
                    ErrorCode::None => {
                        client.is_synced = true;
                        client.owned = partitions(&reply.assignment);
                        // A leader that handed it in is held to its word. After a migration the coordinator was the leader.
                        if let Some(candidates) = self.assignments.get(&client.generation)
                            && self.stage.shard.describe_consumer(GROUP).error_code == ErrorCode::GroupIdNotFound
                        {
                            let is_as_said = candidates
                                .iter()
                                .any(|parts| parts.get(&client.member_id).is_some_and(|part| *part == client.owned));
                            // A static member that came back has another id than the one it was assigned to.
                            assert!(is_as_said || client.instance.is_some(), "another assignment than the leader's");
                        }
                    }
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => client.reset(),
                    _ => client.joined = None,
                }
            }
            Reply::Heartbeat(error) if !client.is_consumer => match error {
                ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => client.reset(),
                ErrorCode::IllegalGeneration => {
                    let waits = client.waits;
                    client.start_over();
                    client.waits = waits;
                }
                _ => {}
            },
            Reply::ConsumerGroupHeartbeat(response) if client.is_consumer => {
                client.waits = false;
                match response.error_code {
                    ErrorCode::None => {
                        client.generation = response.member_epoch;
                        if let Some(assignment) = response.assignment {
                            let told = assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone());
                            client.told = told.collect();
                            client.owned.extend(&client.told);
                        }
                    }
                    ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => {
                        client.start_over();
                    }
                    ErrorCode::FencedInstanceId => client.reset(),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn commit_answered(&mut self, index: usize, life: &str, reply: &Reply) {
        let Reply::OffsetCommit(response) = reply else { panic!("{reply:?}") };
        let client = &mut self.clients[index];
        if client.life.to_string() != life {
            return;
        }
        let Some((_, offset)) = client.commit.take() else { return };
        if response.topics[0].partitions[0].error_code.is_none() {
            // Answers come in the order of the log.
            assert!(self.acked.is_none_or(|acked| acked < offset));
            self.acked = Some(offset);
        } else {
            self.unanswered.remove(&offset);
        }
    }

    fn check(&mut self) {
        self.check_owners();
        self.check_complete();
        let group = OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            member_epoch: -1,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: TOPIC.into(),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        };
        let fetched = self.stage.shard.fetch_offsets(9, &group).topics[0].partitions[0].committed_offset;
        let acked = self.acked.unwrap_or(-1);
        assert!(fetched >= acked, "{fetched} is fetched, {acked} was answered");
        assert!(fetched == acked || self.unanswered.contains(&fetched), "{fetched} was never committed");
    }

    fn check_owners(&self) {
        let consumer = self.stage.shard.describe_consumer(GROUP);
        let classic = self.stage.shard.describe(6, GROUP);
        let is_member = |client: &Client| {
            if consumer.error_code.is_none() {
                consumer.members.iter().any(|member| *member.member_id == client.member_id)
            } else {
                // In a classic group, owners are those that have synced in its generation.
                client.is_synced
                    && client.generation == self.generation
                    && classic.members.iter().any(|member| *member.member_id == client.member_id)
            }
        };
        let mut owners: BTreeMap<i32, usize> = BTreeMap::new();
        for (index, client) in self.clients.iter().enumerate().filter(|(_, client)| is_member(client)) {
            for partition in &client.owned {
                let other = owners.insert(*partition, index);
                assert!(other.is_none(), "{other:?} and {index} own {partition}: {:?}", self.clients);
            }
        }
    }

    fn check_complete(&self) {
        let consumer = self.stage.shard.describe_consumer(GROUP);
        let classic = self.stage.shard.describe(6, GROUP);
        let parts: Vec<BTreeSet<i32>> = if consumer.error_code.is_none() && consumer.group_state == "Stable" {
            let owned = consumer.members.iter().map(|member| &member.assignment.topic_partitions);
            owned.map(|topics| topics.iter().flat_map(|topic| topic.partitions.clone()).collect()).collect()
        } else if classic.error_code.is_none() && classic.group_state == "Stable" {
            classic.members.iter().map(|member| partitions(member.member_assignment)).collect()
        } else {
            return;
        };
        let all: BTreeSet<i32> = parts.iter().flatten().copied().collect();
        assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), all.len(), "two own one partition: {parts:?}");
        // All that there were when it was assigned: the topic grows, and the group notices later.
        assert!(all.len() >= 3 && all.iter().copied().eq(0..all.len() as i32), "incomplete: {parts:?}");
    }
}

fn partitions(assignment: &[u8]) -> BTreeSet<i32> {
    if assignment.is_empty() {
        return BTreeSet::new();
    }
    let (_, assignment) = ConsumerProtocolAssignment::parse(assignment).unwrap();
    assignment.assigned_partitions.into_iter().flat_map(|topic| topic.partitions).collect()
}

fn run(kinds: &[bool], initial_delay_ms: i32, ops: &[Op]) {
    let config = GroupConfig {
        initial_rebalance_delay_ms: initial_delay_ms,
        assignment_interval_ms: initial_delay_ms,
        ..GroupConfig::default()
    };
    let mut world = World::new(config, kinds);
    for op in ops {
        world.run(*op);
    }
    // Whatever happened, nobody waits for ever: time ends every wait.
    world.stage.disk = Disk::Prompt;
    world.stage.let_writes_go();
    world.stage.pass(200_000);
    world.learn();
    world.check();
    let waiting = world.stage.waiting();
    assert!(waiting.is_empty(), "waits for ever: {waiting:?}");
    world.stage.step(Input::Wake);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn classic_groups_keep_their_word(ops in prop::collection::vec(op(), 1..150), delay in prop_oneof![Just(0), Just(3_000)]) {
        let ops: Vec<Op> = ops.into_iter().filter(|op| !matches!(op, Op::Client(_, Act::Switch))).collect();
        run(&[false; CLIENTS], delay, &ops);
    }

    #[test]
    fn consumer_groups_keep_their_word(ops in prop::collection::vec(op(), 1..150), delay in prop_oneof![Just(0), Just(1_000)]) {
        let ops: Vec<Op> = ops.into_iter().filter(|op| !matches!(op, Op::Client(_, Act::Switch))).collect();
        run(&[true; CLIENTS], delay, &ops);
    }

    #[test]
    fn groups_of_both_protocols_keep_their_word(
        kinds in prop::collection::vec(any::<bool>(), CLIENTS),
        ops in prop::collection::vec(op(), 1..150),
        delay in prop_oneof![Just(0), Just(1_000)],
    ) {
        run(&kinds, delay, &ops);
    }
}
