//! T6: a sync that fails. The kernel has marked the pages clean by then and says yes when it is asked again, so the
//! first failure ends all acknowledgements until the next start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla_tests::Broker;
use ottla_tests::syscalls::{self, Call};
use ottla_wire::ErrorCode;

use crate::image::quick_directory;
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::t01_kill_nine::{PARTITIONS, acknowledged, producers, sound};
use crate::trace::{Trace, unavailable};
use crate::workload::{Producer, Stopped};

/// The greatest K of "the K-th sync of a thread fails".
const SYNCS_MAX: u64 = 200;
/// From the first refusal on every producer is refused within this time.
const OFFLINE_WITHIN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);
const AFTERWARDS: Duration = Duration::from_millis(200);
const TOPIC: &str = "t";

pub(crate) fn run(setting: &Setting) -> Outcome {
    if let Some(why) = unavailable() {
        return Outcome::not_run(why);
    }
    let mut outcome = Outcome::default();
    let mut slowest = Duration::ZERO;
    setting.each(&mut outcome, 1, |seed, _, outcome| {
        if let Some(took) = case(setting, seed, outcome) {
            slowest = slowest.max(took);
        }
    });
    outcome.notes.push(format!("every producer refused at most {} ms after the first refusal", slowest.as_millis()));
    outcome
}

fn case(setting: &Setting, seed: u64, outcome: &mut Outcome) -> Option<Duration> {
    let mut random = Seed::new(seed);
    let most = if random.one_in(2) { 10 } else { SYNCS_MAX };
    let which = 1 + random.within(0..most);
    let directory = quick_directory();
    let mut broker = setting.broker().data_dir(&directory.path().join("data")).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    let mut producers = producers(seed);
    let (stop, address) = (AtomicBool::new(false), broker.address());
    for producer in &mut producers {
        // Its id comes from the metadata, which is not what is tested here.
        let known = producer.send(address, 0);
        assert!(matches!(known, Stopped::Told), "{known:?}");
    }
    let trace = Trace::join(&broker, &[format!("fdatasync,fsync:error=EIO:when={which}")], "");
    let begun = Instant::now();
    let ends: Vec<Stopped> = thread::scope(|scope| {
        let stop = &stop;
        let running: Vec<_> =
            producers.iter_mut().map(|producer| scope.spawn(move || producer.run(address, stop))).collect();
        while !trace.has_injected() && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(AFTERWARDS);
        stop.store(true, Ordering::Relaxed);
        running.into_iter().map(|producer| producer.join().expect("a producer")).collect()
    });
    assert!(trace.has_injected(), "no thread made {which} syncs");
    outcome.cases += 1;

    let mut refusals = Vec::new();
    for (producer, end) in producers.iter_mut().zip(ends) {
        match end {
            Stopped::Refused(ErrorCode::KafkaStorageError, at) => refusals.push(at),
            // A broker without any log directory left ends, once it has said why.
            Stopped::Gone(_) if has_given_up(&broker) => {}
            other => outcome.violation(seed, 1, format!("sync {which} failed and a producer ended with {other:?}")),
        }
        let before = producer.acked.len();
        let again = producer.send(address, 1);
        let refused = match again {
            Stopped::Refused(ErrorCode::KafkaStorageError, _) => true,
            Stopped::Gone(_) => has_given_up(&broker),
            _ => false,
        };
        if !refused || producer.acked.len() > before {
            outcome.violation(seed, 1, format!("sync {which} failed and a producer goes on with {again:?}"));
        }
    }
    broker.kill9();
    let (calls, _) = trace.finish();
    judge(&calls, &producers, seed, which, outcome);
    broker.restart();
    if sound(&broker, &producers, seed, 1, false, outcome) {
        for producer in &mut producers {
            let ended = producer.send(broker.address(), 1);
            assert!(matches!(ended, Stopped::Told), "a producer could not finish: {ended:?}");
        }
        sound(&broker, &producers, seed, 1, true, outcome);
        outcome.acknowledged += acknowledged(&producers);
    }
    let took = refusals.iter().max().copied()? - refusals.iter().min().copied()?;
    if took > OFFLINE_WITHIN {
        outcome.violation(seed, 1, format!("the last producer was refused {} ms after the first", took.as_millis()));
    }
    Some(took)
}

/// Whether the broker ended because its only log directory is offline, and not for another reason.
fn has_given_up(broker: &Broker) -> bool {
    broker.log_lines().iter().any(|line| line.contains("every log directory is offline"))
}

/// No answer without a sync that succeeded, and no second sync of a file whose sync failed.
fn judge(calls: &[Call], producers: &[Producer], seed: u64, which: u64, outcome: &mut Outcome) {
    let mut failed: HashMap<&str, usize> = HashMap::new();
    for call in calls.iter().filter(|call| matches!(call.name.as_str(), "fdatasync" | "fsync") && !call.path.is_empty())
    {
        if let Some(line) = failed.get(call.path.as_str()).filter(|line| call.begin > **line) {
            let text = format!("sync {which} of {} failed on line {line}, and it is synced again", call.path);
            outcome.violation(seed, 1, text);
            break;
        }
        if call.result < 0 {
            failed.entry(&call.path).or_insert(call.end);
        }
    }
    let acks: Vec<_> =
        producers.iter().flat_map(|producer| &producer.acked).map(|acked| acked.answer.clone()).collect();
    let early = syscalls::check(calls, &acks);
    if let Some(first) = early.first() {
        outcome.violation(
            seed,
            1,
            format!("sync {which} failed; {} answers are not covered, first: {first}", early.len()),
        );
    }
}
