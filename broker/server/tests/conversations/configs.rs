//! Settings as admin tools see and change them.

use std::collections::HashMap;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    AlterConfigsResource, AlterableConfig, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
    DescribeConfigsResult, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, OPERATION_APPEND,
    OPERATION_DELETE, OPERATION_SET, OPERATION_SUBTRACT, RESOURCE_BROKER, RESOURCE_TOPIC,
};

use ottla_test_broker::{Answer, TestBroker};

async fn describe(broker: &TestBroker, version: i16, kind: i8, name: &str, keys: Option<&[&str]>) -> Answer {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: keys.map(|keys| keys.iter().map(|&key| key.to_owned().into()).collect()),
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: version >= 3,
    };
    broker.client().await.ask(version, &request).await
}

fn result(answer: &Answer) -> DescribeConfigsResult<'_> {
    answer.read::<DescribeConfigsResponse<'_>>().results.remove(0)
}

async fn value(broker: &TestBroker, topic: &str, name: &str) -> String {
    let answer = describe(broker, 4, RESOURCE_TOPIC, topic, Some(&[name])).await;
    result(&answer).configs[0].value.clone().unwrap_or_default().into_owned()
}

async fn alter(
    broker: &TestBroker,
    version: i16,
    topic: &str,
    changes: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> ErrorCode {
    let configs = changes.iter().map(|&(name, config_operation, value)| AlterableConfig {
        name: name.to_owned().into(),
        config_operation,
        value: value.map(|value| value.to_owned().into()),
    });
    let resource = AlterConfigsResource {
        resource_type: RESOURCE_TOPIC,
        resource_name: topic.to_owned().into(),
        configs: configs.collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    let answer = broker.client().await.ask(version, &request).await;
    answer.read::<IncrementalAlterConfigsResponse<'_>>().responses[0].error_code
}

#[tokio::test]
async fn a_topic_is_described_in_full_with_sources_types_and_synonyms() {
    let broker = TestBroker::start_with(&["log.retention.bytes=1000"]).await;
    broker.create_topic("t", 1, &[("cleanup.policy", "compact"), ("max.message.bytes", "5000")]).await;
    for version in 1..=4 {
        let answer = describe(&broker, version, RESOURCE_TOPIC, "t", None).await;
        let result = result(&answer);
        assert_eq!(result.error_code, ErrorCode::None);
        let configs: HashMap<_, _> = result.configs.iter().map(|config| (&*config.name, config)).collect();
        assert!(configs.len() >= 14, "{}", configs.len());
        let policy = configs["cleanup.policy"];
        assert_eq!((policy.value.as_deref(), policy.config_source), (Some("compact"), 1));
        assert!(!policy.read_only && !policy.is_sensitive);
        let bytes = configs["max.message.bytes"];
        let synonyms: Vec<_> =
            bytes.synonyms.iter().map(|s| (&*s.name, s.value.as_deref().unwrap(), s.source)).collect();
        assert_eq!(synonyms, [("max.message.bytes", "5000", 1), ("message.max.bytes", "1048588", 5)]);
        let retention = configs["retention.bytes"];
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), 4));
        let synonyms: Vec<_> = retention.synonyms.iter().map(|s| (&*s.name, s.source)).collect();
        assert_eq!(synonyms, [("log.retention.bytes", 4), ("log.retention.bytes", 5)]);
        assert_eq!(configs["retention.ms"].config_source, 5);
        if version >= 3 {
            assert_eq!((policy.config_type, bytes.config_type, retention.config_type), (7, 3, 5));
            assert!(policy.documentation.as_ref().is_some_and(|text| !text.is_empty()));
        }
    }
}

#[tokio::test]
async fn a_default_in_three_units_names_all_that_are_set() {
    let broker = TestBroker::start_with(&["log.retention.minutes=5"]).await;
    broker.create_topic("t", 1, &[("retention.ms", "9")]).await;
    let answer = describe(&broker, 4, RESOURCE_TOPIC, "t", Some(&["retention.ms"])).await;
    let result = result(&answer);
    let synonyms: Vec<_> =
        result.configs[0].synonyms.iter().map(|s| (&*s.name, s.value.as_deref().unwrap(), s.source)).collect();
    let expected = [("retention.ms", "9", 1), ("log.retention.minutes", "5", 4), ("log.retention.hours", "168", 5)];
    assert_eq!(synonyms, expected);
    assert_eq!(alter(&broker, 1, "t", &[("retention.ms", OPERATION_DELETE, None)], false).await, ErrorCode::None);
    let answer = describe(&broker, 4, RESOURCE_TOPIC, "t", Some(&["retention.ms"])).await;
    let config = &self::result(&answer).configs[0];
    assert_eq!((config.value.as_deref(), config.config_source), (Some("300000"), 4));
    // What is unset at the broker is null.
    let answer = describe(&broker, 4, RESOURCE_BROKER, "1", Some(&["log.retention.ms"])).await;
    assert_eq!(self::result(&answer).configs[0].value, None);
}

#[tokio::test]
async fn a_setting_for_tests_shows_only_where_it_is_set_and_a_new_segment_size_holds_at_once() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let internal = "internal.segment.bytes";
    let answer = describe(&broker, 4, RESOURCE_TOPIC, "t", None).await;
    assert!(result(&answer).configs.iter().all(|config| config.name != internal));
    assert_eq!(alter(&broker, 1, "t", &[(internal, OPERATION_SET, Some("500"))], false).await, ErrorCode::None);
    assert_eq!(value(&broker, "t", internal).await, "500");
    let partition = broker.broker.topics.get("t").unwrap().partition(0).unwrap().log.options();
    assert_eq!(partition.segment_bytes, 500);
}

#[tokio::test]
async fn the_broker_describes_itself_read_only() {
    let broker = TestBroker::start_with(&["num.partitions=9"]).await;
    let answer = describe(&broker, 4, RESOURCE_BROKER, "1", None).await;
    let result = result(&answer);
    let configs: HashMap<_, _> = result.configs.iter().map(|config| (&*config.name, config)).collect();
    let (partitions, deletion) = (configs["num.partitions"], configs["delete.topic.enable"]);
    assert_eq!((partitions.value.as_deref(), partitions.config_source), (Some("9"), 4));
    assert_eq!((deletion.value.as_deref(), deletion.config_source), (Some("true"), 5));
    assert!(configs.contains_key("default.replication.factor"));
    assert!(result.configs.iter().all(|config| config.read_only));
}

#[tokio::test]
async fn the_keys_asked_for_are_the_keys_answered() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let answer = describe(&broker, 2, RESOURCE_TOPIC, "t", Some(&["retention.ms", "no.such", "segment.bytes"])).await;
    let mut names: Vec<_> = result(&answer).configs.iter().map(|config| config.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["retention.ms", "segment.bytes"]);
    let answer = describe(&broker, 2, RESOURCE_TOPIC, "t", Some(&[])).await;
    assert!(result(&answer).configs.is_empty());
}

#[tokio::test]
async fn what_does_not_exist_is_not_described() {
    let broker = TestBroker::start().await;
    for (kind, name, expected) in [
        (RESOURCE_TOPIC, "nobody", ErrorCode::UnknownTopicOrPartition),
        (RESOURCE_TOPIC, "a b", ErrorCode::InvalidTopicException),
        (RESOURCE_BROKER, "7", ErrorCode::InvalidRequest),
        (RESOURCE_BROKER, "x", ErrorCode::InvalidRequest),
        (32, "group", ErrorCode::InvalidRequest),
        (RESOURCE_BROKER, "", ErrorCode::None),
    ] {
        let answer = describe(&broker, 4, kind, name, None).await;
        let result = result(&answer);
        assert_eq!(result.error_code, expected, "{kind} {name}");
        assert!(result.configs.is_empty());
        assert_eq!((result.resource_type, &*result.resource_name), (kind, name));
    }
}

#[tokio::test]
async fn settings_are_set_and_go_back_to_their_defaults() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[("retention.ms", "5")]).await;
    let set = [("retention.ms", OPERATION_SET, Some("7")), ("segment.bytes", OPERATION_SET, Some("2000000"))];
    assert_eq!(alter(&broker, 0, "t", &set, false).await, ErrorCode::None);
    assert_eq!(value(&broker, "t", "retention.ms").await, "7");
    assert_eq!(value(&broker, "t", "segment.bytes").await, "2000000");
    assert_eq!(alter(&broker, 1, "t", &[("retention.ms", OPERATION_DELETE, None)], false).await, ErrorCode::None);
    assert_eq!(value(&broker, "t", "retention.ms").await, "604800000");

    let broker = broker.restart().await;
    assert_eq!(value(&broker, "t", "segment.bytes").await, "2000000");
}

#[tokio::test]
async fn lists_take_and_give_items() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let policy = "cleanup.policy";
    assert_eq!(alter(&broker, 1, "t", &[(policy, OPERATION_APPEND, Some("compact"))], false).await, ErrorCode::None);
    assert_eq!(value(&broker, "t", policy).await, "compact,delete");
    assert_eq!(alter(&broker, 1, "t", &[(policy, OPERATION_SUBTRACT, Some("delete"))], false).await, ErrorCode::None);
    assert_eq!(value(&broker, "t", policy).await, "compact");
    let emptied = alter(&broker, 1, "t", &[(policy, OPERATION_SUBTRACT, Some("compact"))], false).await;
    assert_eq!(emptied, ErrorCode::InvalidConfig);
    let no_list = alter(&broker, 1, "t", &[("retention.ms", OPERATION_APPEND, Some("1"))], false).await;
    assert_eq!(no_list, ErrorCode::InvalidConfig);
}

#[tokio::test]
async fn one_bad_change_keeps_all_of_them_out() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let good = ("retention.ms", OPERATION_SET, Some("7"));
    for (bad, code) in [
        (("no.such", OPERATION_SET, Some("7")), ErrorCode::InvalidConfig),
        (("segment.bytes", OPERATION_SET, Some("small")), ErrorCode::InvalidConfig),
        (("segment.bytes", OPERATION_SET, Some("1048575")), ErrorCode::InvalidConfig),
        (("max.compaction.lag.ms", OPERATION_SET, Some("0")), ErrorCode::InvalidConfig),
        (("segment.bytes", OPERATION_SET, None), ErrorCode::InvalidConfig),
        (("segment.bytes", 9, Some("1")), ErrorCode::InvalidRequest),
        (good, ErrorCode::InvalidRequest),
    ] {
        assert_eq!(alter(&broker, 1, "t", &[good, bad], false).await, code, "{bad:?}");
    }
    assert_eq!(alter(&broker, 1, "t", &[good], true).await, ErrorCode::None);
    assert_eq!(value(&broker, "t", "retention.ms").await, "604800000");
    assert_eq!(alter(&broker, 1, "nobody", &[good], false).await, ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test]
async fn changes_made_at_the_same_time_all_hold() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let names =
        ["retention.ms", "retention.bytes", "segment.ms", "flush.ms", "delete.retention.ms", "max.message.bytes"];
    let changes = names.map(|name| {
        let broker = &broker;
        async move { alter(broker, 1, "t", &[(name, OPERATION_SET, Some("77"))], false).await }
    });
    let [first, second, third, fourth, fifth, sixth] = changes;
    let codes = tokio::join!(first, second, third, fourth, fifth, sixth);
    assert_eq!(
        codes,
        (ErrorCode::None, ErrorCode::None, ErrorCode::None, ErrorCode::None, ErrorCode::None, ErrorCode::None)
    );
    for name in names {
        assert_eq!(value(&broker, "t", name).await, "77", "{name}");
    }
}

#[tokio::test]
async fn broker_settings_cannot_be_changed_while_it_runs() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let resource = |resource_type, name: &'static str| AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: Vec::new(),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![
            resource(RESOURCE_BROKER, "1"),
            resource(32, "g"),
            resource(RESOURCE_TOPIC, "t"),
            resource(RESOURCE_TOPIC, "t"),
        ],
        validate_only: false,
    };
    let answer = broker.client().await.ask(1, &request).await;
    let response: IncrementalAlterConfigsResponse<'_> = answer.read();
    assert!(response.responses.iter().all(|response| response.error_code == ErrorCode::InvalidRequest));
}
