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

/// Two listeners, as a broker has them that its clients reach by another address than its neighbours on the machine.
#[test]
fn clients_of_each_listener_produce_and_consume_by_its_own_address() {
    let broker = Broker::builder()
        .listen("PLAINTEXT://0.0.0.0:0,INTERNAL://127.0.0.1:0")
        .argument(LONG_FLAG)
        .set("advertised.listeners", "PLAINTEXT://127.0.0.2:0")
        .start();
    let printed = broker.log_lines().join("\n");
    let port = broker.address().port();
    assert!(printed.contains(&format!("PLAINTEXT on 0.0.0.0:{port}, clients are told 127.0.0.2:{port}")), "{printed}");
    let internal = broker.wait_for_line(0, &["INTERNAL on "]);
    let internal = internal.split_once("INTERNAL on ").expect("it").1.trim().to_owned();
    Client::Kcat.produce(&internal, "both", &Sending::default(), &[Record::to(0, "k", "v")]);
    for (bootstrap, told) in [(format!("localhost:{port}"), format!("127.0.0.2:{port}")), (internal.clone(), internal)]
    {
        assert_eq!(Client::Kcat.consume(&bootstrap, "both").len(), 1, "{bootstrap}");
        let mut info = Command::new(artifact::ottla());
        info.args(["--bootstrap", &bootstrap, "cluster", "info"]);
        let info = run(info, &[]).success().text();
        assert!(info.contains(&told), "{bootstrap}: {info}");
    }
}

/// Every interface has no address of its own: a client is told the one that it reached, and the operator that it is so.
#[test]
fn a_listener_on_every_interface_tells_each_client_the_address_that_it_reached() {
    let broker = Broker::builder().listen("PLAINTEXT://:0").argument(LONG_FLAG).start();
    broker.wait_for_line(0, &["the address that it reached", "advertised.listeners"]);
    let port = broker.address().port();
    for address in [format!("127.0.0.1:{port}"), format!("127.0.0.3:{port}")] {
        let mut info = Command::new(artifact::ottla());
        info.args(["--bootstrap", &address, "cluster", "info"]);
        assert!(run(info, &[]).success().text().contains(&address), "{address}");
    }
}

#[test]
fn listeners_that_contradict_each_other_are_refused_with_what_to_do() {
    for (listen, words) in [
        ("127.0.0.1:0,127.0.0.1:0", "two listeners are called PLAINTEXT"),
        ("SSL://127.0.0.1:0", "TLS and SASL come later"),
        ("nonsense", "is not NAME://HOST:PORT"),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let finished = serve(directory.path(), &["--listen", listen]);
        assert_eq!(finished.status.code(), Some(2), "{listen}");
        assert!(finished.stderr.contains(words), "{listen}: {}", finished.stderr);
    }
}

#[test]
fn one_data_directory_has_one_broker() {
    let broker = Broker::start();
    let second = serve(broker.data_dir(), &["--listen", "127.0.0.1:0"]);
    assert!(!second.status.success());
    for part in [&*broker.data_dir().display().to_string(), "stop it first"] {
        assert!(second.stderr.contains(part), "{}", second.stderr);
    }
}

#[test]
fn a_port_that_is_taken_is_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let finished = serve(directory.path(), &["--listen", &address]);
    assert!(!finished.status.success());
    for part in [address.as_str(), "runs already", "--listen"] {
        assert!(finished.stderr.contains(part), "{}", finished.stderr);
    }
}

#[test]
fn a_data_directory_that_is_a_file_is_a_clear_error() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let finished = serve(file.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.to_lowercase().contains("not a directory"), "{}", finished.stderr);
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
