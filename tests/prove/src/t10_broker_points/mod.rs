//! T10 with a whole broker: it dies at one system call after another of a routed batch and of what changes the metadata.
//! After the next start each routed record is in its target once, and a retry does not double it; a topic, a setting, a
//! version of a plugin is there as a whole and works, or is not there and can be made.
//!
//! A point is the K-th call of threads of one name, or the K-th of one kind in any thread: which thread comes first is
//! not the same each time, but every kind of thread is met in each of its steps.
//!
//! 1. [`point`]: where it dies, and how
//! 2. [`act`]: what it is asked to do meanwhile
//! 3. [`judge`]: what must hold afterwards

mod act;
mod judge;
pub(crate) mod point;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ottla_tests::connection::Connection;
use ottla_tests::guest::Guest;

use self::act::perform;
use self::point::{Point, Strace, has_cut, points, threads_of, unsynced_journals};
use crate::image::{Image, quick_directory};
use crate::report::{Outcome, Violation};
use crate::run::Setting;
use crate::seed::Seed;
use crate::t10_crash_points::unsynced_names;
use crate::tests::Size;
use crate::trace::unavailable;
use crate::workload::{Producer, Stopped};

const ACTS: [Act; 5] = [Act::Route, Act::CreateTopic, Act::DeleteTopic, Act::Configure, Act::InstallPlugin];
/// A topic with records, a topic that a plugin routes, one that is created.
const OLD: &str = "old";
const ROUTED: &str = "routed";
const NEW: &str = "new";
const OLD_PARTITIONS: i32 = 2;
const ROUTED_PARTITIONS: u64 = 4;
const NEW_PARTITIONS: i32 = 3;
/// Records of [`OLD`] come from producers whose tags are the partitions' numbers.
const OLD_BATCHES: usize = 3;
/// As many batches as the broker knows again of a producer; together more than the journal may hold.
const ROUTED_BATCHES: u64 = 5;
const ROUTED_RECORDS: u32 = 8;
/// How long a broker takes to end after its connections are gone.
const DEATH_PATIENCE: Duration = Duration::from_secs(5);
const SETTING: &str = "retention.ms";
const SETTING_BEFORE: &str = "604800000";
const SETTING_AFTER: &str = "86400000";
const PLUGIN_BEFORE: &str = "spread";
const PLUGIN: &str = "to-one";

/// Canaries that show only in what a kill leaves behind, and of which act: nothing else of them is judged.
const CANARIES_OF_KILLS: [(&str, Act); 1] = [("ReplayTwice", Act::Route)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Route,
    CreateTopic,
    DeleteTopic,
    Configure,
    InstallPlugin,
}

/// What was answered before the end.
#[derive(Debug, Default)]
struct Said {
    /// The act is over, and well.
    done: bool,
    /// Routed batches that were acknowledged.
    acked: u64,
    /// The broker answered that the process in which plugins are compiled was killed.
    compiler_died: bool,
    /// The producer of the routed batches.
    producer: (i64, i16),
}

pub(crate) fn run(setting: &Setting) -> Outcome {
    if let Some(why) = unavailable() {
        return Outcome::not_run(why);
    }
    let mut outcome = Outcome::default();
    let mut random = Seed::new(setting.seed);
    let (before, producer) = before();
    let of_kills = CANARIES_OF_KILLS.iter().find(|(name, _)| setting.canary.as_deref() == Some(*name));
    let acts: Vec<Act> = of_kills.map_or(ACTS.to_vec(), |(_, act)| vec![*act]);
    for &act in &acts {
        let trouble = |what: String| Violation { seed: setting.seed, cases: setting.cases, what };
        let clean = caught(|| case(setting, act, &before, producer, None));
        outcome.cases += 1;
        let clean = match clean {
            Ok(clean) => clean,
            Err(panic) => {
                outcome.troubles.push(trouble(format!("{act:?} without any fault: {panic}")));
                continue;
            }
        };
        outcome.acknowledged += clean.acknowledged;
        if of_kills.is_none() {
            for name in unsynced_names(&clean.trace).into_iter().chain(unsynced_journals(&clean.trace)) {
                outcome.violation(setting.seed, setting.cases, format!("{act:?}: {name} is not synced afterwards"));
            }
            if let Err(wrong) = clean.judged {
                outcome.violation(setting.seed, setting.cases, format!("{act:?} without any fault: {wrong}"));
            }
            if setting.canary.is_some() {
                continue;
            }
        }
        let mut points = points(&clean.trace, &clean.threads);
        let all = points.len();
        let each = (setting.cases / acts.len() as u64).max(1);
        if setting.size == Size::Commit && (each as usize) < all {
            points = (0..each).map(|_| points[random.within(0..all as u64) as usize].clone()).collect();
        }
        let mut died = 0;
        for point in &points {
            outcome.cases += 1;
            match caught(|| case(setting, act, &before, producer, Some(point))) {
                Ok(Case { judged, has_died, acknowledged, .. }) => {
                    died += usize::from(has_died);
                    outcome.acknowledged += acknowledged;
                    if let Err(wrong) = judged
                        && (has_died || of_kills.is_none())
                    {
                        let text = format!("{act:?}, killed at {point:?}: {wrong}");
                        outcome.violation(setting.seed, setting.cases, text);
                    }
                }
                Err(panic) => outcome.troubles.push(trouble(format!("{act:?}, killed at {point:?}: {panic}"))),
            }
        }
        outcome.notes.push(format!("{act:?}: {} of {all} points, killed at {died} of them", points.len()));
    }
    outcome
}

fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

/// A data directory with an active plugin, a topic that it routes and a topic with records, and the producer of the
/// batches that will be routed.
fn before() -> (Image, (i64, i16)) {
    let directory = quick_directory();
    let mut broker = Setting::sound().broker().data_dir(directory.path()).start();
    let version = broker.push_plugin(PLUGIN_BEFORE, &Guest::round_robin().component()).expect("a right plugin");
    broker.activate_plugin(PLUGIN_BEFORE, version);
    broker.create_topic(ROUTED, ROUTED_PARTITIONS as i32, &[("ottla.partitioner", PLUGIN_BEFORE)]);
    broker.create_topic(OLD, OLD_PARTITIONS, &[(SETTING, SETTING_BEFORE)]);
    for partition in 0..OLD_PARTITIONS {
        let ended = old_producer(partition).send(broker.address(), OLD_BATCHES);
        assert!(matches!(ended, Stopped::Told), "{ended:?}");
    }
    let mut socket = Connection::open(broker.address()).expect("a connection");
    let producer = socket.new_producer().expect("an answer").expect("a producer id");
    broker.terminate();
    (Image::of(directory.path()), (producer.producer_id, producer.epoch))
}

fn old_producer(partition: i32) -> Producer {
    Producer::new(partition.cast_unsigned(), OLD, partition, 600, 1)
}

/// What came of a case.
struct Case {
    trace: String,
    threads: BTreeMap<u32, String>,
    judged: Result<(), String>,
    has_died: bool,
    acknowledged: u64,
}

fn case(setting: &Setting, act: Act, before: &Image, producer: (i64, i16), point: Option<&Point>) -> Case {
    let directory = quick_directory();
    before.restore(directory.path());
    let builder = setting.broker().data_dir(directory.path());
    let builder = builder.set("ottla.route.journal.max.bytes", "4096");
    let mut broker = builder.set("ottla.producer.snapshot.interval.ms", "100").start();
    let strace = Strace::join(&broker, point);
    let mut said = Said { producer, ..Said::default() };
    // A broker that dies ends this with an error, and what was said until then counts.
    let ended = perform(act, broker.address(), directory.path(), &mut said);
    let threads = threads_of(&broker);
    // Its connections are closed a moment before it has ended.
    let begun = Instant::now();
    while ended.is_err() && broker.is_running() && begun.elapsed() < DEATH_PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    let has_died = !broker.is_running();
    broker.kill9();
    let trace = strace.finish();
    let judged = match (ended, point) {
        // Plugins are compiled in a process of its own: where that dies the broker says so, and lives.
        (Err(_), Some(Point::Call { .. })) if said.compiler_died => {
            judge::judge(act, &mut broker, &said, &setting.program)
        }
        (Err(error), _) if !has_died => Err(format!("it ended with {error}")),
        // What is not in the trace would not be killed at.
        (Ok(()), None) if act == Act::Route && !has_cut(&trace) => Err("the journal was not cut".to_owned()),
        _ => judge::judge(act, &mut broker, &said, &setting.program),
    };
    let acknowledged = said.acked * u64::from(ROUTED_RECORDS);
    Case { trace, threads, judged, has_died, acknowledged }
}
