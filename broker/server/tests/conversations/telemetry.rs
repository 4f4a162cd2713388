//! Clients that push their metrics (KIP-714), what admin tools say is wanted of them, and the levels of the log.

use ottla_wire::message::{
    AlterConfigsResource, AlterableConfig, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListConfigResourcesRequest, ListConfigResourcesResponse, OPERATION_APPEND,
    OPERATION_DELETE, OPERATION_SET, PushTelemetryRequest, PushTelemetryResponse, RESOURCE_BROKER,
    RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP, RESOURCE_TOPIC,
};
use ottla_wire::record::{Codec, compress};
use ottla_wire::{ErrorCode, Uuid};

use ottla_test_broker::{Client, TestBroker};

type Change<'a> = (&'a str, i8, Option<&'a str>);

async fn alter(broker: &TestBroker, resource_type: i8, name: &str, changes: &[Change<'_>]) -> (ErrorCode, String) {
    let configs = changes.iter().map(|&(name, config_operation, value)| AlterableConfig {
        name: name.to_owned().into(),
        config_operation,
        value: value.map(|value| value.to_owned().into()),
    });
    let resource =
        AlterConfigsResource { resource_type, resource_name: name.to_owned().into(), configs: configs.collect() };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer = broker.client().await.ask(1, &request).await;
    let response: IncrementalAlterConfigsResponse<'_> = answer.read();
    let response = &response.responses[0];
    (response.error_code, response.error_message.as_deref().unwrap_or_default().to_owned())
}

/// Name, value and source of every setting, or the error.
async fn described(broker: &TestBroker, resource_type: i8, name: &str) -> Result<Vec<(String, String, i8)>, ErrorCode> {
    let resource =
        DescribeConfigsResource { resource_type, resource_name: name.to_owned().into(), configuration_keys: None };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let answer = broker.client().await.ask(4, &request).await;
    let response: DescribeConfigsResponse<'_> = answer.read();
    let result = &response.results[0];
    if result.error_code != ErrorCode::None {
        return Err(result.error_code);
    }
    let configs = result.configs.iter();
    Ok(configs
        .map(|it| (it.name.to_string(), it.value.as_deref().unwrap_or_default().to_owned(), it.config_source))
        .collect())
}

/// What the client gets to know, or the error.
async fn ask(client: &mut Client, id: Uuid) -> Result<(Uuid, i32, i32, Vec<String>), ErrorCode> {
    let answer = client.ask(0, &GetTelemetrySubscriptionsRequest { client_instance_id: id }).await;
    let told: GetTelemetrySubscriptionsResponse<'_> = answer.read();
    assert!(!told.delta_temporality, "counters are wanted whole");
    match told.error_code {
        ErrorCode::None => {
            assert_eq!((told.telemetry_max_bytes, told.accepted_compression_types), (1 << 20, vec![4, 3, 1, 2]));
            let metrics = told.requested_metrics.iter().map(ToString::to_string).collect();
            Ok((told.client_instance_id, told.subscription_id, told.push_interval_ms, metrics))
        }
        code => Err(code),
    }
}

async fn push(client: &mut Client, id: Uuid, subscription_id: i32, codec: Codec, metrics: &[u8]) -> ErrorCode {
    let mut packed = Vec::new();
    compress(codec, None, metrics, &mut packed).unwrap();
    push_bytes(client, id, subscription_id, codec.bits() as i8, &packed).await
}

async fn push_bytes(client: &mut Client, id: Uuid, subscription_id: i32, codec: i8, metrics: &[u8]) -> ErrorCode {
    let request = PushTelemetryRequest {
        client_instance_id: id,
        subscription_id,
        terminating: false,
        compression_type: codec,
        metrics,
    };
    client.ask(0, &request).await.read::<PushTelemetryResponse>().error_code
}

const ALL_AT_ONCE: [Change<'static>; 2] =
    [("metrics", OPERATION_SET, Some("*")), ("interval.ms", OPERATION_SET, Some("100"))];

#[tokio::test]
async fn a_client_is_told_what_to_push_and_when() {
    let broker = TestBroker::start().await;
    let mut client = broker.client_named("apache-kafka-java").await;
    let (id, _, interval_ms, metrics) = ask(&mut client, Uuid::nil()).await.unwrap();
    assert_eq!((interval_ms, metrics), (300_000, Vec::new()), "nothing is wanted before an operator says so");
    assert!(!id.is_nil());
    assert_eq!(ask(&mut client, id).await, Err(ErrorCode::ThrottlingQuotaExceeded));

    let changes = [
        ("metrics", OPERATION_SET, Some("org.apache.kafka.consumer.")),
        ("metrics", OPERATION_APPEND, Some("org.apache.kafka.producer.")),
    ];
    for change in changes {
        assert_eq!(alter(&broker, RESOURCE_CLIENT_METRICS, "java", &[change]).await.0, ErrorCode::None);
    }
    let matching = ("match", OPERATION_SET, Some("client_software_name=apache-.*"));
    assert_eq!(alter(&broker, RESOURCE_CLIENT_METRICS, "java", &[matching]).await.0, ErrorCode::None);
    let told = ask(&mut client, id).await.unwrap();
    assert_eq!(told.3, ["org.apache.kafka.consumer.", "org.apache.kafka.producer."], "at once, though it just asked");

    let broker = broker.restart().await;
    let mut client = broker.client_named("apache-kafka-java").await;
    assert_eq!(ask(&mut client, id).await.unwrap(), told, "after a restart, too");
    let mut other = broker.client_named("librdkafka").await;
    assert_eq!(ask(&mut other, Uuid::nil()).await.unwrap().3, Vec::<String>::new());

    let settings = described(&broker, RESOURCE_CLIENT_METRICS, "java").await.unwrap();
    let all = "org.apache.kafka.consumer.,org.apache.kafka.producer.";
    let expected = [("metrics", all, 7), ("interval.ms", "300000", 5), ("match", "client_software_name=apache-.*", 7)];
    assert_eq!(settings, expected.map(|(name, value, source)| (name.to_owned(), value.to_owned(), source)));
    let gone = ["metrics", "match"].map(|name| (name, OPERATION_DELETE, None));
    assert_eq!(alter(&broker, RESOURCE_CLIENT_METRICS, "java", &gone).await.0, ErrorCode::None);
    assert_eq!(ask(&mut client, id).await.unwrap().3, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_pushed_wrong_gets_the_code_of_kafka_and_is_not_kept() {
    let broker = TestBroker::start().await;
    assert_eq!(alter(&broker, RESOURCE_CLIENT_METRICS, "all", &ALL_AT_ONCE).await.0, ErrorCode::None);
    let mut client = broker.client().await;
    let bomb = vec![0; 4 << 20];
    let cases: [(&str, Codec, &[u8], ErrorCode); 5] = [
        ("no protobuf", Codec::None, b"\xff\xff", ErrorCode::InvalidRecord),
        ("damaged", Codec::None, b"\x0a\x05abc", ErrorCode::InvalidRecord),
        ("too large", Codec::None, &bomb, ErrorCode::TelemetryTooLarge),
        ("too large once unpacked", Codec::Zstd, &bomb, ErrorCode::TelemetryTooLarge),
        ("nothing", Codec::None, b"", ErrorCode::None),
    ];
    for (what, codec, metrics, expected) in cases {
        let (id, subscription, ..) = ask(&mut client, Uuid::nil()).await.unwrap();
        assert_eq!(push(&mut client, id, subscription, codec, metrics).await, expected, "{what}");
    }
    let (id, subscription, ..) = ask(&mut client, Uuid::nil()).await.unwrap();
    assert_eq!(push_bytes(&mut client, id, subscription, 4, b"no zstd").await, ErrorCode::InvalidRecord);
    let (id, subscription, ..) = ask(&mut client, Uuid::nil()).await.unwrap();
    assert_eq!(push_bytes(&mut client, id, subscription, 9, b"").await, ErrorCode::UnsupportedCompressionType);
    let (id, subscription, ..) = ask(&mut client, Uuid::nil()).await.unwrap();
    assert_eq!(push_bytes(&mut client, id, subscription + 1, 0, b"").await, ErrorCode::UnknownSubscriptionId);
    assert!(ask(&mut client, id).await.is_ok(), "it may ask again at once");
    assert_eq!(push_bytes(&mut client, Uuid::nil(), 0, 0, b"").await, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn wrong_settings_of_client_metrics_are_refused_and_change_nothing() {
    let broker = TestBroker::start().await;
    for (name, value, part) in [
        ("interval.ms", "99", "100"),
        ("match", "client_id=(", "client_id=("),
        ("match", "client_id=(((a{1,500}){1,500}){1,500})", "too large"),
        ("match", "shoe_size=1", "shoe_size"),
    ] {
        let told = alter(&broker, RESOURCE_CLIENT_METRICS, "s", &[(name, OPERATION_SET, Some(value))]).await;
        assert_eq!(told.0, ErrorCode::InvalidConfig, "{told:?}");
        assert!(told.1.contains(part), "{told:?}");
    }
    let told = alter(&broker, RESOURCE_CLIENT_METRICS, "s", &[("push", OPERATION_SET, Some("1"))]).await;
    assert_eq!(told.0, ErrorCode::InvalidRequest, "{told:?}");
    let told = alter(&broker, RESOURCE_CLIENT_METRICS, "", &ALL_AT_ONCE).await;
    assert_eq!(told.0, ErrorCode::InvalidRequest, "{told:?}");
    for number in 0..100 {
        let told = alter(&broker, RESOURCE_CLIENT_METRICS, &format!("s{number}"), &ALL_AT_ONCE).await;
        assert_eq!(told.0, ErrorCode::None, "{told:?}");
    }
    let told = alter(&broker, RESOURCE_CLIENT_METRICS, "s", &ALL_AT_ONCE).await;
    assert_eq!(told.0, ErrorCode::InvalidRequest, "a hundred are enough: {told:?}");
    assert!(described(&broker, RESOURCE_CLIENT_METRICS, "").await.is_err());
}

#[tokio::test]
async fn everything_that_can_have_settings_is_listed() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    alter(&broker, RESOURCE_CLIENT_METRICS, "all", &ALL_AT_ONCE).await;
    let session = ("consumer.session.timeout.ms", OPERATION_SET, Some("50000"));
    alter(&broker, RESOURCE_GROUP, "g", &[session]).await;
    let mut client = broker.client().await;
    let mut list = async |version: i16, kinds: &[i8]| {
        let answer = client.ask(version, &ListConfigResourcesRequest { resource_types: kinds.to_vec() }).await;
        let listed: ListConfigResourcesResponse<'_> = answer.read();
        let resources = listed.config_resources.iter();
        let resources: Vec<_> = resources.map(|it| (it.resource_type, it.resource_name.to_string())).collect();
        (listed.error_code, resources)
    };
    let named = |kind: i8, name: &str| (kind, name.to_owned());
    let metrics = named(RESOURCE_CLIENT_METRICS, "all");
    assert_eq!(list(0, &[]).await, (ErrorCode::None, vec![metrics.clone()]), "as ListClientMetricsResources");
    let all = vec![
        named(RESOURCE_TOPIC, "t"),
        named(RESOURCE_BROKER, "1"),
        named(RESOURCE_BROKER_LOGGER, "1"),
        metrics.clone(),
        named(RESOURCE_GROUP, "g"),
    ];
    assert_eq!(list(1, &[]).await, (ErrorCode::None, all));
    assert_eq!(list(1, &[RESOURCE_CLIENT_METRICS]).await, (ErrorCode::None, vec![metrics]));
    assert_eq!(list(1, &[RESOURCE_TOPIC, 3]).await, (ErrorCode::UnsupportedVersion, Vec::new()));
}

#[tokio::test]
async fn levels_of_loggers_are_described_and_changed() {
    let broker = TestBroker::start().await;
    let (filters, mut filter) = tokio::sync::mpsc::unbounded_channel();
    broker
        .broker
        .loggers
        .lead("ottla_log=debug,info", move |filter| filters.send(filter.to_owned()).map_err(|error| error.to_string()));
    let loggers = described(&broker, RESOURCE_BROKER_LOGGER, "1").await.unwrap();
    for expected in [("root", "INFO", 6), ("ottla_log", "DEBUG", 6), ("ottla_broker", "INFO", 6)] {
        let expected = (expected.0.to_owned(), expected.1.to_owned(), expected.2);
        assert!(loggers.contains(&expected), "{expected:?} is not in {loggers:?}");
    }
    let set = ("ottla_broker::groups", OPERATION_SET, Some("TRACE"));
    assert_eq!(alter(&broker, RESOURCE_BROKER_LOGGER, "1", &[set]).await.0, ErrorCode::None);
    assert_eq!(filter.recv().await.unwrap(), "ottla_log=debug,info,ottla_broker::groups=trace");
    for (node, change, code) in [
        ("2", set, ErrorCode::InvalidRequest),
        ("1", ("kafka.server", OPERATION_SET, Some("TRACE")), ErrorCode::InvalidConfig),
        ("1", ("ottla_log", OPERATION_SET, Some("loud")), ErrorCode::InvalidConfig),
        ("1", ("ottla_log", OPERATION_APPEND, Some("TRACE")), ErrorCode::InvalidRequest),
        ("1", ("root", OPERATION_DELETE, None), ErrorCode::InvalidRequest),
    ] {
        let told = alter(&broker, RESOURCE_BROKER_LOGGER, node, &[change]).await;
        assert_eq!(told.0, code, "{change:?}: {told:?}");
    }
    assert!(filter.try_recv().is_err(), "nothing changed");
}
