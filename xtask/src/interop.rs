//! `cargo xtask interop`: test suites of other projects against Ottla, from their published packages. Nothing of them is part of this
//! repository. A failure is expected where [`EXPLAINED`] says why; `docs/kafka.md` has the same table for users.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::shell::{Ended, SELECTION, cargo, shell};

/// The version of the package and of Kafka that its suite is told: the one that it takes Ottla for.
const KAFKA_PYTHON: (&str, &str) = ("3.0.12", "4.2");
/// What the suite needs beside the package and `target/venv`.
const KAFKA_PYTHON_NEEDS: &[&str] =
    &["pytest-mock==3.17.0", "pytest-timeout==2.4.0", "crc32c==2.9.post0", "xxhash==4.1.0"];
/// `test/service.py` is missing in the package. Of it only the broker that runs already is used.
const SERVICE: &str = "\
class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        pass

    def close(self):
        pass


class SpawnedService:
    def __init__(self, *args, **kwargs):
        raise RuntimeError('the suite runs against a broker that is there already')
";
/// Records that each of Apache's tools sends and reads.
const RECORDS: usize = 2000;
const SUITE_LIMIT: Duration = Duration::from_mins(15);
const TOOL_LIMIT: Duration = Duration::from_mins(2);

/// Tests that fail, and why.
const EXPLAINED: &[(&str, &str)] = &[
    ("test_create_describe_delete_acls", "there are no access control lists"),
    ("test_alter_replica_log_dirs", "AlterReplicaLogDirs is not served: partitions stay in their log directory"),
    ("test_describe_metadata_quorum", "DescribeQuorum is not served: there is no quorum of controllers"),
    ("test_transactional_producer_messages", "there are no transactions yet"),
    ("test_transactional_producer_offsets", "there are no transactions yet"),
];

/// What a suite said.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    skipped: usize,
    failed: Vec<String>,
}

/// Runs a suite, given the top of the checkout and a directory to work in.
type Suite = fn(&Path, &Path) -> Result<Tally>;

/// Runs the suites whose name contains one of `words`, all of them without any.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<ExitCode> {
    // The tests along with it: another selection would compile the large dependencies again.
    cargo(root, &["build", "--quiet", "--bins", "--tests"]).args(SELECTION).show().context("the build")?;
    let suites: [(&str, Suite); 2] = [("kafka-python", kafka_python), ("kafka-tools", kafka_tools)];
    let mut unexplained = 0;
    for (name, suite) in suites {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let home = root.join("target/interop").join(name);
        fs::create_dir_all(&home)?;
        let Tally { passed, skipped, failed } = suite(root, &home).with_context(|| format!("the suite of {name}"))?;
        println!(
            "{name}: {} applicable, {passed} passed, {} failed, {skipped} skipped",
            passed + failed.len(),
            failed.len()
        );
        for test in &failed {
            let why = EXPLAINED.iter().find(|(known, _)| test.contains(known)).map(|(_, why)| *why);
            unexplained += usize::from(why.is_none());
            println!("  {test}: {}", why.unwrap_or("NOT EXPLAINED, see the log in target/interop"));
        }
    }
    Ok(if unexplained == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A broker with a data directory of its own.
struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    fn start(root: &Path, data: &Path, settings: &[&str]) -> Result<Self> {
        if data.exists() {
            fs::remove_dir_all(data)?;
        }
        let mut command = Command::new(root.join("target/release/ottla"));
        command.arg("serve").arg("--data-dir").arg(data).args(["--listen", "127.0.0.1:0"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            let (_, address) = line.split_once("listening on ")?;
            Some(address.trim().to_owned())
        });
        match address {
            Some(address) => Ok(Self { child, address }),
            None => bail!("the broker does not start: {:?}", child.wait()?),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The integration tests of kafka-python, from its source distribution.
fn kafka_python(root: &Path, home: &Path) -> Result<Tally> {
    let (version, kafka) = KAFKA_PYTHON;
    let python = root.join("target/venv/bin/python");
    let source = home.join(format!("kafka_python-{version}"));
    let needs = home.join("needs");
    if !source.exists() {
        let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"];
        shell(&python, &pip)
            .args(&[
                "download",
                "--no-deps",
                "--no-binary",
                ":all:",
                &format!("kafka-python=={version}"),
                "--dest",
                ".",
            ])
            .at(home)
            .quiet()?;
        shell(&python, &pip)
            .args(&["install", "--target", &needs.to_string_lossy()])
            .args(KAFKA_PYTHON_NEEDS)
            .quiet()?;
        shell("tar", &["xzf", &format!("kafka_python-{version}.tar.gz")]).at(home).quiet()?;
        // Without it Python takes its own package `test` for this one.
        fs::write(source.join("test/__init__.py"), "")?;
        fs::write(source.join("test/service.py"), SERVICE)?;
        // Looked for, and used only to start a Kafka.
        fs::create_dir_all(source.join(format!("servers/{kafka}/kafka-bin")))?;
    }
    // As the suite configures the Kafka that it starts itself.
    let settings = [
        "node.id=0",
        "num.partitions=4",
        "group.min.session.timeout.ms=1000",
        "group.initial.rebalance.delay.ms=0",
        "advertised.listeners=127.0.0.1:0",
    ];
    let broker = Broker::start(root, &home.join("data"), &settings)?;
    let log = home.join("log");
    let ended = shell(
        &python,
        &["-m", "pytest", "-rA", "--quiet", "--timeout=90", "-p", "no:cacheprovider", "test/integration"],
    )
    .args(&["--ignore=test/integration/test_sasl_integration.py", "--ignore=test/integration/test_ssl_integration.py"])
    .env("PYTHONPATH", format!("{}:{}", source.display(), needs.display()))
    .env("KAFKA_VERSION", kafka)
    .env("KAFKA_URI", format!("kafka://{}", broker.address))
    .at(&source)
    .logged(&log, SUITE_LIMIT)?;
    if matches!(ended, Ended::TimedOut) {
        bail!("it did not end in {} minutes, see {}", SUITE_LIMIT.as_secs() / 60, log.display());
    }
    let tally = pytest_tally(&fs::read_to_string(&log)?);
    if tally.passed == 0 {
        bail!("no test passed, see {}", log.display());
    }
    Ok(tally)
}

/// Counts the summary that pytest writes with `-rA`.
fn pytest_tally(log: &str) -> Tally {
    let mut tally = Tally::default();
    for line in log.lines() {
        let name = |rest: &str| rest.split(" - ").next().unwrap_or(rest).rsplit("::").next().unwrap_or(rest).to_owned();
        if line.starts_with("PASSED ") {
            tally.passed += 1;
        } else if let Some(count) = line.strip_prefix("SKIPPED [").and_then(|rest| rest.split(']').next()) {
            tally.skipped += count.parse::<usize>().unwrap_or(1);
        } else if let Some(rest) = line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR test")) {
            tally.failed.push(name(rest));
        }
    }
    tally
}

/// `VerifiableProducer` and `VerifiableConsumer` of Apache Kafka: all that was sent is acknowledged, read once and committed.
fn kafka_tools(root: &Path, home: &Path) -> Result<Tally> {
    let jars = root.join("target/kafka-4.4/jars");
    if !root.join("target/kafka-4.4/complete").exists() {
        bail!("the jars of Apache Kafka are not in target/kafka-4.4: `cargo xtask setup` fetches them");
    }
    let broker = Broker::start(root, &home.join("data"), &["group.initial.rebalance.delay.ms=0"])?;
    let count = RECORDS.to_string();
    let mut tally = Tally::default();
    let mut run = |name: &str, class: &str, arguments: &[&str], judge: fn(&str) -> bool| -> Result<()> {
        let log = home.join(format!("{name}.log"));
        let java = ["-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp"];
        let ended = shell("java", &java)
            .args(&[&format!("{}/*", jars.display()), &format!("org.apache.kafka.tools.{class}")])
            .args(&["--bootstrap-server", &broker.address, "--topic", "verified", "--max-messages", &count])
            .args(arguments)
            .logged(&log, TOOL_LIMIT)?;
        if matches!(ended, Ended::Exited(status) if status.success()) && judge(&fs::read_to_string(&log)?) {
            tally.passed += 1;
        } else {
            tally.failed.push(name.to_owned());
        }
        Ok(())
    };
    let produced = |said: &str| said.contains(&format!("\"sent\":{RECORDS},\"acked\":{RECORDS},"));
    run("producer", "VerifiableProducer", &["--acks", "-1"], produced)?;
    run("producer-paced", "VerifiableProducer", &["--throughput", "1000"], produced)?;
    let earliest = ["--reset-policy", "earliest"];
    let consumers: [(&str, &[&str]); 5] = [
        ("consumer-range", &["--group-id", "range"]),
        (
            "consumer-cooperative",
            &[
                "--group-id",
                "cooperative",
                "--assignment-strategy",
                "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
            ],
        ),
        ("consumer-static", &["--group-id", "static", "--group-instance-id", "one"]),
        ("consumer-protocol", &["--group-id", "protocol", "--group-protocol", "CONSUMER"]),
        (
            "consumer-protocol-range",
            &["--group-id", "protocol-range", "--group-protocol", "CONSUMER", "--group-remote-assignor", "range"],
        ),
    ];
    for (name, arguments) in consumers {
        run(name, "VerifiableConsumer", &[arguments, &earliest].concat(), |said| {
            consumed(said) == RECORDS
                && said.contains("\"name\":\"offsets_committed\"")
                && !said.contains("\"success\":false")
        })?;
    }
    Ok(tally)
}

/// Records that a `VerifiableConsumer` says it read.
fn consumed(said: &str) -> usize {
    let lines = said.lines().filter(|line| line.contains("\"name\":\"records_consumed\""));
    lines
        .filter_map(|line| {
            let (_, rest) = line.split_once("\"count\":")?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summaries_of_both_kinds_of_suites_are_counted() {
        let log = "PASSED test/a.py::test_x[1]\nPASSED test/a.py::test_y\nSKIPPED [2] test/a.py:7: no\n\
                   FAILED test/a.py::test_z - AssertionError: x\n3 failed\n";
        let Tally { passed, skipped, failed } = pytest_tally(log);
        assert_eq!((passed, skipped, failed), (2, 2, vec!["test_z".to_owned()]));
        let said = "{\"timestamp\":1,\"name\":\"records_consumed\",\"count\":5,\"partitions\":[{\"count\":5}]}\n\
                    {\"timestamp\":2,\"name\":\"records_consumed\",\"count\":7}\n";
        assert_eq!(consumed(said), 12);
    }
}
