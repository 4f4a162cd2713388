//! Retention and compaction in a whole broker: what is left, and what producers that come again are told.

use std::sync::Arc;

use ottla_broker::broker::Broker;
use ottla_wire::ErrorCode;
use ottla_wire::message::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic};
use ottla_wire::record::Codec;

use ottla_test_broker::{TestBroker, digit, said};

/// Small segments, and nothing cleaned unless a test asks for it.
const QUIET: [&str; 2] = ["log.retention.check.interval.ms=4000000000", "log.cleaner.backoff.ms=4000000000"];
const SMALL: (&str, &str) = ("internal.segment.bytes", "300");

async fn clean(home: &TestBroker) {
    let broker: Arc<Broker> = Arc::clone(&home.broker);
    tokio::task::spawn_blocking(move || broker.cleaner.run()).await.unwrap();
}

fn log_start(home: &TestBroker, topic: &str) -> i64 {
    home.broker.topics.get(topic).unwrap().partition(0).unwrap().log.log_start_offset().get()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_retention_removed_is_still_recognised_after_a_crash() {
    let mut home = TestBroker::start_with(&QUIET).await;
    home.create_topic("t", 2, &[SMALL, ("retention.bytes", "0")]).await;
    let mut client = home.client().await;
    let id = client.producer_id().await;
    for sequence in 0..8 {
        assert_eq!(client.produce("t", 0, &said("a").by(id, 0, sequence)).await.offset(), i64::from(sequence));
    }
    clean(&home).await;
    assert_eq!(log_start(&home, "t"), 8);
    assert!(home.broker.cleaner.stats().segments_removed > 0);
    for crash in [true, false, true] {
        home = if crash { home.crash().await } else { home.restart().await };
        assert_eq!((log_start(&home, "t"), home.records("t", 1).await.len()), (8, 0));
        let mut client = home.client().await;
        for sequence in 3..8 {
            let answer = client.produce("t", 0, &said("a").by(id, 0, sequence)).await;
            assert_eq!((answer.offset(), answer.log_start_offset), (i64::from(sequence), 8));
        }
        let gap = client.produce("t", 0, &said("a").by(id, 0, 9)).await;
        assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber);
    }
    let mut client = home.client().await;
    assert_eq!(client.produce("t", 0, &said("a").by(id, 0, 8)).await.offset(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_compaction_emptied_is_still_recognised() {
    let mut home = TestBroker::start_with(&QUIET).await;
    home.create_topic("t", 1, &[SMALL, ("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")]).await;
    let mut client = home.client().await;
    let id = client.producer_id().await;
    for sequence in [0, 2, 4] {
        client.produce("t", 0, &said("ab").codec(Codec::Zstd).by(id, 0, sequence)).await.offset();
    }
    for round in 0..8 {
        client.produce("t", 0, &said("ab").tagged(&round.to_string())).await.offset();
    }
    clean(&home).await;
    let left = home.records("t", 0).await;
    assert!(left.len() < 8, "{left:?}");
    assert_eq!(left.last().unwrap().1, "7ab#1");
    assert!(home.broker.cleaner.stats().compaction_records_removed > 0);
    for without_snapshot in [false, true] {
        let producers = home.snapshot("t");
        home = home.crash().await;
        if without_snapshot {
            // Its last batch is in the log, though empty; what came before can only be known from the snapshot.
            std::fs::remove_file(producers).unwrap();
            home = home.crash().await;
        }
        let mut client = home.client().await;
        assert_eq!(client.produce("t", 0, &said("ab").by(id, 0, 4)).await.offset(), 4);
        let gap = client.produce("t", 0, &said("ab").by(id, 0, 8)).await;
        assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(home.records("t", 0).await, left);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_what_the_next_round_does() {
    let home = TestBroker::start_with(&QUIET).await;
    home.create_topic("t", 1, &[SMALL]).await;
    let mut client = home.client().await;
    for _ in 0..8 {
        client.produce("t", 0, &said("abab")).await.offset();
    }
    clean(&home).await;
    // Written in 2023, they are older than the seven days that a topic keeps its records unless it is told otherwise.
    assert_eq!(log_start(&home, "t"), 32);
    for (name, value) in [("retention.ms", "-1"), ("cleanup.policy", "compact,delete"), ("segment.ms", "1")] {
        assert_eq!(home.set_topic("t", name, value).await.0, ErrorCode::None);
    }
    for _ in 0..8 {
        client.produce("t", 0, &said("abab")).await.offset();
    }
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    clean(&home).await;
    assert_eq!((log_start(&home, "t"), home.broker.cleaner.stats().compactions), (32, 1));
    assert!(home.broker.cleaner.stats().compaction_records_removed > 0);
    home.set_topic("t", "retention.ms", "1").await;
    clean(&home).await;
    assert_eq!(log_start(&home, "t"), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cleaner_works_by_itself_and_a_routed_topic_keeps_its_order() {
    let mut home = TestBroker::start_with(&["log.retention.check.interval.ms=5", "log.cleaner.backoff.ms=5"]).await;
    home.push("digit", &digit(0)).await;
    let settings =
        [SMALL, ("ottla.partitioner", "digit"), ("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];
    home.create_topic("t", 2, &settings).await;
    let id = home.client().await.producer_id().await;
    for sequence in 0..60 {
        if sequence % 20 == 19 {
            home = home.crash().await;
        }
        let batch = said("01").tagged(&format!("{sequence:03} ")).by(id, 0, sequence * 2);
        let answer = home.client().await.produce("t", 0, &batch).await;
        assert_eq!(answer.error_code, ErrorCode::None, "{}", answer.message);
        // Sent again, it is answered from what is known.
        let again = home.client().await.produce("t", 0, &batch).await;
        assert_eq!(again.error_code, ErrorCode::None, "{}", again.message);
    }
    while home.broker.cleaner.stats().compaction_records_removed == 0 {
        tokio::task::yield_now().await;
    }
    home = home.crash().await;
    for partition in 0..2 {
        let records = home.records("t", partition).await;
        assert!(records.len() < 60 && records.is_sorted_by(|a, b| a.1 < b.1), "{records:?}");
        assert_eq!(records.last().unwrap(), &(partition.to_string(), format!("059 01#{partition}")));
    }
}

/// Deletes every record of a partition.
async fn delete_all(home: &TestBroker, topic: &str, partition_index: i32) -> ErrorCode {
    let partitions = vec![DeleteRecordsPartition { partition_index, offset: -1 }];
    let topics = vec![DeleteRecordsTopic { name: topic.to_owned().into(), partitions }];
    let answer = home.client().await.ask(2, &DeleteRecordsRequest { topics, timeout_ms: 30_000 }).await;
    let response: DeleteRecordsResponse<'_> = answer.read();
    response.topics[0].partitions[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_many_partitions_are_deleted_at_once_and_every_producer_is_still_known_after_a_crash() {
    const PARTITIONS: i32 = 8;
    const ROUNDS: i32 = 30;
    let home = Arc::new(TestBroker::start_with(&QUIET).await);
    home.create_topic("t", PARTITIONS, &[]).await;
    let deleting: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let home = Arc::clone(&home);
            tokio::spawn(async move {
                let mut client = home.client().await;
                let id = client.producer_id().await;
                let mut refused = 0;
                for sequence in 0..ROUNDS {
                    client.produce("t", partition, &said("a").by(id, 0, sequence)).await.offset();
                    refused += i32::from(delete_all(&home, "t", partition).await != ErrorCode::None);
                }
                (id, refused)
            })
        })
        .collect();
    let mut ids = Vec::new();
    let mut refused = 0;
    for deleting in deleting {
        let (id, failed) = deleting.await.unwrap();
        ids.push(id);
        refused += failed;
    }
    assert_eq!(refused, 0, "of {} requests", PARTITIONS * ROUNDS);
    let home = Arc::into_inner(home).unwrap().crash().await;
    let mut client = home.client().await;
    for (partition, id) in (0..PARTITIONS).zip(ids) {
        let answer = client.produce("t", partition, &said("a").by(id, 0, ROUNDS - 1)).await;
        assert_eq!(answer.offset(), i64::from(ROUNDS - 1), "a retry is recognised");
        let log = home.broker.topics.get("t").unwrap().partition(partition).unwrap().log.clone();
        assert_eq!((log.log_start_offset().get(), log.end_offset().get()), (i64::from(ROUNDS), i64::from(ROUNDS)));
    }
}
