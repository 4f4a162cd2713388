//! What the broker logs: changes with their author, in the form and at the level that the operator chose, and no more lines
//! than a person reads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use ottla_tests::client::run;
use ottla_tests::connection::Connection;
use ottla_tests::{Broker, artifact};
use ottla_wire::ErrorCode;
use ottla_wire::message::{CreatableTopic, CreateTopicsRequest};
use rustix::process::Signal;

#[test]
fn a_changed_setting_is_told_with_both_values_and_its_author() {
    let broker = Broker::start();
    broker.create_topic("orders", 1, &[("retention.ms", "5000")]);
    let mut command = Command::new(artifact::ottla());
    command.args(["topic", "set", "orders", "retention.ms=7000", "max.message.bytes=2000"]);
    command.args(["--bootstrap", &broker.bootstrap()]);
    let set = run(command, &[]);
    assert!(set.status.success(), "{}", set.stderr);
    let line = broker.wait_for_line(0, &["setting changed", "retention.ms"]);
    for part in ["orders", "from=\"5000\"", "to=\"7000\"", "127.0.0.1:", "ottla-cli"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    broker.wait_for_line(0, &["setting changed", "max.message.bytes", "from=\"1048588\"", "to=\"2000\""]);
    let changes = broker.log_lines().iter().filter(|line| line.contains("setting changed")).count();
    assert_eq!(changes, 2, "what stays as it was is not told");
}

#[test]
fn a_thousand_new_topics_are_told_in_a_few_lines() {
    let mut broker = Broker::start();
    let topic = |number| CreatableTopic {
        name: format!("topic-{number}").into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: (0..100).map(topic).collect(), ..CreateTopicsRequest::default() };
    Connection::to(&broker).call(7, &request, |response| {
        assert!(response.topics.iter().all(|topic| topic.error_code == ErrorCode::None));
    });
    broker.terminate();
    let more = |line: &str| line.split("more=").nth(1)?.split(' ').next()?.parse::<usize>().ok();
    // The last line may still be in the pipe.
    ottla_tests::wait::until_true("a word about every topic", || {
        let lines = broker.log_lines();
        let told: Vec<_> = lines.iter().filter(|line| line.contains("topic created")).collect();
        assert!(told.len() <= 30, "{told:?}");
        let counted: usize = told.iter().filter_map(|line| more(line)).sum();
        told.iter().filter(|line| more(line).is_none()).count() + counted == 100
    });
}

#[test]
fn a_level_that_is_set_while_the_broker_runs_holds_at_once() {
    let broker = Broker::start();
    let config = |words: &[&str]| {
        let mut command = Command::new(artifact::ottla());
        command.arg("config").args(words).args(["--bootstrap", &broker.bootstrap()]);
        run(command, &[]).success().text()
    };
    let is_traced = || broker.log_lines().iter().any(|line| line.contains("TRACE") && line.contains("request"));
    assert!(!is_traced(), "the level of the start is info");
    config(&["set", "--loggers", "ottla_broker=TRACE"]);
    broker.wait_for_line(0, &["changed the level of a logger", "ottla_broker", "TRACE"]);
    assert!(config(&["describe", "--loggers"]).contains("ottla_broker"), "it is listed");
    broker.wait_for_line(0, &["TRACE", "request", "DescribeConfigs"]);
    config(&["set", "--loggers", "--unset", "ottla_broker"]);
    broker.wait_for_line(0, &["changed the level of a logger", "as at the start"]);
    let lines = broker.log_lines().len();
    config(&["describe", "--loggers"]);
    let traced = broker.log_lines().iter().skip(lines).any(|line| line.contains("TRACE"));
    assert!(!traced, "{:?}", broker.log_lines());
}

#[test]
fn recovery_is_told_once() {
    let mut broker = Broker::start();
    broker.create_topic("orders", 1, &[]);
    broker.terminate();
    broker.restart();
    let data_dir = std::fs::canonicalize(broker.data_dir()).expect("a data directory").display().to_string();
    let about_it = |line: &&String| line.contains(&data_dir) && line.contains("partitions");
    let lines = broker.log_lines();
    let told: Vec<_> = lines.iter().filter(about_it).collect();
    assert_eq!(told.len(), 1, "{lines:?}");
}

#[test]
fn everything_is_json_where_json_is_asked_for() {
    let mut broker = Broker::builder().argument("--log-format").argument("json").start();
    broker.create_topic("orders", 1, &[]);
    broker.wait_for_line(0, &["topic created"]);
    assert_eq!(broker.end_by(Signal::TERM).code(), Some(0));
    broker.wait_for_line(0, &["stopped cleanly"]);
    for line in broker.log_lines() {
        let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        for key in ["time", "level", "target", "message"] {
            assert!(value[key].is_string(), "no {key} in {line}");
        }
    }
}

#[test]
fn the_level_comes_from_a_setting_or_from_rust_log() {
    let is_debug = |broker: &Broker| {
        drop(Connection::to(broker));
        broker.wait_for_line(0, &["debug", "closed its connection"])
    };
    is_debug(&Broker::builder().env("RUST_LOG", "debug").start());
    is_debug(&Broker::builder().argument("--log-level").argument("debug").start());
    is_debug(&Broker::builder().set("ottla.log.level", "ottla_front=debug,info").start());
    is_debug(&Broker::builder().argument("-v").start());
}

#[test]
fn a_level_that_is_none_is_refused_with_the_name_of_its_source() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(artifact::ottla());
    command.arg("serve").arg("--data-dir").arg(directory.path()).args(["--listen", "127.0.0.1:0"]);
    command.env("RUST_LOG", "ottla=loud");
    let refused = run(command, &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("RUST_LOG") && refused.stderr.contains("loud"), "{}", refused.stderr);
}

#[test]
fn a_directory_of_something_else_is_not_filled_without_asking() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("thesis.tex"), "x").expect("a file");
    let mut command = Command::new(artifact::ottla());
    command.arg("serve").arg("--data-dir").arg(directory.path()).args(["--listen", "127.0.0.1:0"]);
    let refused = run(command, &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("thesis.tex"), "{}", refused.stderr);
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 1, "nothing was put into it");
    let broker = Broker::builder().data_dir(directory.path()).argument("--use-foreign-directory").start();
    drop(broker);
    drop(Broker::builder().data_dir(directory.path()).start());
}

#[test]
fn a_browser_on_the_port_of_clients_is_told_what_is_there() {
    let broker = Broker::start();
    let mut stream = std::net::TcpStream::connect(broker.address()).expect("a connection");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("Kafka protocol"), "{answer}");
    broker.wait_for_line(0, &["it speaks HTTP"]);
    let mut stream = std::net::TcpStream::connect(broker.address()).expect("a connection");
    stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert_eq!(answer, [0x15, 3, 1, 0, 2, 2, 40], "a fatal alert");
    broker.wait_for_line(0, &["it speaks TLS"]);
}

/// stderr is a pipe here, as it is for a script.
#[test]
fn produce_says_that_it_waits_for_a_broker_that_does_not_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let mut child = Command::new(artifact::ottla())
        .args(["produce", "orders", "--bootstrap", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ottla");
    let mut line = String::new();
    BufReader::new(child.stderr.take().expect("its stderr")).read_line(&mut line).expect("a line");
    child.kill().expect("it still waits");
    child.wait().expect("its end");
    assert!(line.contains(&address) && line.contains("still waiting"), "{line:?}");
}

#[test]
fn produce_says_that_its_broker_is_gone_while_it_waits_for_it() {
    let mut broker = Broker::start();
    broker.create_topic("orders", 1, &[]);
    let mut child = Command::new(artifact::ottla())
        .args(["produce", "orders", "--bootstrap", &broker.bootstrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ottla");
    let mut input = child.stdin.take().expect("its stdin");
    writeln!(input, "one").expect("it reads");
    ottla_tests::wait::until_true("the first record", || broker.end_offsets("orders", 1) == [1]);
    broker.kill9();
    writeln!(input, "two").expect("it reads");
    let mut line = String::new();
    BufReader::new(child.stderr.take().expect("its stderr")).read_line(&mut line).expect("a line");
    child.kill().expect("it still waits");
    child.wait().expect("its end");
    assert!(line.starts_with("ottla: ") && line.contains("trying on"), "{line:?}");
}

#[test]
fn ottla_alone_takes_the_options_of_serve() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut child = Command::new(artifact::ottla())
        .args(["--set", "listeners=127.0.0.1:0", "--data-dir"])
        .arg(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("ottla");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its stdout")).read_line(&mut line).expect("a line");
    child.kill().expect("it runs");
    child.wait().expect("its end");
    assert!(line.contains("listening on 127.0.0.1:"), "{line:?}");
}
