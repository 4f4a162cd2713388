//! No acks=all answer leaves before the fdatasync that covers it, shown by the system calls themselves: `kill -9` cannot
//! show it, because the page cache survives a process. Nor is a routed batch carried out before its entry in the journal is
//! durable. The same check must turn red with a broker that leaves fsync out.

use std::path::PathBuf;
use std::thread;

use ottla_tests::batch::{Sender, batch};
use ottla_tests::connection::Connection;
use ottla_tests::guest::Guest;
use ottla_tests::produce::produce_request;
use ottla_tests::syscalls::{self, Ack, Violation};
use ottla_tests::{Broker, artifact, skip};
use ottla_wire::ErrorCode;

const PARTITIONS: i32 = 3;
const REQUESTS: i32 = 25;
/// Two per partition, so that answers of different connections wait for the same flush.
const PLAIN_PRODUCERS: i32 = 6;
/// One, so that what the journal holds last is what is carried out next.
const ROUTED_PRODUCERS: i32 = 1;

#[test]
fn no_answer_leaves_before_the_fdatasync_that_covers_it() {
    if let Some(why) = syscalls::unavailable() {
        return skip::test("no_answer_leaves_before_the_fdatasync_that_covers_it", &why);
    }
    let (acks, violations) = traced(artifact::ottla(), None);
    assert_eq!(acks, (REQUESTS * (PLAIN_PRODUCERS + ROUTED_PRODUCERS)) as usize);
    let report: Vec<_> = violations.iter().map(Violation::to_string).collect();
    assert!(report.is_empty(), "{} of {acks} answers are not covered:\n{}", report.len(), report.join("\n"));
}

/// A check that cannot fail proves nothing.
#[test]
fn the_check_turns_red_without_fsync() {
    if let Some(why) = syscalls::unavailable() {
        return skip::test("the_check_turns_red_without_fsync", &why);
    }
    let (acks, violations) = traced(artifact::ottla_canary(), Some("NoFsync"));
    let early = violations.iter().filter(|violation| matches!(violation, Violation::TooEarly(_))).count();
    assert!(early * 2 > acks, "only {early} of {acks} answers were caught: {violations:?}");
}

/// Runs producers against a broker under strace: how many answers came, and which of them came too early.
fn traced(program: PathBuf, canary: Option<&str>) -> (usize, Vec<Violation>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let trace = directory.path().join("trace");
    let words = syscalls::strace(&trace);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let builder = Broker::builder().program(program).under(&words);
    let builder = canary.into_iter().fold(builder, |builder, promise| builder.env("OTTLA_CANARY", promise));
    let mut broker = builder.start();
    broker.push_plugin("round-robin", &Guest::round_robin().component()).expect("a good plugin");
    broker.create_topic("plain", PARTITIONS, &[]);
    broker.create_topic("routed", PARTITIONS, &[("ottla.partitioner", "round-robin")]);

    let acks: Vec<Ack> = thread::scope(|scope| {
        let broker = &broker;
        let plain =
            (0..PLAIN_PRODUCERS).map(|number| scope.spawn(move || produce(broker, "plain", number % PARTITIONS)));
        let routed = (0..ROUTED_PRODUCERS).map(|number| scope.spawn(move || produce(broker, "routed", number)));
        let producers: Vec<_> = plain.chain(routed).collect();
        producers.into_iter().flat_map(|producer| producer.join().expect("a producer that got its answers")).collect()
    });
    broker.terminate();
    let text = std::fs::read(&trace).expect("the trace");
    let calls = syscalls::parse(&String::from_utf8_lossy(&text));
    let mut violations = syscalls::check(&calls, &acks);
    violations.extend(syscalls::check_journal(&calls, "routed"));
    (acks.len(), violations)
}

/// One request after the other, each of three records, idempotent; the answers with what they acknowledge.
fn produce(broker: &Broker, topic: &str, partition: i32) -> Vec<Ack> {
    let mut connection = Connection::as_ottla(broker);
    let sender = connection.new_producer().expect("an answer").expect("a producer id");
    let mut acks = Vec::new();
    for number in 0..REQUESTS {
        let sender = Sender { sequence: number * 3, ..sender };
        let records = batch(&[(b"k", b"one"), (b"k", b"two"), (b"k", b"three")], Some(sender));
        let request = produce_request(topic, partition, &records);
        let stream_position = connection.bytes_received();
        let batches = connection.call(11, &request, |response| {
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, ErrorCode::None, "{:?}", answer.error_message);
            if answer.placements.is_empty() {
                vec![(format!("{topic}-{partition}"), answer.base_offset)]
            } else {
                let placements = answer.placements.iter();
                placements.map(|placed| (format!("{topic}-{}", placed.partition), placed.base_offset)).collect()
            }
        });
        acks.push(Ack { receiver: connection.local_address(), stream_position, batches });
    }
    acks
}
