//! Running a command: its words can be shown, its output goes to the terminal or a file, its time is bounded.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a bounded command is asked whether it has ended.
const ASK_EVERY_MS: u64 = 50;

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
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Ended::Exited(status));
            }
            if started.elapsed() > limit {
                // The group is the command's own (`process_group(0)`), so nothing else is hit.
                let group = format!("-{}", child.id());
                shell("kill", &["-KILL", "--", &group]).quiet().ok();
                child.wait()?;
                return Ok(Ended::TimedOut);
            }
            std::thread::sleep(Duration::from_millis(ASK_EVERY_MS));
        }
    }
}
