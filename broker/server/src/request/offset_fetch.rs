//! OffsetFetch, versions 1-10.
//!
//! Behaviour: tells what is durable. One group up to v7, any number later; all topics where none are named (v2). Topics by
//! name up to v9, by id from v10. A partition without a committed offset has -1 and no error. There are no open
//! transactions, so `require_stable` changes nothing.
//! Not supported: nothing is missing.

use std::collections::HashSet;
use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

use super::distinct::distinct;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// From this version on a request names groups.
const GROUPS_VERSION_MIN: i16 = 8;
/// From this version on there is an error for all of a group.
const GROUP_ERROR_VERSION_MIN: i16 = 2;

/// Serves OffsetFetch.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: OffsetFetchRequest<'_> = decoded(head, frame)?;
    let response = if head.version >= GROUPS_VERSION_MIN {
        let groups: Vec<_> = distinct(&request.groups, |group| &*group.group_id).cloned().collect();
        let groups = fetched(broker, head, groups);
        OffsetFetchResponse { groups, ..Default::default() }
    } else {
        let group = only_group(request);
        let only = fetched(broker, head, vec![group.clone()]).pop().unwrap_or_default();
        of_one_group(head.version, &group, only)
    };
    Ok(Response::of(head, &response))
}

fn fetched(
    broker: &Broker,
    head: RequestHead,
    mut groups: Vec<OffsetFetchRequestGroup<'_>>,
) -> Vec<OffsetFetchResponseGroup<'static>> {
    groups.iter_mut().for_each(name_partitions_once);
    let group_ids: Vec<&str> = groups.iter().map(|group| &*group.group_id).collect();
    let fetched: Vec<OffsetFetchResponseGroup<'static>> = broker.groups.read(&group_ids, |shards| {
        groups.iter().zip(shards).map(|(group, shard)| shard.fetch_offsets(head.version, group)).collect()
    });
    for group in fetched.iter().filter(|group| !group.error_code.is_none()) {
        broker.metrics.note_error(head.key, group.error_code);
    }
    fetched
}

fn name_partitions_once(group: &mut OffsetFetchRequestGroup<'_>) {
    let mut seen = HashSet::new();
    for topic in group.topics.iter_mut().flatten() {
        let OffsetFetchRequestTopics { name, topic_id, partition_indexes, .. } = topic;
        partition_indexes.retain(|index| seen.insert((name.clone(), *topic_id, *index)));
    }
}

/// The group of a request from before there could be several.
fn only_group(request: OffsetFetchRequest<'_>) -> OffsetFetchRequestGroup<'_> {
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..Default::default()
        });
        topics.collect()
    });
    OffsetFetchRequestGroup { group_id: request.group_id, topics, member_epoch: -1, ..Default::default() }
}

fn of_one_group(
    version: i16,
    asked: &OffsetFetchRequestGroup<'_>,
    group: OffsetFetchResponseGroup<'static>,
) -> OffsetFetchResponse<'static> {
    let error_code = group.error_code;
    let mut topics: Vec<_> = group.topics.into_iter().map(named).collect();
    if version < GROUP_ERROR_VERSION_MIN && !error_code.is_none() {
        topics = asked.topics.iter().flatten().map(|topic| refused(topic, error_code)).collect();
    }
    OffsetFetchResponse { topics, error_code, ..Default::default() }
}

fn named(topic: OffsetFetchResponseTopics<'static>) -> OffsetFetchResponseTopic<'static> {
    let partitions = topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    });
    OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
}

fn refused(topic: &OffsetFetchRequestTopics<'_>, error_code: ErrorCode) -> OffsetFetchResponseTopic<'static> {
    let partitions = topic.partition_indexes.iter().map(|partition_index| OffsetFetchResponsePartition {
        partition_index: *partition_index,
        committed_offset: -1,
        metadata: Some("".into()),
        error_code,
        ..Default::default()
    });
    OffsetFetchResponseTopic { name: topic.name.to_string().into(), partitions: partitions.collect() }
}
