//! Running a program to its end, with its input given and its time bounded.

use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use crate::wait;

/// What a program left.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The command line.
    pub words: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Itself, if it ended with 0.
    ///
    /// # Panics
    /// If it did not, with everything it said.
    #[must_use = "the output may matter"]
    pub fn success(self) -> Finished {
        let Finished { words, status, stdout, stderr } = &self;
        assert!(status.success(), "`{words}` ended with {status}\n{}{stderr}", String::from_utf8_lossy(stdout));
        self
    }

    /// The same where the output does not matter.
    ///
    /// # Panics
    /// As [`Finished::success`].
    pub fn expect_success(self) {
        let _ = self.success();
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs `command` with `input` on its standard input.
///
/// # Panics
/// When it cannot be started, or does not end within [`wait::LONG`].
pub fn run(mut command: Command, input: &[u8]) -> Finished {
    let words = words(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start `{words}`: {error}"));
    let mut pipe = child.stdin.take().expect("a pipe");
    let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    thread::scope(|scope| {
        // A program may stop reading before everything is written; that is its business.
        scope.spawn(move || pipe.write_all(input).ok());
        let stdout = scope.spawn(move || {
            let mut bytes = Vec::new();
            out.read_to_end(&mut bytes).map(|_| bytes).unwrap_or_default()
        });
        let stderr = scope.spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).ok();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let started = std::time::Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("its status") {
                break status;
            }
            if started.elapsed() > wait::LONG * 2 {
                child.kill().ok();
                child.wait().ok();
                let stderr = stderr.join().unwrap_or_default();
                panic!("`{words}` did not end in {} s\n{stderr}", (wait::LONG * 2).as_secs());
            }
            thread::sleep(std::time::Duration::from_millis(5));
        };
        Finished {
            words: words.clone(),
            status,
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
        }
    })
}

fn words(command: &Command) -> String {
    let arguments = command.get_args().map(|word| word.to_string_lossy().into_owned());
    let program = command.get_program().to_string_lossy().into_owned();
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}
