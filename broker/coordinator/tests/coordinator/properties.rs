//! Random joins, syncs, heartbeats, commits, leaves, time and restarts, with clients of both protocols in one group, against
//! what must always hold:
//!
//! * No two members of a generation own one partition, as the clients see it.
//! * The assignment of a group that says it is stable is complete.
//! * No commit of an older generation or epoch is accepted; what was answered is not lost and does not go back.
//! * A restart with everything durable changes nothing that is told of a settled group.

mod acts;
mod answers;
mod checks;

use std::collections::{BTreeMap, BTreeSet};

use ottla_coordinator::group::{GroupConfig, Input, JoinReply};
use ottla_wire::offsets_topic::GroupRecord;
use proptest::prelude::*;

use crate::print;
use crate::stage::{Disk, Stage};

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
    /// Counts its processes: an answer to one that is gone is dropped.
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
    // After every history, no request waits for ever: time ends every wait.
    world.stage.disk = Disk::Prompt;
    world.stage.let_writes_go();
    world.stage.pass(200_000);
    world.learn();
    world.check();
    let waiting = world.stage.waiting();
    assert!(waiting.is_empty(), "waits for ever: {waiting:?}");
    world.stage.step(Input::Wake);
}

/// A thousand of each, or more if `PROPTEST_CASES` says so.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(1_000), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

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
