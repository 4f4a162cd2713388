//! Running a command: its words can be shown, its output goes to the terminal or a file, its time is bounded.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// One selection of packages for everything that is compiled: another one would unify features differently, and compile
/// the large dependencies a second time. The wheel is maturin's.
pub(crate) const SELECTION: &[&str] = &["--release", "--workspace", "--exclude", "ottla-python"];

/// How often a bounded command is asked whether it has ended.
const ASK_EVERY_MS: u64 = 50;
/// How long a killed command may take to be gone: one that waits for a disk is not gone at once.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// A command with the few verbs that chores need.
pub(crate) struct Shell {
    command: Command,
    words: String,
}

/// How a bounded command ended.
pub(crate) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It had to be ended after its time.
    TimedOut,
}

pub(crate) fn shell(program: impl AsRef<OsStr>, arguments: &[&str]) -> Shell {
    let words = program.as_ref().to_string_lossy().into_owned();
    let shell = Shell { command: Command::new(program), words };
    shell.args(arguments)
}

/// Cargo, the one that is running this chore, at the top of the checkout.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Shell {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut shell = shell(cargo, arguments).at(root);
    shell.words = format!("cargo {}", arguments.join(" "));
    shell
}

impl Shell {
    pub(crate) fn args(mut self, arguments: &[impl AsRef<str>]) -> Shell {
        for argument in arguments {
            self.words.push(' ');
            self.words.push_str(argument.as_ref());
            self.command.arg(argument.as_ref());
        }
        self
    }

    pub(crate) fn at(mut self, directory: &Path) -> Shell {
        self.command.current_dir(directory);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Shell {
        self.command.env(key, value);
        self
    }

    pub(crate) fn words(&self) -> &str {
        &self.words
    }

    /// Runs it with its output on the terminal; an unsuccessful exit is an error.
    pub(crate) fn show(mut self) -> Result<()> {
        let status = self.command.status().with_context(|| format!("cannot start `{}`", self.words))?;
        if !status.success() {
            bail!("`{}` ended with {status}", self.words);
        }
        Ok(())
    }

    /// Runs it quietly; what it printed becomes part of the error when it is unsuccessful.
    pub(crate) fn quiet(mut self) -> Result<String> {
        self.command.stdin(Stdio::null());
        let output = self.command.output().with_context(|| format!("cannot start `{}`", self.words))?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` ended with {}\n{stdout}{stderr}", self.words, output.status);
        }
        Ok(stdout)
    }

    /// Whether it can be started and ends well; what it prints does not matter.
    pub(crate) fn works(self) -> bool {
        self.quiet().is_ok()
    }

    /// Runs it with all of its output in `log`, and ends it with everything it started after `limit`.
    pub(crate) fn logged(mut self, log: &Path, limit: Duration) -> Result<Ended> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone()?;
        self.command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let mut child = self.command.spawn().with_context(|| format!("cannot start `{}`", self.words))?;
        if let Some(status) = wait(&mut child, limit)? {
            return Ok(Ended::Exited(status));
        }
        // The group is the command's own (`process_group(0)`), so nothing else is hit.
        kill_process_group(Pid::from_child(&child), Signal::KILL)
            .with_context(|| format!("cannot end `{}`", self.words))?;
        if wait(&mut child, GONE_WITHIN)?.is_none() {
            bail!("`{}` is still there {} s after SIGKILL", self.words, GONE_WITHIN.as_secs());
        }
        Ok(Ended::TimedOut)
    }
}

/// How the command ended, if it did within `limit`.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || started.elapsed() > limit {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(ASK_EVERY_MS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also where there is no program `kill`: the call is the kernel's. Run this with an empty PATH to see it.
    #[test]
    fn a_command_that_overruns_is_ended_with_everything_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        // The inner one would hold the pipe, and this test, for ten minutes.
        let overruns = shell("/bin/sh", &["-c", "/bin/sleep 600 & echo $!; wait"]);
        let ended = overruns.logged(&log, Duration::from_millis(300)).unwrap();
        assert!(matches!(ended, Ended::TimedOut));
        let started: u32 = std::fs::read_to_string(&log).unwrap().trim().parse().unwrap();
        let is_alive = || {
            let status = std::fs::read_to_string(format!("/proc/{started}/stat")).unwrap_or_default();
            !status.is_empty() && !status.contains(") Z ")
        };
        let patience = Instant::now();
        while is_alive() {
            assert!(patience.elapsed() < GONE_WITHIN, "the sleep of {started} goes on");
            std::thread::sleep(Duration::from_millis(ASK_EVERY_MS));
        }
    }

    #[test]
    fn a_command_that_ends_in_time_is_left_to_its_own_status() {
        let directory = tempfile::tempdir().unwrap();
        let ended = shell("/bin/sh", &["-c", "exit 3"]).logged(&directory.path().join("log"), GONE_WITHIN).unwrap();
        assert!(matches!(ended, Ended::Exited(status) if status.code() == Some(3)));
    }
}
