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
pub(crate) fn answer_all<'a>(request: &'a Request, part: &PartitionProduceResponse<'a>) -> Reply {
    answer_each(request, |_| part.clone())
}

/// An answer for every partition of a request.
pub(crate) fn answer_each<'a>(request: &'a Request, part: impl Fn(i32) -> PartitionProduceResponse<'a>) -> Reply {
    let produce: ProduceRequest<'_> = request.read();
    request.answer(&ProduceResponse { responses: responses(&produce, part), ..ProduceResponse::default() })
}

pub(crate) fn responses<'a>(
    produce: &ProduceRequest<'a>,
    part: impl Fn(i32) -> PartitionProduceResponse<'a>,
) -> Vec<TopicProduceResponse<'a>> {
    let topics = produce.topic_data.iter().map(|topic| TopicProduceResponse {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partition_responses: topic
            .partition_data
            .iter()
            .map(|data| PartitionProduceResponse { index: data.index, ..part(data.index) })
            .collect(),
    });
    topics.collect()
}

pub(crate) fn stored_at(base_offset: i64) -> PartitionProduceResponse<'static> {
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

pub(crate) fn record() -> ProducerRecord<'static> {
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

#[tokio::test]
async fn keyless_records_at_full_speed_reach_every_partition_alike() {
    let broker =
        FakeBroker::start(4, |request| (request.key == ApiKey::Produce).then(|| answer_all(request, &stored_at(0))))
            .await;
    for linger_ms in [0, 5] {
        let mut config = broker.producer();
        config.batch_bytes = 2_000;
        config.linger_ms = linger_ms;
        let producer = Producer::new(config).unwrap();
        let value = [b'v'; 50];
        let mut deliveries = Vec::new();
        for _ in 0..20_000 {
            deliveries.push(producer.send(&ProducerRecord::new("t").value(&value)).await.unwrap());
        }
        let mut counts = [0; 4];
        for delivery in deliveries {
            counts[delivery.await.unwrap().partition as usize] += 1;
        }
        assert!(counts.iter().all(|count| (3_000..7_000).contains(count)), "linger {linger_ms}: {counts:?}");
    }
}

#[tokio::test]
async fn a_refusal_after_an_attempt_without_answer_says_that_the_record_may_be_stored() {
    let broker = broker(|count, request| match count {
        0 => Reply::Close,
        _ => answer_all(request, &PartitionProduceResponse { error_code: ErrorCode::InvalidRecord, ..stored_at(-1) }),
    })
    .await;
    let producer = Producer::new(broker.producer()).unwrap();
    let error = producer.send(&record()).await.unwrap().await.unwrap_err();
    assert_eq!(error.to_string(), "t-0: INVALID_RECORD; it may or may not be stored");
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_the_broker_is_sent_in_pieces() {
    let log = Arc::new(Mutex::new((0_i64, 0_i32)));
    let broker = broker(move |_, request| {
        let produce: ProduceRequest<'_> = request.read();
        let batch = produce.topic_data[0].partition_data[0].records.unwrap();
        check_crc(batch).unwrap();
        let header = BatchHeader::parse(batch).unwrap();
        let (next_offset, next_sequence) = &mut *log.lock().unwrap();
        let refused = |error_code| PartitionProduceResponse { error_code, ..stored_at(-1) };
        let part = if header.record_count > 3 {
            refused(ErrorCode::MessageTooLarge)
        } else if header.base_sequence.get() != *next_sequence {
            refused(ErrorCode::OutOfOrderSequenceNumber)
        } else {
            let base_offset = *next_offset;
            *next_offset += i64::from(header.record_count);
            *next_sequence += header.record_count;
            stored_at(base_offset)
        };
        answer_all(request, &part)
    })
    .await;
    let mut config = broker.producer();
    config.linger_ms = 60_000;
    config.compression = ottla_client::Codec::Zstd;
    let producer = Producer::new(config).unwrap();
    let deliveries: Vec<_> = (0..21).map(|_| producer.try_send(&record()).unwrap()).collect();
    producer.flush().await;
    let mut offsets = Vec::new();
    for delivery in deliveries {
        offsets.push(delivery.await.unwrap().offset.unwrap());
    }
    assert_eq!(offsets, (0..21).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_brokers_words_about_a_batch_are_those_of_the_record_that_it_names() {
    let broker = broker(|_, request| {
        let named = BatchIndexAndErrorMessage { batch_index: 2, batch_index_error_message: None };
        let refused = PartitionProduceResponse {
            error_code: ErrorCode::InvalidRecord,
            record_errors: vec![named],
            error_message: Some("plugin by-country@2 failed: no country".into()),
            ..stored_at(-1)
        };
        answer_all(request, &refused)
    })
    .await;
    let mut config = broker.producer();
    config.linger_ms = 60_000;
    let producer = Producer::new(config).unwrap();
    let deliveries: Vec<_> = (0..3).map(|_| producer.try_send(&record()).unwrap()).collect();
    producer.flush().await;
    let mut words = Vec::new();
    for delivery in deliveries {
        let error = delivery.await.unwrap_err();
        assert_eq!(error.record_errors()[0].index, 2);
        words.push(error.to_string());
    }
    assert_eq!(words[2], "t-0: the record was refused: plugin by-country@2 failed: no country");
    let neighbour = "t-0: INVALID_RECORD: record 2 of its batch was refused: plugin by-country@2 failed: no country";
    assert_eq!(words[..2], [neighbour, neighbour]);
}

/// Found by seed 1054: one answer that made no sense ended the producer for good.
#[tokio::test]
async fn an_answer_about_the_producer_id_that_makes_no_sense_is_asked_for_again() {
    let asked = AtomicUsize::new(0);
    let broker = FakeBroker::start(1, move |request| match request.key {
        ApiKey::InitProducerId if asked.fetch_add(1, Ordering::Relaxed) == 0 => {
            let garbage = [&68_i32.to_be_bytes()[..], &request.correlation_id.to_be_bytes(), &[0xa5; 64]].concat();
            Some(Reply::Bytes(garbage))
        }
        ApiKey::Produce => Some(answer_all(request, &stored_at(2))),
        _ => None,
    })
    .await;
    let producer = Producer::new(broker.producer()).unwrap();
    assert_eq!(producer.send(&record()).await.unwrap().await.unwrap().offset, Some(2));
}
