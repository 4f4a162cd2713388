//! A plugin that traps, never ends, eats memory or answers nonsense fails only the batch it was asked about: clear errors to
//! the producer, a log line that names plugin, version and reason, and no other topic notices.

use ottla_tests::Broker;
use ottla_tests::batch::batch;
use ottla_tests::connection::Connection;
use ottla_tests::guest::{Guest, ROUND_ROBIN};
use ottla_wire::ErrorCode;
use ottla_wire::message::{PartitionProduceData, ProduceRequest, TopicProduceData};

/// What one produce request came to.
#[derive(Debug)]
struct Answer {
    code: ErrorCode,
    message: String,
    record_errors: usize,
}

#[test]
fn a_trap_fails_its_batch() {
    fails_its_batch(Guest { answer: "(unreachable)", ..ROUND_ROBIN });
}

#[test]
fn an_endless_loop_fails_its_batch() {
    fails_its_batch(Guest { answer: "(loop $ever (br $ever)) (i32.const 0)", ..ROUND_ROBIN });
}

#[test]
fn a_partition_out_of_range_fails_its_batch() {
    fails_its_batch(Guest { answer: "(local.get $partitions)", ..ROUND_ROBIN });
}

#[test]
fn too_many_answers_fail_their_batch() {
    fails_its_batch(Guest { count: "(i32.add (local.get $records) (i32.const 1))", ..ROUND_ROBIN });
}

#[test]
fn too_few_answers_fail_their_batch() {
    fails_its_batch(Guest { count: "(i32.sub (local.get $records) (i32.const 1))", ..ROUND_ROBIN });
}

#[test]
fn a_plugin_that_eats_memory_fails_its_batch() {
    fails_its_batch(Guest { count: "(i32.const 500000000)", ..ROUND_ROBIN });
}

/// Only one line in ten seconds tells of a failure; the others are counted and told at the latest when the version goes.
#[test]
fn failures_between_two_log_lines_are_told_after_a_rollback() {
    let broker = Broker::start();
    broker.push_plugin("under-test", &ROUND_ROBIN.component()).expect("a good plugin");
    broker.create_topic("routed", 4, &[("ottla.partitioner", "under-test")]);
    let bad = Guest { answer: "(unreachable)", ..ROUND_ROBIN };
    let bad_version = broker.push_plugin("under-test", &bad.component()).expect("it only shows when it runs");
    broker.activate_plugin("under-test", bad_version);
    let mut connection = Connection::to(&broker);
    for _ in 0..6 {
        assert_eq!(produce(&mut connection, "routed").code, ErrorCode::InvalidRecord);
    }
    broker.activate_plugin("under-test", -1);
    broker.wait_for_line(0, &["under-test", "more=5", "batches were refused"]);
}

fn fails_its_batch(bad: Guest<'_>) {
    let broker = Broker::start();
    let version = broker.push_plugin("under-test", &ROUND_ROBIN.component()).expect("a good plugin");
    broker.create_topic("routed", 4, &[("ottla.partitioner", "under-test")]);
    broker.create_topic("plain", 1, &[]);
    let mut connection = Connection::to(&broker);
    assert_eq!(produce(&mut connection, "routed").code, ErrorCode::None);
    let ends = broker.end_offsets("routed", 4);
    assert_eq!(ends.iter().sum::<i64>(), 3);

    let bad_version = broker.push_plugin("under-test", &bad.component()).expect("it only shows when it runs");
    assert_ne!(bad_version, version);
    broker.activate_plugin("under-test", bad_version);
    let printed = broker.log_lines().len();
    for _ in 0..3 {
        let answer = produce(&mut connection, "routed");
        assert_eq!(answer.code, ErrorCode::InvalidRecord, "{answer:?}");
        assert!(answer.message.contains("under-test"), "{answer:?}");
        assert_ne!(answer.record_errors, 0, "{answer:?}");
        assert_eq!(produce(&mut connection, "plain").code, ErrorCode::None, "no other topic notices");
    }
    broker.wait_for_line(printed, &["under-test", &bad_version.to_string()]);
    assert_eq!(broker.end_offsets("routed", 4), ends, "nothing of a failed batch is written");

    broker.activate_plugin("under-test", -1);
    assert_eq!(produce(&mut connection, "routed").code, ErrorCode::None, "rolled back without a restart");
}

fn produce(connection: &mut Connection, topic: &str) -> Answer {
    let records = batch(&[(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], None);
    let partition = PartitionProduceData { index: 0, records: Some(&records) };
    let topic = TopicProduceData { name: topic.into(), partition_data: vec![partition], ..Default::default() };
    let request = ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() };
    connection.call(8, &request, |response| {
        let partition = &response.responses[0].partition_responses[0];
        Answer {
            code: partition.error_code,
            message: partition.error_message.as_deref().unwrap_or_default().to_owned(),
            record_errors: partition.record_errors.len(),
        }
    })
}
