//! T8: writes that take a part, calls that are interrupted. Every byte that was sent is there afterwards, and every byte
//! that is there is delivered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ottla_tests::connection::Connection;
use ottla_tests::{Broker, wait};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::check;
use crate::content::{self, Identity};
use crate::image::quick_directory;
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::t01_kill_nine::{PARTITIONS, acknowledged, producers, sound};
use crate::trace::{self, Trace};
use crate::workload::{Consumer, Producer, Stopped, produce_frame, timestamp_of};

/// A shell that lets a write that is too long fail instead of ending the process.
const IGNORING: [&str; 3] = ["sh", "-c", "trap '' XFSZ; \"$0\" \"$@\"; exit $?"];
/// Answers of about a MiB that a slow reader lets pile up: more than two sockets hold.
const ANSWERS: usize = 32;
/// Records that one broker takes.
const ROUND: u64 = 2_000;
const TOPIC: &str = "t";

pub(crate) fn run(setting: &Setting) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut shorts, mut interrupted, mut blocked) = (0, 0, 0);
    setting.each(&mut outcome, ROUND, |seed, records, outcome| {
        shorts += short(setting, seed, records, outcome);
    });
    if let Some(why) = trace::unavailable() {
        outcome.partly.push(format!("interrupted calls: {why}"));
    } else if setting.canary.is_none() {
        setting.each(&mut outcome, ROUND * 5, |seed, _, outcome| interrupted += interrupt(setting, seed, outcome));
        setting.each(&mut outcome, ROUND * 5, |seed, _, outcome| blocked += would_block(setting, seed, outcome));
    }
    outcome.notes.push(format!(
        "{shorts} writes refused at a limit, {interrupted} calls interrupted, {blocked} sends that would have blocked"
    ));
    outcome
}

/// The file may grow to the middle of a batch and no further, again and again.
fn short(setting: &Setting, seed: u64, records: u64, outcome: &mut Outcome) -> u64 {
    let mut random = Seed::new(seed);
    let directory = quick_directory();
    let mut broker = setting.broker().under(&IGNORING).data_dir(&directory.path().join("data")).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    let mut producer = Producer::new(1, TOPIC, 0, 600, seed);
    // Its id comes from the metadata, which is not what is tested here.
    let begun = producer.send(broker.address(), 1);
    assert!(matches!(begun, Stopped::Told), "{begun:?}");
    let mut refusals = 0;
    while producer.made() < records {
        limit(&broker, Some(producer.made_bytes() + random.within(1..6_000)));
        let end = producer.send(broker.address(), 20);
        refusals += u64::from(matches!(end, Stopped::Refused(..)));
        limit(&broker, None);
        let end = producer.send(broker.address(), 1);
        if !matches!(end, Stopped::Told) {
            outcome.violation(seed, records, format!("after a short write a producer ends with {end:?}"));
            return refusals;
        }
    }
    outcome.cases += records;
    let producers = [producer];
    if sound(&broker, &producers, seed, records, true, outcome) {
        broker.kill9();
        broker.restart();
        sound(&broker, &producers, seed, records, true, outcome);
        outcome.acknowledged += acknowledged(&producers);
    }
    refusals
}

fn limit(broker: &Broker, bytes: Option<u64>) {
    let pid = Pid::from_raw(broker.pid().cast_signed());
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).expect("the limit of a process of ours");
}

/// Signals interrupt calls that read, write and send. A connection may be lost, a byte may not.
fn interrupt(setting: &Setting, seed: u64, outcome: &mut Outcome) -> u64 {
    let mut random = Seed::new(seed);
    let directory = quick_directory();
    let mut broker = setting.broker().data_dir(&directory.path().join("data")).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    let every = random.within(3..9);
    let fault = format!("pwritev,pwrite64,pread64,fdatasync,fallocate,sendfile:error=EINTR:when=2+{every}");
    let trace = Trace::join(&broker, &[fault], "pread64,fallocate");
    let mut producers = producers(seed);
    let (stop, address) = (AtomicBool::new(false), broker.address());
    let mut consumers: Vec<_> = (0..PARTITIONS).map(|partition| Consumer::new(TOPIC, partition)).collect();
    thread::scope(|scope| {
        let stop = &stop;
        for producer in &mut producers {
            scope.spawn(move || producer.run(address, stop));
        }
        let reading: Vec<_> =
            consumers.iter_mut().map(|consumer| scope.spawn(move || consumer.run(address, stop))).collect();
        thread::sleep(Duration::from_millis(700));
        stop.store(true, Ordering::Relaxed);
        for consumer in reading {
            if let Ok(Err(wrong)) = consumer.join() {
                outcome.violation(seed, 1, format!("interrupted every {every}th time: {wrong}"));
            }
        }
    });
    let (_, text) = trace.finish();
    outcome.cases += 1;
    for producer in &mut producers {
        let end = producer.send(broker.address(), 1);
        if !matches!(end, Stopped::Told) {
            outcome.violation(seed, 1, format!("interrupted every {every}th time, a producer ends with {end:?}"));
        }
    }
    sound(&broker, &producers, seed, 1, true, outcome);
    outcome.acknowledged += acknowledged(&producers);
    broker.kill9();
    text.matches("(INJECTED)").count() as u64
}

/// A peer that does not read, and one that sends piece by piece: sockets that would block (EAGAIN) in the middle of an answer
/// and of a request. Not on order: a socket that is not really full is never said to be writable again.
fn would_block(setting: &Setting, seed: u64, outcome: &mut Outcome) -> u64 {
    let mut random = Seed::new(seed);
    let directory = quick_directory();
    let broker = setting.broker().data_dir(&directory.path().join("data")).start();
    broker.create_topic(TOPIC, 1, &[]);
    let mut producer = Producer::new(1, TOPIC, 0, 60_000, seed);
    let end = producer.send(broker.address(), 20);
    assert!(matches!(end, Stopped::Told), "{end:?}");
    let trouble = |error: std::io::Error| format!("a peer that is slow lost its connection: {error}");
    let trace = Trace::join(&broker, &[], "recvfrom");
    let result = (|| {
        let mut socket = Connection::open(broker.address()).map_err(trouble)?;
        let whole = socket.fetch(TOPIC, 0, 0, 0).map_err(trouble)?.bytes;
        for _ in 0..ANSWERS {
            socket.begin_fetch(TOPIC, 0, 0, 0).map_err(trouble)?;
        }
        wait::until_true("a send that would block", || blocked_sends(&trace.text()) > 0);
        for answer in 0..ANSWERS {
            if socket.finish_fetch().map_err(trouble)?.bytes != whole {
                return Err(format!("answer {answer} to a slow reader has other bytes than the first"));
            }
        }
        let first = Identity { tag: 2, number: 0 };
        let batch = content::batch(first, 4, 2_000, timestamp_of(0), None);
        let frame = produce_frame(TOPIC, &batch);
        let mut rest = frame.as_slice();
        let mut slow = Connection::open(broker.address()).map_err(trouble)?;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(random.within(1..400).min(rest.len() as u64) as usize);
            slow.send(piece).map_err(trouble)?;
            rest = more;
        }
        slow.receive_frame().map_err(trouble)?;
        let log = check::read(broker.address(), TOPIC, 0)?;
        let of_it = log.records.iter().filter(|entry| entry.identity.tag == first.tag).count();
        let counts = check::compare(&log, &[&producer], true);
        counts.enter(outcome, seed, 1, "with peers that are slow");
        if of_it == 4 { Ok(()) } else { Err(format!("{of_it} of the 4 records of a slow sender are there")) }
    })();
    let (_, text) = trace.finish();
    outcome.cases += 1;
    outcome.acknowledged += acknowledged(&[producer]);
    if let Err(wrong) = result {
        outcome.violation(seed, 1, wrong);
    }
    blocked_sends(&text)
}

fn blocked_sends(trace: &str) -> u64 {
    let sends = ["sendfile", "sendmsg", "sendto", "writev", "sendfile resumed", "sendmsg resumed", "writev resumed"];
    let is_send = |line: &&str| sends.iter().any(|call| line.contains(call));
    trace.lines().filter(is_send).filter(|line| line.contains("EAGAIN")).count() as u64
}
