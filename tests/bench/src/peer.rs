//! The two servers of a row, each a process of its own, with its CPU time read from the kernel.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::raw::Ceiling;

/// Time that a slow server gets to listen.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// Time that `perf` gets to attach itself.
const ATTACH_TIME: Duration = Duration::from_millis(300);

/// A server under load: Ottla, a bare loop, or Apache Kafka.
pub(crate) struct Peer {
    child: Child,
    /// Kept open: a server whose standard output is closed may stop.
    _stdout: Option<BufReader<ChildStdout>>,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Peer {
    /// Starts `ottla serve` on a free loopback port with its data in `dir`.
    pub(crate) fn ottla(dir: &Path, settings: &[&str]) -> Result<Self> {
        Self::ottla_at(&ottla_binary()?, dir, settings)
    }

    /// The same, and the seconds from its start until it listened.
    pub(crate) fn ottla_timed(dir: &Path) -> Result<(Self, f64)> {
        let begin = Instant::now();
        let peer = Self::ottla(dir, &[])?;
        Ok((peer, begin.elapsed().as_secs_f64()))
    }

    /// The same with a build of the caller's choice.
    pub(crate) fn ottla_at(binary: &Path, dir: &Path, settings: &[&str]) -> Result<Self> {
        let mut command = as_service(binary);
        command.arg("serve").arg("--data-dir").arg(dir).args(["--listen", "127.0.0.1:0"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        Self::start(command)
    }

    /// Starts a bare loop of this very program.
    pub(crate) fn raw(ceiling: Ceiling, dir: &Path) -> Result<Self> {
        let mut command = as_service(&std::env::current_exe()?);
        command.arg("__raw").arg(ceiling.name()).arg(dir);
        Self::start(command)
    }

    /// Starts a server that prints no address where it listens; `addr` is known to the caller.
    pub(crate) fn silent(mut command: Command, addr: SocketAddr) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let begin = Instant::now();
        while TcpStream::connect(addr).is_err() {
            if child.try_wait()?.is_some() || begin.elapsed() > START_PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                bail!("{} did not begin to listen on {addr}", command.get_program().display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(Self { child, _stdout: None, addr })
    }

    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let Some(stdout) = child.stdout.take() else { bail!("the server has no standard output") };
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        loop {
            line.clear();
            if stdout.read_line(&mut line)? == 0 {
                let _ = child.wait();
                bail!("the server ended before it listened");
            }
            if let Some((_, addr)) = line.split_once("listening on ") {
                let addr = addr.trim().parse().with_context(|| format!("reading the address in {line:?}"))?;
                return Ok(Self { child, _stdout: Some(stdout), addr });
            }
        }
    }

    /// Creates the topic under test with the command line, as a user would.
    pub(crate) fn create_topic(&self, partitions: u32, configs: &[&str]) -> Result<()> {
        self.create_named(crate::frames::TOPIC, partitions, configs)
    }

    /// The same for another topic.
    pub(crate) fn create_named(&self, topic: &str, partitions: u32, configs: &[&str]) -> Result<()> {
        let mut args = vec!["topic".to_owned(), "create".to_owned(), topic.to_owned()];
        args.extend(["--partitions".to_owned(), partitions.to_string()]);
        args.extend(configs.iter().flat_map(|c| ["--config".to_owned(), (*c).to_owned()]));
        self.command(&args)
    }

    /// Runs `ottla ARGS` against this broker.
    pub(crate) fn command(&self, args: &[String]) -> Result<()> {
        let output = Command::new(ottla_binary()?)
            .args(args)
            .env("OTTLA_BOOTSTRAP", self.addr.to_string())
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            bail!("ottla {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// CPU seconds that the process has used, threads that have ended included, by the kernel's nanosecond clock.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let pid = Pid::from_raw(self.child.id().try_into()?);
        let used = clock_getcpuclockid(pid)?.now()?;
        Ok(used.tv_sec() as f64 + used.tv_nsec() as f64 / 1e9)
    }

    /// System calls per request of a short load that says how many requests it made; none where `perf` cannot count them.
    pub(crate) fn count_system_calls(&self, load: impl FnOnce() -> Result<usize>) -> Result<Option<f64>> {
        let mut counter = Command::new("perf");
        counter.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &self.child.id().to_string()]);
        let counter = counter.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let Ok(counter) = counter else {
            load()?;
            return Ok(None);
        };
        // It says nothing when it has begun; a start that is timed a little late is so for all.
        std::thread::sleep(ATTACH_TIME);
        let requests = load()?;
        kill(Pid::from_raw(counter.id().try_into()?), Signal::SIGINT)?;
        let output = String::from_utf8(counter.wait_with_output()?.stderr)?;
        let count = output.lines().find_map(|line| line.split(',').next()?.parse::<f64>().ok());
        Ok(count.map(|count| count / requests as f64))
    }

    /// Asks the server to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// Bytes that the thread of this name has read and written so far, by its system calls.
    pub(crate) fn thread_bytes(&self, name: &str) -> Result<u64> {
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let path = task?.path();
            if std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name) {
                let counts = std::fs::read_to_string(path.join("io"))?;
                let of = |field| counts.lines().find_map(|line| line.strip_prefix(field)?.trim().parse::<u64>().ok());
                return Ok(of("rchar:").unwrap_or(0) + of("wchar:").unwrap_or(0));
            }
        }
        bail!("the server has no thread {name}")
    }

    /// Ends the server as a crash of the process would.
    pub(crate) fn kill_nine(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGKILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Anonymous resident memory in KiB: mapped pages belong to the page cache.
    pub(crate) fn anonymous_kib(&self) -> Result<u64> {
        self.status_kib("RssAnon:")
    }

    /// All resident memory in KiB, the pages of the program file among it.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line =
            status.lines().find_map(|l| l.strip_prefix(field)).with_context(|| format!("no {field} in /proc"))?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command in a session of its own, as a service manager would run it: Linux shares the processors between sessions
/// first (autogroups), so that the threads of a server do not queue with those of the load generator one by one.
pub(crate) fn as_service(program: &Path) -> Command {
    let mut command = Command::new("setsid");
    command.arg(program);
    command
}

/// The release build of the broker, beside this program or named by `OTTLA_BIN`.
pub(crate) fn ottla_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("OTTLA_BIN") {
        return Ok(path.into());
    }
    let path = std::env::current_exe()?.with_file_name("ottla");
    if !path.exists() {
        bail!("{} is missing: build it with `cargo build --release`", path.display());
    }
    Ok(path)
}
