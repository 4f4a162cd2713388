//! Where a broker dies: the system calls that it came by without faults, and a strace that kills it at one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ottla_tests::{Broker, wait};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::image::quick_directory;
use crate::t10_crash_points::CALLS;

/// Where it dies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// At the `nth` call of a thread with this name.
    Thread { name: String, nth: usize },
    /// At the `nth` call of this kind in any thread.
    Call { name: String, nth: usize },
}

/// A strace that kills at a point, or only watches.
pub(super) struct Strace {
    child: Child,
    directory: TempDir,
}

impl Strace {
    pub(super) fn join(broker: &Broker, point: Option<&Point>) -> Strace {
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

    pub(super) fn finish(mut self) -> String {
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
pub(super) fn threads_of(broker: &Broker) -> BTreeMap<u32, String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", broker.pid())).into_iter().flatten().flatten();
    let named = tasks.filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        Some((task.file_name().to_str()?.parse().ok()?, name.trim().to_owned()))
    });
    named.collect()
}

/// Every point that a run without faults came by.
pub(crate) fn points(trace: &str, threads: &BTreeMap<u32, String>) -> Vec<Point> {
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
pub(super) fn has_cut(trace: &str) -> bool {
    let of_journal: Vec<&str> = trace.lines().filter(|line| line.contains(".journal\"")).collect();
    let has = |call: &str| of_journal.iter().any(|line| line.contains(call));
    has("O_CREAT") && has("unlink")
}

/// Files of the journal that were made without a sync of their directory afterwards.
pub(super) fn unsynced_journals(trace: &str) -> Vec<String> {
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
