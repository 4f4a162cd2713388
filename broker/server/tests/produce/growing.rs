//! Topics that get more partitions while they are used, and a crash in the middle of it.

use ottla_wire::ErrorCode;
use ottla_wire::message::{CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic};
use ottla_wire::record::Codec;

use ottla_test_broker::{NEWEST, TestBroker, batch, produce_request, said};
use ottla_tests::guest::Guest;

async fn grow(home: &TestBroker, count: i32) -> ErrorCode {
    let topic = CreatePartitionsTopic { name: "t".into(), count, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
    let answer = home.client().await.ask(3, &request).await;
    answer.read::<CreatePartitionsResponse<'_>>().results[0].error_code
}

fn ends(home: &TestBroker) -> Vec<i64> {
    let topic = home.broker.topics.get("t").unwrap();
    topic.partitions.iter().map(|partition| partition.log.end_offset().get()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_wait_for_a_plugin_while_their_topic_grows_arrive_once_in_a_partition_of_their_time() {
    const BATCHES: usize = 60;
    let home = TestBroker::start_with(&["plugin.call.timeout.ms=10000"]).await;
    // Some milliseconds of work, and then the last partition that there is.
    let last = "(local $left i32) (local $at i32)
        (local.set $left (i32.const 5000000))
        (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (local.set $at (call $alloc (i32.const 4)))
        (i32.store (local.get $at) (i32.sub (local.get $partitions) (i32.const 1)))
        (call $ok (local.get $at) (i32.const 1))";
    home.push("last", &Guest::that(last).component()).await;
    home.create_topic("t", 2, &[("ottla.partitioner", "last")]).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    for number in 0..BATCHES as i32 {
        let batch = said("0").tagged(&format!("{number}:")).by(id, 0, number).bytes();
        client.send(NEWEST, &produce_request(-1, "t", &[(0, &batch)])).await;
    }
    // The first are through, most wait in their lane.
    assert_eq!(client.receive_produced(NEWEST).await[0].error_code, ErrorCode::None);
    assert_eq!(grow(&home, 4).await, ErrorCode::None);
    let waited = ends(&home).iter().sum::<i64>();
    assert!(waited < BATCHES as i64, "the batches did not wait: {waited} are stored");
    for number in 1..BATCHES {
        let answer = client.receive_produced(NEWEST).await.remove(0);
        assert_eq!(answer.error_code, ErrorCode::None, "batch {number}: {}", answer.message);
    }
    let ends = ends(&home);
    assert_eq!((ends[0], ends[2]), (0, 0));
    assert!(ends[1] > 0 && ends[3] > 0, "before and after it grew: {ends:?}");
    let mut values = home.records("t", 1).await;
    values.extend(home.records("t", 3).await);
    let numbers: Vec<_> =
        values.iter().map(|(_, value)| value.split(':').next().unwrap().parse::<usize>().unwrap()).collect();
    assert_eq!(numbers, (0..BATCHES).collect::<Vec<_>>(), "each once, in order");

    // The numbers of its producer and the partitions are there after a crash.
    let home = home.crash().await;
    let mut client = home.ottla().await;
    let again = said("0").tagged(&format!("{}:", BATCHES - 1)).by(id, 0, BATCHES as i32 - 1);
    assert_eq!(client.produce("t", 0, &again).await.error_code, ErrorCode::None, "a retry is answered as before");
    assert_eq!(self::ends(&home), ends);
}

/// CreatePartitions makes the directories first. A crash before the metadata says so leaves some that no topic has.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_directories_and_the_metadata_of_new_partitions_leaves_the_topic_as_it_was() {
    let home = TestBroker::start().await;
    home.create_topic("t", 2, &[]).await;
    home.append("t", 1, batch(Codec::None, 1, &[b"old"])).await;
    let path = home.data_dir().to_owned();
    let metadata = [path.join("metadata.log"), path.join("log/metadata.copy")];
    let before: Vec<_> = metadata.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert_eq!(grow(&home, 5).await, ErrorCode::None);
    let home = home
        .restart_after(|_| {
            for (file, before) in metadata.iter().zip(&before) {
                std::fs::write(file, before).unwrap();
            }
        })
        .await;
    assert!(path.join("log/t-4").exists(), "the directory of a partition that no metadata names");
    assert_eq!(ends(&home), [0, 1], "the topic is as it was");
    assert_eq!(grow(&home, 4).await, ErrorCode::None, "the next try takes what is there");
    assert_eq!(home.append("t", 3, batch(Codec::None, 1, &[b"new"])).await, 0);
    let home = home.crash().await;
    assert_eq!(ends(&home), [0, 1, 0, 1]);
}
