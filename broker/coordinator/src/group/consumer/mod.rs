//! Consumer groups (KIP-848): the coordinator assigns, every member moves to its target at its own pace.
//!
//! Three epochs: that of the group rises with every change of members, subscriptions and topics; that of the assignment says
//! which group epoch the target was made for; that of a member says how far it has come. A partition goes to its next owner
//! only after the one before has given it up. All of it is in records; after a restart nothing is missing.

mod assignor;
mod classic;
mod describe;
mod heartbeat;
mod leave;
mod member;
mod offsets;
mod reconcile;
mod record;
mod regex;
mod subscription;
mod target;

use std::collections::{BTreeMap, BTreeSet};

use ottla_wire::Uuid;

use super::effect::{Record, WriteId};
use super::{Context, Text};

pub(crate) use classic::assignment_bytes;
pub(crate) use heartbeat::Beat;
pub(crate) use member::{ClassicSide, ConsumerMember, MemberState};
pub(crate) use record::partitions_of;

/// Partitions by topic.
pub(crate) type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// The topics that a regular expression matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) topics: BTreeSet<Text>,
    pub(crate) at_ms: i64,
}

/// A consumer group.
#[derive(Debug, Default)]
pub(crate) struct ConsumerGroup {
    pub(crate) id: Text,
    pub(crate) epoch: i32,
    /// A hash of the topics that the group subscribes to.
    pub(crate) metadata_hash: i64,
    /// The group epoch that the target was made for.
    pub(crate) assignment_epoch: i32,
    /// When it was made.
    pub(crate) assigned_at_ms: i64,
    pub(crate) members: BTreeMap<Text, ConsumerMember>,
    /// Static members, by instance id.
    pub(crate) static_members: BTreeMap<Text, Text>,
    /// What each member is to own.
    pub(crate) target: BTreeMap<Text, Partitions>,
    /// The partitions that some member owns or has yet to revoke.
    owned: BTreeMap<Uuid, BTreeSet<i32>>,
    /// What regular expressions matched.
    pub(crate) resolved: BTreeMap<Text, Resolved>,
    /// Whether the topics may have changed since the group last looked at them.
    pub(crate) topics_changed: bool,
    /// When they last did: regular expressions that were tried before are tried again, though not at once.
    pub(crate) topics_changed_at_ms: Option<i64>,
    /// The last write about the group: what depends on it is answered after it.
    pub(crate) last_write: Option<WriteId>,
}

/// Kafka's names of the states of a consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupState {
    Empty,
    Assigning,
    Reconciling,
    Stable,
}

impl GroupState {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

impl ConsumerGroup {
    /// A group without members.
    pub(crate) fn new(id: Text) -> Self {
        Self { id, ..Self::default() }
    }

    pub(crate) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.assignment_epoch {
            GroupState::Assigning
        } else if self.members.values().all(|member| member.is_reconciled_to(self.assignment_epoch)) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// The member that has an instance id.
    pub(crate) fn static_member(&self, instance_id: &str) -> Option<(&Text, &ConsumerMember)> {
        self.members.get_key_value(self.static_members.get(instance_id)?)
    }

    /// Whether a member owns the partition, or has yet to revoke it.
    pub(crate) fn is_owned(&self, topic: Uuid, partition: i32) -> bool {
        self.owned.get(&topic).is_some_and(|partitions| partitions.contains(&partition))
    }

    /// Puts a member in, in the place of what it was.
    pub(crate) fn put_member(&mut self, member_id: &Text, member: ConsumerMember) {
        self.take_member(member_id);
        for (topic, partitions) in member.assigned.iter().chain(&member.revoking) {
            self.owned.entry(*topic).or_default().extend(partitions);
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(Text::clone(instance_id), Text::clone(member_id));
        }
        self.members.insert(Text::clone(member_id), member);
    }

    /// Takes a member out, with what it owns. Its target stays.
    pub(crate) fn take_member(&mut self, member_id: &str) -> Option<ConsumerMember> {
        let member = self.members.remove(member_id)?;
        for (topic, partitions) in member.assigned.iter().chain(&member.revoking) {
            if let Some(owned) = self.owned.get_mut(topic) {
                owned.retain(|partition| !partitions.contains(partition));
                if owned.is_empty() {
                    self.owned.remove(topic);
                }
            }
        }
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id).is_some_and(|current| **current == *member_id)
        {
            self.static_members.remove(instance_id);
        }
        Some(member)
    }

    /// How many members speak the classic protocol.
    pub(crate) fn classic_members(&self) -> usize {
        self.members.values().filter(|member| member.classic.is_some()).count()
    }

    /// Appends records about the group.
    pub(crate) fn append(&mut self, cx: &mut Context, records: Vec<Record>, after: Vec<super::writes::After>) {
        self.last_write = Some(cx.append(records, after));
    }
}
