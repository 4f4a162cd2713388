//! When an answer does not leave: the disk's doing and the peer's are told apart.

use std::path::Path;

use ottla_tests::connection::Connection;
use ottla_tests::one_topic::{TOPIC, fetch, fetch_request, metric, produce};
use ottla_tests::{Broker, skip, syscalls};
use ottla_wire::ErrorCode;

fn broker(sendfile_min_bytes: u32) -> ottla_tests::broker::Builder {
    let broker = Broker::builder().set("metrics.listener", "127.0.0.1:0");
    broker.set("ottla.deliver.sendfile.min.bytes", &sendfile_min_bytes.to_string())
}

/// Fetches on a connection that the broker is to close in the middle of its answer.
fn fetch_until_closed(broker: &Broker) {
    let mut connection = Connection::to(broker);
    connection.send_request(11, &fetch_request(0, 0)).expect("the request is taken");
    connection.expect_closed();
}

/// Every sendfile fails with `error`.
fn failing(broker: &mut Broker, trace: &Path, error: &str) {
    let inject = format!("inject=sendfile:error={error}");
    let words = ["strace", "-f", "-qq", "-e", "trace=sendfile", "-e", &inject, "-o", &trace.display().to_string()]
        .map(str::to_owned);
    broker.restart_with(|builder| builder.under(&words.each_ref().map(String::as_str)));
}

#[test]
fn a_disk_that_refuses_records_in_flight_is_told_to_the_next_fetch() {
    if let Some(why) = syscalls::unavailable() {
        return skip::test("a_disk_that_refuses_records_in_flight_is_told_to_the_next_fetch", &why);
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    for error in ["EIO", "ENODATA", "EUCLEAN"] {
        let mut broker = broker(1).start();
        broker.create_topic(TOPIC, 2, &[]);
        assert_eq!(produce(&broker, b"refused").0, ErrorCode::None);
        failing(&mut broker, &home.path().join("trace"), error);
        fetch_until_closed(&broker);
        broker.wait_for_line(0, &["the disk refused records", TOPIC, "offset=0"]);
        assert_eq!(fetch(&broker, 0, 0), Err(ErrorCode::KafkaStorageError), "{error}");
        assert!(metric(&broker, "ottla_disk_read_errors_total") >= 1.0);
        // Other partitions are read, and what is written to this one is taken.
        assert_eq!(fetch(&broker, 1, 0), Ok(Vec::new()));
        assert_eq!(produce(&broker, b"taken").0, ErrorCode::None);
    }
}

#[test]
fn a_peer_that_goes_away_is_not_held_against_the_disk() {
    if let Some(why) = syscalls::unavailable() {
        return skip::test("a_peer_that_goes_away_is_not_held_against_the_disk", &why);
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    for error in ["ECONNRESET", "EPIPE"] {
        let mut broker = broker(1).start();
        broker.create_topic(TOPIC, 1, &[]);
        assert_eq!(produce(&broker, b"kept").0, ErrorCode::None);
        failing(&mut broker, &home.path().join("trace"), error);
        fetch_until_closed(&broker);
        assert!(metric(&broker, "ottla_disk_read_errors_total").abs() < f64::EPSILON, "{error}");
        // It is tried again, not refused.
        fetch_until_closed(&broker);
    }
}

#[test]
fn a_segment_that_lost_its_end_is_the_disks_doing() {
    for sendfile_min_bytes in [1, u32::MAX] {
        let broker = broker(sendfile_min_bytes).start();
        broker.create_topic(TOPIC, 1, &[]);
        assert_eq!(produce(&broker, &vec![b'x'; 300_000]).0, ErrorCode::None);
        let segment = broker.data_dir().join(format!("log/{TOPIC}-0/00000000000000000000.log"));
        let file = std::fs::File::options().write(true).open(segment).expect("the segment");
        file.set_len(8192).expect("it is cut");
        fetch_until_closed(&broker);
        broker.wait_for_line(0, &["the disk refused records", TOPIC]);
        assert_eq!(fetch(&broker, 0, 0), Err(ErrorCode::KafkaStorageError));
    }
}
