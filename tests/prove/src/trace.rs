//! A broker under strace: faults on order, and what its system calls prove.
//!
//! strace joins a broker that already serves, so that a count of system calls begins where a test wants it to. The count
//! is kept for each thread.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use ottla_tests::syscalls::{self, Call};
use ottla_tests::{Broker, wait};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// A strace that follows a broker.
#[derive(Debug)]
pub struct Trace {
    child: Child,
    directory: TempDir,
}

/// Why faults cannot be ordered here, if they cannot.
pub fn unavailable() -> Option<String> {
    syscalls::unavailable()
}

impl Trace {
    /// Joins `broker`. `faults` are what strace's `inject=` takes, such as `fdatasync:error=EIO:when=3`; `more` are names
    /// of system calls to be seen besides those that write, sync and send.
    pub fn join(broker: &Broker, faults: &[String], more: &str) -> Trace {
        let directory = crate::image::quick_directory();
        let file = directory.path().join("trace");
        let words = syscalls::strace(&file);
        let (program, words) = words.split_first().expect("a program");
        let mut command = Command::new(program);
        for word in words {
            // The set of calls is the one word that begins so.
            if word.starts_with("trace=") && !more.is_empty() {
                command.arg(format!("{word},{more}"));
            } else {
                command.arg(word);
            }
        }
        for fault in faults {
            command.arg("-e").arg(format!("inject={fault}"));
        }
        command.arg("-p").arg(broker.pid().to_string());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let trace = Trace { child: child.expect("strace starts"), directory };
        let pid = broker.pid();
        wait::until_true("strace to join every thread", || all_traced(pid));
        trace
    }

    /// Everything it wrote so far.
    pub fn text(&self) -> String {
        let bytes = std::fs::read(self.path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether a fault happened.
    pub fn has_injected(&self) -> bool {
        self.text().contains("(INJECTED)")
    }

    /// Leaves the broker, or ends with it; every call that ended.
    pub fn finish(mut self) -> (Vec<Call>, String) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            rustix::process::kill_process(pid, Signal::INT).ok();
        }
        self.child.wait().expect("strace ends");
        let text = self.text();
        (syscalls::parse(&text), text)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("trace")
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn all_traced(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("TracerPid:")).is_none_or(|tracer| tracer.trim() != "0")
    })
}
