//! Records that a plugin moves, and what each client is told about it.

use ottla_wire::ErrorCode;
use ottla_wire::record::{Codec, batches, check_crc};

use ottla_test_broker::{NEWEST, TestBroker, digit, produce_request, said};

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_where_the_plugin_says_and_nowhere_else() {
    let home = TestBroker::start().await;
    home.routed_topic(4).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    let mut expected: [Vec<String>; 4] = Default::default();
    let mut sequence = 0;
    for (round, codec) in (0..40).zip(Codec::ALL.into_iter().cycle()) {
        let keys = ["0123", "1", "2222", "301", "0"][round % 5];
        let mut batch = said(keys).codec(codec).tagged(&format!("{round}:"));
        if round % 2 == 0 {
            batch = batch.by(id, 0, sequence);
            sequence += keys.len() as i32;
        }
        for (key, value) in keys.chars().zip(batch.values()) {
            expected[key.to_digit(10).unwrap() as usize].push(value);
        }
        assert_eq!(client.produce("t", 0, &batch).await.error_code, ErrorCode::None);
    }
    for (partition, expected) in (0..).zip(expected) {
        let values: Vec<_> = home.records("t", partition).await.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, expected, "partition {partition}");
        for stored in home.stored("t", partition).await {
            check_crc(&stored).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_stays_is_stored_as_it_was_sent() {
    let home = TestBroker::start().await;
    home.routed_topic(4).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    let batch = said("2222").codec(Codec::Zstd).by(id, 0, 0);
    let answer = client.produce("t", 2, &batch).await;
    assert_eq!((answer.offset(), answer.placements), (0, vec![]));
    assert_eq!(home.stored("t", 2).await[0][16..], batch.bytes()[16..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_clients_learn_every_placement() {
    let home = TestBroker::start().await;
    home.routed_topic(4).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    client.produce("t", 1, &said("11")).await;
    for batch in [said("001102").by(id, 0, 0), said("001102")] {
        let answer = client.produce("t", 3, &batch).await;
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::None, -1));
        let [zero, one, two] = [0, 1, 2].map(|partition| {
            let topic = home.broker.topics.get("t").unwrap();
            topic.partition(partition).unwrap().log.end_offset().get()
        });
        assert_eq!(
            answer.placements,
            [(0, 2, 0, zero - 3), (2, 2, 1, one - 2), (4, 1, 0, zero - 1), (5, 1, 2, two - 1)]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stock_client_is_told_an_offset_that_could_be_one() {
    let home = TestBroker::start().await;
    home.routed_topic(4).await;
    for (name, told) in [("apache-kafka-java", -1), ("kafka-python", -1), ("librdkafka", -3), ("sarama", -3)] {
        let mut client = home.client_named(name).await;
        let answer = client.produce("t", 0, &said("012")).await;
        assert_eq!((answer.offset(), answer.placements), (told, vec![]), "{name}");
        // Nothing left its partition: an offset like any other.
        assert!(client.produce("t", 0, &said("000")).await.offset() >= 0);
    }
    let mut nameless = home.client().await;
    assert_eq!(nameless.produce_as(3, 1, "t", 0, &said("12").bytes()).await.offset(), -2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_answered_from_what_is_known_also_after_another_version_took_over() {
    let home = TestBroker::start().await;
    home.routed_topic(4).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    let moved = said("0123").codec(Codec::Snappy).by(id, 0, 0);
    let stays = said("00").by(id, 0, 4);
    let first = client.produce("t", 0, &moved).await;
    assert_eq!(first.placements.len(), 4);
    let second = client.produce("t", 0, &stays).await;
    assert_eq!(second.offset(), 1);
    assert_eq!(home.push("digit", &digit(1)).await, 2);
    assert_eq!(home.activate("digit", 2).await, (ErrorCode::None, 2));
    let check = async |home: &TestBroker| {
        let mut client = home.ottla().await;
        assert_eq!(client.produce("t", 0, &moved).await, first);
        assert_eq!(client.produce("t", 0, &stays).await, second);
        for (partition, records) in [(0, 3), (1, 1), (2, 1), (3, 1)] {
            assert_eq!(home.records("t", partition).await.len(), records);
        }
    };
    check(&home).await;
    let home = home.crash().await;
    check(&home).await;
    let home = home.restart().await;
    check(&home).await;
    // A batch that is new goes through the new version.
    let next = home.ottla().await.produce("t", 0, &said("0").by(id, 0, 6)).await;
    assert_eq!(next.placements, [(0, 1, 1, 1)]);
    assert_eq!(home.activate("digit", -1).await, (ErrorCode::None, 1));
    assert_eq!(home.ottla().await.produce("t", 0, &said("0").by(id, 0, 7)).await.offset(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_very_many_runs_is_recognised_and_costs_the_snapshot_little() {
    let home = TestBroker::start().await;
    home.routed_topic(2).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    let keys = "01".repeat(250);
    let batches: Vec<_> = (0..5).map(|at| said(&keys).codec(Codec::Zstd).by(id, 0, at * 500)).collect();
    for batch in &batches {
        let first = client.produce("t", 0, batch).await;
        assert_eq!((first.error_code, first.placements.len()), (ErrorCode::None, 500));
    }
    let check = async |home: &TestBroker| {
        let mut client = home.ottla().await;
        for batch in &batches {
            // That it was taken is told; where each record is, no more.
            let again = client.produce("t", 0, batch).await;
            assert_eq!((again.offset(), again.placements), (-1, vec![]));
        }
        assert_eq!((home.records("t", 0).await.len(), home.records("t", 1).await.len()), (1250, 1250));
    };
    check(&home).await;
    let broker = std::sync::Arc::clone(&home.broker);
    tokio::task::spawn_blocking(move || broker.keeper.checkpoint()).await.unwrap();
    assert!(std::fs::metadata(home.snapshot("t")).unwrap().len() <= 4096);
    let home = home.crash().await;
    check(&home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_between_batches_that_stay_and_batches_that_leave() {
    let home = TestBroker::start().await;
    home.routed_topic(3).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    // All to partition 0, none of the answers awaited: some stay, some leave, some do both; with and without numbers.
    let keys = ["0", "1", "00", "01", "2", "0", "10", "0"];
    let mut sequence = 0;
    let mut expected: [Vec<String>; 3] = Default::default();
    for round in 0..200 {
        let keys = keys[round % keys.len()];
        let mut batch = said(keys).tagged(&format!("{round}:"));
        if round % 3 > 0 {
            batch = batch.by(id, 0, sequence);
            sequence += keys.len() as i32;
        }
        for (key, value) in keys.chars().zip(batch.values()) {
            expected[key.to_digit(10).unwrap() as usize].push(value);
        }
        client.send(NEWEST, &produce_request(-1, "t", &[(0, &batch.bytes())])).await;
    }
    for _ in 0..200 {
        assert_eq!(client.receive_produced(NEWEST).await[0].error_code, ErrorCode::None);
    }
    for (partition, expected) in (0..).zip(expected) {
        let values: Vec<_> = home.records("t", partition).await.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, expected, "partition {partition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_plugin_was_switched_off_appends_as_it_comes() {
    let home = TestBroker::start().await;
    home.routed_topic(3).await;
    let mut client = home.ottla().await;
    client.produce("t", 0, &said("12")).await;
    assert_eq!(home.set_topic("t", "ottla.partitioner.mode", "off").await.0, ErrorCode::None);
    assert_eq!(client.produce("t", 0, &said("12")).await.offset(), 0);
    let (code, message) = home.set_topic("t", "ottla.partitioner.mode", "verify").await;
    assert_eq!(code, ErrorCode::InvalidConfig, "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_batches_may_be_larger_than_the_topic_allows() {
    let home = TestBroker::start().await;
    home.push("digit", &digit(0)).await;
    let configs = [("ottla.partitioner", "digit"), ("max.message.bytes", "2000")];
    home.create_topic("t", 3, &configs).await;
    let mut client = home.ottla().await;
    // Packed together they are small; apart they are not.
    let batch = said(&"12".repeat(300)).codec(Codec::Zstd).tagged(&"x".repeat(100));
    assert!(batch.bytes().len() < 20_000);
    home.set_topic("t", "max.message.bytes", &batch.bytes().len().to_string()).await;
    assert_eq!(client.produce("t", 0, &batch).await.error_code, ErrorCode::None);
    for partition in [1, 2] {
        let stored = home.stored("t", partition).await.remove(0);
        assert_eq!(batches(&stored).next().unwrap().unwrap().header.record_count, 300);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactional_batches_on_a_routed_topic_are_refused_clearly() {
    let home = TestBroker::start().await;
    home.routed_topic(3).await;
    let mut bytes = Vec::new();
    said("12").by(1, 0, 0).builder().transactional().finish(&mut bytes).unwrap();
    let answer = home.client().await.produce_as(NEWEST, -1, "t", 0, &bytes).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidTxnState);
    assert!(answer.message.contains("not supported yet"), "{}", answer.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn routed_page_cache_topics_survive_a_crash_too() {
    let home = TestBroker::start().await;
    home.push("digit", &digit(0)).await;
    let configs = [("ottla.partitioner", "digit"), ("ottla.durability", "page-cache")];
    home.create_topic("t", 3, &configs).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    let batch = said("012").by(id, 0, 0);
    let first = client.produce("t", 0, &batch).await;
    drop(client);
    let home = home.crash().await;
    assert_eq!(home.ottla().await.produce("t", 0, &batch).await, first);
    for partition in 0..3 {
        assert_eq!(home.records("t", partition).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_checkpoints_under_load_lose_and_double_nothing() {
    let settings = ["ottla.route.journal.max.bytes=4096", "ottla.producer.snapshot.interval.ms=100"];
    let mut home = TestBroker::start_with(&settings).await;
    home.routed_topic(3).await;
    let id = home.client().await.producer_id().await;
    let mut sequence = 0;
    for _ in 0..4 {
        let mut client = home.ottla().await;
        for _ in 0..200 {
            let batch = said("0120").by(id, 0, sequence).tagged(&format!("{sequence}:"));
            client.send(NEWEST, &produce_request(-1, "t", &[(1, &batch.bytes())])).await;
            sequence += 4;
        }
        for _ in 0..200 {
            assert_eq!(client.receive_produced(NEWEST).await[0].error_code, ErrorCode::None);
        }
        drop(client);
        home = home.crash().await;
        let again = said("0120").by(id, 0, sequence - 4).tagged(&format!("{}:", sequence - 4));
        let answer = home.ottla().await.produce("t", 1, &again).await;
        assert_eq!(answer.placements.len(), 4);
    }
    for (partition, per_batch) in [(0, 2), (1, 1), (2, 1)] {
        assert_eq!(home.records("t", partition).await.len(), 800 * per_batch);
    }
    // Once there is quiet, the journal holds nothing any more.
    home.ottla().await.produce("t", 1, &said("0120")).await;
    let journal = home.broker.log.all()[0].path().join("route");
    let bytes =
        || -> u64 { std::fs::read_dir(&journal).unwrap().map(|it| it.unwrap().metadata().unwrap().len()).sum() };
    while bytes() > 1000 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
