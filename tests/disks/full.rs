//! A disk that is full: producers are told, readers go on, and it works again by itself.

#[path = "support.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use ottla_tests::batch::Sender;
use ottla_tests::connection::Connection;
use ottla_tests::guest::ROUND_ROBIN;
use ottla_tests::mount::Mount;
use ottla_tests::{Broker, skip, wait};
use ottla_wire::ErrorCode;
use ottla_wire::message::InitProducerIdRequest;
use support::{TOPIC, fetch, metric, produce, produce_as};

/// What a broker may take to go on once there is room.
const RESUMES_WITHIN: Duration = Duration::from_secs(5);

fn disk(test: &str) -> Option<Mount> {
    Mount::tmpfs(16 << 20).inspect_err(|why| skip::test(test, why)).ok()
}

/// Takes all the room that is left.
fn fill(disk: &Path) {
    let mut ballast = std::fs::File::create(disk.join("ballast")).expect("a file");
    for bytes in [1 << 20, 4096, 1] {
        while std::io::Write::write_all(&mut ballast, &vec![0; bytes]).is_ok() {}
    }
}

fn make_room(disk: &Path) {
    std::fs::remove_file(disk.join("ballast")).expect("the ballast goes");
}

#[test]
fn a_full_disk_refuses_producers_serves_readers_and_resumes_by_itself() {
    let Some(disk) = disk("a_full_disk_refuses_producers_serves_readers_and_resumes_by_itself") else { return };
    let log = disk.path().join("log");
    let broker =
        Broker::builder().set("log.dirs", &log.display().to_string()).set("metrics.listener", "127.0.0.1:0").start();
    broker.create_topic(TOPIC, 1, &[]);
    assert_eq!(produce(&broker, &[b'a'; 1000]).0, ErrorCode::None);
    fill(disk.path());
    // What was reserved before is used up first.
    let refused = wait::until("a batch to be refused", || {
        let (code, message) = produce(&broker, &[b'b'; 500_000]);
        (code != ErrorCode::None).then_some((code, message))
    });
    assert_eq!(refused.0, ErrorCode::KafkaStorageError);
    assert!(refused.1.contains("disk is full"), "{}", refused.1);
    assert!(metric(&broker, "ottla_disk_full_total") >= 1.0);
    assert!(fetch(&broker, 0, 0).expect("records").len() > 1000);
    make_room(disk.path());
    let begun = Instant::now();
    wait::until_true("a batch to be taken", || produce(&broker, &[b'c'; 500_000]).0 == ErrorCode::None);
    assert!(begun.elapsed() < RESUMES_WITHIN);
    broker.create_topic("later", 1, &[]);
}

#[test]
fn a_start_on_a_full_disk_keeps_the_route_journal_and_carries_it_out_when_there_is_room() {
    let name = "a_start_on_a_full_disk_keeps_the_route_journal_and_carries_it_out_when_there_is_room";
    let Some(disk) = disk(name) else { return };
    let log = disk.path().join("log");
    let mut broker = Broker::builder().set("log.dirs", &log.display().to_string()).start();
    broker.push_plugin("spread", &ROUND_ROBIN.component()).expect("the plugin is taken");
    broker.create_topic(TOPIC, 3, &[("ottla.partitioner", "spread")]);
    let sender = Connection::to(&broker).call(4, &InitProducerIdRequest::default(), |response| {
        assert_eq!(response.error_code, ErrorCode::None);
        Sender { producer_id: response.producer_id, epoch: response.producer_epoch, sequence: 0 }
    });
    for batch in 0..5 {
        let sender = Sender { sequence: batch * 3, ..sender };
        assert_eq!(produce_as(&broker, sender, &[b"0", b"1", b"2"]).0, ErrorCode::None);
    }
    broker.kill9();
    fill(disk.path());
    broker.restart();
    for partition in 0..3 {
        assert!(!fetch(&broker, partition, 0).expect("records").is_empty(), "what is there is read");
    }
    let next = Sender { sequence: 15, ..sender };
    let (code, message) = produce_as(&broker, next, &[b"0", b"1", b"2"]);
    assert_eq!(code, ErrorCode::KafkaStorageError, "{message}");
    make_room(disk.path());
    let begun = Instant::now();
    wait::until_true("the topic to take batches again", || {
        produce_as(&broker, next, &[b"0", b"1", b"2"]).0 == ErrorCode::None
    });
    assert!(begun.elapsed() < RESUMES_WITHIN);
    assert_eq!(broker.end_offsets(TOPIC, 3), [6, 6, 6], "each record once");
}
