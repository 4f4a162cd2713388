//! CreateTopics, versions 2-7.
//!
//! Behaviour: each topic is checked and created by itself; with `validate_only` it is only checked. The topic can be
//! used, and Metadata shows it, as soon as the answer leaves. -1 partitions or replicas are the broker's defaults.
//! Assignments by hand are taken if they name this node alone.
//! Not supported: more than one replica, refused as Kafka refuses it on one node, or clamped to one with the setting
//! `ottla.replication.factor.clamp`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_wire::message::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use ottla_wire::{ErrorCode, Str};

use super::api_error::ApiError;
use super::topic_settings::{check_settings, is_shown, shown, topic_value_source};
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::config::TopicSettings;
use crate::config::topic::TOPIC_SETTINGS;
use crate::told::TopicEvent;
use crate::topics::NewTopic;

const REPLICATION_FACTOR: i16 = 1;

/// Serves CreateTopics.
pub(super) fn respond(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: CreateTopicsRequest<'_> = decoded(head, frame)?;
    let mut times_named: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *times_named.entry(&topic.name).or_default() += 1;
    }
    let create = |topic: &CreatableTopic<'_>| {
        if times_named.get(&*topic.name).is_some_and(|times| *times > 1) {
            return Err(ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic name."));
        }
        create_one(broker, peer, topic, request.validate_only)
    };
    let topics = request.topics.iter().map(|topic| match create(topic) {
        Ok(result) => CreatableTopicResult { name: topic.name.clone(), ..result },
        Err(ApiError { error_code, message }) => CreatableTopicResult {
            name: topic.name.clone(),
            error_code,
            error_message: Some(Str::Owned(message)),
            ..Default::default()
        },
    });
    Ok(Response::of(head, &CreateTopicsResponse { topics: topics.collect(), ..Default::default() }))
}

fn create_one(
    broker: &Broker,
    peer: &Peer,
    topic: &CreatableTopic<'_>,
    validate_only: bool,
) -> Result<CreatableTopicResult<'static>, ApiError> {
    broker.topics.check_new(&topic.name)?;
    let partition_count = partition_count(broker, topic)?;
    let mut overrides = BTreeMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!("Null value not supported for topic configs: {}", config.name);
            return Err(ApiError::new(ErrorCode::InvalidConfig, message));
        };
        overrides.insert(config.name.to_string(), value.to_string());
    }
    // The plugin stays until the topic is there to name it.
    let (settings, _reservations) = check_settings(broker, &topic.name, None, overrides)?;
    let mut result = CreatableTopicResult {
        num_partitions: partition_count,
        replication_factor: REPLICATION_FACTOR,
        configs: Some(described(broker, &settings)),
        ..Default::default()
    };
    if !validate_only {
        let topic = broker.topics.create(NewTopic { name: topic.name.to_string(), partition_count, settings })?;
        broker.told.topic(TopicEvent::Created, &topic.name, partition_count, peer);
        result.topic_id = topic.id;
    }
    Ok(result)
}

/// The number of partitions asked for, after the checks that concern it and the replicas.
fn partition_count(broker: &Broker, topic: &CreatableTopic<'_>) -> Result<i32, ApiError> {
    if !topic.assignments.is_empty() {
        if topic.num_partitions != -1 || topic.replication_factor != -1 {
            let message = "The replication factor and the number of partitions must be -1 with assignments.";
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        return assigned_count(broker, &topic.assignments);
    }
    match topic.replication_factor {
        -1 | 1 => {}
        ..=0 => {
            let message = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
        }
        _ if broker.settings().config.clamp_replication_factor => {}
        factor => {
            let message = format!(
                "The target replication factor of {factor} cannot be reached because only 1 broker(s) are registered."
            );
            return Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
        }
    }
    match topic.num_partitions {
        -1 => Ok(broker.settings().config.num_partitions),
        ..=0 => Err(ApiError::new(
            ErrorCode::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        )),
        count => check_count(broker, count as usize),
    }
}

fn assigned_count(broker: &Broker, assignments: &[CreatableReplicaAssignment]) -> Result<i32, ApiError> {
    let mut indexes: Vec<_> = assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    if !indexes.iter().copied().eq((0..).take(indexes.len())) {
        return invalid("Partitions should be a consecutive 0-based integer sequence.");
    }
    let clamp = broker.settings().config.clamp_replication_factor;
    for assignment in assignments {
        match assignment.broker_ids.as_slice() {
            [only] if *only == broker.node_id => {}
            [first, ..] if clamp && *first == broker.node_id => {}
            _ => return invalid("Every partition must be assigned to this broker alone: there is no other."),
        }
    }
    check_count(broker, assignments.len())
}

fn check_count(broker: &Broker, count: usize) -> Result<i32, ApiError> {
    let count_max = broker.settings().config.topic_partitions_max;
    match i32::try_from(count) {
        Ok(count) if count <= count_max => Ok(count),
        _ => {
            let message = format!("{count} partitions are more than ottla.topic.partitions.max = {count_max}.");
            Err(ApiError::new(ErrorCode::InvalidPartitions, message))
        }
    }
}

fn described(broker: &Broker, settings: &TopicSettings) -> Vec<CreatableTopicConfigs<'static>> {
    let describe = |setting: &'static crate::config::topic::TopicSetting| CreatableTopicConfigs {
        name: Str::Borrowed(setting.name),
        value: shown(setting.optional, (setting.show)(settings)).map(Str::Owned),
        read_only: false,
        config_source: topic_value_source(broker, settings, setting),
        is_sensitive: false,
    };
    TOPIC_SETTINGS.iter().filter(|setting| is_shown(settings, setting)).map(describe).collect()
}
