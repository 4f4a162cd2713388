//! Consumer groups: a thousand of them with ten members each, a rebalance among them, and commits; beside Apache Kafka where Java
//! and its jars are there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Plan;
use super::kafka::Tools;
use crate::beside::Beside;
use crate::frames;
use crate::load::{Done, SECONDS_MAX, Script, drive};
use crate::members::{Group, Line};
use crate::pairs::{Latency, Measurement, Pairs, Ratios};
use crate::peer::Peer;
use crate::raw::Ceiling;
use crate::report::Row;

/// The groups are shared out over so many sets of connections; a set has one connection for each member of a group.
const SETS: usize = 20;
/// Members of a group.
const MEMBERS: usize = 10;
/// Members of the group that rebalances.
const MEMBERS_LARGE: usize = 100;
/// Time between two heartbeats of a member.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(3);
/// What the heartbeats of the other groups may take at the 99th percentile, and a rebalance of the broker's CPU.
const HEARTBEAT_P99_MAX_MS: f64 = 50.0;
const REBALANCE_CPU_MAX_S: f64 = 1.0;
/// Commits that wait for the disk at once.
const COMMITTERS: usize = 64;
/// A group that forms waits so long for more members, on both brokers.
const SETTINGS: [&str; 2] = ["group.initial.rebalance.delay.ms=100", "group.max.session.timeout.ms=600000"];

pub(super) fn rows(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    if plan.wants("groups/commit") {
        commits(plan, rows)?;
    }
    if plan.wants("groups/1000") || plan.wants("groups/rebalance") {
        crowd(plan, rows)?;
    }
    if plan.wants("groups/kafka") {
        match Tools::find() {
            Ok(tools) => beside_kafka(plan, &tools, rows)?,
            Err(why) => eprintln!("  the rows beside Apache Kafka are left out: {why:#}"),
        }
    }
    Ok(())
}

fn groups(plan: &Plan) -> usize {
    if plan.quick { 2 * SETS } else { 1000 }
}

/// Every group with the lines of its members, set by set.
struct Crowd(Vec<(Vec<Line>, Vec<Group>)>);

impl Crowd {
    /// Forms `groups` groups.
    fn gather(addr: SocketAddr, groups: usize) -> Result<Self> {
        let form = |set: usize| -> Result<(Vec<Line>, Vec<Group>)> {
            let mut lines = (0..MEMBERS).map(|_| Line::open(addr)).collect::<Result<Vec<_>>>()?;
            let ids = (set..groups).step_by(SETS).map(|number| format!("group-{number}"));
            let groups = ids.map(|id| Group::form(id, &mut lines)).collect::<Result<_>>()?;
            Ok((lines, groups))
        };
        let sets = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..SETS).map(|set| scope.spawn(move || form(set))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a set does not panic")).collect::<Result<_>>()
        });
        Ok(Self(sets?))
    }

    /// Every member says that it lives, each at its time, for `time`. How long each answer took from when its heartbeat was due.
    fn heartbeats(&mut self, time: Duration) -> Result<Done> {
        let begin = Instant::now();
        let latencies_us = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (set, (lines, groups)) in self.0.iter_mut().enumerate() {
                let groups = &*groups;
                for (member, line) in lines.iter_mut().enumerate() {
                    let every = HEARTBEAT_EVERY / groups.len().max(1) as u32;
                    // The lines do not all speak at once.
                    let first = every * (set * MEMBERS + member) as u32 / (SETS * MEMBERS) as u32;
                    threads.push(scope.spawn(move || -> Result<Vec<f64>> {
                        let (mut latencies, mut due) = (Vec::new(), begin + first);
                        for group in groups.iter().cycle() {
                            if due >= begin + time {
                                break;
                            }
                            if let Some(early) = due.checked_duration_since(Instant::now()) {
                                std::thread::sleep(early);
                            }
                            line.heartbeat(group, member)?;
                            latencies.push(due.elapsed().as_secs_f64() * 1e6);
                            due += every;
                        }
                        Ok(latencies)
                    }));
                }
            }
            let joined = threads.into_iter().map(|thread| thread.join().expect("a line does not panic"));
            joined.collect::<Result<Vec<_>>>()
        });
        let latencies_us = latencies_us?.concat();
        let wall_s = begin.elapsed().as_secs_f64();
        Ok(Done { wall_s, requests: latencies_us.len(), received_bytes: 0, latencies_us })
    }
}

/// The group that rebalances.
struct Large {
    lines: Vec<Line>,
    group: Group,
}

impl Large {
    fn gather(addr: SocketAddr, id: &str) -> Result<Self> {
        let mut lines = (0..MEMBERS_LARGE).map(|_| Line::open(addr)).collect::<Result<Vec<_>>>()?;
        let group = Group::form(id.to_owned(), &mut lines)?;
        Ok(Self { lines, group })
    }

    fn rebalance(&mut self) -> Result<()> {
        self.group.rebalance(&mut self.lines)
    }
}

/// Heartbeats of all groups with and without a rebalance of another group, and what the rebalance costs.
fn crowd(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ottla = Peer::ottla(&dir.path().join("ottla"), &SETTINGS)?;
    let before = ottla.anonymous_kib()?;
    let count = groups(plan);
    let mut all = Crowd::gather(ottla.addr, count)?;
    let mut large = Large::gather(ottla.addr, "large")?;
    let kib = (ottla.anonymous_kib()? - before) as f64;
    eprintln!(
        "  ({count} groups of {MEMBERS}: {kib:.0} KiB of anonymous memory, {:.1} each member)",
        kib / (count * MEMBERS) as f64
    );
    let time = Duration::from_secs(if plan.quick { 1 } else { 6 });
    let measure = |done: Done, cpu_s| Measurement {
        work: done.requests as f64,
        wall_s: done.wall_s,
        cpu_s,
        latency: done.latency(),
    };
    let all = std::cell::RefCell::new(&mut all);
    let mut rebalances = Vec::new();
    let beside_rebalance = || -> Result<Measurement> {
        let (stop, cpu) = (AtomicBool::new(false), ottla.cpu_s()?);
        std::thread::scope(|scope| {
            let rebalancing = scope.spawn(|| -> Result<usize> {
                let mut times = 0;
                while !stop.load(Ordering::Relaxed) {
                    large.rebalance()?;
                    times += 1;
                    // Another one every tenth of a second: more than any group does.
                    std::thread::sleep(Duration::from_millis(100));
                }
                Ok(times)
            });
            let done = all.borrow_mut().heartbeats(time);
            stop.store(true, Ordering::Relaxed);
            rebalances.push(rebalancing.join().expect("the rebalances do not panic")?);
            Ok(measure(done?, ottla.cpu_s()? - cpu))
        })
    };
    let alone = || -> Result<Measurement> {
        let cpu = ottla.cpu_s()?;
        Ok(measure(all.borrow_mut().heartbeats(time)?, ottla.cpu_s()? - cpu))
    };
    let pairs = Pairs::measure(plan.pairs, beside_rebalance, alone)?;
    let (with, without) = pairs.latencies();
    let times = rebalances.iter().sum::<usize>() / rebalances.len().max(1);
    let verdict = if with.p99_us / 1e3 <= HEARTBEAT_P99_MAX_MS { "holds" } else { "MISSED" };
    rows.push(Row::new(
        format!("groups/{count}x{MEMBERS}/heartbeats/p99"),
        format!("the same without {times} rebalances of a group of {MEMBERS_LARGE}, 99th percentile"),
        pairs.ratios(|run| run.latency.p99_us),
        format!("beside rebalances {with}; without {without}; {HEARTBEAT_P99_MAX_MS} ms: {verdict}"),
    ));
    let mut large = Large::gather(ottla.addr, "large-alone")?;
    let cost = (0..plan.pairs.max(3)).map(|_| {
        let (cpu, begin) = (ottla.cpu_s()?, Instant::now());
        large.rebalance()?;
        Ok((ottla.cpu_s()? - cpu, begin.elapsed().as_secs_f64()))
    });
    let cost = cost.collect::<Result<Vec<_>>>()?;
    let wall_s = Ratios::of(cost.iter().map(|(_, wall_s)| *wall_s).collect()).median;
    let cpu_s = Ratios::of(cost.iter().map(|(cpu_s, _)| cpu_s / REBALANCE_CPU_MAX_S).collect());
    let note = format!(
        "{:.1} ms of CPU, {:.1} ms from the first join to the last assignment",
        cpu_s.median * 1e3,
        wall_s * 1e3
    );
    let of = format!(
        "{REBALANCE_CPU_MAX_S} s, broker CPU of a rebalance of {MEMBERS_LARGE} members beside {count} idle groups"
    );
    rows.push(Row::new(format!("groups/rebalance/{MEMBERS_LARGE}/cpu"), of, cpu_s, note));
    Ok(())
}

/// Commits of one offset each: of one group, so that all go to one file as in the bare loop, and of as many groups as committers.
fn commits(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    for (what, of_group) in [("one-group", (|_| 0) as fn(usize) -> usize), ("64-groups", |committer| committer)] {
        let name = format!("groups/commit/{what}");
        if !plan.wants(&name) {
            continue;
        }
        let dir = tempfile::tempdir()?;
        let ottla = Peer::ottla(&dir.path().join("ottla"), &[])?;
        ottla.create_topic(1, &[])?;
        let beside = Beside::start(plan, Ceiling::GroupCommit, dir.path(), &[])?;
        if let Some(other) = beside.broker() {
            other.create_topic(1, &[])?;
            ready(other, of_group)?;
        }
        ready(&ottla, of_group)?;
        let run = |peer: &Peer| commit(plan, peer, of_group);
        let pairs = Pairs::measure(plan.pairs, || run(&ottla), || run(&beside.peer))?;
        let of = beside.of("bare append + group fdatasync of the same frames, 64 connections");
        let (ours, theirs) = pairs.latencies();
        let figure = format!("{:.0} commits/s, {theirs}; Ottla {ours}", pairs.ceiling_median(Measurement::rate));
        rows.push(Row::new(
            format!("{name}/throughput"),
            format!("{of}, commits per second"),
            pairs.ratios(Measurement::rate),
            beside.note(&figure, String::new),
        ));
    }
    Ok(())
}

/// The group of a committer.
fn group_of(committer: usize, of_group: fn(usize) -> usize) -> String {
    format!("committer-{:03}", of_group(committer))
}

/// Waits until the groups of all committers can commit.
fn ready(peer: &Peer, of_group: fn(usize) -> usize) -> Result<()> {
    let mut line = Line::open(peer.addr)?;
    (0..COMMITTERS).try_for_each(|committer| line.find_coordinator(&group_of(committer, of_group)))
}

fn commit(plan: &Plan, peer: &Peer, of_group: fn(usize) -> usize) -> Result<Measurement> {
    let script = |committer: usize| Script {
        requests: vec![frames::offset_commit(&group_of(committer, of_group), 42)],
        count: if plan.quick { 30 } else { 300 },
        seconds_max: SECONDS_MAX,
        every_s: None,
        window: 1,
        error_at: Some(frames::OFFSET_COMMIT_ERROR_AT),
    };
    let scripts: Vec<_> = (0..COMMITTERS).map(script).collect();
    let cpu = peer.cpu_s()?;
    let done = drive(peer.addr, &scripts)?;
    Ok(Measurement {
        work: done.requests as f64,
        wall_s: done.wall_s,
        cpu_s: peer.cpu_s()? - cpu,
        latency: done.latency(),
    })
}

/// The same groups on Kafka: commits, which Kafka does not sync, a rebalance, and memory.
fn beside_kafka(plan: &Plan, tools: &Tools, rows: &mut Vec<Row>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ottla = Peer::ottla(&dir.path().join("ottla"), &SETTINGS)?;
    let kafka = tools.start_kafka(&dir.path().join("kafka"), &SETTINGS)?;
    ottla.create_topic(1, &[])?;
    tools.create(&kafka, frames::TOPIC)?;
    let count = groups(plan);
    let all = [Crowd::gather(ottla.addr, count)?, Crowd::gather(kafka.addr, count)?];
    let (ours, theirs) = (ottla.anonymous_kib()?, kafka.anonymous_kib()?);
    rows.push(Row::new(
        format!("groups/kafka/{count}x{MEMBERS}/memory"),
        "Apache Kafka 4.4 with the heap of its start script, KiB of anonymous memory",
        Ratios::of(vec![ours as f64 / theirs as f64]),
        format!("Ottla {} MiB, Kafka {} MiB", ours >> 10, theirs >> 10),
    ));
    let (mut our_group, mut their_group) = (Large::gather(ottla.addr, "large")?, Large::gather(kafka.addr, "large")?);
    let rebalance = |peer: &Peer, large: &mut Large| -> Result<Measurement> {
        let (cpu, begin) = (peer.cpu_s()?, Instant::now());
        large.rebalance()?;
        let wall_s = begin.elapsed().as_secs_f64();
        Ok(Measurement { work: 1.0, wall_s, cpu_s: peer.cpu_s()? - cpu, latency: Latency::default() })
    };
    let pairs =
        Pairs::measure(plan.pairs, || rebalance(&ottla, &mut our_group), || rebalance(&kafka, &mut their_group))?;
    let ms = |it: &Measurement| it.wall_s * 1e3;
    rows.push(Row::new(
        format!("groups/kafka/rebalance/{MEMBERS_LARGE}/time"),
        format!("Apache Kafka 4.4, a rebalance of {MEMBERS_LARGE} members, time"),
        pairs.ratios(ms),
        format!("Ottla {:.1} ms, Kafka {:.1} ms", pairs.subject_median(ms), pairs.ceiling_median(ms)),
    ));
    let cpu_ms = |it: &Measurement| it.cpu_s * 1e3;
    rows.push(Row::new(
        format!("groups/kafka/rebalance/{MEMBERS_LARGE}/cpu"),
        "the same, broker CPU",
        pairs.ratios(cpu_ms),
        format!("Ottla {:.1} ms, Kafka {:.1} ms", pairs.subject_median(cpu_ms), pairs.ceiling_median(cpu_ms)),
    ));
    for peer in [&ottla, &kafka] {
        ready(peer, |committer| committer)?;
    }
    let run = |peer: &Peer| commit(plan, peer, |committer| committer);
    let pairs = Pairs::measure(plan.pairs, || run(&ottla), || run(&kafka))?;
    let (ours, theirs) = pairs.latencies();
    let (rate, their_rate) = (pairs.subject_median(Measurement::rate), pairs.ceiling_median(Measurement::rate));
    rows.push(Row::new(
        "groups/kafka/commit/64-groups/throughput",
        "Apache Kafka 4.4, whose commits are in the page cache when they are answered, commits per second",
        pairs.ratios(Measurement::rate),
        format!("Ottla, synced: {rate:.0}/s, {ours}; Kafka, not synced: {their_rate:.0}/s, {theirs}"),
    ));
    drop(all);
    Ok(())
}
