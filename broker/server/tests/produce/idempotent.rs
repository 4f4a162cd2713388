//! Idempotent producers: retries, gaps and epochs, across restarts and crashes.

use ottla_wire::ErrorCode;
use ottla_wire::record::Codec;

use ottla_test_broker::{NEWEST, TestBroker, produce_request, said};

async fn home() -> (TestBroker, i64) {
    let home = TestBroker::start().await;
    home.create_topic("t", 2, &[]).await;
    let id = home.client().await.producer_id().await;
    (home, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_offset_of_the_first_time() {
    let (home, id) = home().await;
    let mut client = home.client().await;
    client.produce("t", 0, &said("z")).await;
    for round in 0..6 {
        let batch = said("ab").by(id, 0, round * 2).tagged(&round.to_string());
        assert_eq!(client.produce("t", 0, &batch).await.offset(), 1 + i64::from(round) * 2);
    }
    // Five are remembered, the sixth last is not.
    for round in 1..6 {
        let batch = said("ab").by(id, 0, round * 2).tagged(&round.to_string());
        assert_eq!(client.produce("t", 0, &batch).await.offset(), 1 + i64::from(round) * 2);
    }
    let oldest = client.produce("t", 0, &said("ab").by(id, 0, 0).tagged("0")).await;
    assert_eq!(oldest.error_code, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(home.records("t", 0).await.len(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_and_old_epochs_are_refused_and_a_new_epoch_starts_at_zero() {
    let (home, id) = home().await;
    let mut client = home.client().await;
    client.produce("t", 0, &said("a").by(id, 0, 0)).await.offset();
    let gap = client.produce("t", 0, &said("a").by(id, 0, 2)).await;
    assert_eq!((gap.error_code, gap.base_offset), (ErrorCode::OutOfOrderSequenceNumber, -1));
    let late = client.produce("t", 0, &said("a").by(id, 1, 1)).await;
    assert_eq!(late.error_code, ErrorCode::OutOfOrderSequenceNumber);
    client.produce("t", 0, &said("a").by(id, 1, 0)).await.offset();
    let stale = client.produce("t", 0, &said("a").by(id, 0, 1)).await;
    assert_eq!(stale.error_code, ErrorCode::InvalidProducerEpoch);
    // Another partition counts by itself.
    client.produce("t", 1, &said("a").by(id, 0, 0)).await.offset();
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_in_flight_on_one_connection_are_all_recognised_again() {
    let (home, id) = home().await;
    let mut client = home.client().await;
    let batches: Vec<_> = (0..5).map(|at| said("abc").codec(Codec::Lz4).by(id, 0, at * 3).bytes()).collect();
    // The same five twice, none of the answers awaited in between.
    for batch in batches.iter().chain(&batches) {
        client.send(NEWEST, &produce_request(-1, "t", &[(0, batch)])).await;
    }
    for round in 0..10 {
        assert_eq!(client.receive_produced(NEWEST).await[0].offset(), round % 5 * 3);
    }
    assert_eq!(home.records("t", 0).await.len(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_producer_wrote_is_known_after_a_stop_and_after_a_crash() {
    let (mut home, id) = home().await;
    let mut sequence = 0;
    for round in 0..6 {
        let mut client = home.client().await;
        // The last batch before the end comes again, then a gap, then a new one.
        if sequence > 0 {
            let again = client.produce("t", 0, &said("abcd").by(id, 0, sequence - 4)).await;
            assert_eq!(again.offset(), i64::from(sequence) - 4, "round {round}");
            let gap = client.produce("t", 0, &said("abcd").by(id, 0, sequence + 4)).await;
            assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber);
        }
        for _ in 0..3 {
            let answer = client.produce("t", 0, &said("abcd").by(id, 0, sequence)).await;
            assert_eq!(answer.offset(), i64::from(sequence));
            sequence += 4;
        }
        drop(client);
        home = match round % 3 {
            0 => home.restart().await,
            1 => home.crash().await,
            // A snapshot in the middle, and more after it.
            _ => {
                home.broker.keeper.checkpoint();
                let answer = home.client().await.produce("t", 0, &said("abcd").by(id, 0, sequence)).await;
                assert_eq!(answer.offset(), i64::from(sequence));
                sequence += 4;
                home.crash().await
            }
        };
    }
    assert_eq!(home.records("t", 0).await.len(), sequence as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_wrap_to_zero() {
    let (home, id) = home().await;
    let mut client = home.client().await;
    let edge = i32::MAX - 1;
    client.produce("t", 0, &said("a").by(id, 0, edge - 1)).await.offset();
    assert_eq!(client.produce("t", 0, &said("abcd").by(id, 0, edge)).await.offset(), 1);
    let home = home.crash().await;
    let mut client = home.client().await;
    assert_eq!(client.produce("t", 0, &said("abcd").by(id, 0, edge)).await.offset(), 1);
    assert_eq!(client.produce("t", 0, &said("e").by(id, 0, 2)).await.offset(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_writes_down_what_a_start_after_a_crash_had_to_look_up() {
    let (home, id) = home().await;
    home.client().await.produce("t", 1, &said("abc").by(id, 0, 0)).await.offset();
    let home = home.crash().await;
    let written = |home: &TestBroker| home.snapshot("t").exists();
    assert!(!written(&home));
    let home = home.restart().await;
    assert!(written(&home));
    assert_eq!(home.client().await.produce("t", 1, &said("abc").by(id, 0, 0)).await.offset(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_producers_is_bounded_and_costs_another_partition_none_of_its_own() {
    const CROWD: i64 = 150;
    let home = TestBroker::start_with(&["ottla.producer.ids.max=100"]).await;
    home.create_topic("t", 2, &[]).await;
    let mut client = home.client().await;
    client.produce("t", 1, &said("ab").by(7, 0, 0)).await.offset();
    for id in 1000..1000 + CROWD {
        client.produce("t", 0, &said("a").by(id, 0, 0)).await.offset();
    }
    let check = async |home: &TestBroker| {
        let mut client = home.client().await;
        assert_eq!(client.produce("t", 1, &said("ab").by(7, 0, 0)).await.offset(), 0, "it is still known");
        let newest = 1000 + CROWD - 1;
        assert_eq!(client.produce("t", 0, &said("a").by(newest, 0, 0)).await.offset(), CROWD - 1);
        // One that is known refuses a gap; one that was forgotten may begin anywhere, as in Kafka.
        let known = client.produce("t", 0, &said("a").by(newest, 0, 5)).await;
        assert_eq!(known.error_code, ErrorCode::OutOfOrderSequenceNumber);
    };
    check(&home).await;
    let home = home.crash().await;
    check(&home).await;
    let home = home.restart().await;
    check(&home).await;
    let forgotten = home.client().await.produce("t", 0, &said("a").by(1000, 0, 5)).await;
    assert_eq!(forgotten.offset(), CROWD);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_are_unpacked_on_arrival_keep_their_order_among_others() {
    let home = TestBroker::start().await;
    home.create_topic("c", 1, &[("cleanup.policy", "compact")]).await;
    let mut client = home.client().await;
    let id = client.producer_id().await;
    let packed = |at: i32| if at % 2 == 0 { said("0").codec(Codec::Zstd) } else { said("0") };
    let sent: Vec<_> = (0..6).map(|at| packed(at).by(id, 0, at).bytes()).collect();
    let requests: Vec<_> = sent.iter().map(|batch| produce_request(-1, "c", &[(0, batch)])).collect();
    client.send_together(NEWEST, &requests).await;
    for offset in 0..6 {
        let answered = client.receive_produced(NEWEST).await.remove(0);
        assert_eq!((answered.error_code, answered.base_offset), (ErrorCode::None, offset));
    }
}
