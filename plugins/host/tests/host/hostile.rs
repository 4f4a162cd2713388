//! Guests that misbehave: each is told apart, and the next call is answered by a fresh instance.

use ottla_plugin_host::{CallError, Limits, LoadError, Partitioner};
use ottla_tests::guest::Guest;

use crate::home::{Home, ask, resident_bytes};

/// Behaves unless a record is asked for; with two records it does what a test wants.
const TWO: &str = "(if (i32.eq (local.get $records) (i32.const 2)) (then";

fn limits() -> Limits {
    Limits { call_deadline_ms: 20, memory_bytes: 4 << 20, ..Limits::default() }
}

/// Loads a guest that misbehaves on two records, and shows that one record is answered before and after.
fn provoke(guest: &Guest) -> CallError {
    let home = Home::with(limits());
    let partitioner = home.load(&guest.component());
    assert_eq!(ask(&partitioner, &["a"]), Ok(vec![0]));
    let error = ask(&partitioner, &["a", "b"]).expect_err("misbehaviour is an error");
    assert_eq!(ask(&partitioner, &["a"]), Ok(vec![0]), "the next call is answered");
    assert_eq!(ask(&partitioner, &["a", "b"]).expect_err("again"), error, "the same every time");
    assert_eq!(ask(&partitioner, &["a"]), Ok(vec![0]));
    error
}

fn provoke_by(misbehaviour: &str) -> CallError {
    let body = format!("{TWO} {misbehaviour})) (call $fill (i32.const 0) (local.get $records))");
    provoke(&Guest::that(Box::leak(body.into_boxed_str())))
}

fn trap(error: CallError) -> String {
    let CallError::Trap { reason } = error else { panic!("{error}") };
    reason
}

#[test]
fn a_trap_names_itself_and_its_function() {
    let reason = trap(provoke_by("(unreachable)"));
    assert!(reason.contains("aborted") && reason.contains("partition"), "{reason}");
    assert!(trap(provoke_by("(drop (i32.load (i32.const -8)))")).contains("out of bounds memory access"));
    assert!(trap(provoke_by("(drop (i32.div_u (i32.const 1) (i32.const 0)))")).contains("divide by zero"));
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    assert_eq!(provoke_by("(loop $again (br $again))"), CallError::Deadline { allowed_ms: 20 });
}

#[test]
fn a_plugin_may_ask_for_less_time_than_it_could_get() {
    let home = Home::with(limits());
    let partitioner =
        home.load(&Guest::that("(loop $again (br $again)) unreachable").with("limits.call-ms", "3").component());
    assert_eq!(ask(&partitioner, &["a"]), Err(CallError::Deadline { allowed_ms: 3 }));
}

#[test]
fn endless_recursion_is_a_trap() {
    let recursion = "(return (call $partition (local.get $context) (local.get $contexts) (local.get $records)
        (local.get $partitions) (local.get $columns) (local.get $column_count)))";
    assert!(trap(provoke_by(recursion)).contains("stack"));
}

#[test]
fn a_memory_hog_gets_what_is_allowed_and_no_more() {
    let hog = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))";
    let error = provoke_by(hog);
    assert!(matches!(error, CallError::Memory { allowed_bytes: 0x40_0000, .. }), "{error}");
    let huge = provoke_by("(drop (memory.grow (i32.const 65535)))");
    assert!(matches!(huge, CallError::Memory { allowed_bytes: 0x40_0000, .. }), "{huge}");
}

#[test]
fn a_plugin_may_ask_for_less_memory_than_it_could_get() {
    let home = Home::with(limits());
    let guest = Guest::that("(drop (memory.grow (i32.const 16))) (call $fill (i32.const 0) (local.get $records))");
    assert_eq!(ask(&home.load(&guest.component()), &["a"]), Ok(vec![0]));
    let modest = home.load(&guest.with("limits.memory-bytes", "1048576").component());
    assert!(matches!(ask(&modest, &["a"]), Err(CallError::Memory { allowed_bytes: 0x10_0000, .. })));
}

#[test]
fn all_plugins_together_stay_within_their_memory() {
    let home = Home::with(Limits { memory_total_bytes: 3 << 20, ..limits() });
    // Each keeps 2 MiB. The second makes room by dropping the idle first one; it may not have more than there is.
    let guest = Guest::that("(drop (memory.grow (i32.const 30))) (call $fill (i32.const 0) (local.get $records))");
    let (one, other) = (home.load(&guest.component()), home.load(&guest.clone().with("x-n", "2").component()));
    for _ in 0..3 {
        assert_eq!(ask(&one, &["a"]), Ok(vec![0]));
        assert_eq!(ask(&other, &["a"]), Ok(vec![0]));
    }
    let greedy = Guest::that("(drop (memory.grow (i32.const 50))) (call $fill (i32.const 0) (local.get $records))");
    let greedy = home.load(&greedy.component());
    assert_eq!(ask(&greedy, &["a"]), Err(CallError::MemoryTotal { allowed_bytes: 3 << 20 }));
    assert_eq!(ask(&one, &["a"]), Ok(vec![0]));
}

#[test]
fn a_partition_that_does_not_exist_is_out_of_range() {
    let out = "(return (call $fill (local.get $partitions) (local.get $records)))";
    assert_eq!(provoke_by(out), CallError::OutOfRange { record: 0, partition: 5, partition_count: 5 });
    let far = "(return (call $fill (i32.const -3) (local.get $records)))";
    assert_eq!(provoke_by(far), CallError::OutOfRange { record: 0, partition: -3, partition_count: 5 });
}

#[test]
fn another_number_of_answers_than_records_is_wrong() {
    for (count, found) in [("(i32.const 0)", 0), ("(i32.const 1)", 1), ("(i32.const 3)", 3)] {
        let wrong = format!("(return (call $fill (i32.const 0) {count}))");
        assert_eq!(provoke_by(&wrong), CallError::WrongCount { expected: 2, found });
    }
}

#[test]
fn an_answer_made_to_fill_the_hosts_memory_is_not_copied() {
    let reason = trap(provoke_by("(return (call $fill (i32.const 0) (i32.const 200000)))"));
    assert!(reason.contains("too much data"), "{reason}");
    let reason = trap(provoke_by("(return (call $ok (i32.const 0) (i32.const 0x3fffffff)))"));
    assert!(reason.contains("out of bounds"), "{reason}");
}

#[test]
fn an_answer_outside_its_memory_is_a_trap() {
    trap(provoke_by("(return (call $ok (i32.const -4) (local.get $records)))"));
    trap(provoke_by("(return (call $ok (i32.const 3) (local.get $records)))"));
    trap(provoke_by("(return (i32.const -16))"));
    trap(provoke_by("(return (i32.const 1))"));
    let reason = trap(provoke_by("(return (call $result (i32.const 7) (i32.const 0) (i32.const 0)))"));
    assert!(reason.contains("discriminant"), "{reason}");
}

#[test]
fn a_lying_allocator_is_a_trap() {
    for lie in ["(i32.const -64)", "(i32.const 7)", "unreachable"] {
        let home = Home::with(limits());
        let always = Guest { realloc: lie, ..Guest::default() };
        let refused = home.refused(&always.component());
        assert!(refused.contains("it fails on"), "{refused}");
    }
    for lie in ["(i32.const -64)", "unreachable"] {
        let home = Home::with(limits());
        // One that lies about large pieces only gets past the sample records.
        let large = format!(
            "(if (i32.gt_u (local.get $size) (i32.const 200)) (then (return {lie}))) (call $alloc (local.get $size))"
        );
        let partitioner =
            home.load(&Guest { realloc: Box::leak(large.into_boxed_str()), ..Guest::default() }.component());
        assert_eq!(ask(&partitioner, &["a"]), Ok(vec![0]));
        trap(ask(&partitioner, &[&"a".repeat(300)]).expect_err("a trap"));
    }
}

#[test]
fn a_guest_that_aborts_may_leave_its_last_words() {
    let words = r#"(data (i32.const 2048) "ottla last words\05\00\00\00sorry")"#;
    let body = format!("{TWO} unreachable)) (call $fill (i32.const 0) (local.get $records))");
    let guest = Guest { fields: words, ..Guest::that(Box::leak(body.into_boxed_str())) };
    let reason = trap(provoke(&guest));
    assert_eq!(reason, "it panicked: sorry, in partition");
}

#[test]
fn a_refused_batch_carries_the_plugins_words_and_keeps_the_instance() {
    // Writes "no!" and refuses; counts its calls, so that a fresh instance would be noticed.
    let guest = Guest {
        fields: r#"(data (i32.const 512) "no!\1b") (global $calls (mut i32) (i32.const -1))"#,
        ..Guest::that(
            "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (if (i32.eq (local.get $records) (i32.const 2))
                (then (return (call $err (i32.const 512) (i32.const 4)))))
             (call $fill (global.get $calls) (local.get $records))",
        )
    };
    let home = Home::with(limits());
    let partitioner = home.load(&guest.component());
    assert_eq!(ask(&partitioner, &["a"]), Ok(vec![0]));
    let reason = "no!\u{fffd}".to_owned();
    assert_eq!(ask(&partitioner, &["a", "b"]), Err(CallError::Refused { reason }));
    assert_eq!(ask(&partitioner, &["a"]), Ok(vec![2]));
}

#[test]
fn an_error_text_is_bounded_and_must_be_text() {
    let error = provoke_by("(return (call $err (i32.const 2048) (i32.const 60000)))");
    let CallError::Refused { reason } = error else { panic!("{error}") };
    assert!(reason.chars().count() <= 201);
    trap(provoke_by("(return (call $err (i32.const 0) (i32.const 131073)))"));
    let invalid = "(i32.store8 (i32.const 512) (i32.const 0xff)) (return (call $err (i32.const 512) (i32.const 1)))";
    assert!(trap(provoke_by(invalid)).contains("utf-8"));
}

#[test]
fn a_configuration_can_be_endless_too() {
    let home = Home::with(Limits { start_deadline_ms: 20, ..limits() });
    let guest = Guest { init: "(loop $again (br $again)) unreachable", ..Guest::default() };
    let digest = home.admit(&guest.component()).unwrap().digest;
    let error = home.host.partitioner(&digest, "").unwrap_err();
    assert!(matches!(error, LoadError::Start(CallError::Deadline { allowed_ms: 20 })), "{error}");
}

#[test]
fn who_waits_too_long_behind_a_slow_call_is_told_so() {
    let home = Home::with(Limits { concurrent_calls_max: 1, turn_wait_ms: 30, call_deadline_ms: 2000, ..limits() });
    let slow = home.load(&Guest::that("(loop $again (br $again)) unreachable").component());
    let waited = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..2).map(|_| scope.spawn(|| ask(&slow, &["a"]))).collect();
        calls.into_iter().map(|call| call.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert!(waited.contains(&Err(CallError::Busy { waited_ms: 30 })), "{waited:?}");
    assert!(waited.contains(&Err(CallError::Deadline { allowed_ms: 2000 })), "{waited:?}");
}

#[test]
fn idle_instances_make_room_for_others() {
    let home = Home::with(Limits { instances_max: 2, ..limits() });
    let many: Vec<_> = (0..5).map(|n| home.load(&Guest::default().with("x-n", n.to_string()).component())).collect();
    for partitioner in many.iter().chain(&many) {
        assert_eq!(ask(partitioner, &["a"]), Ok(vec![0]));
    }
}

#[test]
fn a_thousand_failures_leave_no_memory_behind() {
    let home = Home::new();
    let hog =
        Guest::that("(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable");
    let hog = home.load(&hog.component());
    let traps =
        "(if (i32.eq (local.get $records) (i32.const 2)) (then unreachable)) (call $fill (i32.const 0) (i32.const 1))";
    let trap = home.load(&Guest::that(traps).component());
    let fail = |partitioner: &Partitioner| ask(partitioner, &["a", "b"]).expect_err("a failure");
    fail(&hog);
    let before = resident_bytes();
    for _ in 0..500 {
        fail(&hog);
        fail(&trap);
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more after 1000 failures");
}
