//! Before anything can be asked: reaching a broker and agreeing on versions.

use ottla_client::{Admin, AdminError, Classify, ConnectionError};
use ottla_wire::message::{ApiVersionsResponse, ApiVersionsResponseKey};
use ottla_wire::{ApiKey, ErrorCode, encode_response};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::broker::{FakeBroker, Reply, client, metadata};

async fn failure_against(config: ottla_client::ClientConfig) -> ConnectionError {
    match Admin::new(config).unwrap().list_topics().await {
        Err(AdminError::Connection(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_an_error_that_says_what_to_do() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let error = failure_against(client(&address.to_string())).await;
    assert_eq!(
        error.to_string(),
        format!("cannot reach {address}: connection refused; is the broker running? start it with `ottla serve`")
    );
    assert!(error.is_retriable());
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_told_apart() {
    for greeting in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\0\0\0\x02hi", b"\xff\xff\xff\xff", b"\0\0\0\0"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(greeting).await.unwrap();
            stream
        });
        let error = failure_against(client(&address)).await;
        assert!(matches!(error, ConnectionError::NotKafka { .. }), "{error}");
        assert!(error.to_string().contains(&address));
        drop(peer.await);
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up() {
    let silent = FakeBroker::start(1, |_| Some(Reply::Silence)).await;
    let mut config = silent.client();
    config.connect_timeout_ms = 50;
    let error = failure_against(config).await;
    assert!(matches!(error, ConnectionError::Unreachable { .. }), "{error}");
}

/// Brokers answer a version of ApiVersions that they do not know in the words of version 0, with error 35.
#[tokio::test]
async fn an_older_broker_is_spoken_to_in_its_own_version() {
    let older = FakeBroker::start(2, |request| {
        if request.key != ApiKey::ApiVersions {
            assert_eq!((request.key, request.version), (ApiKey::Metadata, 4));
            return None;
        }
        let key =
            |key: ApiKey, max_version| ApiVersionsResponseKey { api_key: key.code(), min_version: 0, max_version };
        let response = ApiVersionsResponse {
            error_code: if request.version > 2 { ErrorCode::UnsupportedVersion } else { ErrorCode::None },
            api_keys: vec![key(ApiKey::ApiVersions, 2), key(ApiKey::Metadata, 4)],
            ..Default::default()
        };
        let mut frame = Vec::new();
        encode_response(request.correlation_id, 0, &response, &mut frame);
        if request.version <= 2 {
            return Some(request.answer(&response));
        }
        Some(Reply::Bytes(frame))
    })
    .await;
    let topics = Admin::new(older.client()).unwrap().list_topics().await.unwrap();
    assert_eq!((&*topics[0].name, topics[0].partitions), ("t", 2));
}

#[tokio::test]
async fn what_a_broker_does_not_offer_is_said_by_name() {
    let plain = FakeBroker::start(1, |request| {
        let mut response = crate::broker::versions();
        response.api_keys.retain(|key| key.api_key < 20_000);
        (request.key == ApiKey::ApiVersions).then(|| request.answer(&response))
    })
    .await;
    let error = Admin::new(plain.client()).unwrap().list_plugins().await.unwrap_err();
    assert!(error.to_string().contains("does not offer DescribePlugins"), "{error}");
    assert!(!error.is_retriable());
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors_not_crashes() {
    for what in 0..6 {
        let liar = FakeBroker::start(1, move |request| {
            if request.key != ApiKey::Metadata {
                return None;
            }
            let Reply::Bytes(mut frame) = request.answer(&metadata(request.address, 1)) else { return None };
            match what {
                0 => frame[7] ^= 1,                                       // another question's number
                1 => frame[..4].copy_from_slice(&i32::MAX.to_be_bytes()), // 2 GiB are announced
                2 => frame[..4].copy_from_slice(&(-1_i32).to_be_bytes()), // less than nothing
                3 => {
                    frame.truncate(20);
                    frame[..4].copy_from_slice(&16_i32.to_be_bytes()); // half a message
                }
                4 => frame[13..17].copy_from_slice(&[0xff; 4]), // an array of more than there is
                _ => return Some(Reply::Close),
            }
            Some(Reply::Bytes(frame))
        })
        .await;
        let error = failure_against(liar.client()).await;
        assert!(matches!(error, ConnectionError::Malformed { .. } | ConnectionError::Lost { .. }), "{what}: {error}");
    }
}
