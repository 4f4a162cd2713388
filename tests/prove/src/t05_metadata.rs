//! T5, the metadata: one bit flips in a copy of the metadata at rest. The broker starts, every topic has its id, its
//! partitions and its settings, every plugin its versions, no producer id is handed out twice, and both copies are whole
//! again. With a bit in each copy the broker starts so, or says what no copy has.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ottla_tests::Broker;
use ottla_tests::connection::Connection;
use ottla_tests::guest::Guest;
use ottla_wire::ErrorCode;
use ottla_wire::message::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribePluginsRequest, MetadataRequest, RESOURCE_TOPIC,
};

use crate::image::{Image, quick_directory};
use crate::metadata::{COPIES, copies_are_whole};
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::t05_bit_rot::{Flip, flip_at};

/// Cases on the same data; then other data is made.
const CASES_PER_IMAGE: u64 = 10_000;
const TOPICS: u64 = 6;
const PLUGIN: &str = "spread";
/// Bytes behind the last frame that are flipped as well.
const ZEROS: usize = 64;
/// Neighbouring cases are so many bits apart, so that a few of them see all kinds of frames.
const STRIDE: u64 = 7919;
/// How many cases have a bit in either copy.
const BOTH_ONE_IN: u64 = 50;
/// How many cases ask the command line, too, whether both copies are whole again.
const VERIFY_ONE_IN: u64 = 10;
/// What a broker says that cannot start for the metadata.
const LOST: &str = "no copy has it";

/// Everything that the metadata is to keep, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    cluster_id: String,
    /// Id, partitions and settings by name.
    topics: BTreeMap<String, (uuid::Uuid, usize, BTreeMap<String, String>)>,
    /// Name, active version, digests.
    plugins: Vec<(String, i32, Vec<String>)>,
}

impl Seen {
    /// The first thing in which `now` is another.
    fn difference(&self, now: &Seen) -> String {
        if let Some((name, before)) = self.topics.iter().find(|(name, topic)| now.topics.get(*name) != Some(*topic)) {
            let Some(after) = now.topics.get(name) else { return format!("topic {name} is gone") };
            let setting = before.2.iter().find(|(key, value)| after.2.get(*key) != Some(*value));
            let (before, after) =
                ((before.0, before.1, setting), (after.0, after.1, setting.map(|(key, _)| &after.2[key])));
            return format!("topic {name} was {before:?} and is {after:?}");
        }
        let rest = |seen: &Seen| (seen.cluster_id.clone(), seen.topics.len(), seen.plugins.clone());
        format!("cluster, topics and plugins were {:?} and are {:?}", rest(self), rest(now))
    }
}

/// A data directory at rest.
struct Rest {
    image: Image,
    seen: Seen,
    /// Every producer id that was handed out is below it.
    producer_ids: i64,
}

pub(crate) fn run(setting: &Setting) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut refused, mut both, mut bytes) = (0, 0, 0);
    setting.each(&mut outcome, CASES_PER_IMAGE, |seed, cases, outcome| {
        let mut random = Seed::new(seed);
        let rest = Rest::new(&mut random);
        let used = COPIES.map(|copy| rest.image.files[Path::new(copy)].iter().rposition(|byte| *byte != 0));
        let used = used.map(|last| last.map_or(0, |last| last + 1 + ZEROS) as u64 * 8);
        bytes += (used[0] + used[1]) / 8;
        let start = random.number() % (used[0] + used[1]);
        for case in 1..=cases {
            if setting.is_decided(outcome) {
                return;
            }
            let at = (start + case * STRIDE) % (used[0] + used[1]);
            let (copy, bit) = if at < used[0] { (0, at) } else { (1, at - used[0]) };
            let mut flips = vec![(copy, bit)];
            if random.one_in(BOTH_ONE_IN) {
                both += 1;
                flips.push((1 - copy, random.within(0..used[1 - copy])));
            }
            let verify = random.one_in(VERIFY_ONE_IN);
            outcome.cases += 1;
            match rest.start(setting, &flips, verify) {
                Ok(true) => {}
                Ok(false) => refused += 1,
                Err(wrong) => outcome.violation(seed, case, wrong),
            }
        }
    });
    outcome.notes.push(format!(
        "{bytes} bytes of the copies; {both} cases with a bit in either copy, in {refused} of them the broker said what no copy has"
    ));
    outcome
}

impl Rest {
    fn new(random: &mut Seed) -> Rest {
        let directory = quick_directory();
        let data = directory.path().join("data");
        // Made by a sound broker: the canary has to show itself when it reads.
        let mut broker = Setting::sound().broker().data_dir(&data).start();
        let version = broker.push_plugin(PLUGIN, &Guest::round_robin().component()).expect("a right plugin");
        broker.activate_plugin(PLUGIN, version);
        let change = |broker: &Broker, random: &mut Seed| {
            for number in 0..TOPICS {
                let retention = (86_400_000 + random.within(0..1 << 30)).to_string();
                broker.set_topic(&format!("topic-{number}"), "retention.ms", &retention);
            }
        };
        for number in 0..TOPICS {
            let bytes = (1_000_000 + random.within(0..1 << 20)).to_string();
            let mut settings = vec![("max.message.bytes", bytes.as_str())];
            match number {
                0 => settings.push(("ottla.partitioner", PLUGIN)),
                1 => settings.push(("ottla.durability", "page-cache")),
                2 => settings.push(("cleanup.policy", "compact")),
                _ => {}
            }
            broker.create_topic(&format!("topic-{number}"), 1 + number as i32 % 3, &settings);
        }
        broker.create_topic("gone", 1, &[]);
        let gone = Connection::open(broker.address()).and_then(|mut socket| Ok(socket.delete_topic("gone")?.code));
        assert_eq!(gone.expect("an answer"), ErrorCode::None);
        change(&broker, random);
        let mut producer_ids = producer_id(broker.address()).expect("a producer id");
        // A second life, so that one copy begins with a snapshot of all that, and has changes behind it.
        broker.terminate();
        std::fs::remove_file(data.join(COPIES[random.within(0..2) as usize])).expect("a copy to remove");
        broker.restart();
        change(&broker, random);
        producer_ids = producer_ids.max(producer_id(broker.address()).expect("a producer id")) + 1;
        let seen = see(broker.address()).expect("the metadata");
        assert_eq!((seen.topics.len() as u64, seen.plugins.len()), (TOPICS, 1));
        broker.terminate();
        Rest { image: Image::of(&data), seen, producer_ids }
    }

    /// Starts with these bits flipped; whether the broker started.
    fn start(&self, setting: &Setting, flips: &[(usize, u64)], verify: bool) -> Result<bool, String> {
        let directory = quick_directory();
        let data = directory.path().join("data");
        let mut image = self.image.clone();
        let flipped: Vec<Flip> = flips
            .iter()
            .map(|(copy, bit)| flip_at(&mut image, PathBuf::from(COPIES[*copy]), (bit / 8) as usize, bit % 8))
            .collect();
        image.restore(&data);
        let started = catch_unwind(AssertUnwindSafe(|| setting.broker().data_dir(&data).start()));
        let broker = match started {
            Ok(broker) => broker,
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                // Two bits may have hit the same record; then it has to say so.
                return if flips.len() > 1 && said.contains(LOST) {
                    Ok(false)
                } else {
                    Err(format!("the broker does not start, flipped: {flipped:?}: {said}"))
                };
            }
        };
        let seen = see(broker.address()).map_err(|error| format!("{flipped:?}: {error}"))?;
        if seen != self.seen {
            return Err(format!("{flipped:?}: {}", self.seen.difference(&seen)));
        }
        let id = producer_id(broker.address()).map_err(|error| format!("{flipped:?}: {error}"))?;
        if id < self.producer_ids {
            return Err(format!("{flipped:?}: producer id {id} was handed out before"));
        }
        if verify {
            copies_are_whole(&setting.program, &data).map_err(|wrong| format!("{flipped:?}: {wrong}"))?;
        }
        Ok(true)
    }
}

fn producer_id(address: SocketAddr) -> io::Result<i64> {
    let producer = Connection::open(address)?.new_producer()?;
    let producer = producer.map_err(|code| io::Error::other(format!("a producer id is refused: {code:?}")))?;
    Ok(producer.producer_id)
}

fn see(address: SocketAddr) -> io::Result<Seen> {
    let mut socket = Connection::open(address)?;
    let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let (cluster_id, found) = socket.try_call(12, &request, |response| {
        let topics = response.topics.iter().map(|topic| {
            let name = topic.name.as_deref().unwrap_or_default().to_owned();
            (name, (topic.topic_id, topic.partitions.len()))
        });
        (response.cluster_id.as_deref().unwrap_or_default().to_owned(), topics.collect::<Vec<_>>())
    })?;
    let resources = found.iter().map(|(name, _)| DescribeConfigsResource {
        resource_type: RESOURCE_TOPIC,
        resource_name: name.as_str().into(),
        configuration_keys: None,
    });
    let request = DescribeConfigsRequest {
        resources: resources.collect(),
        include_synonyms: false,
        include_documentation: false,
    };
    let settings: Vec<BTreeMap<String, String>> = socket.try_call(4, &request, |response| {
        let all = response.results.iter().map(|result| {
            let pairs = result
                .configs
                .iter()
                .map(|config| (config.name.to_string(), config.value.as_deref().unwrap_or_default().to_owned()));
            pairs.collect()
        });
        all.collect()
    })?;
    let topics = found.into_iter().zip(settings).map(|((name, (id, count)), settings)| (name, (id, count, settings)));
    let topics = topics.collect();
    socket.name_as_ottla()?;
    let plugins = socket.try_call(0, &DescribePluginsRequest { names: None }, |response| {
        let plugins = response.plugins.iter().map(|plugin| {
            let digests = plugin.versions.iter().map(|version| version.digest.to_string());
            (plugin.name.to_string(), plugin.active_version, digests.collect())
        });
        plugins.collect()
    })?;
    Ok(Seen { cluster_id, topics, plugins })
}
