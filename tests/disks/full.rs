//! A disk that is full: producers are told, readers go on, and it works again by itself.

use std::path::Path;
use std::time::{Duration, Instant};

use ottla_tests::batch::{Sender, batch};
use ottla_tests::connection::Connection;
use ottla_tests::connection::request_frame;
use ottla_tests::guest::Guest;
use ottla_tests::mount::Mount;
use ottla_tests::one_topic::{TOPIC, fetch, metric, produce, produce_as};
use ottla_tests::produce::produce_request;
use ottla_tests::{Broker, skip, wait};
use ottla_wire::message::{
    CreatableTopic, CreateTopicsRequest, InitProducerIdRequest, MetadataRequest, ProduceResponse,
};
use ottla_wire::{ErrorCode, decode_response};

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

/// Makes room for so many bytes.
fn leave(disk: &Path, bytes: u64) {
    let ballast = std::fs::File::options().write(true).open(disk.join("ballast")).expect("the ballast");
    let length = ballast.metadata().expect("its length").len();
    ballast.set_len(length - bytes).expect("some room");
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
    assert_eq!(produce(&broker, &vec![b'a'; 1000]).0, ErrorCode::None);
    fill(disk.path());
    // What was reserved before is used up first.
    let refused = wait::until("a batch to be refused", || {
        let (code, message) = produce(&broker, &vec![b'b'; 500_000]);
        (code != ErrorCode::None).then_some((code, message))
    });
    assert_eq!(refused.0, ErrorCode::KafkaStorageError);
    assert!(refused.1.contains("disk is full"), "{}", refused.1);
    assert!(metric(&broker, "ottla_disk_full_total") >= 1.0);
    assert!(fetch(&broker, 0, 0).expect("records").len() > 1000);
    make_room(disk.path());
    let begun = Instant::now();
    wait::until_true("a batch to be taken", || produce(&broker, &vec![b'c'; 500_000]).0 == ErrorCode::None);
    assert!(begun.elapsed() < RESUMES_WITHIN);
    broker.create_topic("later", 1, &[]);
}

#[test]
fn a_batch_that_does_not_fit_any_more_takes_no_other_one_along() {
    let Some(disk) = disk("a_batch_that_does_not_fit_any_more_takes_no_other_one_along") else { return };
    let log = disk.path().join("log");
    let broker = Broker::builder().set("log.dirs", &log.display().to_string()).start();
    broker.create_topic(TOPIC, 1, &[]);
    assert_eq!(produce(&broker, &[b'a'; 100]).0, ErrorCode::None);
    fill(disk.path());
    wait::until_true("a batch to be refused", || produce(&broker, &vec![b'b'; 500_000]).0 != ErrorCode::None);
    let end = broker.end_offsets(TOPIC, 1)[0];
    leave(disk.path(), 200 << 10);

    // They arrive together and would be written together.
    let batches = [100, 500_000, 100, 500_000, 200].map(|bytes| batch(&[(b"k", &vec![b'c'; bytes])], None));
    let (none, refused) = (ErrorCode::None, (ErrorCode::KafkaStorageError, -1));
    let answers = produce_together(&broker, &batches);
    assert_eq!(answers, [(none, end), refused, (none, end + 1), refused, (none, end + 2)]);
    assert_eq!(broker.end_offsets(TOPIC, 1), [end + 3]);
}

#[test]
fn the_first_batch_of_a_producer_is_taken_after_a_full_disk_refused_it_and_those_sent_behind_it_wait() {
    let name = "the_first_batch_of_a_producer_is_taken_after_a_full_disk_refused_it_and_those_sent_behind_it_wait";
    let Some(disk) = disk(name) else { return };
    let log = disk.path().join("log");
    let broker = Broker::builder().set("log.dirs", &log.display().to_string()).start();
    broker.create_topic(TOPIC, 1, &[]);
    let sender = broker.new_producer();
    let of = |bytes, sequence| batch(&[(b"k", &vec![b'c'; bytes])], Some(Sender { sequence, ..sender }));
    let (large, small, smaller) = (of(500_000, 0), of(100, 1), of(50, 2));
    fill(disk.path());
    wait::until_true("a batch to be refused", || produce(&broker, &vec![b'b'; 500_000]).0 != ErrorCode::None);
    let end = broker.end_offsets(TOPIC, 1)[0];
    leave(disk.path(), 200 << 10);

    // There is room for those behind it, whether they arrive with it or after it.
    let (refused, waits) = ((ErrorCode::KafkaStorageError, -1), (ErrorCode::OutOfOrderSequenceNumber, -1));
    let sent = [large, small, smaller];
    assert_eq!(produce_together(&broker, &sent), [refused, waits, waits]);
    assert_eq!(produce_together(&broker, &sent[..1]), [refused]);
    assert_eq!(produce_together(&broker, &sent[1..2]), [waits]);
    make_room(disk.path());
    assert_eq!(produce_together(&broker, &sent[2..]), [waits]);
    wait::until_true("the first batch to be taken", || {
        produce_together(&broker, &sent[..1]) == [(ErrorCode::None, end)]
    });
    assert_eq!(produce_together(&broker, &sent), [0, 1, 2].map(|at| (ErrorCode::None, end + at)));
    assert_eq!(broker.end_offsets(TOPIC, 1), [end + 3], "each record once");
}

/// Sends batches in one write, a request each; the answers and where the batches are.
fn produce_together(broker: &Broker, batches: &[Vec<u8>]) -> Vec<(ErrorCode, i64)> {
    let mut connection = Connection::to(broker);
    let frames =
        (1..).zip(batches).map(|(number, records)| request_frame(9, number, &produce_request(TOPIC, 0, records)));
    connection.send(&frames.flatten().collect::<Vec<_>>()).expect("the requests are taken");
    batches
        .iter()
        .map(|_| {
            let frame = connection.receive_frame().expect("an answer");
            let (_, response): (_, ProduceResponse<'_>) = decode_response(9, &frame).expect("an answer");
            let partition = &response.responses[0].partition_responses[0];
            (partition.error_code, partition.base_offset)
        })
        .collect()
}

#[test]
fn a_start_on_a_full_disk_keeps_the_route_journal_and_carries_it_out_when_there_is_room() {
    let name = "a_start_on_a_full_disk_keeps_the_route_journal_and_carries_it_out_when_there_is_room";
    let Some(disk) = disk(name) else { return };
    let log = disk.path().join("log");
    let mut broker = Broker::builder().set("log.dirs", &log.display().to_string()).start();
    broker.push_plugin("spread", &Guest::round_robin().component()).expect("the plugin is taken");
    broker.create_topic(TOPIC, 3, &[("ottla.partitioner", "spread")]);
    let sender = broker.new_producer();
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

/// Asks for a topic of many partitions; what the broker answers.
fn try_create(broker: &Broker, name: &str) -> ErrorCode {
    let topic =
        CreatableTopic { name: name.into(), num_partitions: 50, replication_factor: 1, ..CreatableTopic::default() };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    Connection::to(broker).call(7, &request, |response| response.topics[0].error_code)
}

fn is_there(broker: &Broker, name: &str) -> bool {
    Connection::to(broker).call(9, &MetadataRequest { topics: None, ..MetadataRequest::default() }, |response| {
        response.topics.iter().any(|topic| topic.name.as_deref() == Some(name))
    })
}

/// Uses up a block of producer ids, so that the next one has to be written down.
fn producer_ids(broker: &Broker) -> ErrorCode {
    let mut connection = Connection::to(broker);
    let mut ids =
        (0..1001).map(|_| connection.call(4, &InitProducerIdRequest::default(), |response| response.error_code));
    ids.find(|code| *code != ErrorCode::None).unwrap_or(ErrorCode::None)
}

#[test]
fn metadata_resumes_when_a_full_disk_has_room_and_no_topic_is_made_by_half() {
    let Some(disk) = disk("metadata_resumes_when_a_full_disk_has_room_and_no_topic_is_made_by_half") else { return };
    let mut broker = Broker::builder().data_dir(&disk.path().join("data")).start();
    broker.create_topic(TOPIC, 1, &[]);
    assert_eq!(produce(&broker, b"first").0, ErrorCode::None);
    let mut later = Vec::new();
    for round in 0..3 {
        fill(disk.path());
        let name = format!("later-{round}");
        let refused = wait::until("a topic to be refused", || {
            let code = try_create(&broker, &name);
            (code != ErrorCode::None).then_some(code)
        });
        assert_eq!(refused, ErrorCode::KafkaStorageError);
        assert!(!is_there(&broker, &name));
        // It writes what it has room for, and says so otherwise; nothing is believed that is not there.
        producer_ids(&broker);
        if round == 1 {
            broker.kill9();
            broker.restart();
            assert!(!fetch(&broker, 0, 0).expect("records").is_empty(), "what is there is read");
        }
        make_room(disk.path());
        let begun = Instant::now();
        assert_eq!(producer_ids(&broker), ErrorCode::None);
        let taken = |code| matches!(code, ErrorCode::None | ErrorCode::TopicAlreadyExists);
        wait::until_true("the topic to be made", || taken(try_create(&broker, &name)));
        broker.set_topic(TOPIC, "max.message.bytes", "2000000");
        assert!(begun.elapsed() < RESUMES_WITHIN);
        assert!(is_there(&broker, &name));
        later.push(name);
    }
    broker.kill9();
    broker.restart();
    assert!(later.iter().all(|name| is_there(&broker, name)), "what was made stays");
}
