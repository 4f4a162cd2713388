//! Stock clients as processes: kcat, the Python clients, KafkaJS, and our own Python client, behind one face.

mod kcat;
mod process;

use serde_json::{Value, json};
use tempfile::TempDir;

pub use process::{Finished, run};

use crate::{Record, artifact, record};

/// A client that is not part of this project, from its own package; and our wheel beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// kcat 1.7 with the librdkafka of Debian 12.
    Kcat,
    /// confluent-kafka, a current librdkafka.
    Confluent,
    /// kafka-python.
    KafkaPython,
    /// aiokafka.
    Aiokafka,
    /// KafkaJS. It consumes only in groups.
    KafkaJs,
    /// The wheel that this project builds.
    Ottla,
}

/// How records are sent.
#[derive(Debug, Clone, Copy)]
pub struct Sending<'a> {
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub codec: &'a str,
    /// With a producer id and sequences.
    pub idempotent: bool,
    /// How long the client waits to fill a batch.
    pub linger_ms: u32,
}

impl Default for Sending<'_> {
    fn default() -> Self {
        Sending { codec: "none", idempotent: true, linger_ms: 50 }
    }
}

/// What a client told its user about one record (KafkaJS: about one batch).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It is there, as far as the client knows.
    Delivered {
        /// The partition, if the client says one.
        partition: Option<i32>,
        /// The offset, if the client says one.
        offset: Option<i64>,
    },
    /// It is not.
    Failed(String),
}

impl Client {
    /// Sends `records` to a topic, in order, each to its partition or, where that is −1, as the client likes.
    ///
    /// # Panics
    /// When the client fails as a whole. Failures of records are reports.
    pub fn produce(self, bootstrap: &str, topic: &str, sending: &Sending<'_>, records: &[Record]) -> Vec<Report> {
        if self == Client::Kcat {
            return kcat::produce(bootstrap, topic, sending, records);
        }
        let directory = TempDir::with_prefix("ottla-client-").expect("a temporary directory");
        let (input, output) = (directory.path().join("in"), directory.path().join("out"));
        record::write_file(&input, records);
        let options = json!({
            "bootstrap": bootstrap, "topic": topic, "codec": sending.codec, "idempotent": sending.idempotent,
            "linger_ms": sending.linger_ms, "in": input, "out": output,
        });
        self.run("produce", &options);
        let reports = std::fs::read_to_string(&output).expect("the client's reports");
        reports.lines().map(report).collect()
    }

    /// Reads every partition of a topic from its beginning to its end, without a group.
    ///
    /// # Panics
    /// When the client fails.
    pub fn consume(self, bootstrap: &str, topic: &str) -> Vec<Record> {
        if self == Client::Kcat {
            return kcat::consume(bootstrap, topic);
        }
        let directory = TempDir::with_prefix("ottla-client-").expect("a temporary directory");
        let output = directory.path().join("out");
        self.run("consume", &json!({ "bootstrap": bootstrap, "topic": topic, "out": output }));
        record::read_file(&output)
    }

    /// The command line that runs a verb of this client's program in `tests/clients/`.
    pub fn command(self, verb: &str, options: &Value) -> std::process::Command {
        let (program, script) = match self {
            Client::Kcat => panic!("kcat needs no program around it"),
            Client::Confluent => (artifact::python(), "client_confluent.py"),
            Client::KafkaPython => (artifact::python(), "client_kafka_python.py"),
            Client::Aiokafka => (artifact::python(), "client_aiokafka.py"),
            Client::Ottla => (artifact::python_with_wheel(), "client_ottla.py"),
            Client::KafkaJs => ("node".into(), "client_kafkajs.js"),
        };
        let mut command = std::process::Command::new(program);
        command.arg(artifact::client(script)).arg(verb).arg(options.to_string());
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("NODE_PATH", node_path(self));
        command
    }

    fn run(self, verb: &str, options: &Value) {
        run(self.command(verb, options), &[]).expect_success();
    }
}

fn node_path(client: Client) -> std::path::PathBuf {
    if client == Client::KafkaJs { artifact::node_modules() } else { std::path::PathBuf::new() }
}

/// `partition offset`, either of them `none`; or `error …`; or `missing`.
fn report(line: &str) -> Report {
    let numbers = line.split_once(' ').and_then(|(partition, offset)| {
        Some(Report::Delivered { partition: number(partition)?, offset: number(offset)? })
    });
    numbers.unwrap_or_else(|| Report::Failed(line.to_owned()))
}

#[expect(clippy::option_option, reason = "no number is one thing, the word `none` another")]
fn number<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
    if text == "none" { Some(None) } else { text.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_as_clients_write_them() {
        assert_eq!(report("3 -7"), Report::Delivered { partition: Some(3), offset: Some(-7) });
        assert_eq!(report("3 none"), Report::Delivered { partition: Some(3), offset: None });
        assert_eq!(report("error KafkaError(7)"), Report::Failed("error KafkaError(7)".to_owned()));
        assert_eq!(report("missing"), Report::Failed("missing".to_owned()));
    }
}
