//! Topics come, are found, and go.

use ottla_wire::message::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse, MetadataRequest, MetadataRequestTopic,
    MetadataResponse,
};
use ottla_wire::{ErrorCode, Uuid};

use ottla_test_broker::{Answer, Client, TestBroker};

fn named(names: &[&'static str], allow_auto_topic_creation: bool) -> MetadataRequest<'static> {
    let topics = names.iter().map(|&name| MetadataRequestTopic { name: Some(name.into()), ..Default::default() });
    MetadataRequest { topics: Some(topics.collect()), allow_auto_topic_creation, ..Default::default() }
}

fn errors(answer: &Answer) -> Vec<ErrorCode> {
    answer.read::<MetadataResponse<'_>>().topics.iter().map(|topic| topic.error_code).collect()
}

#[tokio::test]
async fn a_topic_is_created_by_naming_it_when_both_sides_allow_it() {
    let broker = TestBroker::start_with(&["num.partitions=3"]).await;
    let mut client = broker.client().await;
    assert_eq!(errors(&client.ask(9, &named(&["t"], false)).await), [ErrorCode::UnknownTopicOrPartition]);
    let answer = client.ask(12, &named(&["t"], true)).await;
    let response: MetadataResponse<'_> = answer.read();
    let topic = &response.topics[0];
    assert_eq!((topic.error_code, topic.partitions.len()), (ErrorCode::None, 3));
    assert!(!topic.topic_id.is_nil());
    for (index, partition) in topic.partitions.iter().enumerate() {
        assert_eq!(partition.partition_index, index as i32);
        assert_eq!((partition.leader_id, partition.error_code), (1, ErrorCode::None));
        assert_eq!((&*partition.replica_nodes, &*partition.isr_nodes), (&[1][..], &[1][..]));
    }

    let closed = TestBroker::start_with(&["auto.create.topics.enable=false"]).await;
    let answer = closed.client().await.ask(9, &named(&["t"], true)).await;
    assert_eq!(errors(&answer), [ErrorCode::UnknownTopicOrPartition]);
}

#[tokio::test]
async fn invalid_names_are_never_created() {
    let broker = TestBroker::start().await;
    let answer = broker.client().await.ask(9, &named(&["a b", "", ".", "../x"], true)).await;
    assert_eq!(errors(&answer), [ErrorCode::InvalidTopicException; 4]);
    assert!(broker.broker.topics.is_empty());
}

#[tokio::test]
async fn a_topic_named_many_times_is_answered_once() {
    let broker = TestBroker::start().await;
    let topic_id = broker.create_topic("t", 3, &[]).await;
    let mut client = broker.client().await;
    let answer = client.ask(9, &named(&vec!["t"; 5_000], false)).await;
    assert_eq!(errors(&answer), [ErrorCode::None]);
    let by_id = MetadataRequestTopic { topic_id, ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![by_id; 5_000]), ..Default::default() };
    assert_eq!(errors(&client.ask(12, &request).await), [ErrorCode::None]);
    assert_eq!(errors(&client.ask(9, &named(&["no"; 100], false)).await), [ErrorCode::UnknownTopicOrPartition]);
}

#[tokio::test]
async fn metadata_lists_all_topics_or_those_asked_for() {
    let broker = TestBroker::start().await;
    for name in ["b", "a", "c"] {
        broker.create_topic(name, 1, &[]).await;
    }
    let mut client = broker.client().await;
    let names = |answer: &Answer| -> Vec<String> {
        let response: MetadataResponse<'_> = answer.read();
        response.topics.iter().map(|topic| topic.name.clone().unwrap_or_default().into_owned()).collect()
    };
    let none = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    assert_eq!(names(&client.ask(0, &none).await), ["a", "b", "c"]);
    assert_eq!(names(&client.ask(1, &none).await), [""; 0]);
    let all = MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(names(&client.ask(1, &all).await), ["a", "b", "c"]);
    assert_eq!(names(&client.ask(13, &all).await), ["a", "b", "c"]);
    assert_eq!(names(&client.ask(13, &named(&["c", "a"], false)).await), ["c", "a"]);
}

#[tokio::test]
async fn metadata_finds_topics_by_id_from_version_12_on() {
    let broker = TestBroker::start().await;
    let id = broker.create_topic("t", 1, &[]).await;
    let by_id = |topic_id| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id, name: None }]),
        ..Default::default()
    };
    let mut client = broker.client().await;
    let answer = client.ask(12, &by_id(id)).await;
    let response: MetadataResponse<'_> = answer.read();
    assert_eq!(response.topics[0].name.as_deref(), Some("t"));
    let stranger = Uuid::from_u128(42);
    let answer = client.ask(12, &by_id(stranger)).await;
    let response: MetadataResponse<'_> = answer.read();
    assert_eq!((response.topics[0].error_code, response.topics[0].topic_id), (ErrorCode::UnknownTopicId, stranger));
    assert_eq!(response.topics[0].name, None);
}

#[tokio::test]
async fn operations_are_told_to_those_who_ask() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let request = MetadataRequest {
        topics: None,
        include_topic_authorized_operations: true,
        include_cluster_authorized_operations: true,
        ..Default::default()
    };
    let answer = broker.client().await.ask(10, &request).await;
    let response: MetadataResponse<'_> = answer.read();
    assert_eq!(response.topics[0].topic_authorized_operations, 3576);
    assert_eq!(response.cluster_authorized_operations, 8096);
}

fn topic(name: &'static str, num_partitions: i32, replication_factor: i16) -> CreatableTopic<'static> {
    CreatableTopic { name: name.into(), num_partitions, replication_factor, ..Default::default() }
}

fn with_config(
    topic: CreatableTopic<'static>,
    name: &'static str,
    value: Option<&'static str>,
) -> CreatableTopic<'static> {
    let config = CreatableTopicConfig { name: name.into(), value: value.map(Into::into) };
    CreatableTopic { configs: vec![config], ..topic }
}

fn assigned(name: &'static str, assignments: &[(i32, &[i32])]) -> CreatableTopic<'static> {
    let assignments = assignments.iter().map(|&(partition_index, broker_ids)| CreatableReplicaAssignment {
        partition_index,
        broker_ids: broker_ids.to_vec(),
    });
    CreatableTopic { assignments: assignments.collect(), ..topic(name, -1, -1) }
}

#[tokio::test]
async fn creation_is_checked_as_kafka_checks_it() {
    let broker = TestBroker::start_with(&["ottla.topic.partitions.max=100"]).await;
    broker.create_topic("taken", 1, &[]).await;
    broker.create_topic("dotted.name", 1, &[]).await;
    let cases = [
        (topic("taken", 1, 1), ErrorCode::TopicAlreadyExists),
        (topic("dotted_name", 1, 1), ErrorCode::InvalidTopicException),
        (topic("no/slash", 1, 1), ErrorCode::InvalidTopicException),
        (topic("", 1, 1), ErrorCode::InvalidTopicException),
        (topic("p0", 0, 1), ErrorCode::InvalidPartitions),
        (topic("p-2", -2, 1), ErrorCode::InvalidPartitions),
        (topic("p101", 101, 1), ErrorCode::InvalidPartitions),
        (topic("r0", 1, 0), ErrorCode::InvalidReplicationFactor),
        (topic("r-2", 1, -2), ErrorCode::InvalidReplicationFactor),
        (topic("r3", 1, 3), ErrorCode::InvalidReplicationFactor),
        (with_config(topic("c1", 1, 1), "no.such.config", Some("1")), ErrorCode::InvalidConfig),
        (with_config(topic("c2", 1, 1), "retention.ms", Some("soon")), ErrorCode::InvalidConfig),
        (with_config(topic("c3", 1, 1), "retention.ms", None), ErrorCode::InvalidConfig),
        (CreatableTopic { num_partitions: 1, ..assigned("a1", &[(0, &[1])]) }, ErrorCode::InvalidRequest),
        (assigned("a2", &[(0, &[1]), (2, &[1])]), ErrorCode::InvalidReplicaAssignment),
        (assigned("a3", &[(0, &[1, 2])]), ErrorCode::InvalidReplicaAssignment),
        (assigned("a4", &[(0, &[])]), ErrorCode::InvalidReplicaAssignment),
        (assigned("good-a", &[(1, &[1]), (0, &[1])]), ErrorCode::None),
        (topic("good-defaults", -1, -1), ErrorCode::None),
    ];
    let (topics, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let mut client = broker.client().await;
    let request = CreateTopicsRequest { topics, ..Default::default() };
    for version in [7, 2] {
        let request = CreateTopicsRequest { validate_only: version == 7, ..request.clone() };
        let answer = client.ask(version, &request).await;
        let response: CreateTopicsResponse<'_> = answer.read();
        for (result, expected) in response.topics.iter().zip(&expected) {
            assert_eq!(result.error_code, *expected, "{result:?}");
            assert_eq!(result.error_message.is_some(), *expected != ErrorCode::None);
        }
    }
    let names: Vec<_> = broker.broker.topics.all().iter().map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["dotted.name", "good-a", "good-defaults", "taken"]);
    assert_eq!(broker.broker.topics.get("good-a").unwrap().partitions.len(), 2);
    assert_eq!(broker.broker.topics.get("good-defaults").unwrap().partitions.len(), 4);
}

#[tokio::test]
async fn a_name_twice_in_one_request_is_refused_twice() {
    let broker = TestBroker::start().await;
    let request = CreateTopicsRequest {
        topics: vec![topic("x", 1, 1), topic("y", 1, 1), topic("x", 2, 1)],
        ..Default::default()
    };
    let answer = broker.client().await.ask(5, &request).await;
    let codes: Vec<_> = answer.read::<CreateTopicsResponse<'_>>().topics.iter().map(|t| t.error_code).collect();
    assert_eq!(codes, [ErrorCode::InvalidRequest, ErrorCode::None, ErrorCode::InvalidRequest]);
}

#[tokio::test]
async fn replicas_are_clamped_where_the_operator_wants_that() {
    let broker = TestBroker::start_with(&["ottla.replication.factor.clamp=true"]).await;
    let request = CreateTopicsRequest { topics: vec![topic("connect-offsets", 25, 3)], ..Default::default() };
    let answer = broker.client().await.ask(7, &request).await;
    let response: CreateTopicsResponse<'_> = answer.read();
    assert_eq!((response.topics[0].error_code, response.topics[0].replication_factor), (ErrorCode::None, 1));
}

#[tokio::test]
async fn the_answer_to_a_creation_tells_id_and_configuration() {
    let broker = TestBroker::start().await;
    let request = CreateTopicsRequest {
        topics: vec![with_config(topic("t", 6, -1), "cleanup.policy", Some("compact"))],
        ..Default::default()
    };
    let answer = broker.client().await.ask(7, &request).await;
    let response: CreateTopicsResponse<'_> = answer.read();
    let created = &response.topics[0];
    assert_eq!((created.num_partitions, created.replication_factor), (6, 1));
    assert_eq!(created.topic_id, broker.broker.topics.get("t").unwrap().id);
    let configs = created.configs.as_ref().unwrap();
    let policy = configs.iter().find(|config| config.name == "cleanup.policy").unwrap();
    assert_eq!((policy.value.as_deref(), policy.config_source), (Some("compact"), 1));
    let retention = configs.iter().find(|config| config.name == "retention.ms").unwrap();
    assert_eq!(retention.config_source, 5);
}

async fn delete(
    client: &mut Client,
    version: i16,
    topics: Vec<DeleteTopicState<'_>>,
) -> Vec<(ErrorCode, Option<String>)> {
    let request = if version >= 6 {
        DeleteTopicsRequest { topics, ..Default::default() }
    } else {
        let topic_names = topics.into_iter().map(|topic| topic.name.unwrap_or_default()).collect();
        DeleteTopicsRequest { topic_names, ..Default::default() }
    };
    let answer = client.ask(version, &request).await;
    let response: DeleteTopicsResponse<'_> = answer.read();
    response.responses.iter().map(|r| (r.error_code, r.name.clone().map(std::borrow::Cow::into_owned))).collect()
}

fn by_name(name: &str) -> DeleteTopicState<'_> {
    DeleteTopicState { name: Some(name.into()), topic_id: Uuid::nil() }
}

fn by_id(topic_id: Uuid) -> DeleteTopicState<'static> {
    DeleteTopicState { name: None, topic_id }
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id() {
    let broker = TestBroker::start().await;
    let mut client = broker.client().await;
    for version in 1..=6 {
        broker.create_topic("t", 2, &[]).await;
        let outcome = delete(&mut client, version, vec![by_name("t"), by_name("nobody")]).await;
        assert_eq!(outcome[0], (ErrorCode::None, Some("t".to_owned())));
        assert_eq!(outcome[1].0, ErrorCode::UnknownTopicOrPartition);
        assert!(broker.broker.topics.is_empty());
    }
    let id = broker.create_topic("t", 2, &[]).await;
    let other = broker.create_topic("u", 2, &[]).await;
    let both = DeleteTopicState { name: Some("t".into()), topic_id: id };
    let outcome = delete(
        &mut client,
        6,
        vec![by_id(id), by_id(Uuid::from_u128(9)), both, by_id(Uuid::nil()), by_id(other), by_name("u")],
    )
    .await;
    assert_eq!(outcome[0], (ErrorCode::None, Some("t".to_owned())));
    assert_eq!(outcome[1], (ErrorCode::UnknownTopicId, None));
    assert_eq!(outcome[2].0, ErrorCode::InvalidRequest);
    assert_eq!(outcome[3].0, ErrorCode::InvalidRequest);
    assert_eq!((outcome[4].0, outcome[5].0), (ErrorCode::InvalidRequest, ErrorCode::InvalidRequest));
}

#[tokio::test]
async fn a_topic_created_again_is_empty_and_has_another_id() {
    let broker = TestBroker::start().await;
    let first = broker.create_topic("t", 1, &[]).await;
    broker.append("t", 0, ottla_test_broker::batch(ottla_wire::record::Codec::None, 1, &[b"old"])).await;
    delete(&mut broker.client().await, 6, vec![by_name("t")]).await;
    let second = broker.create_topic("t", 1, &[]).await;
    assert_ne!(first, second);
    assert_eq!(broker.broker.topics.get("t").unwrap().partition(0).unwrap().log.end_offset().get(), 0);
}

#[tokio::test]
async fn deletion_can_be_switched_off() {
    let broker = TestBroker::start_with(&["delete.topic.enable=false"]).await;
    broker.create_topic("t", 1, &[]).await;
    let mut client = broker.client().await;
    assert_eq!(delete(&mut client, 6, vec![by_name("t")]).await[0].0, ErrorCode::TopicDeletionDisabled);
    assert_eq!(delete(&mut client, 2, vec![by_name("t")]).await[0].0, ErrorCode::InvalidRequest);
    assert!(broker.broker.topics.get("t").is_some());
}

#[tokio::test]
async fn topics_survive_a_restart_with_ids_settings_and_records() {
    let broker = TestBroker::start().await;
    let kept = broker.create_topic("kept", 3, &[("retention.ms", "5")]).await;
    broker.create_topic("gone", 3, &[]).await;
    broker.append("kept", 1, ottla_test_broker::batch(ottla_wire::record::Codec::Zstd, 1, &[b"one", b"two"])).await;
    delete(&mut broker.client().await, 6, vec![by_name("gone")]).await;
    let cluster_id = broker.broker.cluster_id.clone();

    let broker = broker.restart().await;
    assert_eq!(broker.broker.cluster_id, cluster_id);
    let topics = broker.broker.topics.all();
    assert_eq!(topics.len(), 1);
    assert_eq!((topics[0].id, topics[0].partitions.len(), topics[0].settings().retention_ms), (kept, 3, 5));
    assert_eq!(topics[0].partition(1).unwrap().watermark.high().get(), 2);
}

#[tokio::test]
async fn a_topic_that_cannot_be_created_takes_nobody_elses_records_with_it() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 2, &[]).await;
    // Both copies of the metadata are gone: the topic's directories are there, the topic is not.
    let forget = |data: &std::path::Path| {
        for copy in ["metadata.log", "log/metadata.copy"] {
            std::fs::remove_file(data.join(copy)).unwrap();
        }
    };
    let broker = broker.restart_after(forget).await;
    let segments =
        || ["log/t-0/partition.meta", "log/t-1/partition.meta"].map(|name| broker.data_dir().join(name).exists());
    assert_eq!(segments(), [true; 2]);
    let topic = CreatableTopic { name: "t".into(), num_partitions: 2, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let answer = broker.client().await.ask(7, &request).await;
    let response: CreateTopicsResponse<'_> = answer.read();
    assert_ne!(response.topics[0].error_code, ErrorCode::None);
    assert_eq!(segments(), [true; 2], "{response:?}");
}
