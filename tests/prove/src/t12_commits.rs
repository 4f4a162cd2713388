//! T12: `kill -9` and power cuts while groups commit offsets, between the append of a commit, its sync and its answer. A
//! commit that was answered, or that the broker has shown, is there afterwards; a member that committed is still one.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla_tests::connection::Connection;
use ottla_tests::{Broker, wait};
use ottla_wire::ErrorCode;
use ottla_wire::message::{
    COORDINATOR_GROUP, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol,
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetFetchRequest,
    OffsetFetchRequestTopic, SyncGroupRequest,
};

use crate::mount::{Backing, Kind, Mount, unavailable};
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::workload::PIPELINE;

/// Ends that one data directory lives through.
const ROUND: u64 = 10;
const TOPIC: &str = "t";
/// Every second of them is that of a member.
const GROUPS: usize = 6;
/// Longer than any case: no member is removed for its silence.
const SESSION_TIMEOUT_MS: i32 = 300_000;

/// What ends the broker, and where its data lies.
#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    PowerCut(Kind, Backing),
}

const ENDS: [End; 4] = [
    End::Kill,
    End::PowerCut(Kind::Ext4Ordered, Backing::Memory),
    End::PowerCut(Kind::Ext4Writeback, Backing::Disk),
    End::PowerCut(Kind::Xfs, Backing::Memory),
];

/// A group that commits the next offset again and again, and what it knows of its commits.
#[derive(Debug)]
struct Committer {
    group: String,
    /// The id and the generation of its one member, where it has one.
    member: Option<(String, i32)>,
    /// The last offset that was sent.
    sent: i64,
    /// Offsets whose commit was answered, and when.
    answered: Vec<(i64, Instant)>,
    /// Offsets that the broker said are committed, and when.
    shown: Vec<(i64, Instant)>,
}

pub(crate) fn run(setting: &Setting) -> Outcome {
    let mut outcome = Outcome::default();
    let mut possible = Vec::new();
    for end in ENDS {
        match end {
            End::PowerCut(kind, _) => match unavailable(kind) {
                None => possible.push(end),
                Some(why) => outcome.partly.push(why),
            },
            // The canary breaks what a process that is killed keeps.
            End::Kill if setting.canary.is_some() => {}
            End::Kill => possible.push(end),
        }
    }
    if possible.is_empty() {
        return Outcome::not_run(outcome.partly.join("; "));
    }
    let mut ended = vec![0; possible.len()];
    setting.each(&mut outcome, ROUND, |seed, cases, outcome| {
        let which = Seed::turn(seed, &possible);
        ended[which] += cases;
        round(setting, possible[which], (seed, cases), outcome);
    });
    outcome.notes.extend(possible.iter().zip(ended).map(|(end, count)| format!("{count} of {end:?}")));
    outcome
}

fn round(setting: &Setting, end: End, (seed, cases): (u64, u64), outcome: &mut Outcome) {
    let mut random = Seed::new(seed);
    let mut mount = match end {
        End::Kill => None,
        End::PowerCut(kind, backing) => Some(Mount::new(kind, backing).expect("a file system")),
    };
    let builder =
        setting.broker().set("group.initial.rebalance.delay.ms", "0").set("offsets.topic.num.partitions", "3");
    let mut broker = match &mount {
        None => builder.start(),
        Some(mount) => builder.data_dir(&mount.path().join("data")).start(),
    };
    broker.create_topic(TOPIC, 1, &[]);
    let mut committers: Vec<Committer> = (0..GROUPS).map(|number| Committer::join(&broker, number)).collect();
    for case in 1..=cases {
        let life = Duration::from_millis(random.within(30..300));
        let ended = live_and_die(&mut broker, mount.as_ref(), life, &mut committers);
        if let Some(mount) = &mut mount {
            // What a process that outlives its disk by a moment says proves nothing: see t02_power_cut.
            for committer in &mut committers {
                committer.forget_since(ended);
            }
            mount.restore().expect("the file system comes back");
        }
        outcome.cases += 1;
        broker.restart();
        let mut sound = true;
        for committer in &mut committers {
            if let Err((wrong, lost)) = committer.judge(broker.address()) {
                outcome.violation(seed, case, format!("{end:?}, {}: {wrong}", committer.group));
                outcome.lost += lost;
                sound = false;
            }
        }
        if !sound {
            break;
        }
    }
    outcome.acknowledged += committers.iter().map(|committer| committer.answered.len() as u64).sum::<u64>();
    broker.kill9();
    drop(broker);
}

/// All commit for `life`, another client asks what is committed, then the broker ends. Returns when.
fn live_and_die(broker: &mut Broker, mount: Option<&Mount>, life: Duration, committers: &mut [Committer]) -> Instant {
    let stop = AtomicBool::new(false);
    let address = broker.address();
    let groups: Vec<String> = committers.iter().map(|committer| committer.group.clone()).collect();
    let mut shown = Vec::new();
    let ended = thread::scope(|scope| {
        let stop = &stop;
        for committer in committers.iter_mut() {
            scope.spawn(move || committer.run(address, stop));
        }
        let watch = scope.spawn(move || watch(address, &groups, stop));
        thread::sleep(life);
        let ended = Instant::now();
        if let Some(mount) = mount {
            mount.cut().expect("the power can be cut");
        }
        broker.kill9();
        stop.store(true, Ordering::Relaxed);
        shown = watch.join().expect("the watch ends");
        ended
    });
    for (number, offset, at) in shown {
        committers[number].shown.push((offset, at));
    }
    ended
}

/// Asks for the offset of one group after the other until the broker is gone.
fn watch(address: SocketAddr, groups: &[String], stop: &AtomicBool) -> Vec<(usize, i64, Instant)> {
    let mut shown = Vec::new();
    let Ok(mut socket) = Connection::open(address) else { return shown };
    while !stop.load(Ordering::Relaxed) {
        for (number, group) in groups.iter().enumerate() {
            match committed(&mut socket, group) {
                Ok((ErrorCode::None, offset)) => shown.push((number, offset, Instant::now())),
                Ok(_) => {}
                Err(_) => return shown,
            }
        }
    }
    shown
}

impl Committer {
    fn join(broker: &Broker, number: usize) -> Committer {
        let group = format!("g{number}");
        let mut socket = Connection::open(broker.address()).expect("a connection");
        // The topic of the groups is made when a client first looks for one.
        wait::until_true("a coordinator", || find(&mut socket, &group).is_ok_and(|code| code == ErrorCode::None));
        let member = (number % 2 == 1).then(|| wait::until("the group to take a member", || join(&mut socket, &group)));
        Committer { group, member, sent: 0, answered: Vec::new(), shown: Vec::new() }
    }

    /// Commits until the broker's end.
    fn run(&mut self, address: SocketAddr, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) && self.commit(address, stop).is_ok() {}
    }

    fn commit(&mut self, address: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
        let mut socket = Connection::open(address)?;
        let (member_id, generation) =
            self.member.as_ref().map_or(("", -1), |(member_id, generation)| (member_id.as_str(), *generation));
        let mut under_way = 0;
        while !stop.load(Ordering::Relaxed) {
            while under_way < PIPELINE {
                self.sent += 1;
                under_way += 1;
                let partition = OffsetCommitRequestPartition {
                    committed_offset: self.sent,
                    committed_leader_epoch: -1,
                    ..OffsetCommitRequestPartition::default()
                };
                let topic = OffsetCommitRequestTopic {
                    name: TOPIC.into(),
                    partitions: vec![partition],
                    ..OffsetCommitRequestTopic::default()
                };
                let request = OffsetCommitRequest {
                    group_id: self.group.as_str().into(),
                    generation_id_or_member_epoch: generation,
                    member_id: member_id.into(),
                    topics: vec![topic],
                    ..OffsetCommitRequest::default()
                };
                socket.send_request(8, &request)?;
            }
            let code = socket.receive_response::<OffsetCommitRequest<'_>, _>(8, |response| {
                response.topics.first().and_then(|topic| topic.partitions.first()).map(|found| found.error_code)
            })?;
            under_way -= 1;
            if code == Some(ErrorCode::None) {
                // Answers come in the order of the requests.
                self.answered.push((self.sent - under_way as i64, Instant::now()));
            }
        }
        Ok(())
    }

    /// What was answered or shown from `moment` on counts as if it was not.
    fn forget_since(&mut self, moment: Instant) {
        self.answered.retain(|(_, at)| *at < moment);
        self.shown.retain(|(_, at)| *at < moment);
    }

    /// Whether the broker has what it answered and showed, nothing that was not sent, and still knows the member. What is
    /// wrong otherwise, and how many answered commits are lost.
    fn judge(&mut self, address: SocketAddr) -> Result<(), (String, u64)> {
        let mut socket = Connection::open(address).map_err(|error| (error.to_string(), 0))?;
        // Where the topic of the groups is lost, it is made anew, and has no commit.
        wait::until_true("a coordinator", || find(&mut socket, &self.group).is_ok_and(|code| code == ErrorCode::None));
        let found = wait::until("the group to be loaded", || match committed(&mut socket, &self.group) {
            Ok((ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator, _)) => None,
            answer => Some(answer),
        });
        let (code, found) = found.map_err(|error| (error.to_string(), 0))?;
        if code != ErrorCode::None {
            return Err((format!("OffsetFetch answers {code:?}"), 0));
        }
        let highest = |of: &[(i64, Instant)]| of.iter().map(|(offset, _)| *offset).max().unwrap_or(-1);
        let (answered, shown, sent) = (highest(&self.answered), highest(&self.shown), self.sent);
        if found < answered.max(shown) || found > sent {
            let lost = self.answered.iter().filter(|(offset, _)| *offset > found).count() as u64;
            return Err((format!("{found} is committed; {answered} was answered, {shown} shown, {sent} sent"), lost));
        }
        self.shown.push((found, Instant::now()));
        if let Some((member_id, generation_id)) = &self.member {
            let request = HeartbeatRequest {
                group_id: self.group.as_str().into(),
                generation_id: *generation_id,
                member_id: member_id.as_str().into(),
                group_instance_id: None,
            };
            match socket.try_call(3, &request, |response| response.error_code) {
                Ok(ErrorCode::None) => {}
                answer => return Err((format!("the member of generation {generation_id} is answered {answer:?}"), 0)),
            }
        }
        Ok(())
    }
}

fn find(socket: &mut Connection, group: &str) -> io::Result<ErrorCode> {
    let request = FindCoordinatorRequest {
        key_type: COORDINATOR_GROUP,
        coordinator_keys: vec![group.into()],
        ..FindCoordinatorRequest::default()
    };
    socket.try_call(4, &request, |response| {
        response.coordinators.first().map_or(ErrorCode::CoordinatorNotAvailable, |found| found.error_code)
    })
}

/// The id and the generation of a new member, once the group takes one.
fn join(socket: &mut Connection, group: &str) -> Option<(String, i32)> {
    let request = JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: SESSION_TIMEOUT_MS,
        rebalance_timeout_ms: SESSION_TIMEOUT_MS,
        member_id: "".into(),
        group_instance_id: None,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: b"" }],
        reason: None,
    };
    // Version 3 takes a member without asking it to come again with an id.
    let joined = socket.try_call(3, &request, |response| {
        (response.error_code, response.member_id.clone().into_owned(), response.generation_id)
    });
    let (code, member_id, generation_id) = joined.expect("an answer");
    if code != ErrorCode::None {
        return None;
    }
    let request = SyncGroupRequest {
        group_id: group.into(),
        generation_id,
        member_id: member_id.as_str().into(),
        group_instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: Vec::new(),
    };
    let code = socket.try_call(2, &request, |response| response.error_code).expect("an answer");
    (code == ErrorCode::None).then_some((member_id, generation_id))
}

/// What OffsetFetch says of the one partition.
fn committed(socket: &mut Connection, group: &str) -> io::Result<(ErrorCode, i64)> {
    let topic = OffsetFetchRequestTopic { name: TOPIC.into(), partition_indexes: vec![0] };
    let request =
        OffsetFetchRequest { group_id: group.into(), topics: Some(vec![topic]), ..OffsetFetchRequest::default() };
    socket.try_call(5, &request, |response| {
        let found = response.topics.first().and_then(|topic| topic.partitions.first());
        match (response.error_code, found) {
            (ErrorCode::None, Some(found)) => (found.error_code, found.committed_offset),
            (code, _) => (code, -1),
        }
    })
}
