//! OffsetDelete.

use std::borrow::Cow;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use super::super::effect::{Reply, RequestId};
use super::super::writes::After;
use super::super::{Context, Text};
use super::table::{OffsetChange, OffsetTable};

/// Deletes offsets of topics that the group does not subscribe to, and answers once they are gone.
pub(crate) fn delete_offsets(
    cx: &mut Context,
    offsets: &mut OffsetTable,
    id: RequestId,
    request: &OffsetDeleteRequest<'_>,
    is_subscribed: impl Fn(&str) -> bool,
) {
    let group = Text::from(&*request.group_id);
    let mut changes = Vec::new();
    let topics = request.topics.iter().map(|topic| {
        let subscribed = is_subscribed(&topic.name);
        let partitions = topic.partitions.iter().map(|partition| {
            let partition_index = partition.partition_index;
            if subscribed {
                return OffsetDeleteResponsePartition {
                    partition_index,
                    error_code: ErrorCode::GroupSubscribedToTopic,
                };
            }
            if offsets.exists(&group, &topic.name, partition_index) {
                changes.push(OffsetChange {
                    group: Text::clone(&group),
                    topic: Text::from(&*topic.name),
                    partition: partition_index,
                    offset: None,
                });
            }
            OffsetDeleteResponsePartition { partition_index, error_code: ErrorCode::None }
        });
        OffsetDeleteResponseTopic {
            name: Cow::Owned(topic.name.clone().into_owned()),
            partitions: partitions.collect(),
        }
    });
    let response = OffsetDeleteResponse { topics: topics.collect(), ..Default::default() };
    let reply = Reply::OffsetDelete(response);
    if changes.is_empty() {
        cx.reply(id, reply);
        return;
    }
    for change in &changes {
        offsets.begin(change);
    }
    let records = changes.iter().map(OffsetChange::record).collect();
    cx.append(records, vec![After::Offsets(changes), After::Reply(id, reply)]);
}
