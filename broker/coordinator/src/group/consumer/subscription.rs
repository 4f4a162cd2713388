//! What a group subscribes to, and whether it changed.

use std::collections::BTreeSet;

use ottla_wire::Uuid;

use super::super::topics::Topics;
use super::super::{Context, Text};
use super::{ConsumerGroup, ConsumerMember};

impl ConsumerGroup {
    /// The topics that a member subscribes to, whether they exist or not.
    pub(super) fn subscription<'a>(&'a self, member: &'a ConsumerMember) -> impl Iterator<Item = &'a Text> {
        let matched = member.regex.as_ref().and_then(|regex| self.resolved.get(regex));
        member.topics.iter().chain(matched.into_iter().flat_map(|resolved| &resolved.topics))
    }

    /// Whether a topic is in use.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| self.subscription(member).any(|name| **name == *topic))
    }

    /// The ids of existing topics that a member subscribes to.
    pub(super) fn subscribed_ids(&self, member: &ConsumerMember, topics: &Topics) -> BTreeSet<Uuid> {
        self.subscription(member).filter_map(|name| topics.named(name)).map(|topic| topic.id).collect()
    }

    /// A hash of the topics that the group subscribes to: their names, ids and numbers of partitions. 0 without any.
    pub(super) fn compute_metadata_hash(&self, topics: &Topics) -> i64 {
        let names: BTreeSet<&Text> = self.members.values().flat_map(|member| self.subscription(member)).collect();
        let mut hash = Fnv::default();
        let mut any = false;
        for topic in names.into_iter().filter_map(|name| topics.named(name)) {
            any = true;
            hash.write(topic.name.as_bytes());
            hash.write(topic.id.as_bytes());
            hash.write(&topic.partitions.to_be_bytes());
        }
        if any { hash.0 as i64 } else { 0 }
    }

    /// Looks at the topics if there is a reason to, and raises the epoch if the group has to be assigned anew.
    pub(super) fn raise_epoch_if_needed(&mut self, cx: &mut Context, changed: bool, records: &mut Vec<super::Record>) {
        if !changed && !self.topics_changed {
            return;
        }
        self.topics_changed = false;
        let hash = self.compute_metadata_hash(&cx.topics);
        let changed = changed || hash != self.metadata_hash;
        self.metadata_hash = hash;
        if changed {
            self.raise_epoch(cx, "subscriptions or topics changed", records);
        }
    }

    /// The group has to be assigned anew.
    pub(super) fn raise_epoch(&mut self, cx: &mut Context, reason: &str, records: &mut Vec<super::Record>) {
        self.epoch = self.epoch.saturating_add(1);
        records.push(self.epoch_record());
        cx.event(&self.id, super::super::effect::EventKind::Rebalance, format!("epoch {}: {reason}", self.epoch));
    }
}

/// FNV-1a: the same on every machine and in every release, which is what a stored hash has to be.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        // The length in front keeps neighbours apart.
        for byte in (bytes.len() as u32).to_be_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
