//! `ottla serve` says where it listens, ends cleanly, keeps to loopback, and tells the command line apart from mistakes.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use ottla_tests::client::{Client, Finished, Sending, run};
use ottla_tests::{Broker, Record, artifact};
use rustix::process::Signal;

/// What an operator types to open an unprotected broker to others.
const LONG_FLAG: &str = "--i-accept-an-open-broker";

#[test]
fn sigterm_ends_cleanly_and_the_next_start_recovers_nothing() {
    ends_cleanly(Signal::TERM);
}

#[test]
fn ctrl_c_ends_cleanly_and_the_next_start_recovers_nothing() {
    ends_cleanly(Signal::INT);
}

fn ends_cleanly(signal: Signal) {
    let mut broker = Broker::start();
    let records: Vec<_> = (0..100).map(|number| Record::to(number % 4, format!("k{number}"), "v")).collect();
    Client::Kcat.produce(&broker.bootstrap(), "kept", &Sending::default(), &records);
    let status = broker.end_by(signal);
    assert_eq!(status.code(), Some(0), "{}", broker.log_lines().join("\n"));
    assert!(has_marker(broker.data_dir()), "no marker after a clean end");

    broker.restart();
    assert_eq!(Client::Kcat.consume(&broker.bootstrap(), "kept").len(), records.len());
    Client::Kcat.produce(&broker.bootstrap(), "kept", &Sending::default(), &records);
    assert!(!has_marker(broker.data_dir()), "the marker says nothing about what came after it");
    broker.kill9();
    assert!(!has_marker(broker.data_dir()), "a killed broker leaves no marker");
}

/// A consumer that waits for records does not hold the end up.
#[test]
fn a_waiting_consumer_does_not_delay_the_end() {
    let mut broker = Broker::start();
    Client::Kcat.produce(&broker.bootstrap(), "waited-for", &Sending::default(), &[Record::to(0, "k", "v")]);
    let mut waits = Command::new("kcat");
    waits.args(["-C", "-b", &broker.bootstrap(), "-t", "waited-for", "-o", "end", "-X", "fetch.wait.max.ms=290000"]);
    waits.args(["-X", "socket.timeout.ms=300000"]);
    let mut waiting = waits.spawn().expect("kcat");
    ottla_tests::wait::until_true("kcat to connect", || {
        let connections = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let port = format!(":{:04X} ", broker.address().port());
        // Two of ours: one for metadata, one to fetch.
        connections.lines().filter(|line| line.contains(&port) && line.contains(" 01 ")).count() >= 2
    });
    assert_eq!(broker.terminate().code(), Some(0));
    waiting.kill().ok();
    waiting.wait().ok();
}

#[test]
fn the_start_line_names_address_data_and_durability() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = Broker::builder().data_dir(directory.path()).start();
    let printed = broker.log_lines().join("\n");
    assert!(printed.contains(&format!("listening on {}", broker.bootstrap())), "{printed}");
    let data_dir = directory.path().canonicalize().expect("a directory");
    assert!(printed.contains(&data_dir.display().to_string()), "{printed}");
    assert!(printed.contains("fsync"), "{printed}");
}

/// Closed by default: every interface is refused until TLS and authentication exist, or the operator types the long flag.
#[test]
fn an_address_beyond_loopback_is_refused_without_the_long_flag() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let finished = serve(directory.path(), &["--listen", listen]);
        assert!(!finished.status.success(), "{listen}");
        assert!(finished.stderr.contains(LONG_FLAG), "{}", finished.stderr);
        assert_eq!(finished.status.code(), Some(2));

        let broker = Broker::builder().listen(listen).argument(LONG_FLAG).start();
        assert!(broker.log_lines().iter().any(|line| line.contains("listening on ")));
    }
}

#[test]
fn one_data_directory_has_one_broker() {
    let broker = Broker::start();
    let second = serve(broker.data_dir(), &["--listen", "127.0.0.1:0"]);
    assert!(!second.status.success());
    assert!(second.stderr.contains(&broker.data_dir().display().to_string()), "{}", second.stderr);
}

#[test]
fn a_port_that_is_taken_is_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let finished = serve(directory.path(), &["--listen", &address]);
    assert!(!finished.status.success());
    assert!(finished.stderr.contains(&address), "{}", finished.stderr);
}

#[test]
fn settings_come_from_the_file_and_the_command_line_wins() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("ottla.toml");
    std::fs::write(&file, "\"num.partitions\" = 7\n\"message.max.bytes\" = 5000\n").expect("a file");
    let broker =
        Broker::builder().argument("--config").argument(&file.display().to_string()).set("num.partitions", "3").start();
    Client::Kcat.produce(&broker.bootstrap(), "sized", &Sending::default(), &[Record::new("k", "v")]);
    assert_eq!(broker.end_offsets("sized", 3).len(), 3);
    let described = ottla(&broker, &["--json", "topic", "describe", "sized"]).success().text();
    let described: serde_json::Value = serde_json::from_str(&described).expect("JSON");
    assert!(described.to_string().contains("5000"), "{described}");
}

#[test]
fn a_setting_that_does_not_exist_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let finished = serve(directory.path(), &["--set", "num.partitons=3"]);
    assert!(!finished.status.success());
    assert!(finished.stderr.contains("num.partitons"), "{}", finished.stderr);
}

/// Scripts can tell what went wrong without reading.
#[test]
fn exit_codes_mean_something() {
    const DONE: Option<i32> = Some(0);
    const NOT_UNDERSTOOD: Option<i32> = Some(2);
    const UNREACHABLE: Option<i32> = Some(3);
    const NOT_THERE: Option<i32> = Some(4);
    const ALREADY_THERE: Option<i32> = Some(5);
    const REFUSED: Option<i32> = Some(6);
    let broker = Broker::start();
    for (words, code) in [
        (["--help"].as_slice(), DONE),
        (&["topic", "create", "once"], DONE),
        (&["topic", "create", "once"], ALREADY_THERE),
        (&["topic", "describe", "once"], DONE),
        (&["topic", "describe", "never"], NOT_THERE),
        (&["topic", "set", "once", "max.message.bytes=5000"], DONE),
        (&["topic", "set", "once", "no.such.setting=1"], REFUSED),
        (&["topic", "set", "once", "ottla.partitioner=nobody"], REFUSED),
        (&["plugin", "activate", "nobody", "1"], NOT_THERE),
        (&["plugin", "show", "nobody"], NOT_THERE),
        (&["topic", "delete", "once"], DONE),
        (&["topic", "delete", "once"], NOT_THERE),
        (&["topic", "crate", "once"], NOT_UNDERSTOOD),
        (&["topic", "create"], NOT_UNDERSTOOD),
    ] {
        let finished = ottla(&broker, words);
        assert_eq!(finished.status.code(), code, "{words:?}: {}", finished.stderr);
    }

    let closed = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").to_string();
    let finished = ottla(&broker, &["--bootstrap", &closed, "topic", "list"]);
    assert_eq!(finished.status.code(), UNREACHABLE, "{}", finished.stderr);
    assert!(finished.stderr.contains(&closed), "{}", finished.stderr);
}

fn ottla(broker: &Broker, words: &[&str]) -> Finished {
    let mut command = Command::new(artifact::ottla());
    command.args(words).env("OTTLA_BOOTSTRAP", broker.bootstrap());
    run(command, &[])
}

fn serve(data_dir: &Path, arguments: &[&str]) -> Finished {
    let mut command = Command::new(artifact::ottla());
    command.arg("serve").arg("--data-dir").arg(data_dir).args(arguments);
    run(command, &[])
}

/// Whether the file that only a clean end leaves is somewhere in the data directory.
fn has_marker(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.into_iter().any(|path| path.ends_with("clean-shutdown") || (path.is_dir() && has_marker(&path)))
}
