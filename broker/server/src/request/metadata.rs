//! Metadata, versions 0-13.
//!
//! Behaviour: one broker, which leads everything. Topics by name, from v12 on also by id; all of them when none are
//! named (v0: the empty list). Topics named more than once are answered once. A name that does not exist is created with `num.partitions` when client and broker both
//! allow it, and the answer then already carries the new topic; an invalid name never is. Partitions in a log directory
//! that is offline have no leader, and say LEADER_NOT_AVAILABLE.
//! Not supported: authorized operations beyond "everything": there is no authorization yet.

use std::borrow::Cow;
use std::sync::Arc;

use ottla_wire::message::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic, OPERATIONS_NOT_ASKED_FOR,
};
use ottla_wire::{ErrorCode, Str, Uuid};

use super::described_partition::DescribedPartition;
use super::distinct::distinct;
use super::operation::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::config::TopicSettings;
use crate::partition::Partition;
use crate::told::TopicEvent;
use crate::topics::{NewTopic, Topic, TopicChangeError, check_topic_name, is_internal};

/// Partitions from which on an answer is made on a thread of its own.
const LARGE_PARTITIONS: usize = 1_000;

/// Serves Metadata where no topic has to be created for it.
pub(super) fn respond_now(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Option<Response>, CloseReason> {
    let request: MetadataRequest<'_> = decoded(head, frame)?;
    Ok((!wants_creation(broker, &request)).then(|| answer(broker, peer, head, &request)))
}

/// Whether an answer names so many partitions that it is not made on the thread of a connection.
pub(super) fn is_large(broker: &Broker, head: RequestHead, frame: &[u8]) -> bool {
    let Ok(request) = decoded::<MetadataRequest<'_>>(head, frame) else { return false };
    let count = |topic: Arc<Topic>| topic.partitions.len();
    let partitions: usize = match &request.topics {
        Some(named) if head.version > 0 || !named.is_empty() => {
            let by_name = named.iter().filter_map(|topic| broker.topics.get(topic.name.as_deref()?)).map(count);
            let by_id = named.iter().filter_map(|topic| broker.topics.get_by_id(&topic.topic_id)).map(count);
            by_name.chain(by_id).sum()
        }
        _ => broker.topics.all().into_iter().map(count).sum(),
    };
    partitions >= LARGE_PARTITIONS
}

/// Serves any Metadata.
pub(super) fn respond(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: MetadataRequest<'_> = decoded(head, frame)?;
    // A large request comes here, too, whether it may create topics or not.
    if wants_creation(broker, &request) {
        create_missing(broker, peer, &request);
    }
    Ok(answer(broker, peer, head, &request))
}

/// Names that would have to be created first.
fn missing<'r>(broker: &'r Broker, request: &'r MetadataRequest<'_>) -> impl Iterator<Item = &'r str> {
    let named = request.topics.iter().flatten().filter(|topic| topic.topic_id.is_nil());
    named
        .filter_map(|topic| topic.name.as_deref())
        // Internal topics have shapes of their own; a request for metadata must not make them.
        .filter(|name| check_topic_name(name).is_ok() && !is_internal(name) && broker.topics.get(name).is_none())
}

fn wants_creation(broker: &Broker, request: &MetadataRequest<'_>) -> bool {
    broker.settings().config.auto_create_topics
        && request.allow_auto_topic_creation
        && missing(broker, request).next().is_some()
}

fn create_missing(broker: &Broker, peer: &Peer, request: &MetadataRequest<'_>) {
    let settings = broker.settings();
    let partition_count = settings.config.num_partitions;
    for name in missing(broker, request) {
        let new =
            NewTopic { name: name.to_owned(), partition_count, settings: TopicSettings::defaults(&settings.config) };
        match broker.topics.create(new) {
            Ok(topic) => broker.told.topic(TopicEvent::CreatedOnUse, &topic.name, partition_count, peer),
            // Another request was faster, or the name collides: the answer says which.
            Err(TopicChangeError::Exists(_) | TopicChangeError::Collides { .. }) => {}
            Err(error) => tracing::error!("cannot create topic {name}: {error}"),
        }
    }
}

fn answer(broker: &Broker, peer: &Peer, head: RequestHead, request: &MetadataRequest<'_>) -> Response {
    let address = peer.told_address();
    let asked = request.include_topic_authorized_operations;
    let all = match &request.topics {
        None => Some(broker.topics.all()),
        Some(named) if head.version == 0 && named.is_empty() => Some(broker.topics.all()),
        Some(_) => None,
    };
    let topics = if let Some(topics) = &all {
        topics.iter().map(|topic| found(broker, topic, asked)).collect()
    } else {
        let wanted = distinct(request.topics.iter().flatten(), |wanted| (wanted.topic_id, wanted.name.as_deref()));
        wanted.map(|wanted| looked_up(broker, head, wanted, asked)).collect()
    };
    let response = MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: broker.node_id,
            host: Cow::Borrowed(&address.host),
            port: i32::from(address.port),
            rack: None,
        }],
        cluster_id: Some(Cow::Borrowed(&broker.cluster_id)),
        controller_id: broker.node_id,
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            OPERATIONS_NOT_ASKED_FOR
        },
        ..Default::default()
    };
    Response::of(head, &response)
}

fn looked_up<'r>(
    broker: &Broker,
    head: RequestHead,
    wanted: &'r MetadataRequestTopic<'_>,
    operations: bool,
) -> MetadataResponseTopic<'r> {
    let by_id = !wanted.topic_id.is_nil();
    match &wanted.name {
        _ if by_id && head.version >= 12 => match broker.topics.get_by_id(&wanted.topic_id) {
            Some(topic) => found(broker, &topic, operations),
            None => not_found(ErrorCode::UnknownTopicId, None, wanted.topic_id),
        },
        Some(name) if !by_id => {
            if let Err(_wrong) = check_topic_name(name) {
                return not_found(ErrorCode::InvalidTopicException, Some(name), Uuid::nil());
            }
            match broker.topics.get(name) {
                Some(topic) => found(broker, &topic, operations),
                None => not_found(missing_code(broker, name), Some(name), Uuid::nil()),
            }
        }
        // Ids came with v10, asking by them with v12.
        name => not_found(ErrorCode::InvalidRequest, Some(name.as_deref().unwrap_or_default()), wanted.topic_id),
    }
}

/// A name that collides with an existing one can never be created; saying "unknown" would be retried for ever.
fn missing_code(broker: &Broker, name: &str) -> ErrorCode {
    match broker.topics.check_new(name) {
        Err(TopicChangeError::Collides { .. }) => ErrorCode::InvalidTopicException,
        _ => ErrorCode::UnknownTopicOrPartition,
    }
}

fn not_found(error_code: ErrorCode, name: Option<&str>, topic_id: Uuid) -> MetadataResponseTopic<'_> {
    MetadataResponseTopic { error_code, name: name.map(Cow::Borrowed), topic_id, ..Default::default() }
}

fn found<'r>(broker: &Broker, topic: &Topic, operations: bool) -> MetadataResponseTopic<'r> {
    let described = |partition: &Arc<Partition>| {
        let DescribedPartition { error_code, leader_id, leader_epoch, replicas, offline_replicas } =
            DescribedPartition::of(broker, partition);
        MetadataResponsePartition {
            error_code,
            partition_index: partition.index,
            leader_id,
            leader_epoch,
            isr_nodes: replicas.clone(),
            replica_nodes: replicas,
            offline_replicas,
        }
    };
    MetadataResponseTopic {
        name: Some(Str::Owned(topic.name.to_string())),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: topic.partitions.iter().map(described).collect(),
        topic_authorized_operations: if operations { TOPIC_OPERATIONS } else { OPERATIONS_NOT_ASKED_FOR },
        ..Default::default()
    }
}
