//! The producer and a broker that does not keep its side.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_client::{AckBatch, Classify, DeliverySink, ErrorCode, ProduceError, Producer, ProducerRecord, SendError};
use ottla_wire::ApiKey;
use ottla_wire::message::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, Placement, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use ottla_wire::record::{BatchHeader, check_crc};

use crate::broker::{FakeBroker, Reply, Request};

/// The same answer for every partition of a request.
fn answer_all<'a>(request: &'a Request, part: &PartitionProduceResponse<'a>) -> Reply {
    let produce: ProduceRequest<'_> = request.read();
    let responses = produce.topic_data.iter().map(|topic| TopicProduceResponse {
        name: topic.name.clone(),
        partition_responses: topic
            .partition_data
            .iter()
            .map(|data| PartitionProduceResponse { index: data.index, ..part.clone() })
            .collect(),
    });
    request.answer(&ProduceResponse { responses: responses.collect(), ..ProduceResponse::default() })
}

fn stored_at(base_offset: i64) -> PartitionProduceResponse<'static> {
    PartitionProduceResponse { base_offset, ..PartitionProduceResponse::default() }
}

/// A broker that answers every produce request with `answer`; the number counts them.
async fn broker(answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> FakeBroker {
    let count = AtomicUsize::new(0);
    FakeBroker::start(1, move |request| {
        (request.key == ApiKey::Produce).then(|| answer(count.fetch_add(1, Ordering::Relaxed), request))
    })
    .await
}

fn record() -> ProducerRecord<'static> {
    ProducerRecord::new("t").key("k").value("v")
}

#[tokio::test]
async fn a_record_gets_its_place() {
    let broker = broker(|_, request| {
        let produce: ProduceRequest<'_> = request.read();
        let batch = produce.topic_data[0].partition_data[0].records.unwrap();
        check_crc(batch).unwrap();
        let header = BatchHeader::parse(batch).unwrap();
        assert_eq!((produce.acks, header.producer_id.get(), header.base_sequence.get()), (-1, 7, 0));
        answer_all(request, &stored_at(41))
    })
    .await;
    let producer = Producer::new(broker.producer()).unwrap();
    let placement = producer.send(&record()).await.unwrap().await.unwrap();
    assert_eq!((&*placement.topic, placement.partition, placement.offset), ("t", 0, Some(41)));
}

#[tokio::test]
async fn no_false_offset_is_ever_told() {
    let placement = |first_index, partition| Placement { first_index, count: 1, partition, base_offset: 5 };
    let spread = |placements| PartitionProduceResponse { placements, ..stored_at(-3) };
    for (answer, expected) in [
        (stored_at(-1), (0, None)),
        (stored_at(i64::MIN), (0, None)),
        (spread(vec![placement(0, 4)]), (4, Some(5))),
        // Placements that cannot be true.
        (spread(vec![placement(-1, 4)]), (0, None)),
        (spread(vec![placement(1, 4)]), (0, None)),
        (spread(vec![placement(0, 4), placement(0, 5)]), (0, None)),
    ] {
        let shown = format!("{answer:?}");
        let broker = broker(move |_, request| answer_all(request, &answer)).await;
        let producer = Producer::new(broker.producer()).unwrap();
        let placement = producer.send(&record()).await.unwrap().await.unwrap();
        assert_eq!((placement.partition, placement.offset), expected, "{shown}");
    }
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_is_tried_again() {
    let broker = broker(|count, request| match count {
        0 => Reply::Close,
        // Nothing about our partition.
        1 => request.answer(&ProduceResponse::default()),
        // No produce response at all.
        2 => Reply::Bytes([&100_i32.to_be_bytes()[..], &request.correlation_id.to_be_bytes(), &[0xff; 96]].concat()),
        3 => answer_all(
            request,
            &PartitionProduceResponse { error_code: ErrorCode::NotLeaderOrFollower, ..stored_at(-1) },
        ),
        _ => answer_all(request, &stored_at(3)),
    })
    .await;
    let producer = Producer::new(broker.producer()).unwrap();
    assert_eq!(producer.send(&record()).await.unwrap().await.unwrap().offset, Some(3));
    broker.saw(ApiKey::Produce, 5).await;
}

#[tokio::test]
async fn a_refused_record_is_named_and_its_neighbours_are_not_blamed() {
    let broker = broker(|_, request| {
        let error = |batch_index, words: &'static str| BatchIndexAndErrorMessage {
            batch_index,
            batch_index_error_message: Some(words.into()),
        };
        let refused = PartitionProduceResponse {
            error_code: ErrorCode::InvalidRecord,
            record_errors: vec![error(1, "no section"), error(99, "who?"), error(-1, "what?")],
            ..stored_at(-1)
        };
        answer_all(request, &refused)
    })
    .await;
    let mut config = broker.producer();
    config.linger_ms = 60_000;
    let producer = Producer::new(config).unwrap();
    let first = producer.try_send(&record()).unwrap();
    let second = producer.try_send(&record()).unwrap();
    producer.flush().await;
    let (first, second) = (first.await.unwrap_err(), second.await.unwrap_err());
    assert_eq!(first.code(), Some(ErrorCode::InvalidRecord));
    assert!(matches!(first, ProduceError::Refused { .. }), "{first}");
    assert!(matches!(&second, ProduceError::InvalidRecord { message, .. } if &**message == "no section"), "{second}");
    assert!(!second.is_retriable());
}

#[tokio::test]
async fn a_broker_that_never_answers_costs_the_delivery_time_out_and_no_more() {
    let broker = broker(|_, _| Reply::Silence).await;
    let mut config = broker.producer();
    config.client.request_timeout_ms = 30;
    config.delivery_timeout_ms = 100;
    let producer = Producer::new(config).unwrap();
    let error = producer.send(&record()).await.unwrap().await.unwrap_err();
    assert!(matches!(error, ProduceError::TimedOut { in_doubt: true, timeout_ms: 100, .. }), "{error}");
    assert!(error.to_string().contains("may or may not be stored"));
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_an_error_that_says_what_to_do() {
    let broker = FakeBroker::start(0, |_| None).await;
    let mut config = broker.producer();
    config.topic_wait_ms = 20;
    let producer = Producer::new(config).unwrap();
    let error = producer.send(&record()).await.unwrap().await.unwrap_err();
    assert!(error.to_string().contains("ottla topic create t"), "{error}");
}

#[tokio::test]
async fn a_full_buffer_pushes_back_until_there_is_room() {
    let open = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&open);
    let broker = broker(move |_, request| match gate.try_acquire() {
        Ok(permit) => {
            permit.forget();
            answer_all(request, &stored_at(0))
        }
        Err(_) => Reply::Close,
    })
    .await;
    let mut config = broker.producer();
    config.buffer_bytes = 1024;
    let producer = Producer::new(config).unwrap();
    let large = [0; 600];
    let record = ProducerRecord::new("t").value(&large);
    let first = producer.try_send(&record).unwrap();
    let error = producer.try_send(&record).unwrap_err();
    assert!(matches!(error, SendError::BufferFull { buffer_bytes: 1024 }) && error.is_retriable(), "{error}");
    open.add_permits(1000);
    let second = producer.send(&record).await.unwrap();
    assert!(first.await.is_ok() && second.await.is_ok());
}

#[tokio::test]
async fn nothing_is_taken_over_that_can_never_be_sent() {
    let broker = broker(|_, request| answer_all(request, &stored_at(0))).await;
    let producer = Producer::new(broker.producer()).unwrap();
    producer.send(&record()).await.unwrap().await.unwrap();
    let huge = vec![0; 2_000_000];
    for (record, words) in [
        (ProducerRecord::new("t").value(&huge), "larger than request_bytes_max"),
        (ProducerRecord::new("no/topic"), "is no topic name"),
        (ProducerRecord::new("t").partition(1), "has partitions 0 to 0"),
    ] {
        let error = producer.try_send(&record).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(producer.close(Duration::from_secs(5)).await);
    assert!(matches!(producer.try_send(&record()), Err(SendError::Closed)));
}

#[derive(Default)]
struct Heard(Mutex<Vec<Vec<u64>>>);

impl DeliverySink for Heard {
    fn delivered(&self, batches: Vec<AckBatch>) {
        let tokens = batches.iter().flat_map(AckBatch::iter).map(|ack| ack.token).collect();
        self.0.lock().unwrap().push(tokens);
    }
}

#[tokio::test]
async fn tickets_come_back_in_groups_and_in_order() {
    let broker = broker(|_, request| answer_all(request, &stored_at(0))).await;
    let heard = Arc::new(Heard::default());
    let mut config = broker.producer();
    config.linger_ms = 60_000;
    config.sink = Some(Arc::clone(&heard) as Arc<dyn DeliverySink>);
    let producer = Producer::new(config).unwrap();
    for token in 0..500 {
        producer.try_send_ticket(&record(), token).unwrap();
    }
    producer.flush().await;
    assert_eq!(*heard.0.lock().unwrap(), [(0..500).collect::<Vec<_>>()], "one call for one response");
}

/// Bindings live on threads that know no runtime.
#[test]
fn threads_without_a_runtime_can_produce() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let broker = runtime.block_on(broker(|_, request| answer_all(request, &stored_at(8))));
    let mut config = broker.producer();
    config.client.runtime = Some(runtime.handle().clone());
    let producer = Producer::new(config).unwrap();
    let patience = Duration::from_secs(20);
    let delivery = producer.send_blocking(&record(), patience).unwrap();
    assert!(producer.flush_blocking(patience));
    assert_eq!(delivery.wait(patience).unwrap().unwrap().offset, Some(8));
    assert!(producer.close_blocking(patience));
    assert!(Producer::new(ottla_client::ProducerConfig::default()).is_err(), "no runtime, and none is given");
}

#[tokio::test]
async fn closing_gives_up_what_cannot_be_sent_and_says_so() {
    let broker = broker(|_, _| Reply::Silence).await;
    let producer = Producer::new(broker.producer()).unwrap();
    let delivery = producer.send(&record()).await.unwrap();
    broker.saw(ApiKey::Produce, 1).await;
    assert!(!producer.close(Duration::ZERO).await);
    assert!(matches!(delivery.await, Err(ProduceError::Closed { in_doubt: true })));
}
