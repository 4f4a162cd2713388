//! Handshake, framing, and order.

use ottla_wire::message::{
    ApiVersionsRequest, ApiVersionsResponse, DescribeClusterRequest, DescribeClusterResponse, DescribePluginsRequest,
    FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse,
};
use ottla_wire::{Api, ApiKey, ErrorCode};

use ottla_test_broker::{Client, TestBroker, fetch};
use ottla_tests::connection::request_frame;

fn introduction(name: &str) -> ApiVersionsRequest<'_> {
    ApiVersionsRequest { client_software_name: name.into(), client_software_version: "1.0".into() }
}

#[tokio::test]
async fn the_broker_advertises_exactly_its_table_in_every_version() {
    let broker = TestBroker::start().await;
    for version in 0..=4 {
        let answer = broker.client().await.ask(version, &introduction("librdkafka")).await;
        let response: ApiVersionsResponse<'_> = answer.read();
        assert_eq!(response.error_code, ErrorCode::None);
        let advertised: Vec<_> =
            response.api_keys.iter().map(|row| (row.api_key, row.min_version, row.max_version)).collect();
        let table: Vec<_> =
            Api::advertised_to(false).map(|api| (api.key.code(), api.advertised.min, api.advertised.max)).collect();
        assert_eq!(advertised, table);
        assert!(response.supported_features.is_empty() && response.finalized_features.is_empty());
    }
}

#[tokio::test]
async fn keys_of_our_own_are_for_our_own_clients() {
    let broker = TestBroker::start().await;
    let mut ours = broker.client().await;
    let answer = ours.ask(4, &introduction("ottla")).await;
    let response: ApiVersionsResponse<'_> = answer.read();
    assert!(response.api_keys.iter().any(|row| row.api_key == ApiKey::PushPlugin.code()));

    let mut stock = broker.client().await;
    stock.ask(4, &introduction("apache-kafka-java")).await;
    stock.send(0, &DescribePluginsRequest::default()).await;
    assert!(stock.is_closed().await);
}

#[tokio::test]
async fn an_api_versions_request_from_the_future_is_answered_in_version_0() {
    let broker = TestBroker::start().await;
    let mut client = broker.client().await;
    let mut request = request_frame(4, 77, &introduction("future"));
    request[6..8].copy_from_slice(&9_i16.to_be_bytes());
    client.send_bytes(&request).await;
    let answer = client.receive(0).await;
    assert_eq!(answer.correlation_id(), 77);
    let response: ApiVersionsResponse<'_> = answer.read();
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion);
    let rows: Vec<_> = response.api_keys.iter().map(|row| (row.api_key, row.min_version, row.max_version)).collect();
    assert_eq!(rows, [(18, 0, 4)]);
    // The connection lives on.
    client.ask(4, &introduction("future")).await;
}

#[tokio::test]
async fn a_bad_software_name_is_an_error_and_not_the_end() {
    let broker = TestBroker::start().await;
    let mut client = broker.client().await;
    let answer = client.ask(3, &introduction("bad name")).await;
    assert_eq!(answer.read::<ApiVersionsResponse<'_>>().error_code, ErrorCode::InvalidRequest);
    let answer = client.ask(3, &introduction("good-name")).await;
    assert_eq!(answer.read::<ApiVersionsResponse<'_>>().error_code, ErrorCode::None);
}

#[tokio::test]
async fn answers_leave_in_the_order_of_the_requests() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = broker.client().await;
    // The long poll in front is answered last in time, and first in order.
    let mut poll = fetch("t", &[(0, 0)]);
    poll.max_wait_ms = 300;
    let mut sent = vec![client.send(12, &poll).await];
    for _ in 0..50 {
        sent.push(client.send(9, &MetadataRequest { topics: None, ..Default::default() }).await);
    }
    let mut received = Vec::new();
    for _ in &sent {
        received.push(client.receive(9).await.correlation_id());
    }
    assert_eq!(received, sent);
}

#[tokio::test]
async fn requests_in_pieces_and_in_heaps_are_all_answered() {
    let broker = TestBroker::start().await;
    let mut client = broker.client().await;
    let request = |id| request_frame(9, id, &MetadataRequest { topics: None, ..Default::default() });
    for byte in request(1) {
        client.send_bytes(&[byte]).await;
    }
    assert_eq!(client.receive(9).await.correlation_id(), 1);
    // More than the connection takes at once: the rest waits in the socket and in the buffer.
    let heap: Vec<u8> = (0..1000).flat_map(request).collect();
    let (mut reader, mut writer) = (client, None);
    let stream = std::mem::replace(&mut reader.stream, broker.client().await.stream);
    let (read_half, mut write_half) = stream.into_split();
    writer.replace(tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut write_half, &heap).await.unwrap();
        write_half
    }));
    let mut read_half = read_half;
    for id in 0..1000 {
        let mut length = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut read_half, &mut length).await.unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        tokio::io::AsyncReadExt::read_exact(&mut read_half, &mut answer).await.unwrap();
        assert_eq!(answer[..4], i32::to_be_bytes(id));
    }
    drop(writer.unwrap().await.unwrap());
}

#[tokio::test]
async fn what_is_not_served_ends_the_connection_after_the_answers_owed() {
    let broker = TestBroker::start().await;
    let metadata = request_frame(9, 5, &MetadataRequest::default());
    let with = |position: usize, number: i16| {
        let mut bytes = metadata.clone();
        bytes[position..position + 2].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    let mut undecodable = metadata.clone();
    let body = undecodable.len() - 5;
    undecodable[body..].fill(0xff);
    let cases = [
        ("unknown key", with(4, 12345)),
        ("a key of Kafka's that is not served", with(4, 11)),
        ("version above", with(6, 14)),
        ("version below", with(6, -1)),
        (
            "produce version 2, advertised and not served",
            [&[0, 0, 0, 10][..], &[0, 0, 0, 2, 0, 0, 0, 9, 255, 255]].concat(),
        ),
        ("undecodable body", undecodable),
        ("header cut short", vec![0, 0, 0, 5, 0, 3, 0, 9, 0]),
        ("empty frame", vec![0, 0, 0, 0]),
    ];
    for (what, bytes) in cases {
        let mut client = broker.client().await;
        client.send_bytes(&metadata).await;
        client.send_bytes(&bytes).await;
        client.send_bytes(&metadata).await;
        assert_eq!(client.receive(9).await.correlation_id(), 5, "{what}");
        assert!(client.is_closed().await, "{what}");
    }
    broker.client().await.ask(9, &MetadataRequest::default()).await;
}

#[tokio::test]
async fn the_address_advertised_is_the_one_listened_on() {
    let broker = TestBroker::start().await;
    for version in 0..=13 {
        let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        let answer = broker.client().await.ask(version, &request).await;
        let response: MetadataResponse<'_> = answer.read();
        assert_eq!(response.brokers.len(), 1);
        assert_eq!(response.brokers[0].host, "127.0.0.1");
        assert_eq!(response.brokers[0].port, i32::from(broker.addr().port()));
        if version >= 1 {
            assert_eq!(response.controller_id, response.brokers[0].node_id);
        }
        if version >= 2 {
            assert_eq!(response.cluster_id.as_deref(), Some(&*broker.broker.cluster_id));
        }
    }
}

#[tokio::test]
async fn an_advertised_address_is_taken_as_it_is() {
    let broker = TestBroker::start_with(&["advertised.listeners=broker.example:0"]).await;
    let answer = broker.client().await.ask(12, &MetadataRequest::default()).await;
    let response: MetadataResponse<'_> = answer.read();
    assert_eq!(response.brokers[0].host, "broker.example");
    assert_eq!(response.brokers[0].port, i32::from(broker.addr().port()));
}

/// Every answer that names a broker names the address of the listener by which the question came.
#[tokio::test]
async fn each_listener_tells_its_clients_its_own_address() {
    let broker = TestBroker::start_with(&[
        "listeners=PLAINTEXT://127.0.0.1:0,INTERNAL://127.0.0.2:0,SIX://[::1]:0",
        "advertised.listeners=PLAINTEXT://broker.example:19092",
        "listener.security.protocol.map=INTERNAL:PLAINTEXT,UNUSED:SASL_SSL",
        "inter.broker.listener.name=INTERNAL",
    ])
    .await;
    let ports: Vec<_> = broker.broker.endpoints.iter().map(|endpoint| endpoint.addr.port()).collect();
    let told = [("broker.example", 19092), ("127.0.0.2", ports[1]), ("::1", ports[2])];
    for (endpoint, (host, port)) in broker.broker.endpoints.iter().zip(told) {
        let mut client = Client::connect(endpoint.addr).await;
        let expected = (host.to_owned(), i32::from(port));
        let answer = client.ask(12, &MetadataRequest::default()).await;
        let metadata: MetadataResponse<'_> = answer.read();
        assert_eq!((metadata.brokers[0].host.to_string(), metadata.brokers[0].port), expected);
        let answer = client.ask(0, &DescribeClusterRequest::default()).await;
        let cluster: DescribeClusterResponse<'_> = answer.read();
        assert_eq!((cluster.brokers[0].host.to_string(), cluster.brokers[0].port), expected);
        for version in [1, 6] {
            let coordinator_keys = if version >= 4 { vec!["g".into()] } else { Vec::new() };
            let request = FindCoordinatorRequest { key: "g".into(), coordinator_keys, ..Default::default() };
            let answer = client.ask(version, &request).await;
            let found: FindCoordinatorResponse<'_> = answer.read();
            let found = match found.coordinators.first() {
                Some(found) => (found.host.to_string(), found.port),
                None => (found.host.to_string(), found.port),
            };
            assert_eq!(found, expected, "{} version {version}", endpoint.name);
        }
    }
}

/// A consumer that assigns partitions asks for the coordinator all the same, when its library makes it name a group.
#[tokio::test]
async fn groups_find_this_node_and_what_is_missing_is_refused_for_good() {
    let broker = TestBroker::start().await;
    for version in 0..=6 {
        for key_type in if version == 0 { 0..=0 } else { 0..=2 } {
            let request = FindCoordinatorRequest {
                key: "g".into(),
                key_type,
                coordinator_keys: if version >= 4 { vec!["g".into(), "h".into()] } else { Vec::new() },
            };
            let answer = broker.client().await.ask(version, &request).await;
            let response: FindCoordinatorResponse<'_> = answer.read();
            let found: Vec<_> = if version >= 4 {
                response.coordinators.iter().map(|found| (found.error_code, found.node_id)).collect()
            } else {
                vec![(response.error_code, response.node_id)]
            };
            assert_eq!(found.len(), if version >= 4 { 2 } else { 1 });
            for (error, node_id) in found {
                if key_type == 0 {
                    assert_eq!((error, node_id), (ErrorCode::None, 1));
                } else {
                    assert!(error != ErrorCode::None && !error.is_retriable(), "{error:?}");
                }
            }
        }
    }
}
