//! The metadata as tests look at it: each of its two copies alone, and a client that changes settings while the broker is
//! cut down.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ottla_tests::connection::Connection;
use ottla_wire::ErrorCode;
use serde_json::Value;

use crate::image::quick_directory;

/// The copies, in the data directory.
pub(crate) const COPIES: [&str; 2] = ["metadata.log", "log/metadata.copy"];
/// What an [`Administrator`] counts in.
const SETTING: &str = "retention.ms";
const FIRST: u64 = 1_000_000;

/// Asks the command line whether both copies are whole.
pub(crate) fn copies_are_whole(program: &Path, data: &Path) -> Result<(), String> {
    ottla_meta(program, "verify", data).map(|_| ())
}

/// What one copy has, without the other: a JSON value per record.
pub(crate) fn copy_alone(program: &Path, data: &Path, copy: &str) -> Result<Vec<Value>, String> {
    let alone = quick_directory();
    let copied = std::fs::copy(data.join(copy), alone.path().join(COPIES[0]));
    copied.map_err(|error| format!("{copy}: {error}"))?;
    let printed = ottla_meta(program, "dump", alone.path()).map_err(|wrong| format!("{copy} alone: {wrong}"))?;
    let lines = printed.lines().map(|line| serde_json::from_str(line).map_err(|error| error.to_string()));
    lines.collect()
}

fn ottla_meta(program: &Path, word: &str, data: &Path) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(["meta", word, "--json", "--data-dir"]).arg(data).stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stdout) + &text(&output.stderr)) }
}

/// Sets a setting of a topic to the next number again and again.
#[derive(Debug)]
pub(crate) struct Administrator {
    topic: String,
    /// The last number that was sent.
    sent: u64,
    /// Numbers that were answered, and when.
    answered: Vec<(u64, Instant)>,
}

impl Administrator {
    pub(crate) fn new(topic: &str) -> Administrator {
        Administrator { topic: topic.to_owned(), sent: FIRST, answered: Vec::new() }
    }

    /// Goes on until `stop` or the broker's end.
    pub(crate) fn run(&mut self, address: SocketAddr, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) && self.change(address, stop).is_ok() {}
    }

    fn change(&mut self, address: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
        let mut socket = Connection::open(address)?;
        while !stop.load(Ordering::Relaxed) {
            self.sent += 1;
            let value = self.sent.to_string();
            let code = socket.set_topic(&self.topic, SETTING, &value)?.code;
            if code != ErrorCode::None {
                return Err(io::Error::other(format!("{SETTING} is refused: {code:?}")));
            }
            self.answered.push((self.sent, Instant::now()));
        }
        Ok(())
    }

    /// What was answered from `moment` on counts as not answered.
    pub(crate) fn forget_since(&mut self, moment: Instant) {
        self.answered.retain(|(_, at)| *at < moment);
    }

    /// Whether each copy alone has the last change that was answered, and none that was not sent.
    pub(crate) fn judge(&self, program: &Path, data: &Path) -> Result<(), String> {
        let answered = self.answered.last().map_or(0, |(number, _)| *number);
        for copy in COPIES {
            let records = copy_alone(program, data, copy)?;
            let topic =
                records.iter().find(|record| record["kind"] == "topic" && record["name"] == self.topic.as_str());
            let topic = topic.ok_or_else(|| format!("{copy} does not know {}", self.topic))?;
            let text = topic["configs"][SETTING].as_str();
            let found = text.map_or(Ok(0), str::parse::<u64>).map_err(|error| error.to_string())?;
            if found < answered || found > self.sent {
                let sent = self.sent;
                return Err(format!("{copy} has {SETTING}={found}, {answered} was answered and {sent} sent"));
            }
        }
        Ok(())
    }

    /// How many changes were answered.
    pub(crate) fn answered(&self) -> usize {
        self.answered.len()
    }
}
