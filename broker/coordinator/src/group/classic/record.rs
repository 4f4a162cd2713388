//! From a classic group to its record, and back.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ottla_wire::offsets_topic::{GroupMetadataKey, GroupMetadataMember, GroupMetadataValue, GroupRecord};

use super::super::effect::{Record, shared};
use super::super::record::encoded;
use super::super::{Bytes, Text};
use super::{ClassicGroup, Member, Protocol, State};

impl ClassicGroup {
    fn key(&self) -> GroupMetadataKey<'_> {
        GroupMetadataKey { group: Cow::Borrowed(&*self.id) }
    }

    /// The group as it is, or with an assignment that it is about to have.
    pub(crate) fn record(&self, assignment: Option<&BTreeMap<Text, Bytes>>) -> Record {
        let protocol = self.protocol.as_deref();
        let members = self.members.iter().map(|(member_id, member)| GroupMetadataMember {
            member_id: Cow::Borrowed(&**member_id),
            group_instance_id: member.instance_id.as_deref().map(Cow::Borrowed),
            client_id: Cow::Borrowed(&*member.client_id),
            client_host: Cow::Borrowed(&*member.client_host),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: protocol.and_then(|protocol| member.metadata(protocol)).unwrap_or_default(),
            assignment: assignment.map_or(Some(&member.assignment), |new| new.get(member_id)).map_or(&[], |a| &**a),
        });
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().into(),
            generation: self.generation,
            protocol: protocol.map(Cow::Borrowed),
            leader: self.leader.as_deref().map(Cow::Borrowed),
            current_state_timestamp: self.state_since_ms.unwrap_or(-1),
            members: members.collect(),
        };
        encoded(&GroupRecord::GroupMetadata { key: self.key(), value: Some(value) })
    }

    /// The record of a group that has just been made: it exists, that is all.
    pub(crate) fn empty_record(&self) -> Record {
        let value =
            GroupMetadataValue { current_state_timestamp: self.state_since_ms.unwrap_or(-1), ..Default::default() };
        encoded(&GroupRecord::GroupMetadata { key: self.key(), value: Some(value) })
    }

    pub(crate) fn tombstone(&self) -> Record {
        encoded(&GroupRecord::GroupMetadata { key: self.key(), value: None })
    }

    /// The group that a record describes.
    pub(crate) fn from_record(id: Text, value: &GroupMetadataValue<'_>) -> Self {
        let mut group = Self::new(id, value.current_state_timestamp);
        group.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        group.state_since_ms = (value.current_state_timestamp != -1).then_some(value.current_state_timestamp);
        group.generation = value.generation;
        let protocol_type = Text::from(&*value.protocol_type);
        group.protocol = value.protocol.as_deref().map(Text::from);
        for member in &value.members {
            let protocol =
                Protocol { name: group.protocol.clone().unwrap_or_default(), metadata: shared(member.subscription) };
            let rebalance_timeout_ms =
                if member.rebalance_timeout == -1 { member.session_timeout } else { member.rebalance_timeout };
            let loaded = Member {
                instance_id: member.group_instance_id.as_deref().map(Text::from),
                client_id: Text::from(&*member.client_id),
                client_host: Text::from(&*member.client_host),
                session_timeout_ms: member.session_timeout,
                rebalance_timeout_ms,
                protocol_type: Text::clone(&protocol_type),
                protocols: vec![protocol],
                assignment: shared(member.assignment),
                joining: None,
                syncing: None,
                is_new: false,
            };
            group.add(&Text::from(&*member.member_id), loaded);
        }
        group.protocol_type = (!protocol_type.is_empty()).then_some(protocol_type);
        group.leader = value.leader.as_deref().map(Text::from);
        group.subscribed_topics = group.compute_subscribed_topics();
        group
    }
}
