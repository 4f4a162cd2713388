//! T1: `kill -9` while producers are at work. The page cache survives, so this shows order, numbering and the retries of
//! idempotent producers, not durability.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::check;
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::workload::{Producer, Stopped};

/// Kills that one data directory lives through.
const ROUND: u64 = 20;
/// Two producers share a partition, so that batches of different senders interleave.
pub(crate) const PARTITIONS: i32 = 3;
const PRODUCERS: u32 = 4;
const TOPIC: &str = "t";

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
        outcome.notes.push(format!("listening again: p99 {} ms, at most {} ms", p99.as_millis(), worst.as_millis()));
    }
    outcome
}

fn round(setting: &Setting, seed: u64, cases: u64, outcome: &mut Outcome, ready: &mut Vec<Duration>) {
    let mut random = Seed::new(seed);
    let mut broker = setting.broker().start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
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
        ready.push(begun.elapsed());
        outcome.cases += 1;
        if !sound(&broker, &producers, seed, case, false, outcome) {
            return;
        }
    }
    for producer in &mut producers {
        let ended = producer.send(broker.address(), 1);
        assert!(matches!(ended, Stopped::Told), "a producer could not finish: {ended:?}");
    }
    sound(&broker, &producers, seed, cases, true, outcome);
    outcome.acknowledged += acknowledged(&producers);
}

pub(crate) fn acknowledged(producers: &[Producer]) -> u64 {
    producers.iter().flat_map(|producer| &producer.acked).map(|acked| u64::from(acked.count)).sum()
}

/// Compares every partition; false where something is wrong.
pub(crate) fn sound(
    broker: &ottla_tests::Broker,
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
