//! T7: a disk that fills up and is freed again. Refusals are clean, reads go on, producing goes on by itself once there
//! is room, and nothing acknowledged is lost, a kill on the full disk included.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use ottla_tests::Broker;
use ottla_wire::ErrorCode;

use crate::image::quick_directory;
use crate::mount::{Backing, Kind, Mount, unavailable};
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::t01_kill_nine::{PARTITIONS, acknowledged, producers, sound};
use crate::trace::{self, Trace};
use crate::workload::{Producer, Stopped};

/// Times that one file system is filled and freed.
const ROUND: u64 = 5;
const DISK_BYTES: u64 = 64 << 20;
const RESUMES_WITHIN: Duration = Duration::from_secs(5);
const TOPIC: &str = "t";

pub(crate) fn run(setting: &Setting) -> Outcome {
    if let Some(why) = unavailable(Kind::Ext4Ordered) {
        return Outcome::not_run(why);
    }
    let mut outcome = Outcome::default();
    let mut slowest = Duration::ZERO;
    setting.each(&mut outcome, ROUND, |seed, cases, outcome| round(setting, seed, cases, outcome, &mut slowest));
    outcome.notes.push(format!("producing again at most {} ms after there was room", slowest.as_millis()));
    if let Some(why) = trace::unavailable() {
        outcome.partly.push(format!("ENOSPC on order: {why}"));
    } else if setting.canary.is_none() {
        let on_order = Setting { cases: setting.cases, ..setting.clone() };
        on_order.each(&mut outcome, 1, |seed, _, outcome| ordered(setting, seed, outcome));
    }
    outcome
}

fn round(setting: &Setting, seed: u64, cases: u64, outcome: &mut Outcome, slowest: &mut Duration) {
    let mut random = Seed::new(seed);
    let mount = Mount::sized(Kind::Ext4Ordered, Backing::Memory, DISK_BYTES).expect("a file system");
    let mut broker = setting.broker().data_dir(&mount.path().join("data")).start();
    broker.create_topic(TOPIC, PARTITIONS, &[]);
    let mut producers = producers(seed);
    for case in 1..=cases {
        let left = random.within(200 << 10..4 << 20);
        let filler = fill(&mount.path(), left);
        let ends = produce_until_refused(&broker, &mut producers);
        outcome.cases += 1;
        for end in ends {
            if !matches!(end, Stopped::Refused(ErrorCode::KafkaStorageError, _)) {
                outcome.violation(seed, case, format!("a producer met a full disk with {end:?}"));
            }
        }
        // Reads go on, and everything acknowledged is there.
        if !sound(&broker, &producers, seed, case, false, outcome) {
            return;
        }
        if random.one_in(3) {
            broker.kill9();
            if !starts(&mut broker) {
                outcome.violation(seed, case, "the broker does not start on the full disk");
                return;
            }
            if !sound(&broker, &producers, seed, case, false, outcome) {
                return;
            }
        }
        std::fs::remove_file(&filler).expect("the filler goes");
        let freed = Instant::now();
        for producer in &mut producers {
            let mut end = producer.send(broker.address(), 1);
            while !matches!(end, Stopped::Told) && freed.elapsed() < RESUMES_WITHIN {
                thread::sleep(Duration::from_millis(20));
                end = producer.send(broker.address(), 1);
            }
            if !matches!(end, Stopped::Told) {
                let text = format!("{} s after there is room: {end:?}", RESUMES_WITHIN.as_secs());
                outcome.violation(seed, case, text);
                return;
            }
        }
        *slowest = (*slowest).max(freed.elapsed());
        if !broker.is_running() {
            outcome.violation(seed, case, "the broker died");
            return;
        }
        if !sound(&broker, &producers, seed, case, true, outcome) {
            return;
        }
    }
    outcome.acknowledged += acknowledged(&producers);
    broker.kill9();
}

/// The disk says that it is full for a few calls although it is not.
fn ordered(setting: &Setting, seed: u64, outcome: &mut Outcome) {
    let mut random = Seed::new(seed);
    let directory = quick_directory();
    let mut broker = setting.broker().data_dir(&directory.path().join("data")).start();
    broker.create_topic(TOPIC, PARTITIONS, &[("internal.segment.bytes", "20000")]);
    let mut producers = producers(seed);
    let calls = random.pick(&["pwritev,pwrite64", "fallocate", "rename,renameat,renameat2", "openat"]);
    let from = random.within(1..30);
    let fault = format!("{calls}:error=ENOSPC:when={from}..{}", from + random.within(1..6));
    let trace = Trace::join(&broker, std::slice::from_ref(&fault), "");
    for producer in &mut producers {
        for _ in 0..40 {
            // Refused or not, and connections may be lost: it goes on.
            producer.send(broker.address(), 5);
        }
    }
    let (_, _) = trace.finish();
    outcome.cases += 1;
    if !broker.is_running() {
        outcome.violation(seed, 1, format!("{fault}: the broker died"));
        return;
    }
    for producer in &mut producers {
        let end = producer.send(broker.address(), 1);
        if !matches!(end, Stopped::Told) {
            outcome.violation(seed, 1, format!("{fault}: afterwards a producer ends with {end:?}"));
            return;
        }
    }
    sound(&broker, &producers, seed, 1, true, outcome);
    broker.kill9();
    broker.restart();
    sound(&broker, &producers, seed, 1, true, outcome);
    outcome.acknowledged += acknowledged(&producers);
}

fn produce_until_refused(broker: &Broker, producers: &mut [Producer]) -> Vec<Stopped> {
    let (never, address) = (AtomicBool::new(false), broker.address());
    thread::scope(|scope| {
        let never = &never;
        let running: Vec<_> =
            producers.iter_mut().map(|producer| scope.spawn(move || producer.run(address, never))).collect();
        running.into_iter().map(|producer| producer.join().expect("a producer")).collect()
    })
}

/// Starts a broker again that was killed; whether it comes up.
fn starts(broker: &mut Broker) -> bool {
    catch_unwind(AssertUnwindSafe(|| broker.restart())).is_ok()
}

/// Takes all space but `left`.
fn fill(mount: &Path, left: u64) -> std::path::PathBuf {
    let path = mount.join("filler");
    let space = rustix::fs::statvfs(mount).expect("a file system");
    let free = space.f_bfree * space.f_frsize;
    let file = File::create(&path).expect("a filler");
    // The file system keeps some space for itself: the filler takes what it gets, and then leaves what is to be left.
    let mut bytes = free;
    while rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).is_err() {
        bytes = bytes.checked_sub(64 << 10).expect("some space for the filler");
    }
    file.set_len(bytes.saturating_sub(left)).expect("a shorter filler");
    path
}
