//! A plugin that traps, never ends, eats memory or answers nonsense fails only the batch it was asked about: clear errors to
//! the producer, a log line that names plugin, version and reason, and no other topic notices.

use ottla_tests::batch::batch;
use ottla_tests::connection::Connection;
use ottla_tests::guest::Guest;
use ottla_tests::produce::produce_request;
use ottla_tests::{Broker, artifact};
use ottla_wire::ErrorCode;

/// What one produce request came to.
#[derive(Debug)]
struct Answer {
    code: ErrorCode,
    message: String,
    record_errors: usize,
}

#[test]
fn a_trap_fails_its_batch() {
    // One that traps on every record is refused at upload.
    fails_its_batch(&Guest::answers(
        "(if (i32.eq (local.get $records) (i32.const 3)) (then (unreachable))) (i32.const 0)",
    ));
}

#[test]
fn an_endless_loop_fails_its_batch() {
    fails_its_batch(&Guest::answers("(loop $ever (br $ever)) (i32.const 0)"));
}

#[test]
fn a_partition_out_of_range_fails_its_batch() {
    fails_its_batch(&Guest::answers("(local.get $partitions)"));
}

#[test]
fn too_many_answers_fail_their_batch() {
    fails_its_batch(&Guest { count: "(i32.add (local.get $records) (i32.const 1))", ..Guest::round_robin() });
}

#[test]
fn too_few_answers_fail_their_batch() {
    fails_its_batch(&Guest { count: "(i32.sub (local.get $records) (i32.const 1))", ..Guest::round_robin() });
}

#[test]
fn a_plugin_that_eats_memory_fails_its_batch() {
    fails_its_batch(&Guest { count: "(i32.const 500000000)", ..Guest::round_robin() });
}

/// Only one line in ten seconds tells of a failure; the others are counted and told at the latest when the version goes.
#[test]
fn failures_between_two_log_lines_are_told_after_a_rollback() {
    let broker = Broker::start();
    broker.push_plugin("under-test", &Guest::round_robin().component()).expect("a good plugin");
    broker.create_topic("routed", 4, &[("ottla.partitioner", "under-test")]);
    let bad = Guest::answers("(if (i32.eq (local.get $records) (i32.const 3)) (then (unreachable))) (i32.const 0)");
    let bad_version = broker.push_plugin("under-test", &bad.component()).expect("it only shows when it runs");
    broker.activate_plugin("under-test", bad_version);
    let mut connection = Connection::to(&broker);
    for _ in 0..6 {
        assert_eq!(produce(&mut connection, "routed").code, ErrorCode::InvalidRecord);
    }
    broker.activate_plugin("under-test", -1);
    broker.wait_for_line(0, &["under-test", "more=5", "batches were refused"]);
}

#[test]
fn a_rust_panic_reaches_its_producer_with_its_text_and_the_authors_functions() {
    let broker = Broker::start();
    broker.push_plugin("panics", &test_guest("panics")).expect("it answers other records");
    broker.create_topic("routed", 4, &[("ottla.partitioner", "panics")]);
    let mut connection = Connection::to(&broker);
    let mut told = |key: &[u8]| {
        let answer = produce_records(&mut connection, "routed", &[(key, b"v")]);
        assert_eq!(answer.code, ErrorCode::InvalidRecord, "{answer:?}");
        answer.message
    };
    let says_why = told(b"says-why");
    assert!(says_why.contains("it panicked: there is no tenant acme, at "), "{says_why}");
    assert!(says_why.contains("panics.rs:") && says_why.contains("in panics::tenant_of"), "{says_why}");
    let unwraps = told(b"unwraps");
    assert!(unwraps.contains("called `Option::unwrap()` on a `None` value"), "{unwraps}");
    let reads_more = told(b"reads-more");
    assert!(reads_more.contains("READS"), "the kit says what to declare: {reads_more}");
    let long = told(b"is-long");
    assert!(long.contains("long long") && long.len() < 1000, "{long}");
    for message in [says_why, unwraps, reads_more, long] {
        let of_the_runtime = ["core::", "std::", "alloc::", "rust_begin_unwind", "_ZN", "_R", "guest::glue"];
        assert!(!of_the_runtime.iter().any(|name| message.contains(name)), "{message}");
    }
}

/// `Instant::now()` imports nothing and panics on every record: it is found before the plugin is active.
#[test]
fn a_plugin_that_reads_the_clock_is_refused_at_upload() {
    let broker = Broker::start();
    let refused = broker.push_plugin("clock", &test_guest("reads_the_clock")).expect_err("no clock is given").message;
    assert!(refused.contains("time not implemented on this platform"), "{refused}");
    assert!(refused.contains("each of 4 sample records"), "{refused}");
}

fn test_guest(name: &str) -> Vec<u8> {
    std::fs::read(artifact::plugin(&format!("tests/{name}"))).expect("a component")
}

fn fails_its_batch(bad: &Guest) {
    let broker = Broker::start();
    let version = broker.push_plugin("under-test", &Guest::round_robin().component()).expect("a good plugin");
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
    produce_records(connection, topic, &[(b"a", b"1"), (b"b", b"2"), (b"c", b"3")])
}

fn produce_records(connection: &mut Connection, topic: &str, records: &[(&[u8], &[u8])]) -> Answer {
    connection.call(8, &produce_request(topic, 0, &batch(records, None)), |response| {
        let partition = &response.responses[0].partition_responses[0];
        Answer {
            code: partition.error_code,
            message: partition.error_message.as_deref().unwrap_or_default().to_owned(),
            record_errors: partition.record_errors.len(),
        }
    })
}
