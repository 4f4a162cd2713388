//! From a consumer group to its records, and back.

use std::borrow::Cow;

use ottla_wire::Uuid;
use ottla_wire::offsets_topic::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupKey,
    ConsumerGroupMemberKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue,
    ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataValue, CurrentTopicPartitions, GroupRecord, TargetTopicPartitions,
};

use super::super::Text;
use super::super::classic::Protocol;
use super::super::effect::{Record, shared};
use super::super::record::encoded;
use super::{ClassicSide, ConsumerGroup, ConsumerMember, MemberState, Partitions, Resolved};

fn group_key(group_id: &str) -> ConsumerGroupKey<'_> {
    ConsumerGroupKey { group_id: Cow::Borrowed(group_id) }
}

fn member_key<'a>(group_id: &'a str, member_id: &'a str) -> ConsumerGroupMemberKey<'a> {
    ConsumerGroupMemberKey { group_id: Cow::Borrowed(group_id), member_id: Cow::Borrowed(member_id) }
}

impl ConsumerGroup {
    pub(super) fn epoch_record(&self) -> Record {
        let value = ConsumerGroupMetadataValue { epoch: self.epoch, metadata_hash: self.metadata_hash };
        encoded(&GroupRecord::ConsumerGroupMetadata { key: group_key(&self.id), value: Some(value) })
    }

    pub(super) fn assignment_epoch_record(&self) -> Record {
        let value = ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: self.assignment_epoch,
            assignment_timestamp: self.assigned_at_ms,
        };
        encoded(&GroupRecord::ConsumerGroupTargetAssignmentMetadata { key: group_key(&self.id), value: Some(value) })
    }

    pub(super) fn member_record(&self, member_id: &str, member: &ConsumerMember) -> Record {
        let classic = member.classic.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic
                .protocols
                .iter()
                .map(|protocol| ClassicProtocol { name: Cow::Borrowed(&*protocol.name), metadata: &protocol.metadata })
                .collect(),
        });
        let value = ConsumerGroupMemberMetadataValue {
            instance_id: member.instance_id.as_deref().map(Cow::Borrowed),
            rack_id: member.rack_id.as_deref().map(Cow::Borrowed),
            client_id: Cow::Borrowed(&*member.client_id),
            client_host: Cow::Borrowed(&*member.client_host),
            subscribed_topic_names: member.topics.iter().map(|topic| Cow::Borrowed(&**topic)).collect(),
            subscribed_topic_regex: member.regex.as_deref().map(Cow::Borrowed),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            server_assignor: member.assignor.as_deref().map(Cow::Borrowed),
            classic_member_metadata: classic,
        };
        encoded(&GroupRecord::ConsumerGroupMemberMetadata { key: member_key(&self.id, member_id), value: Some(value) })
    }

    pub(super) fn target_record(&self, member_id: &str, partitions: &Partitions) -> Record {
        let topic_partitions = partitions.iter().map(|(topic_id, partitions)| TargetTopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.iter().copied().collect(),
        });
        let value = ConsumerGroupTargetAssignmentMemberValue { topic_partitions: topic_partitions.collect() };
        encoded(&GroupRecord::ConsumerGroupTargetAssignmentMember {
            key: member_key(&self.id, member_id),
            value: Some(value),
        })
    }

    pub(super) fn current_record(&self, member_id: &str, member: &ConsumerMember) -> Record {
        let partitions = |partitions: &Partitions| {
            let topics = partitions.iter().map(|(topic_id, partitions)| CurrentTopicPartitions {
                topic_id: *topic_id,
                partitions: partitions.iter().copied().collect(),
                assignment_epochs: None,
            });
            topics.collect()
        };
        let value = ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: member.epoch,
            previous_member_epoch: member.previous_epoch,
            state: member.state.code(),
            assigned_partitions: partitions(&member.assigned),
            partitions_pending_revocation: partitions(&member.revoking),
        };
        encoded(&GroupRecord::ConsumerGroupCurrentMemberAssignment {
            key: member_key(&self.id, member_id),
            value: Some(value),
        })
    }

    pub(super) fn regex_record(&self, regex: &str, resolved: Option<&Resolved>) -> Record {
        let key = ConsumerGroupRegularExpressionKey {
            group_id: Cow::Borrowed(&*self.id),
            regular_expression: Cow::Borrowed(regex),
        };
        let value = resolved.map(|resolved| ConsumerGroupRegularExpressionValue {
            topics: resolved.topics.iter().map(|topic| Cow::Borrowed(&**topic)).collect(),
            version: 0,
            timestamp: resolved.at_ms,
        });
        encoded(&GroupRecord::ConsumerGroupRegularExpression { key, value })
    }

    /// What makes a member go: what it owns, what it was to own, what it subscribes to.
    pub(super) fn member_tombstones(&self, member_id: &str) -> [Record; 3] {
        let key = || member_key(&self.id, member_id);
        [
            encoded(&GroupRecord::ConsumerGroupCurrentMemberAssignment { key: key(), value: None }),
            encoded(&GroupRecord::ConsumerGroupTargetAssignmentMember { key: key(), value: None }),
            encoded(&GroupRecord::ConsumerGroupMemberMetadata { key: key(), value: None }),
        ]
    }

    /// What makes the group go.
    pub(crate) fn tombstones(&self) -> Vec<Record> {
        let key = || group_key(&self.id);
        let mut records: Vec<Record> =
            self.members.keys().flat_map(|member_id| self.member_tombstones(member_id)).collect();
        records.extend(self.resolved.keys().map(|regex| self.regex_record(regex, None)));
        records.push(encoded(&GroupRecord::ConsumerGroupTargetAssignmentMetadata { key: key(), value: None }));
        records.push(encoded(&GroupRecord::ConsumerGroupMetadata { key: key(), value: None }));
        records
    }

    /// What says all of the group.
    pub(crate) fn all_records(&self) -> Vec<Record> {
        let members = || self.members.iter();
        let empty = Partitions::new();
        let mut records: Vec<Record> = members().map(|(id, member)| self.member_record(id, member)).collect();
        records.push(self.epoch_record());
        records.extend(members().map(|(id, _)| self.target_record(id, self.target.get(id).unwrap_or(&empty))));
        records.push(self.assignment_epoch_record());
        records.extend(members().map(|(id, member)| self.current_record(id, member)));
        records
    }

    /// Takes a record of the group.
    pub(crate) fn replay(&mut self, record: &GroupRecord<'_>) {
        match record {
            GroupRecord::ConsumerGroupMetadata { value: Some(value), .. } => {
                (self.epoch, self.metadata_hash) = (value.epoch, value.metadata_hash);
            }
            GroupRecord::ConsumerGroupTargetAssignmentMetadata { value, .. } => {
                let value = value.clone().unwrap_or_default();
                (self.assignment_epoch, self.assigned_at_ms) = (value.assignment_epoch, value.assignment_timestamp);
            }
            GroupRecord::ConsumerGroupMemberMetadata { key, value } => {
                let known = self.take_member(&key.member_id);
                if let Some(value) = value {
                    let member_id = Text::from(&*key.member_id);
                    self.put_member(&member_id, subscribed(known.unwrap_or_default(), value));
                }
            }
            GroupRecord::ConsumerGroupTargetAssignmentMember { key, value } => {
                let topics = value.iter().flat_map(|value| &value.topic_partitions);
                let target = topics.map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect()));
                match value {
                    Some(_) => drop(self.target.insert(Text::from(&*key.member_id), target.collect())),
                    None => drop(self.target.remove(&*key.member_id)),
                }
            }
            GroupRecord::ConsumerGroupCurrentMemberAssignment { key, value } => {
                if let Some(member) = self.take_member(&key.member_id) {
                    let member_id = Text::from(&*key.member_id);
                    self.put_member(&member_id, placed(member, value.as_ref()));
                }
            }
            GroupRecord::ConsumerGroupRegularExpression { key, value } => {
                let regex = Text::from(&*key.regular_expression);
                match value {
                    Some(value) => {
                        let topics = value.topics.iter().map(|topic| Text::from(&**topic)).collect();
                        self.resolved.insert(regex, Resolved { topics, at_ms: value.timestamp });
                    }
                    None => drop(self.resolved.remove(&regex)),
                }
            }
            _ => {}
        }
    }
}

/// A member with the subscription of a record.
fn subscribed(known: ConsumerMember, value: &ConsumerGroupMemberMetadataValue<'_>) -> ConsumerMember {
    let classic = value.classic_member_metadata.as_ref().map(|classic| ClassicSide {
        session_timeout_ms: classic.session_timeout_ms,
        protocols: classic
            .supported_protocols
            .iter()
            .map(|protocol| Protocol { name: Text::from(&*protocol.name), metadata: shared(protocol.metadata) })
            .collect(),
    });
    ConsumerMember {
        instance_id: value.instance_id.as_deref().map(Text::from),
        rack_id: value.rack_id.as_deref().map(Text::from),
        client_id: Text::from(&*value.client_id),
        client_host: Text::from(&*value.client_host),
        topics: value.subscribed_topic_names.iter().map(|topic| Text::from(&**topic)).collect(),
        regex: value.subscribed_topic_regex.as_deref().map(Text::from),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: value.server_assignor.as_deref().map(Text::from),
        classic,
        ..known
    }
}

/// A member with what a record says that it owns.
fn placed(known: ConsumerMember, value: Option<&ConsumerGroupCurrentMemberAssignmentValue>) -> ConsumerMember {
    let Some(value) = value else {
        return ConsumerMember {
            epoch: -1,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Partitions::new(),
            revoking: Partitions::new(),
            ..known
        };
    };
    let partitions = |topics: &[CurrentTopicPartitions]| -> Partitions {
        topics.iter().map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect())).collect()
    };
    ConsumerMember {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::of_code(value.state),
        assigned: partitions(&value.assigned_partitions),
        revoking: partitions(&value.partitions_pending_revocation),
        ..known
    }
}

/// Topic ids and partitions without empty entries.
pub(crate) fn partitions_of(topics: impl IntoIterator<Item = (Uuid, Vec<i32>)>) -> Partitions {
    let mut all = Partitions::new();
    for (topic, partitions) in topics {
        if !partitions.is_empty() {
            all.entry(topic).or_default().extend(partitions);
        }
    }
    all
}
