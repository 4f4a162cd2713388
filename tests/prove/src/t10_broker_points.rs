//! T10 with a whole broker: it dies at one system call after another of a routed batch and of what changes the metadata.
//! After the next start each routed record is in its target once, and a retry does not double it; a topic, a setting, a
//! version of a plugin is there as a whole and works, or is not there and can be made.
//!
//! A point is the K-th call of threads of one name, or the K-th of one kind in any thread: which thread comes first is
//! not the same each time, but every kind of thread is met in each of its steps.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ottla_tests::guest::{Guest, ROUND_ROBIN};
use ottla_tests::record::hex;
use ottla_tests::{Broker, wait};
use ottla_wire::ErrorCode;
use ottla_wire::message::{
    ActivatePluginRequest, AlterConfigsResource, AlterableConfig, ApiVersionsRequest, CreatableTopic,
    CreatableTopicConfig, CreateTopicsRequest, DeleteTopicState, DeleteTopicsRequest, DescribeConfigsRequest,
    DescribeConfigsResource, DescribePluginsRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    OPERATION_SET, PartitionProduceData, ProduceRequest, PushPluginRequest, RESOURCE_TOPIC, TopicProduceData,
};
use rustix::process::{Pid, Signal};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use uuid::Uuid;

use crate::check;
use crate::content::{Identity, Sender, batch};
use crate::image::{Image, quick_directory};
use crate::report::{Outcome, Violation};
use crate::run::Setting;
use crate::seed::Seed;
use crate::t10_crash_points::{CALLS, unsynced_names};
use crate::tests::Size;
use crate::trace::unavailable;
use crate::workload::{Producer, Socket, Stopped};

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
const ROUTED_TAG: u32 = 77;
/// How long the journal has to be cut once everything is answered.
const CUT_PATIENCE: Duration = Duration::from_secs(1);
/// How long a broker takes to end after its connections are gone.
const DEATH_PATIENCE: Duration = Duration::from_secs(5);
const SETTING: &str = "retention.ms";
const SETTING_BEFORE: &str = "604800000";
const SETTING_AFTER: &str = "86400000";
const PLUGIN_BEFORE: &str = "spread";
const PLUGIN: &str = "to-one";
/// What is installed: everything to partition 1.
const TO_ONE: Guest<'_> = Guest { answer: "(i32.const 1)", ..ROUND_ROBIN };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Route,
    CreateTopic,
    DeleteTopic,
    Configure,
    InstallPlugin,
}

/// Where it dies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// At the `nth` call of a thread with this name.
    Thread { name: String, nth: usize },
    /// At the `nth` call of this kind in any thread.
    Call { name: String, nth: usize },
}

/// What was answered before the end.
#[derive(Debug, Default)]
struct Said {
    /// The act is over, and well.
    done: bool,
    /// Routed batches that were acknowledged.
    acked: u64,
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
    for act in ACTS {
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
        for name in unsynced_names(&clean.trace).into_iter().chain(unsynced_journals(&clean.trace)) {
            outcome.violation(setting.seed, setting.cases, format!("{act:?}: {name} is not synced afterwards"));
        }
        if let Err(wrong) = clean.judged {
            outcome.violation(setting.seed, setting.cases, format!("{act:?} without any fault: {wrong}"));
        }
        outcome.acknowledged += clean.acknowledged;
        if setting.canary.is_some() {
            continue;
        }
        let mut points = points(&clean.trace, &clean.threads);
        let all = points.len();
        let each = (setting.cases / ACTS.len() as u64).max(1);
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
                    if let Err(wrong) = judged {
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
    let version = broker.push_plugin(PLUGIN_BEFORE, &ROUND_ROBIN.component()).expect("a right plugin");
    broker.activate_plugin(PLUGIN_BEFORE, version);
    broker.create_topic(ROUTED, ROUTED_PARTITIONS as i32, &[("ottla.partitioner", PLUGIN_BEFORE)]);
    broker.create_topic(OLD, OLD_PARTITIONS, &[(SETTING, SETTING_BEFORE)]);
    for partition in 0..OLD_PARTITIONS {
        let ended = old_producer(partition).send(broker.address(), OLD_BATCHES);
        assert!(matches!(ended, Stopped::Told), "{ended:?}");
    }
    let mut socket = Socket::open(broker.address()).expect("a connection");
    let request = InitProducerIdRequest { transaction_timeout_ms: 1000, ..InitProducerIdRequest::default() };
    let producer = socket.call(4, &request, |response| (response.producer_id, response.producer_epoch));
    broker.terminate();
    (Image::of(directory.path()), producer.expect("a producer id"))
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
        // Plugins are compiled in a process of its own: where that dies the broker refuses the plugin, and lives.
        (Err(_), Some(Point::Call { .. })) if act == Act::InstallPlugin => judge(act, &mut broker, &said),
        (Err(error), _) if !has_died => Err(format!("it ended with {error}")),
        // What is not in the trace would not be killed at.
        (Ok(()), None) if act == Act::Route && !has_cut(&trace) => Err("the journal was not cut".to_owned()),
        _ => judge(act, &mut broker, &said),
    };
    let acknowledged = said.acked * u64::from(ROUTED_RECORDS);
    Case { trace, threads, judged, has_died, acknowledged }
}

fn perform(act: Act, address: SocketAddr, directory: &Path, said: &mut Said) -> io::Result<()> {
    let mut socket = Socket::open(address)?;
    let code = match act {
        Act::Route => {
            for number in 0..ROUTED_BATCHES {
                let code = send_routed(&mut socket, said.producer, number)?;
                if code != ErrorCode::None {
                    return Err(io::Error::other(format!("batch {number} was answered with {code:?}")));
                }
                said.acked += 1;
            }
            // The checkpoint and the cut belong to it: the file with the first entries goes.
            let first = first_journal(directory);
            let begun = Instant::now();
            while first_journal(directory) == first && begun.elapsed() < CUT_PATIENCE && Socket::open(address).is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
            ErrorCode::None
        }
        Act::CreateTopic => create(&mut socket, NEW, NEW_PARTITIONS, &[(SETTING, SETTING_AFTER)])?,
        Act::DeleteTopic => delete(&mut socket, OLD)?,
        Act::Configure => configure(&mut socket)?,
        Act::InstallPlugin => install(&mut socket)?.0,
    };
    if code != ErrorCode::None {
        return Err(io::Error::other(format!("it was answered with {code:?}")));
    }
    said.done = true;
    Ok(())
}

/// All or nothing, the same twice in a row, and usable.
fn judge(act: Act, broker: &mut Broker, said: &Said) -> Result<(), String> {
    let mut states = Vec::new();
    for _ in 0..2 {
        broker.restart();
        states.push(state(act, broker.address())?);
        if act != Act::DeleteTopic {
            old_is_whole(broker.address())?;
        }
    }
    let is_there = states[0];
    if states[1] != is_there {
        return Err(format!("the second start finds {states:?}"));
    }
    if said.done && act != Act::Route && !is_there {
        return Err("it was answered and has not happened".to_owned());
    }
    use_it(act, broker.address(), is_there, said)?;
    // And what was made usable stays so.
    broker.restart();
    let mut socket = Socket::open(broker.address()).map_err(text)?;
    match act {
        Act::Route => routed_once(broker.address()),
        Act::CreateTopic => is_topic(&mut socket, NEW, NEW_PARTITIONS)?.then_some(()).ok_or("it is gone".to_owned()),
        _ => Ok(()),
    }
}

/// Whether the act has happened.
fn state(act: Act, address: SocketAddr) -> Result<bool, String> {
    let mut socket = Socket::open(address).map_err(text)?;
    match act {
        Act::Route => Ok(true),
        Act::CreateTopic => is_topic(&mut socket, NEW, NEW_PARTITIONS),
        Act::DeleteTopic => {
            let is_there = is_topic(&mut socket, OLD, OLD_PARTITIONS)?;
            if is_there {
                old_is_whole(address)?;
            }
            Ok(!is_there)
        }
        Act::Configure => match configured(&mut socket)?.as_str() {
            SETTING_BEFORE => Ok(false),
            SETTING_AFTER => Ok(true),
            other => Err(format!("{SETTING} is {other}")),
        },
        Act::InstallPlugin => match versions(&mut socket)?.as_slice() {
            [] => Ok(false),
            [1] => Ok(true),
            other => Err(format!("versions {other:?} are there")),
        },
    }
}

/// Uses what is there, and makes what is not.
fn use_it(act: Act, address: SocketAddr, is_there: bool, said: &Said) -> Result<(), String> {
    let mut socket = Socket::open(address).map_err(text)?;
    let well = |code: ErrorCode| {
        if code == ErrorCode::None { Ok(()) } else { Err(format!("doing it again is answered with {code:?}")) }
    };
    match act {
        Act::Route => {
            // What was acknowledged comes again, too: the answer may have been lost.
            for number in 0..ROUTED_BATCHES {
                let code = send_routed(&mut socket, said.producer, number).map_err(text)?;
                if !matches!(code, ErrorCode::None | ErrorCode::DuplicateSequenceNumber) {
                    return Err(format!("batch {number} of {} acknowledged comes again: {code:?}", said.acked));
                }
            }
            routed_once(address)
        }
        Act::CreateTopic => {
            if !is_there {
                well(create(&mut socket, NEW, NEW_PARTITIONS, &[(SETTING, SETTING_AFTER)]).map_err(text)?)?;
            }
            usable(address, NEW, NEW_PARTITIONS)
        }
        Act::DeleteTopic => {
            if !is_there {
                well(delete(&mut socket, OLD).map_err(text)?)?;
            }
            well(create(&mut socket, OLD, OLD_PARTITIONS, &[]).map_err(text)?)?;
            usable(address, OLD, OLD_PARTITIONS)
        }
        Act::Configure => {
            well(configure(&mut socket).map_err(text)?)?;
            let now = configured(&mut socket)?;
            if now == SETTING_AFTER { Ok(()) } else { Err(format!("{SETTING} was set and is {now}")) }
        }
        Act::InstallPlugin => {
            let (code, version) = install(&mut socket).map_err(text)?;
            well(code)?;
            if version != 1 {
                return Err(format!("the same plugin comes again as version {version}"));
            }
            let request = ActivatePluginRequest { name: PLUGIN.into(), version };
            well(socket.call(0, &request, |response| response.error_code).map_err(text)?)?;
            well(create(&mut socket, "called", OLD_PARTITIONS, &[("ottla.partitioner", PLUGIN)]).map_err(text)?)?;
            let ended = Producer::new(9, "called", 0, 100, 1).send(address, 2);
            let [addressed, target] = [0, 1].map(|partition| check::read(address, "called", partition));
            let (addressed, target) = (addressed?.records.len(), target?.records.len());
            if !matches!(ended, Stopped::Told) || addressed != 0 || target == 0 {
                return Err(format!("it is not called: {ended:?}, {addressed} records stayed, {target} were routed"));
            }
            Ok(())
        }
    }
}

/// Each of the routed records in its target, once, and nothing else.
fn routed_once(address: SocketAddr) -> Result<(), String> {
    for partition in 0..ROUTED_PARTITIONS {
        let found = check::read(address, ROUTED, partition as i32)?;
        let numbers: Vec<u64> = found.records.iter().map(|entry| entry.identity.number).collect();
        let all = 0..ROUTED_BATCHES * u64::from(ROUTED_RECORDS);
        // A batch has a multiple of as many records as there are partitions: its plugin counts like the numbers do.
        let due: Vec<u64> = all.filter(|number| number % ROUTED_PARTITIONS == partition).collect();
        if numbers != due {
            return Err(format!("partition {partition} has the records {numbers:?} instead of {due:?}"));
        }
    }
    Ok(())
}

fn usable(address: SocketAddr, topic: &str, partitions: i32) -> Result<(), String> {
    for partition in 0..partitions {
        let mut producer = Producer::new(9, topic, partition, 100, 1);
        let ended = producer.send(address, 1);
        if !matches!(ended, Stopped::Told) {
            return Err(format!("{topic}-{partition} takes no records: {ended:?}"));
        }
        let found = check::read(address, topic, partition)?.records.len() as u64;
        if found != producer.made() {
            return Err(format!("{found} records are in {topic}-{partition} instead of {}", producer.made()));
        }
    }
    Ok(())
}

fn old_is_whole(address: SocketAddr) -> Result<(), String> {
    for partition in 0..OLD_PARTITIONS {
        let found = check::read(address, OLD, partition)?;
        let numbers: Vec<Identity> = found.records.iter().map(|entry| entry.identity).collect();
        let tag = partition.cast_unsigned();
        let due: Vec<Identity> = (0..found.end as u64).map(|number| Identity { tag, number }).collect();
        if numbers != due || numbers.len() < OLD_BATCHES {
            return Err(format!("{OLD}-{partition} has {} records up to {}", numbers.len(), found.end));
        }
    }
    Ok(())
}

/// Whether a topic is there with all partitions; with some is an error.
fn is_topic(socket: &mut Socket, topic: &str, partitions: i32) -> Result<bool, String> {
    let codes: Result<Vec<ErrorCode>, io::Error> =
        (0..partitions).map(|partition| Ok(socket.fetch(topic, partition, 0, 0)?.code)).collect();
    let codes = codes.map_err(text)?;
    let all = |wanted: ErrorCode| codes.iter().all(|code| *code == wanted);
    if all(ErrorCode::None) {
        Ok(true)
    } else if all(ErrorCode::UnknownTopicOrPartition) {
        Ok(false)
    } else {
        Err(format!("the partitions of {topic} answer {codes:?}"))
    }
}

fn send_routed(socket: &mut Socket, (producer_id, epoch): (i64, i16), number: u64) -> io::Result<ErrorCode> {
    let number = number * u64::from(ROUTED_RECORDS);
    let sender = Sender { producer_id, epoch, sequence: number as i32 };
    let first = Identity { tag: ROUTED_TAG, number };
    let bytes = batch(first, ROUTED_RECORDS, 600, 1_700_000_000_000 + number as i64, Some(sender));
    let data = PartitionProduceData { index: 0, records: Some(&bytes) };
    let data = TopicProduceData { name: ROUTED.into(), partition_data: vec![data] };
    let request = ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![data], ..ProduceRequest::default() };
    socket.call(9, &request, |response| response.responses[0].partition_responses[0].error_code)
}

fn create(socket: &mut Socket, name: &str, partitions: i32, settings: &[(&str, &str)]) -> io::Result<ErrorCode> {
    let configs = settings
        .iter()
        .map(|&(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) })
        .collect();
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..CreateTopicsRequest::default() };
    socket.call(7, &request, |response| response.topics[0].error_code)
}

fn delete(socket: &mut Socket, name: &str) -> io::Result<ErrorCode> {
    let topic = DeleteTopicState { name: Some(name.into()), topic_id: Uuid::nil() };
    let request = DeleteTopicsRequest { topics: vec![topic], topic_names: Vec::new(), timeout_ms: 30_000 };
    socket.call(6, &request, |response| response.responses[0].error_code)
}

fn configure(socket: &mut Socket) -> io::Result<ErrorCode> {
    let value = Some(SETTING_AFTER.into());
    let config = AlterableConfig { name: SETTING.into(), config_operation: OPERATION_SET, value };
    let resource =
        AlterConfigsResource { resource_type: RESOURCE_TOPIC, resource_name: OLD.into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    socket.call(1, &request, |response| response.responses[0].error_code)
}

fn configured(socket: &mut Socket) -> Result<String, String> {
    let keys = Some(vec![SETTING.into()]);
    let resource =
        DescribeConfigsResource { resource_type: RESOURCE_TOPIC, resource_name: OLD.into(), configuration_keys: keys };
    let request =
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: false, include_documentation: false };
    let value = socket.call(4, &request, |response| {
        let value = response.results.first().and_then(|result| result.configs.first()?.value.as_deref());
        value.map(str::to_owned)
    });
    value.map_err(text)?.ok_or_else(|| format!("{SETTING} has no value"))
}

fn install(socket: &mut Socket) -> io::Result<(ErrorCode, i32)> {
    call_as_ottla(socket)?;
    let bytes = TO_ONE.component();
    let digest = hex(&Sha256::digest(&bytes));
    let request = PushPluginRequest {
        name: PLUGIN.into(),
        digest: digest.into(),
        total_bytes: bytes.len() as i64,
        offset: 0,
        chunk: &bytes,
    };
    socket.call(0, &request, |response| (response.error_code, response.version))
}

fn versions(socket: &mut Socket) -> Result<Vec<i32>, String> {
    call_as_ottla(socket).map_err(text)?;
    let request = DescribePluginsRequest { names: None };
    let versions = socket.call(0, &request, |response| {
        let found = response.plugins.iter().find(|plugin| plugin.name == PLUGIN);
        found.map(|plugin| plugin.versions.iter().map(|version| version.version).collect()).unwrap_or_default()
    });
    versions.map_err(text)
}

/// Our own APIs are for our own clients.
fn call_as_ottla(socket: &mut Socket) -> io::Result<()> {
    let name =
        ApiVersionsRequest { client_software_name: "ottla".into(), client_software_version: "0.0.0-test".into() };
    socket.call(3, &name, |_| ())
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`, which hands errors over")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

/// The name of the journal's first file.
fn first_journal(directory: &Path) -> Option<std::ffi::OsString> {
    let files = Image::names(directory).into_iter();
    files.filter(|path| path.extension().is_some_and(|ending| ending == "journal")).min()?.file_name().map(Into::into)
}

/// A strace that kills at a point, or only watches.
struct Strace {
    child: Child,
    directory: TempDir,
}

impl Strace {
    fn join(broker: &Broker, point: Option<&Point>) -> Strace {
        let directory = quick_directory();
        let mut command = Command::new("strace");
        command.args(["-qq", "-y", "-e", &format!("trace={CALLS}"), "-e", "signal=none", "-o"]);
        command.arg(directory.path().join("trace"));
        let threads = threads_of(broker);
        let mut joined: Vec<u32> = threads.keys().copied().collect();
        match point {
            None => drop(command.arg("-f")),
            Some(Point::Call { name, nth }) => {
                command.args(["-f", "-e", &format!("inject={name}:signal=KILL:when={nth}")]);
            }
            Some(Point::Thread { name, nth }) => {
                command.args(["-e", &format!("inject={CALLS}:signal=KILL:when={nth}")]);
                joined.retain(|thread| threads.get(thread) == Some(name));
            }
        }
        if matches!(point, Some(Point::Thread { .. })) {
            for thread in &joined {
                command.args(["-p", &thread.to_string()]);
            }
        } else {
            command.args(["-p", &broker.pid().to_string()]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let strace = Strace { child: child.expect("strace starts"), directory };
        let pid = broker.pid();
        wait::until_true("strace to join", || joined.iter().all(|thread| is_traced(pid, *thread)));
        strace
    }

    fn finish(mut self) -> String {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            rustix::process::kill_process(pid, Signal::INT).ok();
        }
        self.child.wait().expect("strace ends");
        let bytes = std::fs::read(self.directory.path().join("trace")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A thread that is gone needs no tracer.
fn is_traced(pid: u32, thread: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("TracerPid:")).is_none_or(|tracer| tracer.trim() != "0")
}

/// The names of a broker's threads; none of one that is dead.
fn threads_of(broker: &Broker) -> BTreeMap<u32, String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", broker.pid())).into_iter().flatten().flatten();
    let named = tasks.filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        Some((task.file_name().to_str()?.parse().ok()?, name.trim().to_owned()))
    });
    named.collect()
}

/// Every point that a run without faults came by.
fn points(trace: &str, threads: &BTreeMap<u32, String>) -> Vec<Point> {
    let mut counts: BTreeMap<(u32, Option<&str>), usize> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let (Ok(thread), Some((call, _))) = (thread.parse(), rest.trim_start().split_once('(')) else { continue };
        // The second half of a call that was interrupted in the trace begins otherwise.
        if CALLS.split(',').any(|name| name == call) {
            *counts.entry((thread, None)).or_default() += 1;
            *counts.entry((thread, Some(call))).or_default() += 1;
        }
    }
    let mut points = BTreeSet::new();
    for ((thread, call), count) in counts {
        for nth in 1..=count {
            match (call, threads.get(&thread)) {
                (Some(call), _) => points.insert(Point::Call { name: call.to_owned(), nth }),
                (None, Some(name)) => points.insert(Point::Thread { name: name.clone(), nth }),
                (None, None) => false,
            };
        }
    }
    points.into_iter().collect()
}

/// Whether a file of the journal was begun and another one removed.
fn has_cut(trace: &str) -> bool {
    let of_journal: Vec<&str> = trace.lines().filter(|line| line.contains(".journal\"")).collect();
    let has = |call: &str| of_journal.iter().any(|line| line.contains(call));
    has("O_CREAT") && has("unlink")
}

/// Files of the journal that were made without a sync of their directory afterwards.
fn unsynced_journals(trace: &str) -> Vec<String> {
    let lines: Vec<&str> = trace.lines().collect();
    let mut unsynced = Vec::new();
    let is_made = |line: &&str| line.contains("openat(") && line.contains("O_CREAT") && line.contains(".journal\"");
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_made(line)) {
        let Some(path) = line.split('"').nth(1).map(Path::new) else { continue };
        let Some(directory) = path.parent() else { continue };
        let sync = format!("<{}>", directory.display());
        if !lines[at..].iter().any(|line| line.contains("fsync(") && line.contains(&sync)) {
            unsynced.push(path.display().to_string());
        }
    }
    unsynced
}
