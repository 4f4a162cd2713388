//! Settings as admin tools see and change them.

use std::collections::HashMap;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResponse, AlterableConfig, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
    DescribeConfigsResult, FindCoordinatorRequest, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    OPERATION_APPEND, OPERATION_DELETE, OPERATION_SET, OPERATION_SUBTRACT, RESOURCE_BROKER, RESOURCE_GROUP,
    RESOURCE_TOPIC, ReplaceConfigsResource, ReplaceableConfig,
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
async fn the_broker_describes_itself_and_says_what_it_reads_at_its_start_alone() {
    let broker = TestBroker::start_with(&["num.partitions=9"]).await;
    let answer = describe(&broker, 4, RESOURCE_BROKER, "1", None).await;
    let result = result(&answer);
    let configs: HashMap<_, _> = result.configs.iter().map(|config| (&*config.name, config)).collect();
    let (partitions, deletion) = (configs["num.partitions"], configs["delete.topic.enable"]);
    assert_eq!((partitions.value.as_deref(), partitions.config_source), (Some("9"), 4));
    assert_eq!((deletion.value.as_deref(), deletion.config_source), (Some("true"), 5));
    assert!(configs.contains_key("default.replication.factor"));
    assert!(!partitions.read_only && configs["node.id"].read_only && configs["log.dirs"].read_only);
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
        (3, "no kind", ErrorCode::InvalidRequest),
        (RESOURCE_GROUP, "", ErrorCode::InvalidRequest),
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

/// Changes of one resource: the error and what is said about it.
async fn alter_resource(
    broker: &TestBroker,
    (kind, name): (i8, &str),
    changes: &[(&str, Option<&str>)],
    validate_only: bool,
) -> (ErrorCode, String) {
    let configs = changes.iter().map(|&(name, value)| AlterableConfig {
        name: name.to_owned().into(),
        config_operation: if value.is_some() { OPERATION_SET } else { OPERATION_DELETE },
        value: value.map(|value| value.to_owned().into()),
    });
    let resource =
        AlterConfigsResource { resource_type: kind, resource_name: name.to_owned().into(), configs: configs.collect() };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    let answer = broker.client().await.ask(1, &request).await;
    let response = answer.read::<IncrementalAlterConfigsResponse<'_>>().responses.remove(0);
    (response.error_code, response.error_message.unwrap_or_default().into_owned())
}

/// Value and source of a setting, and the sources of its synonyms.
async fn described(broker: &TestBroker, kind: i8, name: &str, key: &str) -> Option<(String, i8, Vec<i8>)> {
    let answer = describe(broker, 4, kind, name, Some(&[key])).await;
    let result = result(&answer);
    assert_eq!(result.error_code, ErrorCode::None);
    let config = result.configs.first()?;
    let sources = config.synonyms.iter().map(|synonym| synonym.source).collect();
    Some((config.value.clone().unwrap_or_default().into_owned(), config.config_source, sources))
}

#[tokio::test]
async fn broker_settings_change_while_it_runs_and_outlive_it() {
    let broker = TestBroker::start_with(&["num.partitions=2", "log.retention.hours=5"]).await;
    broker.create_topic("t", 1, &[]).await;
    broker.create_topic("own", 1, &[("retention.ms", "7")]).await;
    let none = (ErrorCode::None, String::new());
    let (one, all) = ((RESOURCE_BROKER, "1"), (RESOURCE_BROKER, ""));
    assert_eq!(alter_resource(&broker, all, &[("num.partitions", Some("9"))], true).await, none);
    assert_eq!(described(&broker, RESOURCE_BROKER, "1", "num.partitions").await.unwrap().0, "2", "only checked");
    assert_eq!(alter_resource(&broker, all, &[("num.partitions", Some("7"))], false).await, none);
    let changes =
        [("num.partitions", Some("3")), ("log.retention.ms", Some("99000")), ("log.segment.bytes", Some("2000000"))];
    assert_eq!(alter_resource(&broker, one, &changes, false).await, none);
    let check = async |broker: &TestBroker| {
        let partitions = described(broker, RESOURCE_BROKER, "1", "num.partitions").await.unwrap();
        assert_eq!(partitions, ("3".to_owned(), 2, vec![2, 3, 4, 5]));
        let partitions = described(broker, RESOURCE_BROKER, "", "num.partitions").await.unwrap();
        assert_eq!(partitions, ("7".to_owned(), 3, vec![3]));
        assert_eq!(described(broker, RESOURCE_BROKER, "", "log.retention.ms").await, None, "not set for all");
        // A topic follows where it does not say anything itself.
        let retention = described(broker, RESOURCE_TOPIC, "t", "retention.ms").await.unwrap();
        assert_eq!(retention, ("99000".to_owned(), 2, vec![2, 4, 5]));
        assert_eq!(described(broker, RESOURCE_TOPIC, "own", "retention.ms").await.unwrap().0, "7");
        let topic = broker.broker.topics.get("t").unwrap();
        assert_eq!(
            (topic.settings().retention_ms, topic.partition(0).unwrap().log.options().segment_bytes),
            (99_000, 2_000_000)
        );
    };
    check(&broker).await;
    let broker = broker.crash().await;
    check(&broker).await;
    broker.create_topic("new", -1, &[]).await;
    assert_eq!(broker.broker.topics.get("new").unwrap().partitions.len(), 3);
    assert_eq!(alter_resource(&broker, one, &changes.map(|(name, _)| (name, None)), false).await, none);
    let retention = described(&broker, RESOURCE_TOPIC, "t", "retention.ms").await.unwrap();
    assert_eq!(retention, ("18000000".to_owned(), 4, vec![4, 5]));
    assert_eq!(described(&broker, RESOURCE_BROKER, "1", "num.partitions").await.unwrap().0, "7");
}

#[tokio::test]
async fn broker_settings_that_are_read_at_the_start_or_contradict_each_other_are_refused() {
    let broker = TestBroker::start().await;
    for (resource, change, error_code, words) in [
        ("1", ("node.id", "2"), ErrorCode::InvalidRequest, "Cannot update these configs dynamically: node.id"),
        ("", ("log.dir", "/x"), ErrorCode::InvalidRequest, "dynamically"),
        ("1", ("no.such", "2"), ErrorCode::InvalidConfig, "Unknown broker config name: no.such"),
        ("1", ("num.partitions", "many"), ErrorCode::InvalidConfig, "num.partitions"),
        ("1", ("num.partitions", "20000"), ErrorCode::InvalidConfig, "ottla.topic.partitions.max"),
        ("2", ("num.partitions", "3"), ErrorCode::InvalidRequest, "Unexpected broker id"),
    ] {
        let told = alter_resource(&broker, (RESOURCE_BROKER, resource), &[(change.0, Some(change.1))], false).await;
        assert!(told.0 == error_code && told.1.contains(words), "{change:?}: {told:?}");
    }
    assert_eq!(described(&broker, RESOURCE_BROKER, "1", "num.partitions").await.unwrap().0, "4");
    let told = alter_resource(&broker, (3, "m"), &[], false).await;
    assert_eq!(told.0, ErrorCode::InvalidRequest, "no such kind");
}

#[tokio::test]
async fn a_group_has_settings_of_its_own_within_the_bounds_of_the_broker() {
    let broker = TestBroker::start().await;
    let session = "consumer.session.timeout.ms";
    assert_eq!(described(&broker, RESOURCE_GROUP, "g", session).await.unwrap(), ("45000".to_owned(), 5, vec![5]));
    let group = (RESOURCE_GROUP, "g");
    assert_eq!(alter_resource(&broker, group, &[(session, Some("50000"))], false).await.0, ErrorCode::None);
    assert_eq!(described(&broker, RESOURCE_GROUP, "g", session).await.unwrap(), ("50000".to_owned(), 8, vec![8, 5]));
    assert_eq!(described(&broker, RESOURCE_GROUP, "h", session).await.unwrap().0, "45000");
    for (change, words) in [
        ((session, "60001"), "group.consumer.max.session.timeout.ms"),
        ((session, "soon"), "milliseconds"),
        (("consumer.heartbeat.interval.ms", "4999"), "group.consumer.min.heartbeat.interval.ms"),
        (("share.session.timeout.ms", "45000"), "Unknown group config name"),
    ] {
        let told = alter_resource(&broker, group, &[(change.0, Some(change.1))], false).await;
        assert!(told.0 == ErrorCode::InvalidConfig && told.1.contains(words), "{change:?}: {told:?}");
    }
    let told = alter_resource(&broker, (RESOURCE_GROUP, ""), &[], false).await;
    assert_eq!(told.0, ErrorCode::InvalidRequest);

    // A member is told the interval of its group, and another one after it was changed.
    let beat = |member_id: &'static str, member_epoch| ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        member_epoch,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let mut client = broker.client().await;
    client.ask(2, &FindCoordinatorRequest { key: "g".into(), ..Default::default() }).await;
    let joined = loop {
        let answer = client.ask(1, &beat("m", 0)).await;
        let response: ConsumerGroupHeartbeatResponse<'_> = answer.read();
        if response.error_code != ErrorCode::CoordinatorLoadInProgress {
            break (response.error_code, response.heartbeat_interval_ms, response.member_epoch);
        }
    };
    assert_eq!((joined.0, joined.1), (ErrorCode::None, 5000));
    let change = [("consumer.heartbeat.interval.ms", Some("7000"))];
    assert_eq!(alter_resource(&broker, group, &change, false).await.0, ErrorCode::None);
    let answer = client.ask(1, &beat("m", joined.2)).await;
    let response: ConsumerGroupHeartbeatResponse<'_> = answer.read();
    assert_eq!((response.error_code, response.heartbeat_interval_ms), (ErrorCode::None, 7000));
    let broker = broker.restart().await;
    assert_eq!(described(&broker, RESOURCE_GROUP, "g", "consumer.heartbeat.interval.ms").await.unwrap().0, "7000");
}

#[tokio::test]
async fn committed_offsets_cannot_be_made_to_vanish_by_settings() {
    let broker = TestBroker::start_with(&["offsets.topic.num.partitions=1"]).await;
    broker.client().await.ask(2, &FindCoordinatorRequest { key: "g".into(), ..Default::default() }).await;
    let topic = (RESOURCE_TOPIC, "__consumer_offsets");
    for change in [
        ("ottla.durability", Some("page-cache")),
        ("cleanup.policy", Some("delete")),
        ("cleanup.policy", Some("compact,delete")),
        ("cleanup.policy", None),
    ] {
        let told = alter_resource(&broker, topic, &[change], false).await;
        assert!(told.0 == ErrorCode::InvalidConfig && told.1.contains("committed offsets"), "{change:?}: {told:?}");
    }
    assert_eq!(alter_resource(&broker, topic, &[("segment.bytes", Some("2000000"))], false).await.0, ErrorCode::None);
    let all = (RESOURCE_BROKER, "");
    assert_eq!(
        alter_resource(&broker, all, &[("ottla.durability", Some("page-cache"))], false).await.0,
        ErrorCode::None
    );
    assert_eq!(value(&broker, "__consumer_offsets", "ottla.durability").await, "fsync");
}

#[tokio::test]
async fn alter_configs_replaces_everything() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[("retention.ms", "5"), ("segment.ms", "6")]).await;
    let ask = async |version, configs: &[(&'static str, Option<&'static str>)], validate_only| {
        let configs =
            configs.iter().map(|&(name, value)| ReplaceableConfig { name: name.into(), value: value.map(Into::into) });
        let resource = ReplaceConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: "t".into(),
            configs: configs.collect(),
        };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only };
        let answer = broker.client().await.ask(version, &request).await;
        answer.read::<AlterConfigsResponse<'_>>().responses[0].error_code
    };
    for version in 0..=2 {
        assert_eq!(ask(version, &[("segment.ms", Some("9"))], true).await, ErrorCode::None);
        assert_eq!(value(&broker, "t", "retention.ms").await, "5", "only checked");
    }
    assert_eq!(ask(2, &[("segment.ms", None)], false).await, ErrorCode::InvalidRequest);
    assert_eq!(ask(2, &[("segment.ms", Some("1")), ("segment.ms", Some("2"))], false).await, ErrorCode::InvalidRequest);
    assert_eq!(ask(2, &[("segment.ms", Some("0"))], false).await, ErrorCode::InvalidConfig);
    assert_eq!(ask(2, &[("remote.storage.enable", Some("true"))], false).await, ErrorCode::InvalidConfig);
    assert_eq!(value(&broker, "t", "retention.ms").await, "5");
    assert_eq!(ask(2, &[("segment.ms", Some("9"))], false).await, ErrorCode::None);
    assert_eq!(
        (value(&broker, "t", "segment.ms").await.as_str(), value(&broker, "t", "retention.ms").await.as_str()),
        ("9", "604800000")
    );
}

#[tokio::test]
async fn a_resource_that_is_named_twice_or_has_no_settings_is_refused() {
    let broker = TestBroker::start().await;
    broker.create_topic("t", 1, &[]).await;
    let resource = |resource_type, name: &'static str| AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: Vec::new(),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource(8, "1"), resource(RESOURCE_TOPIC, "t"), resource(RESOURCE_TOPIC, "t")],
        validate_only: false,
    };
    let answer = broker.client().await.ask(1, &request).await;
    let response: IncrementalAlterConfigsResponse<'_> = answer.read();
    assert!(response.responses.iter().all(|response| response.error_code == ErrorCode::InvalidRequest));
}
