//! Leaders that are gone, partitions that vanish, connections that hang: what the producer does when its broker is not
//! where it was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use ottla_client::{ErrorCode, ProduceError, Producer, ProducerRecord, SendError};
use ottla_wire::ApiKey;
use ottla_wire::message::{MetadataRequest, PartitionProduceResponse, ProduceRequest, ProduceResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;

use crate::broker::{FakeBroker, Reply, Request, client, honest, metadata, metadata_of};
use crate::producing::{answer_all, answer_each, record, stored_at};

const PATIENCE: Duration = Duration::from_secs(20);

/// An address at which nothing listens.
async fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A broker that names a leader at which nothing listens for so many metadata requests, then what `later` makes of its own
/// address and the dead one.
async fn with_dead_leader(
    turns: usize,
    later: impl Fn(SocketAddr, SocketAddr) -> View + Send + Sync + 'static,
) -> FakeBroker {
    let dead = dead_address().await;
    let asked = AtomicUsize::new(0);
    FakeBroker::start(1, move |request| match request.key {
        ApiKey::Metadata if asked.fetch_add(1, Ordering::Relaxed) < turns => {
            Some(request.answer(&metadata_of(&[(1, request.address), (2, dead)], &[2])))
        }
        ApiKey::Metadata => {
            let (nodes, leaders) = later(request.address, dead);
            Some(request.answer(&metadata_of(&nodes, &leaders)))
        }
        ApiKey::Produce => Some(answer_all(request, &stored_at(5))),
        _ => None,
    })
    .await
}

/// Node ids with addresses, and the leader of each partition.
type View = (Vec<(i32, SocketAddr)>, Vec<i32>);

#[tokio::test]
async fn a_leader_that_refuses_connections_is_replaced_by_the_one_that_other_brokers_name() {
    let broker = with_dead_leader(1, |address, dead| (vec![(1, address), (2, dead)], vec![1])).await;
    let mut config = broker.producer();
    config.delivery_timeout_ms = 10_000;
    let producer = Producer::new(config).unwrap();
    assert_eq!(producer.send(&record()).await.unwrap().await.unwrap().offset, Some(5));
}

#[tokio::test]
async fn a_leader_under_a_new_address_is_found_again() {
    let broker = with_dead_leader(1, |address, _| (vec![(2, address)], vec![2])).await;
    let mut config = broker.producer();
    config.delivery_timeout_ms = 10_000;
    let producer = Producer::new(config).unwrap();
    assert_eq!(producer.send(&record()).await.unwrap().await.unwrap().offset, Some(5));
}

/// What this thread has spent on a processor so far. Everything in such a test runs on its thread.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_leader_that_is_no_broker_any_more_is_asked_for_with_pauses() {
    let broker = with_dead_leader(1, |address, _| (vec![(1, address)], vec![2])).await;
    let mut config = broker.producer();
    config.client.retry_backoff_ms = 20;
    config.client.retry_backoff_ms_max = 20;
    config.delivery_timeout_ms = 1_500;
    let producer = Producer::new(config).unwrap();
    let before = processor_time();
    let error = producer.send(&record()).await.unwrap().await.unwrap_err();
    assert!(matches!(error, ProduceError::TimedOut { in_doubt: false, .. }), "{error}");
    let spent = processor_time().saturating_sub(before);
    assert!(spent < Duration::from_millis(500), "{spent:?} on the processor");
    let asked = broker.count(ApiKey::Metadata);
    assert!((3..200).contains(&asked), "{asked} questions in 1.5 s");
}

#[tokio::test]
async fn a_record_says_why_it_timed_out() {
    let address = dead_address().await;
    let mut config = ottla_client::ProducerConfig::default();
    config.client = client(&address.to_string());
    config.delivery_timeout_ms = 200;
    let producer = Producer::new(config).unwrap();
    let delivery = producer.send(&record()).await.unwrap();
    assert!(delivery.wait(Duration::ZERO).is_none());
    let error = delivery.await.unwrap_err().to_string();
    assert!(error.contains(&format!("cannot reach {address}: connection refused (")), "{error}");
    assert!(error.contains(" attempts)"), "{error}");
    assert!(producer.trouble().words().is_some());
}

#[tokio::test]
async fn a_record_times_out_in_time_although_no_request_has_room_for_it() {
    let asked = AtomicUsize::new(0);
    let broker = FakeBroker::start(1, move |request| match request.key {
        ApiKey::Produce if asked.fetch_add(1, Ordering::Relaxed) == 0 => Some(answer_all(request, &stored_at(0))),
        _ => None,
    })
    .await;
    let mut config = broker.producer();
    config.requests_in_flight_max = 1;
    config.delivery_timeout_ms = 300;
    let producer = Producer::new(config).unwrap();
    producer.send(&record()).await.unwrap().await.unwrap();
    let first = producer.send(&record()).await.unwrap();
    broker.saw(ApiKey::Produce, 2).await;
    let second = producer.send(&record()).await.unwrap();
    // Half of `request_timeout_ms`: the end of the first request must not be what wakes the sender.
    for delivery in [first, second] {
        let error = tokio::time::timeout(Duration::from_secs(15), delivery).await.unwrap().unwrap_err();
        assert!(matches!(error, ProduceError::TimedOut { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_topic_made_anew_with_fewer_partitions_is_used_as_it_is() {
    let partitions = Arc::new(AtomicI32::new(4));
    let count = Arc::clone(&partitions);
    let broker = FakeBroker::start(4, move |request| {
        let count = count.load(Ordering::Relaxed);
        match request.key {
            ApiKey::Metadata => Some(request.answer(&metadata(request.address, count))),
            ApiKey::Produce => Some(answer_each(request, |partition| {
                let gone = partition >= count;
                let error_code = if gone { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::None };
                PartitionProduceResponse { error_code, ..stored_at(1) }
            })),
            _ => None,
        }
    })
    .await;
    let producer = Producer::new(broker.producer()).unwrap();
    let explicit = |partition| ProducerRecord::new("t").partition(partition).value("v");
    for partition in 0..4 {
        producer.send(&explicit(partition)).await.unwrap().await.unwrap();
    }
    partitions.store(2, Ordering::Relaxed);
    let delivery = producer.send(&explicit(3)).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, delivery).await.unwrap().unwrap_err();
    assert!(matches!(error, ProduceError::NoSuchPartition { partition: 3, count: 2, .. }), "{error}");
    assert!(matches!(producer.try_send(&explicit(3)), Err(SendError::NoSuchPartition { count: 2, .. })));
    for key in 0..48 {
        let key = key.to_string();
        let delivery = producer.send(&ProducerRecord::new("t").key(&key)).await.unwrap();
        assert!(tokio::time::timeout(PATIENCE, delivery).await.unwrap().unwrap().partition < 2);
    }
    // And back again.
    partitions.store(4, Ordering::Relaxed);
}

#[tokio::test]
async fn partitions_that_were_added_are_seen_while_other_topics_are_asked_for() {
    let partitions = Arc::new(AtomicI32::new(1));
    let count = Arc::clone(&partitions);
    let broker = FakeBroker::start(1, move |request| match request.key {
        ApiKey::Metadata => {
            let asked: MetadataRequest<'_> = request.read();
            let of_t = asked.topics.iter().flatten().any(|topic| topic.name.as_deref() == Some("t"));
            let mut answer = metadata(request.address, count.load(Ordering::Relaxed));
            if !of_t {
                answer.topics.clear();
            }
            Some(request.answer(&answer))
        }
        ApiKey::Produce => Some(answer_all(request, &stored_at(1))),
        _ => None,
    })
    .await;
    let mut config = broker.producer();
    config.client.metadata_age_ms_max = 50;
    let producer = Producer::new(config).unwrap();
    producer.send(&record()).await.unwrap().await.unwrap();
    // A topic that never comes to be is asked for all the time.
    let unknown = producer.try_send(&ProducerRecord::new("u")).unwrap();
    partitions.store(2, Ordering::Relaxed);
    let added = ProducerRecord::new("t").partition(1);
    let seen = async {
        while producer.try_send(&added).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("the second partition is never seen");
    drop(unknown);
}

#[derive(Default)]
struct FrozenPeer {
    /// It reads on.
    thaw: Notify,
    /// Large requests that it saw begin, and that came in whole.
    begun: AtomicUsize,
    whole: AtomicUsize,
    /// A connection with a large request ended.
    ended: Notify,
}

/// A peer that stops reading in the middle of a large request, and goes on when told to. Counts large requests that
/// arrive whole.
fn peer_that_freezes() -> (SocketAddr, Arc<FrozenPeer>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(16).unwrap();
    let address = listener.local_addr().unwrap();
    let peer = Arc::new(FrozenPeer::default());
    let this = Arc::clone(&peer);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let peer = Arc::clone(&this);
            tokio::spawn(async move {
                let mut froze = false;
                while let Ok(length) = stream.read_i32().await {
                    if length > 1 << 20 {
                        froze = true;
                        peer.begun.fetch_add(1, Ordering::Relaxed);
                        peer.thaw.notified().await;
                    }
                    let mut frame = vec![0; length as usize];
                    if stream.read_exact(&mut frame).await.is_err() {
                        break;
                    }
                    if length > 1 << 20 {
                        peer.whole.fetch_add(1, Ordering::Relaxed);
                    } else if let Reply::Bytes(bytes) = honest(&Request::parse(&frame, address), 1) {
                        stream.write_all(&bytes).await.unwrap();
                    }
                }
                if froze {
                    peer.ended.notify_one();
                }
            });
        }
    });
    (address, peer)
}

#[tokio::test]
async fn a_record_that_was_given_up_is_not_sent_any_more_when_its_broker_reads_again() {
    let (address, peer) = peer_that_freezes();
    let mut config = ottla_client::ProducerConfig::default();
    config.client = client(&address.to_string());
    config.client.request_timeout_ms = 10_000;
    config.acks = ottla_client::Acks::Leader;
    config.idempotent = false;
    config.request_bytes_max = 64 << 20;
    config.linger_ms = 0;
    config.delivery_timeout_ms = 300;
    let producer = Producer::new(config).unwrap();
    let value = vec![7; 32 << 20];
    // On a busy machine a record may be too old before it leaves: what counts is one that was given up on its way.
    while peer.begun.load(Ordering::Relaxed) == 0 {
        let delivery = producer.send(&ProducerRecord::new("t").value(&value)).await.unwrap();
        let error = delivery.await.unwrap_err();
        assert!(matches!(error, ProduceError::TimedOut { .. }), "{error}");
    }
    drop(producer);
    peer.thaw.notify_one();
    tokio::time::timeout(PATIENCE, peer.ended.notified()).await.expect("the connection stays open");
    assert_eq!(peer.whole.load(Ordering::Relaxed), 0, "the record arrived after it was given up");
}

/// Many threads and long copies: a thread that waits for the outbox while `close` goes through it is the rule then, not the exception.
#[test]
fn every_record_that_send_takes_over_beside_close_is_settled() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let broker = runtime.block_on(FakeBroker::start(1, |request| {
        (request.key == ApiKey::Produce).then(|| answer_all(request, &stored_at(0)))
    }));
    let value = vec![7; 50_000];
    for round in 0..100 {
        let mut config = broker.producer();
        config.client.runtime = Some(runtime.handle().clone());
        let producer = Producer::new(config).unwrap();
        let started = AtomicUsize::new(0);
        let taken = std::thread::scope(|scope| {
            let send = || {
                let mut taken = Vec::new();
                loop {
                    match producer.try_send(&ProducerRecord::new("t").value(&value)) {
                        Ok(delivery) => taken.push(delivery),
                        Err(SendError::Closed) => return taken,
                        Err(SendError::BufferFull { .. }) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                    started.fetch_add(1, Ordering::Relaxed);
                }
            };
            let senders: Vec<_> = (0..8).map(|_| scope.spawn(send)).collect();
            while started.load(Ordering::Relaxed) < 20 {
                std::thread::yield_now();
            }
            producer.close_blocking(Duration::ZERO);
            senders.into_iter().map(|sender| sender.join().unwrap()).collect::<Vec<_>>()
        });
        for delivery in taken.into_iter().flatten() {
            assert!(delivery.wait(Duration::from_secs(5)).is_some(), "round {round}: a record is never settled");
        }
    }
}

/// Kafka's brokers may hold a client back after they answered (KIP-219).
#[tokio::test]
async fn a_throttled_producer_waits_before_its_next_request() {
    let times = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let broker = FakeBroker::start(1, move |request| {
        if request.key != ApiKey::Produce {
            return None;
        }
        seen.lock().unwrap().push(std::time::Instant::now());
        let produce: ProduceRequest<'_> = request.read();
        let responses = crate::producing::responses(&produce, |_| stored_at(0));
        Some(request.answer(&ProduceResponse { responses, throttle_time_ms: 300, ..Default::default() }))
    })
    .await;
    let producer = Producer::new(broker.producer()).unwrap();
    producer.send(&record()).await.unwrap().await.unwrap();
    producer.send(&record()).await.unwrap().await.unwrap();
    let times = times.lock().unwrap();
    assert!(times[1] - times[0] >= Duration::from_millis(300), "{:?}", times[1] - times[0]);
}
