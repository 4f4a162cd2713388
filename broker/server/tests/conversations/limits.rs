//! What the broker does not put up with, and that the next client is served.

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResponse, DescribeGroupsRequest, DescribeGroupsResponse, DescribeProducersRequest,
    DescribeProducersRequestTopic, DescribeProducersResponse, FetchPartition, FetchRequest, FetchResponse, FetchTopic,
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic, MetadataRequest,
    MetadataRequestTopic, MetadataResponse, OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
    OffsetFetchRequestTopics, OffsetFetchResponse, RESOURCE_TOPIC,
};
use tokio::io::AsyncReadExt;

use ottla_test_broker::TestBroker;

use crate::groups::coordinated;

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

/// What a client names again and again is answered once: no answer is larger than what there is.
#[tokio::test]
async fn what_is_named_many_times_is_answered_once() {
    const TIMES: usize = 3_000;
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let mut client = coordinated(&broker, "g").await;

    let topic =
        DescribeConfigsResource { resource_type: RESOURCE_TOPIC, resource_name: "t".into(), ..Default::default() };
    let request = DescribeConfigsRequest { resources: vec![topic; TIMES], ..Default::default() };
    let answer = client.ask(4, &request).await;
    assert_eq!(answer.read::<DescribeConfigsResponse<'_>>().results.len(), 1);

    let request = DescribeGroupsRequest { groups: vec!["g".into(); TIMES], ..Default::default() };
    let answer = client.ask(5, &request).await;
    assert_eq!(answer.read::<DescribeGroupsResponse<'_>>().groups.len(), 1);

    let request = ConsumerGroupDescribeRequest { group_ids: vec!["g".into(); TIMES], ..Default::default() };
    let answer = client.ask(0, &request).await;
    assert_eq!(answer.read::<ConsumerGroupDescribeResponse<'_>>().groups.len(), 1);

    let topic = DescribeProducersRequestTopic { name: "t".into(), partition_indexes: [0, 1].repeat(TIMES) };
    let answer = client.ask(0, &DescribeProducersRequest { topics: vec![topic; 2] }).await;
    let response: DescribeProducersResponse<'_> = answer.read();
    assert_eq!((response.topics.len(), response.topics[0].partitions.len()), (1, 2));

    let topic =
        OffsetFetchRequestTopics { name: "t".into(), partition_indexes: [0, 1].repeat(TIMES), ..Default::default() };
    let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic; 2]), ..Default::default() };
    let answer = client.ask(8, &OffsetFetchRequest { groups: vec![group; 3], ..Default::default() }).await;
    let response: OffsetFetchResponse<'_> = answer.read();
    let partitions: usize = response.groups[0].topics.iter().map(|topic| topic.partitions.len()).sum();
    assert_eq!((response.groups.len(), partitions), (1, 2));
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: [0, 1].repeat(TIMES) };
    let request = OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let answer = client.ask(7, &request).await;
    assert_eq!(answer.read::<OffsetFetchResponse<'_>>().topics[0].partitions.len(), 2);
}

/// The largest requests that real clients send: all of 10 000 topics with the shortest of names, in
/// versions of each way to write names; and 100 000 topics or partitions.
#[tokio::test]
async fn the_largest_honest_requests_are_answered() {
    const TOPICS: usize = 10_000;
    const PARTITIONS: i32 = 100_000;
    let broker = TestBroker::start().await;
    let mut client = broker.client().await;
    for topics in [TOPICS, PARTITIONS as usize] {
        let names: Vec<String> = (0..topics).map(|number| format!("{number:x}")).collect();
        for version in [4, 7, 8, 9, 12, 13] {
            let wanted = names
                .iter()
                .map(|name| MetadataRequestTopic { name: Some(name.as_str().into()), ..Default::default() });
            let request = MetadataRequest {
                topics: Some(wanted.collect()),
                allow_auto_topic_creation: false,
                ..Default::default()
            };
            let answer = client.ask(version, &request).await;
            assert_eq!(answer.read::<MetadataResponse<'_>>().topics.len(), topics, "version {version}");
        }
    }
    assert!(broker.broker.topics.is_empty(), "topics were created although the client forbade it");

    let partitions = (0..PARTITIONS).map(|partition_index| ListOffsetsPartition {
        partition_index,
        timestamp: -1,
        ..Default::default()
    });
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: partitions.collect() }];
    let answer = client.ask(7, &ListOffsetsRequest { topics, ..Default::default() }).await;
    let response: ListOffsetsResponse<'_> = answer.read();
    assert_eq!(response.topics[0].partitions.len(), PARTITIONS as usize);

    for version in [4, 11, 12] {
        let partitions = (0..PARTITIONS).map(|partition| FetchPartition { partition, ..Default::default() });
        let topic = FetchTopic { topic: "t".into(), partitions: partitions.collect(), ..Default::default() };
        let request = FetchRequest { topics: vec![topic], session_epoch: -1, ..Default::default() };
        let answer = client.ask(version, &request).await;
        let response: FetchResponse<'_> = answer.read();
        let partitions = &response.responses[0].partitions;
        assert_eq!(partitions.len(), PARTITIONS as usize, "version {version}");
        assert!(partitions.iter().all(|partition| partition.error_code == ErrorCode::UnknownTopicOrPartition));
    }

    let topic = OffsetFetchRequestTopics {
        name: "t".into(),
        partition_indexes: (0..PARTITIONS).collect(),
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let mut client = coordinated(&broker, "g").await;
    let answer = client.ask(8, &OffsetFetchRequest { groups: vec![group], ..Default::default() }).await;
    let response: OffsetFetchResponse<'_> = answer.read();
    assert_eq!(response.groups[0].topics[0].partitions.len(), PARTITIONS as usize);
}
