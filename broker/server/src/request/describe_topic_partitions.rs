//! DescribeTopicPartitions, version 0.
//!
//! Behaviour: the partitions of the topics that are named, or of all where none is, in the order of their names, from the
//! cursor on; at most `response_partition_limit` of them, and never more than [`PARTITIONS_MAX`]. Where some are left the answer
//! says with which one to go on. A topic that was named and is not there is told so; among all topics none is.
//! Not supported: eligible leader replicas; there is one replica.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_wire::message::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsRequestTopic, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, TopicPartitionCursor,
};
use ottla_wire::{ErrorCode, Str};

use super::described_partition::DescribedPartition;
use super::operation::TOPIC_OPERATIONS;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::topics::{Topic, check_topic_name};

/// Most partitions of one answer, as in Kafka (`max.request.partition.size.limit`).
const PARTITIONS_MAX: usize = 2000;

/// Serves DescribeTopicPartitions.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: DescribeTopicPartitionsRequest<'_> = decoded(head, frame)?;
    let (from, mut first) = match &request.cursor {
        Some(cursor) if cursor.partition_index < 0 => {
            let refused = |topic: &DescribeTopicPartitionsRequestTopic<'_>| DescribeTopicPartitionsResponseTopic {
                error_code: ErrorCode::InvalidRequest,
                name: Some(Str::Owned(topic.name.to_string())),
                ..Default::default()
            };
            let topics = request.topics.iter().map(refused).collect();
            return Ok(Response::of(head, &DescribeTopicPartitionsResponse { topics, ..Default::default() }));
        }
        Some(cursor) => (&*cursor.topic_name, cursor.partition_index as usize),
        None => ("", 0),
    };
    let all = broker.topics.all();
    let names: BTreeSet<&str> = if request.topics.is_empty() {
        all.iter().map(|topic| &*topic.name).collect()
    } else {
        request.topics.iter().map(|topic| &*topic.name).collect()
    };
    let mut room = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.into_iter().skip_while(|name| *name < from) {
        let begin = if name == from { std::mem::take(&mut first) } else { 0 };
        let Some(topic) = broker.topics.get(name) else {
            // One of all topics that went meanwhile is not there.
            if !request.topics.is_empty() {
                response.topics.push(missing(name));
            }
            continue;
        };
        let next =
            |index: usize| TopicPartitionCursor { topic_name: Str::Borrowed(name), partition_index: index as i32 };
        if room == 0 {
            response.next_cursor = Some(next(begin));
            break;
        }
        let described = described(broker, &topic, begin, room);
        let end = begin + described.partitions.len();
        room -= described.partitions.len();
        response.topics.push(described);
        if end < topic.partitions.len() {
            response.next_cursor = Some(next(end));
            break;
        }
    }
    Ok(Response::of(head, &response))
}

fn described(
    broker: &Broker,
    topic: &Topic,
    begin: usize,
    count_max: usize,
) -> DescribeTopicPartitionsResponseTopic<'static> {
    let partitions = topic.partitions.iter().skip(begin).take(count_max).map(|partition| {
        let DescribedPartition { error_code, leader_id, leader_epoch, replicas, offline_replicas } =
            DescribedPartition::of(broker, partition);
        DescribeTopicPartitionsResponsePartition {
            error_code,
            partition_index: partition.index,
            leader_id,
            leader_epoch,
            isr_nodes: replicas.clone(),
            replica_nodes: replicas,
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas,
        }
    });
    DescribeTopicPartitionsResponseTopic {
        name: Some(Str::Owned(topic.name.to_string())),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: partitions.collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..Default::default()
    }
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic<'_> {
    let error_code = match check_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_wrong) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic { error_code, name: Some(Str::Borrowed(name)), ..Default::default() }
}
