//! T10: the process dies at one system call after another of what changes a log directory: creating, rolling, deleting,
//! deleting records, retention, compaction, settings. Each is there as a whole after the next start, or not at all, and
//! everything else is as it was. And what was renamed is followed by a sync of the directory, since the page cache keeps
//! names for a process that dies, not for a machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ottla_log::{BatchHeader, CleanOptions, Offset, PartitionLog, PartitionName, PartitionOptions, Retention};
use ottla_wire::record::{BatchBuilder, Codec};
use uuid::Uuid;

use crate::content::{Entry, Identity, batch, entries, first_batch, value};
use crate::image::{Image, PARTITION, open, partition, quick_directory, read_all, settle};
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::tests::Size;
use crate::trace::unavailable;

/// Calls that change something on a disk.
pub(crate) const CALLS: &str =
    "pwritev,pwrite64,write,fallocate,ftruncate,rename,renameat,renameat2,unlink,unlinkat,mkdir,openat,fsync,fdatasync";
const ACTS: [&str; 7] = ["create", "delete", "roll", "delete-records", "retention", "compact", "settings"];
const BATCHES: u64 = 60;
/// Where `delete-records` begins the log.
const CUT: i64 = 70;
const OPTIONS: PartitionOptions =
    PartitionOptions { segment_bytes: 8_000, durability: ottla_log::Durability::Fsync, index_interval_bytes: 512 };

pub(crate) fn run(setting: &Setting) -> Outcome {
    if let Some(why) = unavailable() {
        return Outcome::not_run(why);
    }
    let mut outcome = Outcome::default();
    let mut random = Seed::new(setting.seed);
    let before = directory_before();
    for act in ACTS {
        // Once without a fault: how many calls there are, and that names are synced.
        let directory = quick_directory();
        before.restore(directory.path());
        let (trace, done) = match attempt(act, directory.path(), None) {
            Ok(found) => found,
            Err(error) => {
                outcome.troubles.push(crate::report::Violation {
                    seed: setting.seed,
                    cases: 1,
                    what: format!("{act}: {error:#}"),
                });
                continue;
            }
        };
        outcome.cases += 1;
        if !done.contains("done") {
            outcome.violation(setting.seed, setting.cases, format!("{act} did not end well without any fault: {done}"));
            continue;
        }
        for name in unsynced_names(&trace) {
            outcome.violation(setting.seed, setting.cases, format!("{act}: {name} is not synced after the rename"));
        }
        if let Err(wrong) = judge(act, directory.path(), &done) {
            outcome.violation(setting.seed, setting.cases, format!("{act} without any fault: {wrong}"));
        }
        if setting.canary.is_some() {
            continue;
        }
        let calls =
            trace.lines().filter(|line| CALLS.split(',').any(|call| line.contains(&format!("{call}(")))).count() as u64;
        let each = (setting.cases / ACTS.len() as u64).max(1);
        let points: Vec<u64> = if setting.size == Size::Commit && each < calls {
            (0..each).map(|_| 1 + random.within(0..calls)).collect()
        } else {
            (1..=calls).collect()
        };
        outcome.notes.push(format!("{act}: killed at {} of {calls} system calls", points.len()));
        for point in points {
            let directory = quick_directory();
            before.restore(directory.path());
            let wrong = attempt(act, directory.path(), Some(point))
                .map_err(|error| format!("{error:#}"))
                .and_then(|(_, said)| judge(act, directory.path(), &said));
            outcome.cases += 1;
            if let Err(wrong) = wrong {
                outcome.violation(setting.seed, setting.cases, format!("{act}, killed at call {point}: {wrong}"));
            }
        }
    }
    outcome
}

/// A partition of several segments with keys, closed without a clean end, and another one that stays untouched.
fn directory_before() -> Image {
    let directory = quick_directory();
    let log = open(directory.path());
    let all = partition(&log, OPTIONS);
    let other = log.create_partition(&name("other-0"), Uuid::from_u128(9), OPTIONS).expect("another partition");
    for number in 0..BATCHES {
        all.append(&mut keyed(number * 3)).expect("an append");
        other.append(&mut batch(Identity { tag: 2, number }, 1, 300, 1_000, None)).expect("an append");
        settle(&all);
        settle(&other);
    }
    drop((all, other, log));
    Image::of(directory.path())
}

fn name(text: &str) -> PartitionName {
    text.parse().expect("a name")
}

/// Three records of few keys.
fn keyed(number: u64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    for number in number..number + 3 {
        let value = value(Identity { tag: 1, number }, 200);
        builder.append(number as i64, Some(&key(number)), Some(&value), std::iter::empty()).expect("a record");
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).expect("a batch");
    bytes
}

fn key(number: u64) -> [u8; 1] {
    [(number * number % 11) as u8]
}

/// Runs `act` in a process of its own, under strace; what strace and the act said.
fn attempt(act: &str, directory: &Path, killed_at: Option<u64>) -> Result<(String, String)> {
    let scratch = quick_directory();
    let file = scratch.path().join("trace");
    let mut command = Command::new("strace");
    // Only the thread that acts is counted: it makes every call of interest, the flusher's are the same ones.
    command.args(["-f", "-qq", "-y", "-e", &format!("trace={CALLS}"), "-e", "signal=none"]).arg("-o").arg(&file);
    if let Some(point) = killed_at {
        command.arg("-e").arg(format!("inject={CALLS}:signal=KILL:when={point}"));
    }
    command.arg(std::env::current_exe()?).args(["--act", act, "--at"]).arg(directory);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().context("cannot start strace")?;
    let trace = String::from_utf8_lossy(&std::fs::read(&file)?).into_owned();
    Ok((trace, String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// What a process does that will be killed.
pub(crate) fn act(what: &str, directory: &Path) -> Result<()> {
    let log = open(directory);
    let all = partition(&log, OPTIONS);
    match what {
        "create" => drop(log.create_partition(&name("new-0"), Uuid::from_u128(8), OPTIONS)?),
        "delete" => log.delete_partition(&name(PARTITION))?,
        "roll" => {
            for number in BATCHES..BATCHES + 40 {
                all.append(&mut keyed(number * 3))?;
                println!("durable {}", settle(&all).0);
            }
        }
        "delete-records" => println!("start {}", all.delete_records(Offset(CUT))?.0),
        "retention" => {
            let retention = Retention { retention_ms: -1, retention_bytes: 12_000 };
            all.delete_old_segments(&retention, all.end_offset(), 1_000_000)?;
        }
        "compact" => drop(compact(&all)?),
        "settings" => all.set_options(PartitionOptions { segment_bytes: 9_999, ..OPTIONS })?,
        other => bail!("no act is called {other}"),
    }
    println!("done");
    // Neither destructors nor a clean end: the next start has to cope.
    std::mem::forget((all, log));
    Ok(())
}

fn compact(log: &PartitionLog) -> Result<ottla_log::CleanReport> {
    let never = |_: &BatchHeader| false;
    Ok(log.compact(&CleanOptions {
        upto: Offset(i64::MAX),
        now_ms: 1_000_000,
        delete_retention_ms: 0,
        min_compaction_lag_ms: 0,
        key_map_bytes_max: 1 << 20,
        unpacked_bytes_max: 1 << 20,
        io_bytes_per_second: 0,
        is_producer_end: &never,
        should_stop: &|| false,
    })?)
}

/// All or nothing, twice in a row.
fn judge(act: &str, directory: &Path, said: &str) -> Result<(), String> {
    let first = state(act, directory, said)?;
    let second = state(act, directory, said)?;
    if first != second {
        return Err(format!("the second start finds {second:?}, the first one {first:?}"));
    }
    Ok(())
}

/// What a start finds, if it is what may be there.
fn state(act: &str, directory: &Path, said: &str) -> Result<Vec<i64>, String> {
    let done = said.contains("done");
    let log = open(directory);
    let other = log.partition(&name("other-0")).ok_or("the other partition is gone")?;
    let there = records(&other)?;
    if there.len() as u64 != BATCHES {
        return Err(format!("{} of {BATCHES} records are in the other partition", there.len()));
    }
    let new = log.partition(&name("new-0"));
    if new.is_some() != (act == "create" && done) && (act != "create" || done) {
        return Err(format!("new-0 is there: {}", new.is_some()));
    }
    if let Some(new) = &new {
        new.append(&mut keyed(0)).map_err(|error| format!("new-0: {error}"))?;
        if new.topic_id() != Uuid::from_u128(8) {
            return Err("new-0 has another topic id".to_owned());
        }
    }
    let Some(all) = log.partition(&name(PARTITION)) else {
        return if act == "delete" { Ok(vec![]) } else { Err(format!("{PARTITION} is gone")) };
    };
    if act == "delete" && done {
        return Err("what was deleted is there".to_owned());
    }
    let found = records(&all)?;
    check(act, &all, &found, said)?;
    Ok(found.keys().copied().collect())
}

fn check(act: &str, all: &PartitionLog, found: &BTreeMap<i64, Entry>, said: &str) -> Result<(), String> {
    let done = said.contains("done");
    let (start, end) = (all.log_start_offset().0, all.end_offset().0);
    let acked = said.lines().filter_map(|line| line.strip_prefix("durable ")?.parse::<i64>().ok()).max();
    let least = acked.unwrap_or(BATCHES as i64 * 3);
    if end < least || act != "roll" && end != least {
        return Err(format!("the log ends at {end} instead of {least}"));
    }
    for (offset, entry) in found {
        if entry.identity != (Identity { tag: 1, number: *offset as u64 }) {
            return Err(format!("{entry:?} stands at offset {offset}"));
        }
    }
    let missing: Vec<i64> = (start..end).filter(|offset| !found.contains_key(offset)).collect();
    if act == "compact" {
        let has_successor = |offset: &i64| (offset + 1..end).any(|later| key(later as u64) == key(*offset as u64));
        if let Some(lost) = missing.iter().find(|offset| !has_successor(offset)) {
            return Err(format!("the last record of its key, {lost}, is gone"));
        }
    } else if !missing.is_empty() {
        return Err(format!("{} records are missing, the first at {}", missing.len(), missing[0]));
    }
    match act {
        "delete-records" if (done || start != 0) && start != CUT => {
            Err(format!("the log starts at {start} instead of 0 or {CUT}"))
        }
        "retention" if done && start == 0 => Err("nothing was removed".to_owned()),
        "create" | "roll" | "compact" | "settings" if start != 0 => Err(format!("the log starts at {start}")),
        "settings" => match all.options().segment_bytes {
            9_999 => Ok(()),
            8_000 if !done => Ok(()),
            other => Err(format!("segment_bytes is {other}")),
        },
        _ => Ok(()),
    }
}

fn records(log: &PartitionLog) -> Result<BTreeMap<i64, Entry>, String> {
    let bytes = read_all(log)?;
    let (mut rest, mut found) = (bytes.as_slice(), BTreeMap::new());
    while !rest.is_empty() {
        let raw = first_batch(rest)?;
        found.extend(entries(&raw)?.into_iter().map(|entry| (entry.offset, entry)));
        rest = &rest[raw.bytes.len()..];
    }
    Ok(found)
}

/// Names that were given by a rename, or taken by one, whose directory is not synced afterwards.
pub(crate) fn unsynced_names(trace: &str) -> Vec<String> {
    let lines: Vec<&str> = trace.lines().collect();
    let mut unsynced = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("rename") && line.ends_with("= 0")) {
        let paths: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        let [from, to] = paths.as_slice() else { continue };
        // An index is derived: a start does without it.
        if Path::new(to).extension().is_some_and(|extension| extension == "index") {
            continue;
        }
        let parent = |path: &str| Path::new(path).parent().map(Path::to_path_buf).unwrap_or_default();
        // Half-made and half-deleted partitions are rubbish to every start, and so are half-made plugins.
        let aside = |path: &Path| {
            [".new", ".trash"].iter().any(|name| path.ends_with(name))
                || path.parent().is_some_and(|path| path.ends_with("plugins/work"))
        };
        for directory in [parent(from), parent(to)].into_iter().filter(|path| !aside(path)) {
            let sync = format!("<{}>", directory.display());
            let synced = |line: &&str| (line.contains("fsync(") || line.contains("syncfs(")) && line.contains(&sync);
            if !lines[at..].iter().any(synced) {
                unsynced.push(format!("{to} in {}", directory.display()));
            }
        }
    }
    unsynced
}
