//! What ConsumerGroupDescribe and ListGroups say.

use std::borrow::Cow;

use ottla_wire::message::{
    DescribedConsumerGroup, DescribedConsumerGroupAssignment, DescribedConsumerGroupMember,
    DescribedConsumerGroupTopicPartitions, ListedGroup, MEMBER_TYPE_CLASSIC, MEMBER_TYPE_CONSUMER,
};

use super::super::topics::Topics;
use super::{ConsumerGroup, Partitions};

impl ConsumerGroup {
    pub(crate) fn describe<'a>(&'a self, topics: &'a Topics) -> DescribedConsumerGroup<'a> {
        let empty = Partitions::new();
        let members = self.members.iter().map(|(member_id, member)| DescribedConsumerGroupMember {
            member_id: Cow::Borrowed(&**member_id),
            instance_id: member.instance_id.as_deref().map(Cow::Borrowed),
            rack_id: member.rack_id.as_deref().map(Cow::Borrowed),
            member_epoch: member.epoch,
            client_id: Cow::Borrowed(&*member.client_id),
            client_host: Cow::Borrowed(&*member.client_host),
            subscribed_topic_names: member.topics.iter().map(|topic| Cow::Borrowed(&**topic)).collect(),
            subscribed_topic_regex: member.regex.as_deref().map(Cow::Borrowed),
            assignment: described(&member.assigned, topics),
            target_assignment: described(self.target.get(member_id).unwrap_or(&empty), topics),
            member_type: if member.classic.is_some() { MEMBER_TYPE_CLASSIC } else { MEMBER_TYPE_CONSUMER },
        });
        DescribedConsumerGroup {
            group_id: Cow::Borrowed(&*self.id),
            group_state: self.state().name().into(),
            group_epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor_name: self.preferred_assignor().into(),
            members: members.collect(),
            ..Default::default()
        }
    }

    pub(crate) fn list(&self) -> ListedGroup<'_> {
        ListedGroup {
            group_id: Cow::Borrowed(&*self.id),
            protocol_type: "consumer".into(),
            group_state: self.state().name().into(),
            group_type: "Consumer".into(),
        }
    }
}

/// Topics that are gone are left out: they have no name any more.
fn described<'a>(partitions: &Partitions, topics: &'a Topics) -> DescribedConsumerGroupAssignment<'a> {
    let topic_partitions = partitions.iter().filter_map(|(topic_id, partitions)| {
        let topic = topics.with_id(*topic_id)?;
        Some(DescribedConsumerGroupTopicPartitions {
            topic_id: *topic_id,
            topic_name: Cow::Borrowed(&*topic.name),
            partitions: partitions.iter().copied().collect(),
        })
    });
    DescribedConsumerGroupAssignment { topic_partitions: topic_partitions.collect() }
}
