//! Stock clients as processes: kcat, the clients for Python, JavaScript, Java and Go, and our own Python client, behind one
//! face.

mod java;
mod kcat;
mod process;

use std::path::PathBuf;
use std::process::Command;

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
    /// Apache's kafka-clients, the newest. This and those below are members of groups, and nothing else here.
    Java,
    /// Apache's kafka-clients before version 4.
    Java3,
    /// franz-go.
    FranzGo,
    /// sarama.
    Sarama,
    /// segmentio/kafka-go.
    KafkaGo,
    /// The wheel that this project builds.
    Ottla,
    /// rskafka. It has no groups.
    Rskafka,
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
    ///
    /// # Panics
    /// When the program was not built: [`Client::missing`] says so.
    pub fn command(self, verb: &str, options: &Value) -> Command {
        let python = |script| with_script(artifact::python(), script);
        let mut command = match self {
            Client::Kcat => python("client_kcat.py"),
            Client::Confluent => python("client_confluent.py"),
            Client::KafkaPython => python("client_kafka_python.py"),
            Client::Aiokafka => python("client_aiokafka.py"),
            Client::Ottla => with_script(artifact::python_with_wheel(), "client_ottla.py"),
            Client::KafkaJs => {
                let mut command = with_script("node".into(), "client_kafkajs.js");
                command.env("NODE_PATH", artifact::node_modules());
                command
            }
            Client::Rskafka => Command::new(artifact::rskafka()),
            Client::Java => return java::command("4.4.0", options),
            Client::Java3 => return java::command("3.9.2", options),
            Client::FranzGo => Command::new(artifact::go_client("franz")),
            Client::Sarama => Command::new(artifact::go_client("sarama")),
            Client::KafkaGo => Command::new(artifact::go_client("segmentio")),
        };
        command.arg(verb).arg(options.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Why this client cannot run here, if it cannot: its toolchain is not on this machine.
    pub fn missing(self) -> Option<&'static str> {
        let (there, why) = match self {
            Client::Java => (java::is_built("4.4.0"), "kafka-clients is not in target/java: it needs a JDK and Maven"),
            Client::Java3 => (java::is_built("3.9.2"), "kafka-clients is not in target/java: it needs a JDK and Maven"),
            Client::FranzGo | Client::Sarama | Client::KafkaGo => {
                (artifact::has_go_clients(), "the Go clients are not in target/go: they need Go 1.26")
            }
            _ => return None,
        };
        (!there).then_some(why)
    }

    fn run(self, verb: &str, options: &Value) {
        run(self.command(verb, options), &[]).expect_success();
    }
}

fn with_script(program: PathBuf, script: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(artifact::client(script));
    command
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
