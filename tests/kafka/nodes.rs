//! Three nodes of Apache Kafka out of its jars, each broker and controller, on free loopback ports.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ottla_tests::{artifact, wait};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Node ids, from 1 on.
pub(crate) const NODES: i32 = 3;
/// A short life in little memory: what a server gains from its second compiler it gains later.
const JVM: [&str; 5] =
    ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true", "-Xshare:auto"];
const CLUSTER_ID: &str = "b3R0bGEtdGVzdHMta2Fma2";

/// A running cluster. Dropping it ends all nodes.
pub(crate) struct Nodes {
    directory: TempDir,
    jars: PathBuf,
    brokers: Vec<SocketAddr>,
    running: Vec<Option<Child>>,
}

impl Nodes {
    /// Starts the cluster; where that cannot be done here, the reason.
    pub(crate) fn start() -> Result<Self, String> {
        let jars = artifact::root().join("target/kafka-4.4/jars");
        if !jars.with_file_name("complete").exists() {
            return Err("Apache Kafka is not in target/kafka-4.4: `cargo xtask setup` fetches it with Maven".to_owned());
        }
        let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !java.is_ok_and(|status| status.success()) {
            return Err("there is no `java` here (Debian: apt-get install default-jre-headless)".to_owned());
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (brokers, controllers) = (free_addresses(), free_addresses());
        let voters: Vec<String> = (1..=NODES).zip(&controllers).map(|(node, at)| format!("{node}@{at}")).collect();
        for (node, (broker, controller)) in (1..=NODES).zip(brokers.iter().zip(&controllers)) {
            let home = directory.path().join(node.to_string());
            fs::create_dir_all(&home).expect("a directory");
            fs::write(home.join("server.properties"), properties(node, *broker, *controller, &voters.join(","), &home))
                .expect("the node's settings");
        }
        let mut nodes = Self { directory, jars, brokers, running: (0..NODES).map(|_| None).collect() };
        nodes.format();
        for node in 1..=NODES {
            nodes.launch(node);
        }
        for node in 1..=NODES {
            nodes.wait_until_it_listens(node);
        }
        Ok(nodes)
    }

    /// Where clients begin.
    pub(crate) fn bootstrap(&self) -> String {
        self.brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Where a node listens.
    pub(crate) fn address(&self, node: i32) -> SocketAddr {
        self.brokers[node as usize - 1]
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, node: i32) {
        self.end(node, Signal::KILL);
    }

    /// Asks a node to stop, as an operator does, and waits until it has.
    pub(crate) fn stop(&mut self, node: i32) {
        self.end(node, Signal::TERM);
    }

    /// Starts a node that was ended.
    pub(crate) fn start_again(&mut self, node: i32) {
        self.launch(node);
        self.wait_until_it_listens(node);
    }

    fn home(&self, node: i32) -> PathBuf {
        self.directory.path().join(node.to_string())
    }

    fn java(&self) -> Command {
        let mut command = Command::new("java");
        command.args(JVM).args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "--class-path"]);
        command.arg(format!("{}/*", self.jars.display()));
        command
    }

    /// Formats the directory of the first node; those of the others are the same under other ids.
    fn format(&self) {
        let mut format = self.java();
        format.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"]);
        let output = format.arg(self.home(1).join("server.properties")).output().expect("java starts");
        assert!(output.status.success(), "Kafka cannot format: {}", String::from_utf8_lossy(&output.stderr));
        let first = self.home(1).join("data");
        for node in 2..=NODES {
            let data = self.home(node).join("data");
            copy(&first, &data);
            let properties = data.join("meta.properties");
            let text = fs::read_to_string(&properties).expect("the ids");
            fs::write(&properties, with_other_ids(&text, node)).expect("the ids");
        }
    }

    fn launch(&mut self, node: i32) {
        let home = self.home(node);
        let log = File::options().create(true).append(true).open(home.join("log")).expect("a file");
        let mut serve = self.java();
        serve.arg("kafka.Kafka").arg(home.join("server.properties")).stdin(Stdio::null());
        serve.stdout(log.try_clone().expect("a file")).stderr(log);
        self.running[node as usize - 1] = Some(serve.spawn().expect("java starts"));
    }

    fn wait_until_it_listens(&mut self, node: i32) {
        let (address, log) = (self.address(node), self.home(node).join("log"));
        let child = self.running[node as usize - 1].as_mut().expect("a node that was started");
        wait::until_true("a Kafka node to listen", || {
            let ended = child.try_wait().expect("its status");
            assert!(ended.is_none(), "node {node} ended: {}", fs::read_to_string(&log).unwrap_or_default());
            TcpStream::connect(address).is_ok()
        });
    }

    fn end(&mut self, node: i32, signal: Signal) {
        let mut child = self.running[node as usize - 1].take().expect("a running node");
        kill_process(Pid::from_child(&child), signal).expect("a signal to our own child");
        child.wait().expect("its end");
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Timeouts short enough for a test, two copies in sync before a record is acknowledged, no election that loses records.
fn properties(node: i32, broker: SocketAddr, controller: SocketAddr, voters: &str, home: &Path) -> String {
    format!(
        "process.roles=broker,controller\nnode.id={node}\ncontroller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://{broker},CONTROLLER://{controller}\nadvertised.listeners=PLAINTEXT://{broker}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.dirs={}\n\
         default.replication.factor=3\nmin.insync.replicas=2\nunclean.leader.election.enable=false\n\
         auto.create.topics.enable=false\nbroker.session.timeout.ms=4000\nbroker.heartbeat.interval.ms=500\n\
         num.network.threads=2\nnum.io.threads=2\nlog.cleaner.enable=false\n\
         offsets.topic.num.partitions=4\ngroup.initial.rebalance.delay.ms=100\n\
         group.consumer.min.heartbeat.interval.ms=300\ngroup.consumer.heartbeat.interval.ms=300\n",
        home.join("data").display(),
    )
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("the formatted directory").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}

/// The ids of another node: every node, and every directory, has one of its own.
fn with_other_ids(text: &str, node: i32) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some(("node.id", _)) => format!("node.id={node}\n"),
        // 22 characters of base64; the first one is any.
        Some(("directory.id", id)) => format!("directory.id={node}{}\n", id.get(1..).unwrap_or_default()),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Addresses that were free a moment ago, one per node.
fn free_addresses() -> Vec<SocketAddr> {
    let listeners: Vec<_> = (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("its address")).collect()
}
