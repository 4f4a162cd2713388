//! Plugins that fail: only their batch does, with an answer that says which plugin and why.

use ottla_wire::ErrorCode;
use ottla_wire::message::ApiVersionsRequest;

use ottla_test_broker::{NEWEST, TestBroker, produce_request, said};
use ottla_tests::guest::Guest;

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_fails_fails_its_batch_and_leaves_the_numbers_free() {
    let home = TestBroker::start().await;
    home.routed_topic(3).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    client.produce("t", 0, &said("01").by(id, 0, 0)).await;
    let trapped = client.produce("t", 0, &said("0t1").by(id, 0, 2)).await;
    assert_eq!((trapped.error_code, trapped.base_offset), (ErrorCode::InvalidRecord, -1));
    assert_eq!(trapped.record_errors, [0, 1, 2]);
    assert!(trapped.message.contains("digit@1"), "{}", trapped.message);
    // The one behind it was sent in the belief that it would be taken.
    let behind = client.produce("t", 0, &said("0").by(id, 0, 5)).await;
    assert_eq!(behind.error_code, ErrorCode::OutOfOrderSequenceNumber);
    // The same numbers with other records.
    assert_eq!(client.produce("t", 0, &said("011").by(id, 0, 2)).await.error_code, ErrorCode::None);
    assert_eq!(home.records("t", 0).await.len() + home.records("t", 1).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_batch_that_a_plugin_refused_holds_those_sent_behind_it_back_until_its_numbers_come_again() {
    let home = TestBroker::start().await;
    home.routed_topic(3).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    let (refused, behind, next) = (said("0t1").by(id, 0, 0), said("01").by(id, 0, 3), said("2").by(id, 0, 5));
    let sent = [refused.bytes(), behind.bytes(), next.bytes()];
    let requests: Vec<_> = sent.iter().map(|batch| produce_request(-1, "t", &[(0, batch)])).collect();
    client.send_together(NEWEST, &requests).await;
    let mut codes = Vec::new();
    for _ in &requests {
        codes.push(client.receive_produced(NEWEST).await.remove(0).error_code);
    }
    let waits = ErrorCode::OutOfOrderSequenceNumber;
    assert_eq!(codes, [ErrorCode::InvalidRecord, waits, waits]);
    // A refusal is nothing that a start has to know, and what is routed does not follow on it.
    for batch in [said("012").by(id, 0, 0), behind.clone(), next.clone()] {
        assert_eq!(client.produce("t", 0, &batch).await.error_code, ErrorCode::None);
    }
    let home = home.crash().await;
    let mut client = home.ottla().await;
    for batch in [behind, next] {
        assert_eq!(client.produce("t", 0, &batch).await.error_code, ErrorCode::None);
    }
    let mut stored = Vec::new();
    for partition in 0..3 {
        stored.push(home.records("t", partition).await.len());
    }
    assert_eq!(stored, [2, 2, 2], "each record once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_batch_that_found_no_room_to_wait_for_a_plugin_holds_those_sent_behind_it_back() {
    let settings = ["message.max.bytes=4096", "ottla.route.lane.max.bytes=4096", "plugin.call.timeout.ms=500"];
    let home = TestBroker::start_with(&settings).await;
    home.routed_topic(3).await;
    home.push("slow", &Guest::that("(loop $again (br $again)) (unreachable)").component()).await;
    home.create_topic("slow", 3, &[("ottla.partitioner", "slow")]).await;
    let (mut client, mut other) = (home.ottla().await, home.ottla().await);
    let id = client.producer_id().await;
    let (large, behind) = (said("01").tagged(&"x".repeat(700)).by(id, 0, 0), said("2").by(id, 0, 2));
    // One batch is in the plugin for a while, and those behind it are all that their topic may have waiting. A request of
    // another kind keeps the batches of the same connection in their order.
    let waiting = said("0").tagged(&"x".repeat(800)).bytes();
    for _ in 0..4 {
        client.send(NEWEST, &produce_request(-1, "slow", &[(1, &waiting)])).await;
    }
    client.send(3, &ApiVersionsRequest::default()).await;
    client.send(NEWEST, &produce_request(-1, "slow", &[(0, &large.bytes())])).await;
    // The lanes of one topic cost no other topic its batches.
    let elsewhere = said("01").tagged(&"x".repeat(700));
    assert_eq!(other.produce("t", 0, &elsewhere).await.error_code, ErrorCode::None);
    for _ in 0..4 {
        assert_ne!(client.receive_produced(NEWEST).await.remove(0).error_code, ErrorCode::None);
    }
    client.receive(3).await;
    let refused = client.receive_produced(NEWEST).await.remove(0);
    assert_eq!(refused.error_code, ErrorCode::NotLeaderOrFollower, "{}", refused.message);
    home.set_topic("slow", "ottla.partitioner", "digit").await;
    assert_eq!(client.produce("slow", 0, &behind).await.error_code, ErrorCode::OutOfOrderSequenceNumber);
    for batch in [said("01").by(id, 0, 0), behind] {
        assert_eq!(client.produce("slow", 0, &batch).await.error_code, ErrorCode::None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_does_not_exist_names_the_record() {
    let home = TestBroker::start().await;
    home.routed_topic(3).await;
    let answer = home.client().await.produce("t", 0, &said("0191")).await;
    assert_eq!((answer.error_code, answer.record_errors), (ErrorCode::InvalidRecord, vec![2]));
    assert!(answer.message.contains("digit@1") && answer.message.contains("partition 9 of 3"), "{}", answer.message);
    for partition in 0..3 {
        assert!(home.records("t", partition).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_wrong_counts_and_refusals_each_say_what_they_are() {
    let home = TestBroker::start_with(&["plugin.call.timeout.ms=20"]).await;
    let guests = [
        ("loop", "(loop $again (br $again)) (unreachable)", "did not finish within 20 ms"),
        ("count", "(call $fill (i32.const 0) (i32.const 1))", "answered for 1 records, 2 were asked"),
        ("refuse", "(call $err (i32.const 0) (i32.const 0))", "refused the batch"),
        ("memory", "(drop (call $alloc (i32.const 0x7ffffff))) (unreachable)", "memory"),
    ];
    for (name, partition, reason) in guests {
        home.push(name, &Guest::that(partition).component()).await;
        home.create_topic(name, 2, &[("ottla.partitioner", name)]).await;
        let answer = home.client().await.produce(name, 0, &said("01")).await;
        assert_eq!(answer.error_code, ErrorCode::InvalidRecord, "{name}: {}", answer.message);
        assert!(answer.message.contains(&format!("{name}@1")), "{}", answer.message);
        assert!(answer.message.contains(reason), "{}", answer.message);
        assert!(home.records(name, 0).await.is_empty());
    }
    // A topic beside them is served as if nothing had been.
    home.create_topic("plain", 1, &[]).await;
    assert_eq!(home.client().await.produce("plain", 0, &said("a")).await.offset(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_0_through_a_plugin_closes_the_connection_when_it_fails() {
    let home = TestBroker::start().await;
    home.routed_topic(3).await;
    let mut client = home.client().await;
    let (good, bad) = (said("012").bytes(), said("t").bytes());
    client.send(9, &produce_request(0, "t", &[(0, &good)])).await;
    client.send(9, &produce_request(0, "t", &[(0, &bad)])).await;
    assert!(client.is_closed().await);
    assert_eq!(home.records("t", 2).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_unpacks_to_too_much_is_refused_by_name_of_the_setting() {
    let home = TestBroker::start_with(&["ottla.stage.unpacked.max.bytes=10000"]).await;
    home.routed_topic(3).await;
    let bomb = said(&"1".repeat(100)).codec(ottla_wire::record::Codec::Zstd).tagged(&"x".repeat(1000));
    let answer = home.client().await.produce("t", 0, &bomb).await;
    assert_eq!(answer.error_code, ErrorCode::MessageTooLarge);
    assert!(answer.message.contains("ottla.stage.unpacked.max.bytes"), "{}", answer.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_wait_for_a_slow_plugin_are_bounded_and_refused_so_that_they_come_again() {
    let settings = ["message.max.bytes=4096", "ottla.route.lane.max.bytes=4096", "plugin.call.timeout.ms=200"];
    let home = TestBroker::start_with(&settings).await;
    home.push("slow", &Guest::that("(loop $again (br $again)) (unreachable)").component()).await;
    home.create_topic("t", 2, &[("ottla.partitioner", "slow")]).await;
    let mut client = home.client().await;
    let batch = said("01").tagged(&"x".repeat(500)).bytes();
    for _ in 0..20 {
        client.send(NEWEST, &produce_request(-1, "t", &[(0, &batch)])).await;
    }
    let mut refused = 0;
    for _ in 0..20 {
        let answer = client.receive_produced(NEWEST).await.remove(0);
        if answer.message.contains("ottla.route.lane.max.bytes") {
            assert!(answer.error_code.is_retriable());
            refused += 1;
        } else {
            assert_eq!(answer.error_code, ErrorCode::InvalidRecord, "{}", answer.message);
        }
    }
    assert!((10..20).contains(&refused), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_workers_as_the_operator_wants_have_a_turn_in_the_plugin() {
    const LANES: i32 = 64;
    let home = TestBroker::start_with(&["ottla.route.workers.max=64", "plugin.call.timeout.ms=5000"]).await;
    // Some tens of milliseconds of work each: together more than a call waits for its turn.
    let busy = "(local $left i32) (local $at i32)
        (local.set $left (i32.const 100000000))
        (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (local.set $at (call $alloc (i32.const 4)))
        (i32.store (local.get $at) (i32.const 0))
        (call $ok (local.get $at) (i32.const 1))";
    home.push("busy", &Guest::that(busy).component()).await;
    home.create_topic("t", LANES, &[("ottla.partitioner", "busy")]).await;
    let batch = said("0").bytes();
    let mut clients = Vec::new();
    for lane in 0..LANES {
        let mut client = home.client().await;
        client.send(NEWEST, &produce_request(-1, "t", &[(lane, &batch)])).await;
        clients.push(client);
    }
    for mut client in clients {
        let answer = client.receive_produced(NEWEST).await.remove(0);
        assert_eq!(answer.error_code, ErrorCode::None, "{}", answer.message);
    }
}
