//! What the broker does not put up with, and that the next client is served.

use ottla_wire::message::MetadataRequest;
use tokio::io::AsyncReadExt;

use ottla_test_broker::TestBroker;

async fn is_served(broker: &TestBroker) {
    broker.client().await.ask(9, &MetadataRequest::default()).await;
}

#[tokio::test]
async fn frames_too_large_or_negative_end_the_connection_before_their_bytes_come() {
    let broker = TestBroker::start_with(&["socket.request.max.bytes=10000"]).await;
    for length in [10_001, i32::MAX, -1, i32::MIN] {
        let mut client = broker.client().await;
        client.send_bytes(&length.to_be_bytes()).await;
        assert!(client.is_closed().await, "{length}");
        is_served(&broker).await;
    }
}

#[tokio::test]
async fn random_bytes_end_their_connection_and_nothing_else() {
    let broker = TestBroker::start().await;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..50 {
        let mut client = broker.client().await;
        let garbage: Vec<u8> = std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        })
        .take(4096)
        .collect();
        // A length that lets the rest be read as a request, then noise.
        client.send_bytes(&4092_i32.to_be_bytes()).await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, &garbage[..4092]).await;
        assert!(client.is_closed().await);
    }
    is_served(&broker).await;
}

#[tokio::test]
async fn half_a_frame_is_waited_for_and_other_clients_are_served() {
    let broker = TestBroker::start().await;
    let mut halves = Vec::new();
    for _ in 0..20 {
        let mut client = broker.client().await;
        client.send_bytes(&(90_i32 << 20).to_be_bytes()).await;
        client.send_bytes(&[0; 100]).await;
        halves.push(client);
    }
    is_served(&broker).await;
    drop(halves);
    is_served(&broker).await;
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let broker = TestBroker::start_with(&["connections.max.idle.ms=100"]).await;
    let mut silent = broker.client().await;
    assert!(silent.is_closed().await);
    let mut halfway = broker.client().await;
    halfway.send_bytes(&[0, 0]).await;
    assert!(halfway.is_closed().await);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_places_come_free() {
    let broker = TestBroker::start_with(&["max.connections=2"]).await;
    let (mut first, mut second) = (broker.client().await, broker.client().await);
    first.ask(9, &MetadataRequest::default()).await;
    second.ask(9, &MetadataRequest::default()).await;
    assert!(broker.client().await.is_closed().await);
    drop(first);
    // The broker notices the departure in its own time.
    loop {
        let mut third = broker.client().await;
        third.send(9, &MetadataRequest::default()).await;
        let mut length = [0; 4];
        if third.stream.read_exact(&mut length).await.is_ok() {
            break;
        }
    }
    second.ask(9, &MetadataRequest::default()).await;
}
