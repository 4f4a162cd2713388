//! Requests that arrive together: they go to the log together, and each is answered as if it had come alone.

use std::sync::Arc;

use bytes::BytesMut;
use ottla_broker::partition::door::{Submission, submit_all};
use ottla_wire::ErrorCode;
use ottla_wire::message::ProduceRequest;
use ottla_wire::record::BatchHeader;

use ottla_test_broker::{Answered, NEWEST, Said, TestBroker, produce_request, said};

/// Sends one batch per request to partitions of topic `t`, all in one write; the answers in their order.
async fn together(home: &TestBroker, acks: i16, batches: &[(i32, Vec<u8>)]) -> Vec<Answered> {
    let mut client = home.client().await;
    let requests: Vec<ProduceRequest<'_>> =
        batches.iter().map(|(partition, batch)| produce_request(acks, "t", &[(*partition, batch)])).collect();
    client.send_together(NEWEST, &requests).await;
    let mut answers = Vec::new();
    for _ in batches {
        answers.push(client.receive_produced(NEWEST).await.remove(0));
    }
    answers
}

fn values(batches: &[&Said]) -> Vec<String> {
    batches.iter().flat_map(|batch| batch.values()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_arrive_together_are_answered_one_by_one_in_order() {
    for acks in [1, -1] {
        let home = TestBroker::start().await;
        home.create_topic("t", 3, &[]).await;
        let said: Vec<_> = (0..60).map(|at| said("ab").tagged(&format!("{at}:"))).collect();
        let batches: Vec<_> = (0..).zip(&said).map(|(at, batch)| (at % 3, batch.bytes())).collect();
        let answers = together(&home, acks, &batches).await;
        let offsets: Vec<_> = answers.iter().map(Answered::offset).collect();
        assert_eq!(offsets, (0..60).map(|at| at / 3 * 2).collect::<Vec<_>>());
        for partition in 0..3 {
            let stored = home.records("t", partition).await.into_iter().map(|(_, value)| value);
            let sent: Vec<_> = said.iter().skip(partition as usize).step_by(3).collect();
            assert_eq!(stored.collect::<Vec<_>>(), values(&sent));
            for (at, batch) in home.stored("t", partition).await.iter().enumerate() {
                assert_eq!(BatchHeader::parse(batch).unwrap().base_offset.get(), 2 * at as i64);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_one_request_is_not_that_of_its_neighbours() {
    let home = TestBroker::start_with(&["message.max.bytes=2000"]).await;
    home.create_topic("t", 2, &[]).await;
    let mut damaged = said("damaged").bytes();
    *damaged.last_mut().unwrap() ^= 1;
    let large = said("large").tagged(&"x".repeat(3000)).bytes();
    let sent: Vec<_> = ["one", "two", "three"].into_iter().map(said).collect();
    let batches = [
        (0, sent[0].bytes()),
        (0, damaged),
        (7, sent[0].bytes()),
        (0, sent[1].bytes()),
        (0, large),
        (0, sent[2].bytes()),
    ];
    let answers = together(&home, -1, &batches).await;
    let codes: Vec<_> = answers.iter().map(|answer| answer.error_code).collect();
    let (none, corrupt) = (ErrorCode::None, ErrorCode::CorruptMessage);
    assert_eq!(codes, [none, corrupt, ErrorCode::UnknownTopicOrPartition, none, ErrorCode::MessageTooLarge, none]);
    assert_eq!([answers[0].base_offset, answers[3].base_offset, answers[5].base_offset], [0, 3, 6]);
    let stored: Vec<_> = home.records("t", 0).await.into_iter().map(|(_, value)| value).collect();
    assert_eq!(stored, values(&sent.iter().collect::<Vec<_>>()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_are_checked_batch_by_batch_in_requests_that_arrive_together() {
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[]).await;
    let [one, other] = [home.client().await.producer_id().await, home.client().await.producer_id().await];
    let first = said("ab").by(one, 0, 0);
    let script = [
        (first.clone(), Ok(0)),
        (said("cd").by(one, 0, 2), Ok(2)),
        (said("xy").by(other, 0, 0), Ok(4)),
        // Again.
        (first, Ok(0)),
        (said("ef").by(one, 0, 4), Ok(6)),
        // A gap, and what would follow on it.
        (said("gh").by(one, 0, 8), Err(ErrorCode::OutOfOrderSequenceNumber)),
        (said("ij").by(one, 0, 10), Err(ErrorCode::OutOfOrderSequenceNumber)),
        (said("kl").by(one, 0, 6), Ok(8)),
        // A batch without a producer.
        (said("mn"), Ok(10)),
        // A new incarnation begins at zero and fences the old one.
        (said("op").by(one, 1, 0), Ok(12)),
        (said("qr").by(one, 0, 8), Err(ErrorCode::InvalidProducerEpoch)),
        (said("st").by(one, 1, 2), Ok(14)),
        (said("uv").by(other, 0, 2), Ok(16)),
    ];
    let batches: Vec<_> = script.iter().map(|(said, _)| (0, said.bytes())).collect();
    let answers = together(&home, -1, &batches).await;
    for ((said, expected), answer) in script.iter().zip(answers) {
        let outcome =
            if answer.error_code == ErrorCode::None { Ok(answer.base_offset) } else { Err(answer.error_code) };
        assert_eq!(outcome, *expected, "{:?}", said.values());
    }
    let stored = home.records("t", 0).await.into_iter().map(|(key, _)| key).collect::<String>();
    assert_eq!(stored, "abcdxyefklmnopstuv");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_arrive_together_fill_small_segments_as_they_would_alone() {
    const SEGMENT_BYTES: u64 = 600;
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[("internal.segment.bytes", &SEGMENT_BYTES.to_string())]).await;
    // Some fit together, some not, and one is larger than a segment is to be.
    let said: Vec<_> =
        (0..60).map(|at| said("ab").tagged(&"x".repeat(if at == 30 { 900 } else { at * 7 % 150 }))).collect();
    let batches: Vec<_> = said.iter().map(|batch| (0, batch.bytes())).collect();
    let answers = together(&home, -1, &batches).await;
    let offsets: Vec<_> = answers.iter().map(Answered::offset).collect();
    assert_eq!(offsets, (0..60).map(|at| at * 2).collect::<Vec<_>>());
    let stored: Vec<_> = home.records("t", 0).await.into_iter().map(|(_, value)| value).collect();
    assert_eq!(stored, values(&said.iter().collect::<Vec<_>>()));
    let partition = home.broker.topics.get("t").unwrap().partition(0).cloned().unwrap();
    let mut sizes = std::collections::BTreeMap::<_, Vec<u64>>::new();
    let (mut offset, end) = (ottla_wire::Offset(0), partition.log.end_offset());
    while let Some((bytes, range)) = partition.log.read_batches(offset, 1, end).unwrap() {
        offset = range.next_offset;
        sizes.entry(range.segment.base_offset().get()).or_default().push(bytes.len() as u64);
    }
    assert!(sizes.len() > 10, "{sizes:?}");
    assert!(sizes.values().any(|batches| batches.len() > 1), "{sizes:?}");
    for batches in sizes.values() {
        assert!(batches.len() == 1 || batches.iter().sum::<u64>() <= SEGMENT_BYTES, "{sizes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_after_a_request_that_ends_the_connection_is_not_taken() {
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[]).await;
    let mut client = home.client().await;
    let batch = said("a").bytes();
    let unknown = [(9, batch.as_slice())];
    let good = [(0, batch.as_slice())];
    let requests = [produce_request(0, "t", &good), produce_request(0, "t", &unknown)];
    client.send_together(NEWEST, &requests).await;
    assert!(client.is_closed().await);
    assert_eq!(home.records("t", 0).await.len(), 1);
}

/// The settings of a topic may change between two requests of one turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_for_the_plugin_is_not_joined_with_one_that_came_before_the_plugin_did() {
    let home = TestBroker::start().await;
    home.routed_topic(2).await;
    let topic = home.broker.topics.get("t").unwrap();
    let submission = |staged: bool, said: &Said| Submission {
        partition: Arc::clone(topic.partition(0).unwrap()),
        staged,
        segment_bytes: topic.settings().segment_bytes_in_force(),
        batch: BytesMut::from(&*said.bytes()),
        header: BatchHeader::parse(&said.bytes()).unwrap(),
    };
    let batches = vec![submission(false, &said("1")), submission(true, &said("1"))];
    for outcome in submit_all(batches, &home.broker.memory, |lane| home.broker.router.work_on(lane)) {
        outcome.unwrap().landing().await.unwrap();
    }
    while home.records("t", 1).await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!((home.records("t", 0).await.len(), home.records("t", 1).await.len()), (1, 1));
}
