//! T29: data directories of every released format, kept in `tests/prove/formats/`. This build reads all of each, appends,
//! and reads it again after a kill, also where it was killed at a system call of its first start on it; a directory with a
//! newer format than it knows it refuses and leaves alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ottla_tests::{Broker, artifact};

use crate::check;
use crate::image::{Image, quick_directory};
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::t10_broker_points::point::{Point, points};
use crate::t10_crash_points::CALLS;
use crate::tests::Size;
use crate::trace::unavailable;
use crate::workload::{Producer, Stopped};

const TOPIC: &str = "t";
const PARTITIONS: i32 = 2;
/// Kills of the first start on each directory with every commit; otherwise at every point.
const CUTS_PER_COMMIT: usize = 8;
/// Records in each partition of a directory that is kept.
const EXPECTED: &str = "expected.json";
/// Where a state file has its version, its length and its CRC, behind eight bytes of magic.
const VERSION: std::ops::Range<usize> = 8..12;
const CRC: std::ops::Range<usize> = 16..20;

pub(crate) fn run(setting: &Setting) -> Outcome {
    let mut outcome = Outcome::default();
    let kept = kept();
    if kept.is_empty() {
        return Outcome::not_run("no data directory is kept in tests/prove/formats");
    }
    let rounds = Setting { cases: kept.len() as u64, ..setting.clone() };
    let mut names = kept.iter();
    rounds.each(&mut outcome, 1, |seed, _, outcome| {
        let Some(archive) = names.next() else { return };
        let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
        outcome.cases += 1;
        for look in [reads_and_appends, refuses_a_newer_one] {
            if let Err(wrong) = look(setting, archive, outcome) {
                outcome.violation(seed, 1, format!("{name}: {wrong}"));
            }
        }
        outcome.notes.push(name.clone());
        if setting.canary.is_none() {
            survives_cuts(setting, seed, archive, &name, outcome);
        }
    });
    outcome
}

/// Kills the first start on a kept directory at one system call after another; the next one has everything all the same.
fn survives_cuts(setting: &Setting, seed: u64, archive: &Path, name: &str, outcome: &mut Outcome) {
    if let Some(why) = unavailable() {
        outcome.partly.push(format!("a start that is killed: {why}"));
        return;
    }
    let directory = quick_directory();
    let expected = unpack(archive, directory.path());
    let data = directory.path().join("data");
    let before = Image::of(&data);
    let trace = directory.path().join("trace");
    let words = ["strace", "-f", "-qq", "-e", &format!("trace={CALLS}"), "-e", "signal=none", "-o"];
    let output = trace.to_string_lossy();
    let watched = [&words[..], &[&output]].concat();
    setting.broker().data_dir(&data).under(&watched).start().kill9();
    let mut points = points(&std::fs::read_to_string(&trace).expect("a trace"), &BTreeMap::new());
    let all = points.len();
    if setting.size == Size::Commit && all > CUTS_PER_COMMIT {
        let mut random = Seed::new(seed);
        points = (0..CUTS_PER_COMMIT).map(|_| points[random.within(0..all as u64) as usize].clone()).collect();
    }
    let mut died = 0;
    for point in &points {
        outcome.cases += 1;
        before.restore(&data);
        died += u64::from(dies_at_its_start(setting, &data, point));
        if let Err(wrong) = is_whole(setting, &data, &expected) {
            outcome.violation(seed, 1, format!("{name}, its first start killed at {point:?}: {wrong}"));
        }
    }
    outcome
        .notes
        .push(format!("{name}: {} of {all} points of its first start, killed at {died} of them", points.len()));
}

/// Starts a broker that is killed at `point`, or else once it listens; whether it was killed before.
fn dies_at_its_start(setting: &Setting, data: &Path, point: &Point) -> bool {
    let Point::Call { name, nth } = point else { return false };
    let mut command = Command::new("strace");
    // The broker is our child, and strace leaves when it is gone.
    command.args(["-D", "-f", "-qq", "-e", &format!("trace={name}"), "-e", "signal=none", "-o", "/dev/null"]);
    command.args(["-e", &format!("inject={name}:signal=KILL:when={nth}")]).arg(&setting.program);
    command.arg("serve").arg("--data-dir").arg(data).args(["--listen", "127.0.0.1:0"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut broker = command.spawn().expect("strace starts");
    let output = broker.stdout.take().expect("its output");
    let listens = BufReader::new(output).lines().map_while(Result::ok).any(|line| line.contains("listening on"));
    broker.kill().ok();
    broker.wait().expect("its end");
    !listens
}

fn folder() -> PathBuf {
    artifact::root().join("tests/prove/formats")
}

fn kept() -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder())
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    found.retain(|path: &PathBuf| path.to_string_lossy().ends_with(".tar.gz"));
    found.sort();
    found
}

fn unpack(archive: &Path, into: &Path) -> BTreeMap<i32, u64> {
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(into).status().expect("tar starts");
    assert!(status.success(), "tar cannot unpack {}", archive.display());
    let expected = std::fs::read(into.join(EXPECTED)).expect("what is expected");
    serde_json::from_slice(&expected).expect("a number per partition")
}

fn reads_and_appends(setting: &Setting, archive: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let directory = quick_directory();
    let expected = unpack(archive, directory.path());
    outcome.acknowledged += expected.values().sum::<u64>();
    is_whole(setting, &directory.path().join("data"), &expected)
}

/// All of it is read, appended to and, after a kill, read again.
fn is_whole(setting: &Setting, data: &Path, expected: &BTreeMap<i32, u64>) -> Result<(), String> {
    let start = || setting.broker().data_dir(data).start();
    let mut broker = catch_unwind(AssertUnwindSafe(start)).map_err(|_| "the broker does not start on it".to_owned())?;
    for (partition, records) in expected {
        all_there(&broker, *partition, *records, &[])?;
    }
    let mut producers: Vec<_> =
        (0..PARTITIONS).map(|partition| Producer::new(100 + partition as u32, TOPIC, partition, 200, 1)).collect();
    for producer in &mut producers {
        let ended = producer.send(broker.address(), 20);
        if !matches!(ended, Stopped::Told) {
            return Err(format!("appending ends with {ended:?}"));
        }
    }
    broker.kill9();
    broker.restart();
    for (partition, records) in expected {
        all_there(&broker, *partition, *records, &producers)?;
    }
    Ok(())
}

fn all_there(broker: &Broker, partition: i32, records: u64, new: &[Producer]) -> Result<(), String> {
    let log = check::read(broker.address(), TOPIC, partition)?;
    let numbers = log.records.iter().filter(|entry| entry.identity.tag == partition as u32);
    let numbers: Vec<u64> = numbers.map(|entry| entry.identity.number).collect();
    if numbers != (0..records).collect::<Vec<_>>() {
        return Err(format!("{} of {records} records are there in partition {partition}", numbers.len()));
    }
    let here: Vec<_> = new.iter().filter(|producer| producer.partition == partition).collect();
    let counts = check::compare(&log, &here, true);
    if counts.wrong > 0 { Err(counts.what.join("; ")) } else { Ok(()) }
}

/// The same directory as a later release would leave it: one more in the version of a state file.
fn refuses_a_newer_one(setting: &Setting, archive: &Path, _outcome: &mut Outcome) -> Result<(), String> {
    let directory = quick_directory();
    unpack(archive, directory.path());
    let data = directory.path().join("data");
    let meta = data.join(format!("log/{TOPIC}-0/partition.meta"));
    let mut bytes = std::fs::read(&meta).map_err(|error| error.to_string())?;
    let half = bytes.len() / 2;
    for copy in bytes.chunks_mut(half) {
        let newer = u32::from_be_bytes([copy[8], copy[9], copy[10], copy[11]]) + 1;
        copy[VERSION].copy_from_slice(&newer.to_be_bytes());
        let length = u32::from_be_bytes([copy[12], copy[13], copy[14], copy[15]]) as usize;
        let covered = [&copy[8..16], &copy[20..20 + length]].concat();
        let crc = crc_fast::crc32_iscsi(&covered);
        copy[CRC].copy_from_slice(&crc.to_be_bytes());
    }
    std::fs::write(&meta, bytes).map_err(|error| error.to_string())?;
    let before = Image::of(&data);
    let started = catch_unwind(AssertUnwindSafe(|| setting.broker().data_dir(&data).start()));
    if started.is_ok() {
        return Err("a newer format is not refused".to_owned());
    }
    let after = Image::of(&data);
    // The metadata store marks that it was opened; what holds data has to be as it was.
    let changed = before.files.iter().filter(|(path, _)| path.starts_with("log"));
    let changed: Vec<_> =
        changed.filter(|(path, bytes)| after.files.get(*path) != Some(*bytes)).map(|it| it.0).collect();
    if changed.is_empty() { Ok(()) } else { Err(format!("a newer format is refused, and {changed:?} changed")) }
}

/// Makes the directories that are kept for a release: one that was closed, one that was killed.
pub(crate) fn keep(version: &str) -> Result<()> {
    for clean in [true, false] {
        let directory = quick_directory();
        let setting = Setting::sound();
        let mut broker = setting.broker().data_dir(&directory.path().join("data")).start();
        broker.create_topic(TOPIC, PARTITIONS, &[("internal.segment.bytes", "8000")]);
        let mut expected = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let mut producer = Producer::new(partition as u32, TOPIC, partition, 200, 1);
            let ended = producer.send(broker.address(), 60);
            if !matches!(ended, Stopped::Told) {
                bail!("a producer ended with {ended:?}");
            }
            expected.insert(partition, producer.made());
        }
        if clean {
            broker.terminate();
        } else {
            broker.kill9();
        }
        std::fs::write(directory.path().join(EXPECTED), serde_json::to_vec(&expected)?)?;
        std::fs::create_dir_all(folder())?;
        let name = format!("{version}-{}.tar.gz", if clean { "closed" } else { "killed" });
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--exclude=lock"]);
        tar.args(["--sparse", "-I", "gzip -9n", "-cf"]).arg(folder().join(&name)).arg("-C").arg(directory.path());
        let status = tar.args([EXPECTED, "data"]).status().context("tar starts")?;
        if !status.success() {
            bail!("tar ended with {status}");
        }
        println!("{}", folder().join(name).display());
    }
    Ok(())
}
