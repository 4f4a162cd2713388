//! OffsetCommit: which members may, and what follows.

use std::borrow::Cow;

use ottla_wire::message::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_wire::{ErrorCode, Uuid};

use super::super::effect::{Reply, RequestId};
use super::super::writes::After;
use super::super::{Context, Text};
use super::table::{CommittedOffset, OffsetChange, OffsetTable};

/// From this version on, topics are named by their ids.
const TOPIC_IDS_FROM: i16 = 10;

/// An OffsetCommit that its group has accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit<'a> {
    pub(crate) id: RequestId,
    pub(crate) version: i16,
    pub(crate) request: &'a OffsetCommitRequest<'a>,
}

impl Commit<'_> {
    /// The same error for all partitions.
    pub(crate) fn refuse(&self, cx: &mut Context, error: ErrorCode) {
        let topics = self.request.topics.iter().map(|topic| answer(topic, |_| error));
        let response = OffsetCommitResponse { topics: topics.collect(), throttle_time_ms: 0 };
        cx.reply(self.id, Reply::OffsetCommit(response));
    }

    /// Appends what can be committed, and answers once it is durable.
    pub(crate) fn accept(&self, cx: &mut Context, offsets: &mut OffsetTable, group: &Text) {
        let mut changes = Vec::new();
        let retention_ms = self.request.retention_time_ms;
        let expire_ms = (retention_ms != -1).then(|| cx.now_ms.saturating_add(retention_ms));
        let topics = self.request.topics.iter().map(|topic| {
            let known = self.topic(cx, topic);
            answer(topic, |partition| {
                let (name, topic_id) = match &known {
                    Ok(known) => known,
                    Err(error) => return *error,
                };
                let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
                if metadata.len() > cx.config.offset_metadata_max_bytes {
                    return ErrorCode::OffsetMetadataTooLarge;
                }
                let committed = CommittedOffset {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: Text::from(metadata),
                    commit_ms: cx.now_ms,
                    expire_ms,
                    topic_id: *topic_id,
                };
                changes.push(OffsetChange {
                    group: Text::clone(group),
                    topic: Text::clone(name),
                    partition: partition.partition_index,
                    offset: Some(committed),
                });
                ErrorCode::None
            })
        });
        let response = OffsetCommitResponse { topics: topics.collect(), throttle_time_ms: 0 };
        let reply = Reply::OffsetCommit(response);
        if changes.is_empty() {
            cx.reply(self.id, reply);
            return;
        }
        for change in &changes {
            offsets.begin(change);
        }
        let records = changes.iter().map(OffsetChange::record).collect();
        cx.append(records, vec![After::Offsets(changes), After::Reply(self.id, reply)]);
    }

    /// The topic that a request means.
    fn topic(&self, cx: &Context, topic: &OffsetCommitRequestTopic<'_>) -> Result<(Text, Uuid), ErrorCode> {
        let (found, unknown) = if self.version >= TOPIC_IDS_FROM {
            (cx.topics.with_id(topic.topic_id), ErrorCode::UnknownTopicId)
        } else {
            (cx.topics.named(&topic.name), ErrorCode::UnknownTopicOrPartition)
        };
        found.map(|found| (Text::clone(&found.name), found.id)).ok_or(unknown)
    }
}

fn answer(
    topic: &OffsetCommitRequestTopic<'_>,
    mut error: impl FnMut(&OffsetCommitRequestPartition<'_>) -> ErrorCode,
) -> OffsetCommitResponseTopic<'static> {
    let partitions = topic.partitions.iter().map(|partition| OffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code: error(partition),
    });
    OffsetCommitResponseTopic {
        name: Cow::Owned(topic.name.clone().into_owned()),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}
