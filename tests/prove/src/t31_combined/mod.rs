//! T31: faults in combination. A broker over two or three small disks, topics of every kind, producers that pipeline and
//! come again, and a storm of acts: disks that fill up and fail, records and topics that are deleted, retention,
//! compaction, settings, plugins; and it is stopped, killed, and loses its power. Afterwards every acknowledged record
//! is where its answer said, once, unless it was deleted, retained or compacted away, no record is there twice, and
//! each partition has the records of a producer in their order; a producer that was refused can go on; and an end takes
//! bounded time.
//!
//! 1. [`mod@world`]: the disks, the broker, the topics
//! 2. [`producer`]: the producers, and what they were answered
//! 3. [`act`]: what is done meanwhile, one thing
//! 4. [`script`]: acts in a row that broke a promise once
//! 5. [`model`]: what may be there in the end

mod act;
mod model;
mod producer;
mod script;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ottla_tests::guest::Guest;

use self::model::{Batch, Fate, Sender, Topic, judge};
use self::producer::{Incarnation, Producer, Sent, Shape};
use self::script::Script;
use self::world::{Disk, Ground, PLUGIN, Stop, VERSIONS, World};
use crate::check;
use crate::image::{Image, quick_directory};
use crate::mount::{Kind, unavailable};
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;

/// The disk with the journal, and the next one.
const FIRST: usize = 0;
const SECOND: usize = 1;
/// The topics, in the order in which they are made: one on the first disk, one that is routed wholly on the others, one
/// that is routed over all.
const PLAIN: usize = 0;
const HEALTHY: usize = 1;
const SPREAD: usize = 2;
/// Which script shows that a promise is broken.
const CANARIES: [(&str, Script); 7] = [
    ("SaveWhileHeld", Script::DeleteWhileHeld),
    ("SaveWithoutParts", Script::DeleteWhileFull),
    ("ShareSnapshotFile", Script::DeleteTogether),
    ("HoldApplyingWhileFull", Script::DeleteWhileFull),
    ("ApplyBehindStopped", Script::EndWhileFull),
    ("AcceptBehindFailedJournal", Script::FailJournal),
    ("ForgetWrapped", Script::Wrap),
];
/// With these in force nothing is removed while everything is read.
const STILL: [(&str, &str); 2] =
    [("log.retention.check.interval.ms", "3600000"), ("log.cleaner.backoff.ms", "3600000")];

pub(crate) fn run(setting: &Setting) -> Outcome {
    if let Some(why) = unavailable(Kind::Ext4Ordered) {
        return Outcome::not_run(why);
    }
    let mut outcome = Outcome::default();
    let image = image();
    let mut led: BTreeMap<String, u64> = BTreeMap::new();
    setting.each(&mut outcome, 1, |seed, _, outcome| {
        let script = script_of(setting, seed);
        *led.entry(format!("{script:?}")).or_default() += 1;
        case(setting, &image, seed, script, outcome);
    });
    let led: Vec<String> = led.iter().map(|(script, storms)| format!("{storms} {script}")).collect();
    outcome.notes.push(format!("what they led up to: {}", led.join(", ")));
    outcome
}

/// What the storm of a seed leads up to; with a canary to what shows it.
fn script_of(setting: &Setting, seed: u64) -> Script {
    let of_canary = CANARIES.iter().find(|(name, _)| setting.canary.as_deref() == Some(*name));
    of_canary.map_or_else(|| Script::ALL[Seed::turn(seed, &Script::ALL)], |(_, script)| *script)
}

/// Metadata with the plugin and its versions in it.
fn image() -> Image {
    let directory = quick_directory();
    let mut broker = Setting::sound().broker().data_dir(directory.path()).start();
    for answer in VERSIONS {
        let version = broker.push_plugin(PLUGIN, &Guest::answers(answer).component()).expect("a right plugin");
        broker.activate_plugin(PLUGIN, version);
    }
    broker.activate_plugin(PLUGIN, 1);
    broker.terminate();
    let mut image = Image::of(directory.path());
    // The logs will be elsewhere.
    image.files.retain(|path, _| path.starts_with("plugins") || path.starts_with("metadata.log"));
    image
}

/// One storm.
fn case(setting: &Setting, image: &Image, seed: u64, script: Script, outcome: &mut Outcome) {
    let mut world = world(setting, image, seed);
    let goes_on = world.life() && script.run(&mut world) && world.life();
    outcome.cases += 1;
    if goes_on {
        end(&mut world, outcome);
    }
    let name = |text: &str| format!("{script:?}: {text}");
    if std::env::var_os("OTTLA_STORM_STORY").is_some() {
        eprintln!("---- seed {seed}\n{}\n----\n{}\n----", world.story.join("\n"), world.broker.log_lines().join("\n"));
    }
    let wrongs = std::mem::take(&mut world.wrongs);
    if let Some(first) = wrongs.first() {
        let more = if wrongs.len() > 1 { format!("; and {} more", wrongs.len() - 1) } else { String::new() };
        outcome.violation(seed, 1, name(&format!("{first}{more}")));
    }
    world.broker.kill9();
}

/// The disks, the broker, the topics and the producers of a seed.
fn world(setting: &Setting, image: &Image, seed: u64) -> World {
    let mut random = Seed::new(seed ^ 0x5707_3131);
    let disks = (0..2 + random.within(0..2)).map(|_| Disk::new(32 << 20)).collect();
    let mut settings: Vec<(&str, String)> = [
        ("log.retention.ms", "-1"),
        ("log.retention.check.interval.ms", "100"),
        ("log.cleaner.backoff.ms", "100"),
        ("log.cleaner.min.cleanable.ratio", "0"),
        ("log.segment.delete.delay.ms", "0"),
        ("auto.create.topics.enable", "false"),
        ("ottla.route.journal.max.bytes", "200000"),
        ("ottla.shutdown.grace.ms", "300"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec();
    settings.push(("ottla.producer.snapshot.interval.ms", random.pick(&["100", "1000", "10000"]).to_string()));
    let mut world = World::new(setting, seed, disks, image, &settings);
    let segment = |random: &mut Seed| ("internal.segment.bytes", random.within(10_000..60_000).to_string());
    let topic = |name: &str, partitions, settings: Vec<(&'static str, String)>| {
        let has = |name, value| settings.iter().any(|it| *it == (name, String::from(value)));
        let history = Topic {
            name: name.to_owned(),
            is_routed: settings.iter().any(|it| it.0 == "ottla.partitioner"),
            is_compacted: has("cleanup.policy", "compact"),
            ..Topic::default()
        };
        Ground {
            partitions,
            is_page_cache: has("ottla.durability", "page-cache"),
            settings,
            history,
            generation: Arc::new(AtomicU32::new(0)),
            deletions: Vec::new(),
        }
    };
    let plugin = || ("ottla.partitioner", PLUGIN.to_owned());
    let compact = || ("cleanup.policy", "compact".to_owned());
    // A new partition goes where the fewest are: those of the second topic all go to the disks that come after the first.
    world.create(topic("plain", 4, vec![segment(&mut random)]));
    world.stop(Stop::Term);
    assert!(world.start(&[]), "the broker starts");
    world.create(topic("healthy", 3, vec![segment(&mut random), plugin()]));
    world.create(topic("spread", 4, vec![segment(&mut random), plugin()]));
    world.create(topic("keys", 2, vec![segment(&mut random), compact()]));
    world.create(topic("routed-keys", 2, vec![segment(&mut random), compact(), plugin()]));
    world.create(topic("cached", 2, vec![segment(&mut random), ("ottla.durability", "page-cache".to_owned())]));
    for (topic, addressed) in [(0, 0), (0, 3), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0), (4, 0), (5, 1)] {
        let shape = Shape {
            filler_max: random.within(0..1200),
            records_max: random.within(1..9),
            has_keys: false,
            wraps: random.one_in(4),
        };
        let producer = world.producer(topic, addressed, shape);
        world.producers.push(producer);
    }
    world
}

impl World {
    /// One life of the broker: a few acts, an end, and the next start. False: it does not come up.
    fn life(&mut self) -> bool {
        let disk = self.random.within(0..self.disks.len() as u64) as usize;
        if self.random.one_in(6) && !self.fail_quietly(disk) {
            return false;
        }
        self.work(|world| {
            world.sleep(10..60);
            for _ in 0..world.random.within(2..7) {
                world.act();
                world.sleep(0..40);
            }
            world.some_stop();
        });
        if self.random.one_in(2) {
            self.free();
        }
        self.start(&[])
    }
}

/// The storm is over: all producers finish, everything is read twice, with a start in between, and judged.
fn end(world: &mut World, outcome: &mut Outcome) {
    world.free();
    world.tell("the storm is over");
    for stop in [Stop::Kill, Stop::Term] {
        world.stop(stop);
        if !world.start(&STILL) || !world.finish(1) {
            return;
        }
        let mut is_sound = true;
        for index in 0..world.topics.len() {
            let ground = &world.topics[index];
            let read = if ground.history.is_compacted { check::read_compacted } else { check::read };
            let read: Result<Vec<_>, String> = (0..ground.partitions)
                .map(|partition| read(world.broker.address(), &ground.history.name, partition))
                .collect();
            let history = history(ground, world.producers.iter().filter(|it| it.topic == index));
            let name = history.name.clone();
            if stop == Stop::Kill {
                outcome.acknowledged += acknowledged(&history);
            }
            match read {
                Ok(read) => {
                    let verdict = judge(&history, &read);
                    outcome.lost += verdict.lost;
                    outcome.duplicated += verdict.doubled;
                    if verdict.wrong > 0 {
                        let model::Verdict { lost, doubled, wrong, what } = verdict;
                        let what = what.join("; ");
                        world.wrong(format!("{name}: {wrong} wrong, {lost} of them lost, {doubled} doubled: {what}"));
                        is_sound = false;
                    }
                }
                Err(error) => {
                    world.wrong(error);
                    is_sound = false;
                }
            }
        }
        if !is_sound {
            return;
        }
    }
}

/// A topic as its producers know it.
fn history<'a>(ground: &Ground, producers: impl Iterator<Item = &'a Producer>) -> Topic {
    let now = ground.generation.load(Ordering::Acquire);
    let sender = |addressed: i32, it: &Incarnation| {
        // When the topic was deleted to which all of this went.
        let deleted = ground.deletions.get(it.generation as usize / 2).filter(|_| it.generation < now);
        let fate = |sent: &Sent| match (&sent.answer, deleted) {
            (Some(answer), None) => Fate::Kept(answer.places.clone()),
            (Some(_), Some(deleted)) if sent.is_settled_before(*deleted) => Fate::Gone,
            _ => Fate::Unsure,
        };
        let batches = it.batches.iter();
        let batches = batches.map(|sent| Batch { first: sent.first, count: sent.count, fate: fate(sent) });
        Sender { tag: it.tag, addressed, is_of_old: deleted.is_some(), batches: batches.collect() }
    };
    let senders = producers.flat_map(|producer| {
        let all = producer.past.iter().chain([&producer.current]);
        all.map(|it| sender(producer.addressed, it)).collect::<Vec<_>>()
    });
    Topic { senders: senders.collect(), ..ground.history.clone() }
}

fn acknowledged(topic: &Topic) -> u64 {
    let batches = topic.senders.iter().flat_map(|sender| &sender.batches);
    batches.filter(|batch| matches!(batch.fate, Fate::Kept(_))).map(|batch| u64::from(batch.count)).sum()
}
