//! OffsetFetch: what is durable.

use std::borrow::Cow;

use ottla_wire::message::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
};
use ottla_wire::{ErrorCode, Uuid};

use super::super::topics::Topics;
use super::table::{CommittedOffset, OffsetTable};

/// From this version on, topics are named by their ids.
const TOPIC_IDS_FROM: i16 = 10;

/// The offsets asked for. A partition without one has -1 and no error.
pub(crate) fn fetch(
    offsets: &OffsetTable,
    topics: &Topics,
    version: i16,
    request: &OffsetFetchRequestGroup<'_>,
) -> OffsetFetchResponseGroup<'static> {
    let group = &*request.group_id;
    let topics = match &request.topics {
        Some(asked) => asked.iter().map(|topic| asked_for(offsets, topics, version, group, topic)).collect(),
        None => all(offsets, topics, version, group),
    };
    OffsetFetchResponseGroup { topics, ..empty(request) }
}

/// An answer without any offset.
pub(crate) fn empty(request: &OffsetFetchRequestGroup<'_>) -> OffsetFetchResponseGroup<'static> {
    OffsetFetchResponseGroup { group_id: Cow::Owned(request.group_id.clone().into_owned()), ..Default::default() }
}

fn asked_for(
    offsets: &OffsetTable,
    topics: &Topics,
    version: i16,
    group: &str,
    asked: &OffsetFetchRequestTopics<'_>,
) -> OffsetFetchResponseTopics<'static> {
    let (name, error) = if version >= TOPIC_IDS_FROM {
        match topics.with_id(asked.topic_id) {
            Some(topic) => (&*topic.name, ErrorCode::None),
            None => ("", ErrorCode::UnknownTopicId),
        }
    } else {
        (&*asked.name, ErrorCode::None)
    };
    let partitions = asked.partition_indexes.iter().map(|partition| {
        let committed = if error.is_none() { offsets.visible(group, name, *partition) } else { None };
        OffsetFetchResponsePartitions { error_code: error, ..answer(*partition, committed) }
    });
    OffsetFetchResponseTopics {
        name: Cow::Owned(name.to_owned()),
        topic_id: asked.topic_id,
        partitions: partitions.collect(),
    }
}

fn all(offsets: &OffsetTable, topics: &Topics, version: i16, group: &str) -> Vec<OffsetFetchResponseTopics<'static>> {
    let mut answers: Vec<OffsetFetchResponseTopics<'static>> = Vec::new();
    for (name, partition, committed) in offsets.visible_of(group) {
        let topic_id = topics.named(name).map_or(Uuid::nil(), |topic| topic.id);
        // An offset of a topic without an id cannot be told by id.
        if version >= TOPIC_IDS_FROM && topic_id.is_nil() {
            continue;
        }
        let partition = answer(partition, Some(committed));
        match answers.last_mut().filter(|last| *last.name == **name) {
            Some(last) => last.partitions.push(partition),
            None => answers.push(OffsetFetchResponseTopics {
                name: Cow::Owned(name.to_string()),
                topic_id,
                partitions: vec![partition],
            }),
        }
    }
    answers
}

fn answer(partition_index: i32, committed: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions<'static> {
    let metadata = committed.map_or_else(String::new, |committed| committed.metadata.to_string());
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.map_or(-1, |committed| committed.offset),
        committed_leader_epoch: committed.map_or(-1, |committed| committed.leader_epoch),
        metadata: Some(Cow::Owned(metadata)),
        error_code: ErrorCode::None,
    }
}
