//! Administration of one node: partitions that are added, the cluster, producers, elections and moves of replicas.

use ottla_wire::message::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, CreatePartitionsAssignment,
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, DescribeClusterRequest,
    DescribeClusterResponse, DescribeProducersRequest, DescribeProducersRequestTopic, DescribeProducersResponse,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsRequestTopic, DescribeTopicPartitionsResponse,
    ElectLeadersRequest, ElectLeadersResponse, ElectLeadersTopic, FindCoordinatorRequest,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, MetadataRequest, MetadataRequestTopic,
    MetadataResponse, PartitionProduceData, ProduceRequest, ProduceResponse, ReassignablePartition, ReassignableTopic,
    TopicPartitionCursor, TopicProduceData,
};
use ottla_wire::record::{BatchBuilder, Codec};
use ottla_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Uuid};

use ottla_test_broker::{TestBroker, batch};

fn grown(name: &str, count: i32) -> CreatePartitionsTopic<'_> {
    CreatePartitionsTopic { name: name.into(), count, assignments: None }
}

async fn grow(
    broker: &TestBroker,
    validate_only: bool,
    topics: Vec<CreatePartitionsTopic<'_>>,
) -> Vec<(ErrorCode, String)> {
    let request = CreatePartitionsRequest { topics, timeout_ms: 10_000, validate_only };
    let answer = broker.client().await.ask(3, &request).await;
    let response: CreatePartitionsResponse<'_> = answer.read();
    let told = |result: &ottla_wire::message::CreatePartitionsTopicResult<'_>| {
        (result.error_code, result.error_message.as_deref().unwrap_or_default().to_owned())
    };
    response.results.iter().map(told).collect()
}

async fn partition_count(broker: &TestBroker, name: &str) -> usize {
    let topics = Some(vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]);
    let answer = broker.client().await.ask(9, &MetadataRequest { topics, ..Default::default() }).await;
    answer.read::<MetadataResponse<'_>>().topics[0].partitions.len()
}

#[tokio::test]
async fn added_partitions_can_be_used_at_once_and_after_a_restart() {
    let broker = TestBroker::start().await;
    let id = broker.create_topic("t", 2, &[("segment.bytes", "2000000")]).await;
    broker.append("t", 1, batch(Codec::None, 1, &[b"old"])).await;
    assert_eq!(grow(&broker, true, vec![grown("t", 5)]).await[0].0, ErrorCode::None);
    assert_eq!(partition_count(&broker, "t").await, 2, "it was only checked");
    assert_eq!(grow(&broker, false, vec![grown("t", 3)]).await[0].0, ErrorCode::None);
    assert_eq!(grow(&broker, false, vec![grown("t", 5)]).await[0].0, ErrorCode::None);
    assert_eq!(partition_count(&broker, "t").await, 5);
    assert_eq!(broker.append("t", 4, batch(Codec::None, 1, &[b"new"])).await, 0);
    let partition = |broker: &TestBroker, index| {
        std::sync::Arc::clone(broker.broker.topics.get("t").unwrap().partition(index).unwrap())
    };
    assert_eq!(partition(&broker, 4).log.options().segment_bytes, 2_000_000, "with the settings of the topic");
    let broker = broker.restart().await;
    assert_eq!(partition_count(&broker, "t").await, 5);
    assert_eq!(broker.broker.topics.get("t").unwrap().id, id);
    let ends: Vec<_> = (0..5).map(|index| partition(&broker, index).log.end_offset().get()).collect();
    assert_eq!(ends, [0, 1, 0, 0, 1]);
}

#[tokio::test]
async fn what_cannot_grow_is_refused_and_stays() {
    let broker = TestBroker::start_with(&["ottla.topic.partitions.max=6", "offsets.topic.num.partitions=2"]).await;
    broker.create_topic("t", 3, &[]).await;
    let find = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
    broker.client().await.ask(2, &find).await;
    let assigned = |count, brokers: &[i32]| CreatePartitionsTopic {
        assignments: Some(brokers.iter().map(|id| CreatePartitionsAssignment { broker_ids: vec![*id] }).collect()),
        ..grown("t", count)
    };
    for (topics, error_code, words) in [
        (vec![grown("t", 3)], ErrorCode::InvalidPartitions, "already has 3"),
        (vec![grown("t", 2)], ErrorCode::InvalidPartitions, "not be an increase"),
        (vec![grown("t", -1)], ErrorCode::InvalidPartitions, "not be an increase"),
        (vec![grown("t", 7)], ErrorCode::InvalidPartitions, "ottla.topic.partitions.max = 6"),
        (vec![grown("nobody", 7)], ErrorCode::UnknownTopicOrPartition, ""),
        (vec![grown("__consumer_offsets", 3)], ErrorCode::InvalidRequest, "internal"),
        (vec![grown("t", 4), grown("t", 5)], ErrorCode::InvalidRequest, "Duplicate"),
        (vec![assigned(5, &[1])], ErrorCode::InvalidReplicaAssignment, "additional"),
        (vec![assigned(4, &[2])], ErrorCode::InvalidReplicaAssignment, "this broker alone"),
    ] {
        let told = grow(&broker, false, topics).await;
        assert_eq!(told[0].0, error_code, "{told:?}");
        assert!(told[0].1.contains(words), "{told:?}");
    }
    assert_eq!(partition_count(&broker, "t").await, 3);
    assert_eq!(partition_count(&broker, "__consumer_offsets").await, 2);
    assert_eq!(grow(&broker, false, vec![assigned(4, &[1])]).await[0].0, ErrorCode::None);
}

/// Pages in the order of names, each where the last one ended.
#[tokio::test]
async fn partitions_are_described_page_by_page() {
    let broker = TestBroker::start().await;
    for (name, count) in [("b", 3), ("a", 2), ("c", 1)] {
        broker.create_topic(name, count, &[]).await;
    }
    let mut client = broker.client().await;
    let mut cursor = None;
    let mut pages = Vec::new();
    loop {
        let request = DescribeTopicPartitionsRequest {
            response_partition_limit: 2,
            cursor: cursor.clone(),
            ..Default::default()
        };
        let answer = client.ask(0, &request).await;
        let response: DescribeTopicPartitionsResponse<'_> = answer.read();
        let page: Vec<String> = response
            .topics
            .iter()
            .flat_map(|topic| {
                let name = topic.name.as_deref().unwrap().to_owned();
                topic.partitions.iter().map(move |it| format!("{name}-{} {}", it.partition_index, it.leader_id))
            })
            .collect();
        pages.push(page.join(", "));
        let Some(next) = response.next_cursor else { break };
        let topic_name = next.topic_name.to_string().into();
        cursor = Some(TopicPartitionCursor { topic_name, partition_index: next.partition_index });
    }
    assert_eq!(pages, ["a-0 1, a-1 1", "b-0 1, b-1 1", "b-2 1, c-0 1"]);

    let named = |name: &'static str| DescribeTopicPartitionsRequestTopic { name: name.into() };
    let topics = vec![named("c"), named("nobody"), named("c"), named("")];
    let request = DescribeTopicPartitionsRequest { topics, response_partition_limit: 2000, cursor: None };
    let answer = client.ask(0, &request).await;
    let response: DescribeTopicPartitionsResponse<'_> = answer.read();
    let told: Vec<_> =
        response.topics.iter().map(|it| (it.name.as_deref().unwrap(), it.error_code, it.partitions.len())).collect();
    let expected = [
        ("", ErrorCode::InvalidTopicException, 0),
        ("c", ErrorCode::None, 1),
        ("nobody", ErrorCode::UnknownTopicOrPartition, 0),
    ];
    assert_eq!(told, expected);
    assert_eq!(response.next_cursor, None);

    let cursor = Some(TopicPartitionCursor { topic_name: "a".into(), partition_index: -1 });
    let request = DescribeTopicPartitionsRequest { topics: vec![named("a")], cursor, ..Default::default() };
    let answer = client.ask(0, &request).await;
    assert_eq!(answer.read::<DescribeTopicPartitionsResponse<'_>>().topics[0].error_code, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn this_broker_is_the_cluster() {
    let broker = TestBroker::start().await;
    let mut client = broker.client().await;
    for version in 0..=2 {
        let request = DescribeClusterRequest { endpoint_type: 1, ..Default::default() };
        let answer = client.ask(version, &request).await;
        let response: DescribeClusterResponse<'_> = answer.read();
        assert_eq!((response.error_code, response.controller_id), (ErrorCode::None, 1));
        assert_eq!(response.cluster_id, broker.broker.cluster_id);
        let nodes: Vec<_> = response.brokers.iter().map(|it| (it.broker_id, it.port, it.is_fenced)).collect();
        assert_eq!(nodes, [(1, i32::from(broker.addr().port()), false)]);
    }
    for (endpoint_type, error_code) in [(2, ErrorCode::MismatchedEndpointType), (9, ErrorCode::UnsupportedEndpointType)]
    {
        let answer = client.ask(2, &DescribeClusterRequest { endpoint_type, ..Default::default() }).await;
        assert_eq!(answer.read::<DescribeClusterResponse<'_>>().error_code, error_code);
    }
}

#[tokio::test]
async fn no_election_is_needed_and_no_replica_moves() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let mut client = broker.client().await;
    for version in 0..=2 {
        let topic_partitions = Some(vec![ElectLeadersTopic { topic: "t".into(), partitions: vec![0, 7] }]);
        let answer = client.ask(version, &ElectLeadersRequest { topic_partitions, ..Default::default() }).await;
        let response: ElectLeadersResponse<'_> = answer.read();
        let results = &response.replica_election_results[0].partition_result;
        let codes: Vec<_> = results.iter().map(|it| (it.partition_id, it.error_code)).collect();
        assert_eq!(codes, [(0, ErrorCode::ElectionNotNeeded), (7, ErrorCode::UnknownTopicOrPartition)]);
        let answer = client.ask(version, &ElectLeadersRequest::default()).await;
        let response: ElectLeadersResponse<'_> = answer.read();
        assert_eq!((response.error_code, response.replica_election_results), (ErrorCode::None, Vec::new()));
    }
    let answer = client.ask(2, &ElectLeadersRequest { election_type: 5, ..Default::default() }).await;
    assert_eq!(answer.read::<ElectLeadersResponse<'_>>().error_code, ErrorCode::InvalidRequest);

    let wanted = [
        (0, Some(vec![1]), ErrorCode::None),
        (0, Some(vec![1, 2]), ErrorCode::InvalidReplicaAssignment),
        (0, Some(vec![1, 1]), ErrorCode::InvalidReplicaAssignment),
        (0, Some(vec![]), ErrorCode::InvalidReplicaAssignment),
        (0, None, ErrorCode::NoReassignmentInProgress),
        (9, Some(vec![1]), ErrorCode::UnknownTopicOrPartition),
    ];
    for (partition_index, replicas, error_code) in wanted {
        let partitions = vec![ReassignablePartition { partition_index, replicas }];
        let topics = vec![ReassignableTopic { name: "t".into(), partitions }];
        let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
        let answer = client.ask(1, &request).await;
        let response: AlterPartitionReassignmentsResponse<'_> = answer.read();
        assert_eq!(response.responses[0].partitions[0].error_code, error_code, "{request:?}");
    }
    let answer = client.ask(0, &ListPartitionReassignmentsRequest::default()).await;
    let response: ListPartitionReassignmentsResponse<'_> = answer.read();
    assert_eq!((response.error_code, response.topics), (ErrorCode::None, Vec::new()));
}

#[tokio::test]
async fn the_producers_of_a_partition_are_described() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    let mut client = broker.client().await;
    for (producer_id, sequence) in [(900, 0), (7, 0), (900, 1)] {
        let mut builder = BatchBuilder::new(Codec::None);
        builder = builder.producer(ProducerId(producer_id), ProducerEpoch(3), Sequence(sequence));
        builder.append(1, None, Some(b"v"), std::iter::empty()).unwrap();
        let mut records = Vec::new();
        builder.finish(&mut records).unwrap();
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(&records) }];
        let topic_data = vec![TopicProduceData { name: "t".into(), topic_id: Uuid::nil(), partition_data }];
        let request = ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data, ..Default::default() };
        let answer = client.ask(9, &request).await;
        let response: ProduceResponse<'_> = answer.read();
        assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::None);
    }
    let topics = vec![DescribeProducersRequestTopic { name: "t".into(), partition_indexes: vec![0, 1, 2] }];
    let answer = client.ask(0, &DescribeProducersRequest { topics }).await;
    let response: DescribeProducersResponse<'_> = answer.read();
    let partitions = &response.topics[0].partitions;
    let codes: Vec<_> = partitions.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
    let known = partitions[0].active_producers.iter();
    let known: Vec<_> =
        known.map(|it| (it.producer_id, it.producer_epoch, it.last_sequence, it.last_timestamp > 0)).collect();
    assert_eq!(known, [(7, 3, 0, true), (900, 3, 1, true)]);
    assert_eq!((partitions[0].active_producers[0].coordinator_epoch, partitions[1].active_producers.len()), (-1, 0));
}
