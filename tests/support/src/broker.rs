//! One broker process: start, stop, kill, restart, what it printed, how much memory it holds.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::{artifact, wait};

const READY: &str = "listening on ";

/// Everything a broker printed so far, standard output and standard error together.
type Lines = Arc<Mutex<Vec<String>>>;

/// How a broker will be started.
#[derive(Debug, Clone)]
pub struct Builder {
    program: PathBuf,
    before: Vec<String>,
    data_dir: Option<PathBuf>,
    listen: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A broker process on 127.0.0.1. Dropping it kills the process.
#[derive(Debug)]
pub struct Broker {
    builder: Builder,
    child: Child,
    pid: Pid,
    address: SocketAddr,
    lines: Lines,
    data_dir: PathBuf,
    /// Removed with the last broker that used it.
    temporary: Option<Arc<TempDir>>,
}

impl Builder {
    /// Keeps the data here, and leaves it there afterwards.
    #[must_use]
    pub fn data_dir(mut self, path: &Path) -> Builder {
        self.data_dir = Some(path.to_path_buf());
        self
    }

    /// One setting, as `--set key=value`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Builder {
        self.arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        self
    }

    /// One more argument of `ottla serve`.
    #[must_use]
    pub fn argument(mut self, word: &str) -> Builder {
        self.arguments.push(word.to_owned());
        self
    }

    /// Another binary than `target/release/ottla`.
    #[must_use]
    pub fn program(mut self, path: PathBuf) -> Builder {
        self.program = path;
        self
    }

    /// A command and its arguments to run the broker under, such as strace.
    #[must_use]
    pub fn under(mut self, words: &[&str]) -> Builder {
        self.before = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// `HOST:PORT` instead of an ephemeral port.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Builder {
        address.clone_into(&mut self.listen);
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Builder {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it says that it listens.
    ///
    /// # Panics
    /// When it ends before that, with everything it printed.
    pub fn start(self) -> Broker {
        if let Some(path) = self.data_dir.clone() {
            return self.start_in(path, None);
        }
        let directory = TempDir::with_prefix("ottla-").expect("a temporary directory");
        self.start_in(directory.path().to_path_buf(), Some(Arc::new(directory)))
    }

    fn start_in(self, data_dir: PathBuf, temporary: Option<Arc<TempDir>>) -> Broker {
        let mut child = self.spawn(&data_dir);
        let lines = collect(&mut child);
        let address = wait::until("the broker to say that it listens", || {
            if let Ok(Some(status)) = child.try_wait() {
                // What it printed last may still be in the pipe: the readers end with it.
                wait::until_true("the rest of its output", || Arc::strong_count(&lines) == 1);
                panic!("the broker ended with {status} before it listened:\n{}", text(&lines));
            }
            address_in(&lines)
        });
        // Under another command the broker is that command's child.
        let pid = if self.before.is_empty() { child.id() } else { only_child(child.id()) };
        let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
        Broker { builder: self, child, pid, address, lines, data_dir, temporary }
    }

    fn spawn(&self, data_dir: &Path) -> Child {
        let mut command = match self.before.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.arg("serve").arg("--data-dir").arg(data_dir).args(["--listen", &self.listen]).args(&self.arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()))
    }
}

impl Broker {
    /// A broker with defaults: ephemeral port, temporary data directory.
    pub fn start() -> Broker {
        Broker::builder().start()
    }

    /// A broker with something else than defaults.
    pub fn builder() -> Builder {
        Builder {
            program: artifact::ottla(),
            before: Vec::new(),
            data_dir: None,
            listen: "127.0.0.1:0".to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// `HOST:PORT`, as clients want it.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its data is.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Everything it printed so far.
    pub fn log_lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// Waits for a printed line after the first `after` ones that has all of `parts` in it, in any case.
    pub fn wait_for_line(&self, after: usize, parts: &[&str]) -> String {
        wait::until(&format!("a log line with {parts:?} in it"), || {
            let lines = self.log_lines();
            let has = |line: &&String| parts.iter().all(|part| line.to_lowercase().contains(&part.to_lowercase()));
            lines[after..].iter().find(has).cloned()
        })
    }

    /// The most memory it held at once since [`Broker::reset_peak_memory`] (`VmHWM`).
    pub fn peak_memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kibibytes * 1024
    }

    /// Forgets earlier peaks: the peak is what it holds now.
    pub fn reset_peak_memory(&self) {
        let path = format!("/proc/{}/clear_refs", self.pid());
        std::fs::write(&path, "5").unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`: no destructor, no flush, no goodbye.
    pub fn kill9(&mut self) {
        rustix::process::kill_process(self.pid, Signal::KILL).ok();
        self.child.wait().expect("the broker's exit");
    }

    /// Sends `signal` and waits for the end.
    pub fn end_by(&mut self, signal: Signal) -> ExitStatus {
        rustix::process::kill_process(self.pid, signal).expect("the broker runs");
        wait::until("the broker to end", || self.child.try_wait().expect("its status"))
    }

    /// Waits for it to end by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        wait::until("the broker to end", || self.child.try_wait().expect("its status"))
    }

    /// SIGTERM; the clean end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.end_by(Signal::TERM)
    }

    /// Starts again on the same data and the same port; kills the process first if it still runs.
    pub fn restart(&mut self) {
        self.restart_with(|builder| builder);
    }

    /// The same with a change to how it is started.
    pub fn restart_with(&mut self, change: impl FnOnce(Builder) -> Builder) {
        if self.is_running() {
            self.kill9();
        }
        let builder = change(self.builder.clone()).listen(&self.bootstrap());
        *self = builder.start_in(self.data_dir.clone(), self.temporary.clone());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill9();
        }
        if std::thread::panicking() {
            eprintln!("---- the broker printed:\n{}\n----", self.log_lines().join("\n"));
        }
    }
}

fn collect(child: &mut Child) -> Lines {
    let lines = Lines::default();
    let out = child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>);
    let err = child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>);
    for pipe in [out, err].into_iter().flatten() {
        let lines = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                lines.lock().push(line);
            }
        });
    }
    lines
}

fn text(lines: &Lines) -> String {
    lines.lock().join("\n")
}

fn address_in(lines: &Lines) -> Option<SocketAddr> {
    let lines = lines.lock();
    let rest = lines.iter().find_map(|line| line.split_once(READY))?.1;
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "[]:.".contains(c))).unwrap_or(rest.len());
    rest.get(..end)?.trim_end_matches('.').parse().ok()
}

fn only_child(parent: u32) -> u32 {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    children.split_whitespace().next().and_then(|child| child.parse().ok()).expect("the command runs the broker")
}
