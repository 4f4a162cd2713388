//! T1: `kill -9` while producers are at work. The page cache survives, so this shows order, numbering and the retries of
//! idempotent producers, not durability.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla_tests::Broker;
use ottla_tests::connection::Connection;

use crate::check;
use crate::content::{Identity, batch, first_batch};
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::workload::{PIPELINE, Producer, Stopped, produce_frame, timestamp_of};

/// Kills that one data directory lives through.
const ROUND: u64 = 20;
/// Two producers share a partition, so that batches of different senders interleave.
pub(crate) const PARTITIONS: i32 = 3;
const PRODUCERS: u32 = 4;
const TOPIC: &str = "t";
/// A log of this size is there before the first kill and after the last, all of it in one segment.
const BALLAST: &str = "ballast";
const BALLAST_BYTES: usize = (1 << 30) - (4 << 20);
const BALLAST_RECORDS: u32 = 16;

pub(crate) fn producers(seed: u64) -> Vec<Producer> {
    let of = |tag: u32| Producer::new(tag, TOPIC, tag as i32 % PARTITIONS, 600, seed);
    (0..PRODUCERS).map(of).collect()
}

pub(crate) fn run(setting: &Setting) -> Outcome {
    let mut outcome = Outcome::default();
    let mut ready = Vec::new();
    setting.each(&mut outcome, ROUND, |seed, cases, outcome| round(setting, seed, cases, outcome, &mut ready));
    ready.sort_unstable();
    if let Some(worst) = ready.last() {
        let p99 = ready[(ready.len() * 99).div_ceil(100) - 1];
        let (p99_ms, worst_ms) = (p99.as_millis(), worst.as_millis());
        outcome.notes.push(format!("ready again, with a GiB of log: p99 {p99_ms} ms, at most {worst_ms} ms"));
    }
    outcome
}

fn round(setting: &Setting, seed: u64, cases: u64, outcome: &mut Outcome, ready: &mut Vec<Duration>) {
    let mut random = Seed::new(seed);
    let mut broker = setting.broker().start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    let ballast_end = fill(&broker);
    let mut producers = producers(seed);
    for case in 1..=cases {
        let life = Duration::from_millis(random.within(5..200));
        let stop = AtomicBool::new(false);
        let address = broker.address();
        thread::scope(|scope| {
            let stop = &stop;
            for producer in &mut producers {
                scope.spawn(move || producer.run(address, stop));
            }
            thread::sleep(life);
            broker.kill9();
            stop.store(true, Ordering::Relaxed);
        });
        let begun = Instant::now();
        broker.restart();
        // Ready means: it serves the records from long before.
        let last = last_of_ballast(&broker, ballast_end);
        ready.push(begun.elapsed());
        outcome.cases += 1;
        if let Err(wrong) = last {
            outcome.violation(seed, case, format!("{BALLAST} after case {case}: {wrong}"));
            return;
        }
        if !sound(&broker, &producers, seed, case, false, outcome) {
            return;
        }
    }
    for producer in &mut producers {
        let ended = producer.send(broker.address(), 1);
        assert!(matches!(ended, Stopped::Told), "a producer could not finish: {ended:?}");
    }
    sound(&broker, &producers, seed, cases, true, outcome);
    outcome.acknowledged += acknowledged(&producers) + ballast_end.cast_unsigned();
    match check::read(broker.address(), BALLAST, 0) {
        Ok(log) if log.records.len() as i64 == ballast_end => {}
        Ok(log) => {
            let (there, lost) =
                (log.records.len(), ballast_end.cast_unsigned().saturating_sub(log.records.len() as u64));
            outcome.lost += lost;
            outcome.violation(seed, cases, format!("{there} of the {ballast_end} records of {BALLAST} are there"));
        }
        Err(wrong) => outcome.violation(seed, cases, wrong),
    }
}

/// Writes a GiB, acknowledged; offset after its last record.
fn fill(broker: &Broker) -> i64 {
    broker.create_topic(BALLAST, 1, &[("retention.ms", "-1")]);
    let first = Identity { tag: u32::MAX, number: 0 };
    let batch = batch(first, BALLAST_RECORDS, 60_000, timestamp_of(0), None);
    let mut socket = Connection::open(broker.address()).expect("the broker accepts a connection");
    let frame = produce_frame(BALLAST, &batch);
    let count = BALLAST_BYTES / batch.len();
    let mut answered = 0;
    for sent in 0..count + PIPELINE {
        if sent < count {
            socket.send(&frame).expect("the broker takes what is there before it is killed");
        }
        if sent >= PIPELINE {
            socket.receive_frame().expect("an answer");
            answered += 1;
        }
    }
    let end = answered * i64::from(BALLAST_RECORDS);
    last_of_ballast(broker, end).expect("what was written is there");
    end
}

/// Whether the last record of the ballast is served, and nothing behind it.
fn last_of_ballast(broker: &Broker, end: i64) -> Result<(), String> {
    let mut socket = Connection::open(broker.address()).map_err(|error| error.to_string())?;
    let fetched = socket.fetch(BALLAST, 0, end - 1, 0).map_err(|error| error.to_string())?;
    if fetched.high_watermark != end {
        return Err(format!("it ends at {} instead of {end}", fetched.high_watermark));
    }
    let batch = first_batch(&fetched.bytes)?;
    if batch.last_offset == end - 1 { Ok(()) } else { Err(format!("its last record is {}", batch.last_offset)) }
}

pub(crate) fn acknowledged(producers: &[Producer]) -> u64 {
    producers.iter().flat_map(|producer| &producer.acked).map(|acked| u64::from(acked.count)).sum()
}

/// Compares every partition; false where something is wrong.
pub(crate) fn sound(
    broker: &Broker,
    producers: &[Producer],
    seed: u64,
    case: u64,
    complete: bool,
    outcome: &mut Outcome,
) -> bool {
    let mut sound = true;
    for partition in 0..PARTITIONS {
        match check::read(broker.address(), TOPIC, partition) {
            Ok(log) => {
                let here: Vec<_> = producers.iter().filter(|producer| producer.partition == partition).collect();
                let counts = check::compare(&log, &here, complete);
                counts.enter(outcome, seed, case, &format!("partition {partition} after case {case}"));
                sound &= counts.wrong == 0;
            }
            Err(error) => {
                outcome.violation(seed, case, format!("after case {case}: {error}"));
                sound = false;
            }
        }
    }
    if !sound {
        outcome.acknowledged += acknowledged(producers);
    }
    sound
}
