//! Apache Kafka and Ottla under the same clients, in turns: Kafka's defaults against `page-cache`, `flush.messages=1`
//! against `fsync`.
//!
//! The jars are those of `cargo xtask setup`; the load generators are kafka-clients
//! (`kafka/Load.java`) and librdkafka (`kafka/load.py`), each with its own defaults and acks=all, then with every record in a
//! request of its own. What a client cannot generate no broker can take, so the CPU of the broker stands beside every
//! throughput.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::Plan;
use crate::pairs::{Latency, Measurement, Pairs, Ratios};
use crate::peer::{Peer, as_service};
use crate::report::Row;

/// Bytes of a record.
const RECORD_BYTES: usize = 1024;
/// Records of one run that is measured for throughput.
const RECORDS: usize = 200_000;
/// The same where every append is synced.
const RECORDS_SYNCED: usize = 10_000;
/// Of so many records one is sent where each is a request of its own.
const SINGLE_SHARE: usize = 5;
/// Records per second, and seconds, of a run that is measured for latency.
const PACE: (usize, usize) = (1000, 3);
/// What Kafka's own start script sets.
const JVM: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

pub(super) fn rows(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let tools = Tools::find()?;
    let dir = tempfile::tempdir()?;
    let ottla = Peer::ottla(&dir.path().join("ottla"), &[])?;
    let kafka = tools.start_kafka(&dir.path().join("kafka"), &[])?;
    let idle = (ottla.anonymous_kib()?, kafka.anonymous_kib()?);
    let mut generators = vec![Generator::Java];
    if tools.python.exists() {
        generators.push(Generator::Librdkafka);
    } else {
        eprintln!("  librdkafka rows are left out: {} is missing, run `cargo xtask setup`", tools.python.display());
    }
    for durability in ["page-cache", "fsync"] {
        for generator in generators.iter().filter(|each| plan.wants(&format!("kafka/{durability}/{}", each.name()))) {
            Comparison { plan, tools: &tools, ottla: &ottla, kafka: &kafka, durability, generator: *generator }
                .rows(rows)?;
        }
    }
    let of = "Apache Kafka 4.4 with the heap of its start script, KiB of anonymous memory";
    let loaded = (ottla.anonymous_kib()?, kafka.anonymous_kib()?);
    for (when, (ours, theirs)) in [("idle", idle), ("loaded", loaded)] {
        let note = format!("Ottla {} MiB, Kafka {} MiB", ours >> 10, theirs >> 10);
        rows.push(Row::new(format!("kafka/memory/{when}"), of, Ratios::of(vec![ours as f64 / theirs as f64]), note));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Generator {
    Java,
    Librdkafka,
}

impl Generator {
    fn name(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::Librdkafka => "librdkafka",
        }
    }
}

/// One durability under one client.
struct Comparison<'a> {
    plan: &'a Plan,
    tools: &'a Tools,
    ottla: &'a Peer,
    kafka: &'a Peer,
    durability: &'a str,
    generator: Generator,
}

impl Comparison<'_> {
    fn rows(&self, rows: &mut Vec<Row>) -> Result<()> {
        let topic = format!("{}-{}", self.durability, self.generator.name());
        self.create(&topic)?;
        let records = match (self.plan.quick, self.durability) {
            (true, _) => 5000,
            (false, "fsync") => RECORDS_SYNCED,
            (false, _) => RECORDS,
        };
        let pairs = self.plan.pairs;
        let name = format!("kafka/{}/{}", self.durability, self.generator.name());
        // What was produced one by one is not read back: consumers are measured on batches as clients make them.
        let single = format!("{topic}-single");
        self.create(&single)?;
        for (what, topic, records) in
            [("produce", &topic, records), ("consume", &topic, records), ("single", &single, records / SINGLE_SHARE)]
        {
            let run = |peer: &Peer| self.throughput(peer, what, topic, records);
            let measured = Pairs::measure(pairs, || run(self.ottla), || run(self.kafka))?;
            let mib = |rate: f64| rate * RECORD_BYTES as f64 / f64::from(1 << 20);
            let note = format!(
                "Ottla {:.0} MiB/s, {:.2} CPU µs per record; Kafka {:.0} MiB/s, {:.2} CPU µs",
                mib(measured.subject_median(Measurement::rate)),
                measured.subject_median(Measurement::cpu_per_work) * 1e6,
                mib(measured.ceiling_median(Measurement::rate)),
                measured.ceiling_median(Measurement::cpu_per_work) * 1e6,
            );
            let of = format!("Apache Kafka 4.4, {what}, {}", self.generator.name());
            rows.push(Row::new(
                format!("{name}/{what}/throughput"),
                format!("{of}, records per second"),
                measured.ratios(Measurement::rate),
                note,
            ));
            rows.push(Row::new(
                format!("{name}/{what}/cpu"),
                format!("{of}, broker CPU per record"),
                measured.ratios(Measurement::cpu_per_work),
                "",
            ));
        }
        let run = |peer: &Peer| self.latency(peer, &topic);
        let measured = Pairs::measure(pairs, || run(self.ottla), || run(self.kafka))?;
        let (ours, theirs) = measured.latencies();
        rows.push(Row::new(
            format!("{name}/p99"),
            format!("Apache Kafka 4.4, 99th percentile of an ack at {} records per second", PACE.0),
            measured.ratios(|run| run.latency.p99_us),
            format!("Ottla {ours}; Kafka {theirs}"),
        ));
        Ok(())
    }

    /// Creates a topic of this durability on both brokers.
    fn create(&self, topic: &str) -> Result<()> {
        let durable = format!("ottla.durability={}", self.durability);
        self.tools.java(&["create", &self.ottla.addr.to_string(), topic, &durable])?;
        let flush: &[&str] = if self.durability == "fsync" { &["flush.messages=1"] } else { &[] };
        self.tools.java(&[&["create", &self.kafka.addr.to_string(), topic], flush].concat())?;
        Ok(())
    }

    fn generate(&self, arguments: &[&str]) -> Result<HashMap<String, f64>> {
        match self.generator {
            Generator::Java => self.tools.java(arguments),
            Generator::Librdkafka => self.tools.python(arguments),
        }
    }

    fn throughput(&self, peer: &Peer, what: &str, topic: &str, records: usize) -> Result<Measurement> {
        let (addr, count, bytes) = (peer.addr.to_string(), records.to_string(), RECORD_BYTES.to_string());
        let mut arguments = vec![what, &addr, topic, &count];
        if what != "consume" {
            arguments.push(&bytes);
        }
        let cpu = peer.cpu_s()?;
        let said = self.generate(&arguments)?;
        let cpu_s = peer.cpu_s()? - cpu;
        let figure = |name: &str| said.get(name).copied().with_context(|| format!("the client did not say {name}"));
        let (timed, all) = (figure("records")?, figure("all")?);
        // Its processor time is that of all records, the warm-up included.
        Ok(Measurement {
            work: timed,
            wall_s: figure("seconds")?,
            cpu_s: cpu_s * timed / all,
            latency: Latency::default(),
        })
    }

    fn latency(&self, peer: &Peer, topic: &str) -> Result<Measurement> {
        let (rate, seconds) = if self.plan.quick { (PACE.0, 1) } else { PACE };
        let (addr, bytes) = (peer.addr.to_string(), RECORD_BYTES.to_string());
        let cpu = peer.cpu_s()?;
        let said = self.generate(&["pace", &addr, topic, &rate.to_string(), &seconds.to_string(), &bytes])?;
        let figure = |name: &str| said.get(name).copied().with_context(|| format!("the client did not say {name}"));
        let latency = Latency { p50_us: figure("p50_us")?, p99_us: figure("p99_us")?, p999_us: figure("p999_us")? };
        Ok(Measurement { work: figure("records")?, wall_s: seconds as f64, cpu_s: peer.cpu_s()? - cpu, latency })
    }
}

/// Where Kafka, its clients and their scripts are.
pub(super) struct Tools {
    scripts: PathBuf,
    jars: PathBuf,
    python: PathBuf,
}

impl Tools {
    /// Finds everything.
    pub(super) fn find() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = std::env::current_exe()?;
        let target = target.ancestors().nth(2).context("no target directory")?;
        let home = target.join("kafka-4.4");
        ensure!(
            home.join("complete").exists(),
            "Apache Kafka is not in {}: `cargo xtask setup` fetches it",
            home.display()
        );
        let tools =
            Self { scripts: here.join("kafka"), jars: home.join("jars"), python: target.join("venv/bin/python") };
        Ok(tools)
    }

    fn class_path(&self) -> String {
        format!("{}/*", self.jars.display())
    }

    /// Creates a topic of one partition.
    pub(super) fn create(&self, peer: &Peer, topic: &str) -> Result<()> {
        self.java(&["create", &peer.addr.to_string(), topic]).map(drop)
    }

    /// Runs the Java load generator.
    fn java(&self, arguments: &[&str]) -> Result<HashMap<String, f64>> {
        let mut command = Command::new("java");
        command.args([
            "-Xmx512m",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "--class-path",
            &self.class_path(),
        ]);
        said(command.arg(self.scripts.join("Load.java")).args(arguments))
    }

    /// Runs the librdkafka load generator.
    fn python(&self, arguments: &[&str]) -> Result<HashMap<String, f64>> {
        said(Command::new(&self.python).arg(self.scripts.join("load.py")).args(arguments))
    }

    /// Starts one Kafka node that is broker and controller, on free ports, with its defaults, one copy of everything, and these settings
    /// over them.
    pub(super) fn start_kafka(&self, dir: &Path, settings: &[&str]) -> Result<Peer> {
        std::fs::create_dir_all(dir)?;
        let (broker, controller) = (free_address()?, free_address()?);
        let properties = dir.join("server.properties");
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n\
             listeners=PLAINTEXT://{broker},CONTROLLER://{controller}\nadvertised.listeners=PLAINTEXT://{broker}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n{}\n",
            dir.join("data").display(),
            settings.join("\n"),
        );
        std::fs::write(&properties, text)?;
        let java = |mut command: Command| {
            command.args(JVM).args([
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "--class-path",
                &self.class_path(),
            ]);
            command
        };
        let mut format = java(Command::new("java"));
        format.args(["kafka.tools.StorageTool", "format", "--cluster-id", "b3R0bGEtYmVuY2gta2Fma2", "--config"]);
        let output = format.arg(&properties).stdin(Stdio::null()).output().context("starting java")?;
        if !output.status.success() {
            bail!("Kafka could not format its directory:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let mut serve = java(as_service(Path::new("java")));
        serve.arg("kafka.Kafka").arg(&properties);
        Peer::silent(serve, broker)
    }
}

/// An address that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Runs a load generator and reads the figures it prints.
fn said(command: &mut Command) -> Result<HashMap<String, f64>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    let figures = text.split_whitespace().filter_map(|word| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Ok(figures.collect())
}
