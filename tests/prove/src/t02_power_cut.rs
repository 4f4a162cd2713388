//! T2 and T11: the power goes while producers are at work. What was acknowledged is there afterwards, and so is what a
//! consumer at the head was shown.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla_tests::Broker;

use crate::check;
use crate::metadata::{Administrator, copies_are_whole};
use crate::mount::{Backing, Kind, Mount, unavailable};
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::t01_kill_nine::{PARTITIONS, acknowledged, producers, sound};
use crate::workload::{Consumer, Producer, Stopped};

/// Cuts that one data directory lives through.
const ROUND: u64 = 10;
const TOPIC: &str = "t";

/// T2.
pub(crate) fn run(setting: &Setting) -> Outcome {
    let kinds =
        [(Kind::Ext4Ordered, Backing::Memory), (Kind::Ext4Writeback, Backing::Disk), (Kind::Xfs, Backing::Memory)];
    on_each(setting, &kinds, false)
}

/// T11: syncs that take their time leave a consumer time to see what it should not.
pub(crate) fn run_with_consumer(setting: &Setting) -> Outcome {
    let kinds = [(Kind::Ext4Ordered, Backing::Disk), (Kind::Ext4Writeback, Backing::Disk)];
    on_each(setting, &kinds, true)
}

fn on_each(setting: &Setting, kinds: &[(Kind, Backing)], consumed: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut possible = Vec::new();
    for (kind, backing) in kinds {
        match unavailable(*kind) {
            None => possible.push((*kind, *backing)),
            Some(why) => outcome.partly.push(why),
        }
    }
    if possible.is_empty() {
        return Outcome::not_run(outcome.partly.join("; "));
    }
    let mut cuts = vec![0; possible.len()];
    let mut tally = Tally::default();
    setting.each(&mut outcome, ROUND, |seed, cases, outcome| {
        let which = Seed::turn(seed, &possible);
        let (kind, backing) = possible[which];
        cuts[which] += cases;
        round(setting, kind, backing, (seed, cases), if consumed { PARTITIONS } else { 0 }, outcome, &mut tally);
    });
    for ((kind, _), cuts) in possible.iter().zip(cuts) {
        outcome.notes.push(format!("{cuts} cuts on {kind:?}"));
    }
    let Tally { seen, doubtful, changes } = tally;
    outcome.notes.push(format!("{changes} changes of a setting were answered and are in either copy of the metadata"));
    outcome.notes.push(format!("{doubtful} records acknowledged while the cut was made: sent again, not judged"));
    if consumed {
        outcome.notes.push(format!("{seen} records were seen by consumers"));
    }
    outcome
}

/// What is worth knowing about all cuts together.
#[derive(Default)]
struct Tally {
    seen: usize,
    doubtful: u64,
    changes: usize,
}

/// Everything that talks to the broker when the power goes.
struct Clients<'a> {
    producers: &'a mut [Producer],
    consumers: &'a mut [Consumer],
    administrator: &'a mut Administrator,
}

fn round(
    setting: &Setting,
    kind: Kind,
    backing: Backing,
    (seed, cases): (u64, u64),
    consumers: i32,
    outcome: &mut Outcome,
    tally: &mut Tally,
) {
    let mut random = Seed::new(seed);
    let mut mount = Mount::new(kind, backing).expect("a file system");
    let mut broker = setting.broker().data_dir(&mount.path().join("data")).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    let mut administrator = Administrator::new(TOPIC);
    let mut producers = producers(seed);
    let mut consumers: Vec<_> = (0..consumers).map(|partition| Consumer::new(TOPIC, partition)).collect();
    let mut ended_well = true;
    // A canary that shows records early acknowledges them early, too: that is not what it is to be caught at.
    let acks_count = consumers.is_empty() || setting.canary.is_none();
    for case in 1..=cases {
        let life = Duration::from_millis(random.within(30..400));
        let clients =
            Clients { producers: &mut producers, consumers: &mut consumers, administrator: &mut administrator };
        let cut = live_and_die(&mut broker, &mount, life, clients, |wrong| {
            outcome.violation(seed, case, wrong);
        });
        administrator.forget_since(cut);
        tally.doubtful += producers.iter_mut().map(|producer| producer.forget_since(cut)).sum::<u64>();
        for consumer in &mut consumers {
            consumer.forget_since(cut);
        }
        mount.restore().expect("the file system comes back");
        outcome.cases += 1;
        let mut metadata = administrator.judge(&setting.program, broker.data_dir());
        broker.restart();
        metadata = metadata.and_then(|()| copies_are_whole(&setting.program, broker.data_dir()));
        // What a canary that shows records early does to them is not judged here.
        if let Err(wrong) = metadata {
            outcome.violation(seed, case, format!("metadata: {wrong}"));
            ended_well = false;
            break;
        }
        if acks_count {
            ended_well = sound(&broker, &producers, seed, case, false, outcome);
        }
        for partition in 0..PARTITIONS {
            let Ok(log) = check::read(broker.address(), TOPIC, partition) else { break };
            let here = producers.iter_mut().filter(|producer| producer.partition == partition);
            here.for_each(|producer| producer.find_again(&log.records));
        }
        for consumer in &mut consumers {
            let log = check::read(broker.address(), TOPIC, consumer.partition);
            let counts = log.map(|log| check::compare_seen(&log, &consumer.seen)).unwrap_or_default();
            counts.enter(outcome, seed, case, &format!("seen in partition {} before case {case}", consumer.partition));
            ended_well &= counts.wrong == 0;
        }
        if !ended_well {
            break;
        }
    }
    if ended_well && acks_count {
        for producer in &mut producers {
            let ended = producer.send(broker.address(), 1);
            assert!(matches!(ended, Stopped::Told), "a producer could not finish: {ended:?}");
        }
        if sound(&broker, &producers, seed, cases, true, outcome) {
            outcome.acknowledged += acknowledged(&producers);
        }
    }
    broker.kill9();
    drop(broker);
    tally.changes += administrator.answered();
    tally.seen += consumers.iter().map(|consumer| consumer.seen.len()).sum::<usize>();
}

/// All clients work for `life`, then the power goes, then the process. Returns when the cut began.
fn live_and_die(
    broker: &mut Broker,
    mount: &Mount,
    life: Duration,
    Clients { producers, consumers, administrator }: Clients<'_>,
    mut wrong: impl FnMut(String),
) -> Instant {
    let stop = AtomicBool::new(false);
    let address = broker.address();
    thread::scope(|scope| {
        let stop = &stop;
        for producer in producers {
            scope.spawn(move || producer.run(address, stop));
        }
        scope.spawn(move || administrator.run(address, stop));
        let consumers: Vec<_> =
            consumers.iter_mut().map(|consumer| scope.spawn(move || consumer.run(address, stop))).collect();
        thread::sleep(life);
        let cut = Instant::now();
        mount.cut().expect("the power can be cut");
        broker.kill9();
        stop.store(true, Ordering::Relaxed);
        for consumer in consumers {
            if let Ok(Err(error)) = consumer.join() {
                wrong(error);
            }
        }
        cut
    })
}
