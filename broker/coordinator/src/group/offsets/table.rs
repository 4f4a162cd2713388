//! The offsets of all groups of a shard.

use std::collections::BTreeMap;

use ottla_wire::Uuid;
use ottla_wire::offsets_topic::{GroupRecord, OffsetCommitKey, OffsetCommitValue};

use super::super::Text;
use super::super::effect::Record;
use super::super::record::encoded;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    /// The next record to read.
    pub(crate) offset: i64,
    /// The epoch of the last record read, or -1.
    pub(crate) leader_epoch: i32,
    /// The client's note.
    pub(crate) metadata: Text,
    pub(crate) commit_ms: i64,
    /// When it expires, where the client said so (OffsetCommit 2 to 4).
    pub(crate) expire_ms: Option<i64>,
    /// The topic's id where it was known, else zero.
    pub(crate) topic_id: Uuid,
}

/// An offset that comes or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetChange {
    pub(crate) group: Text,
    pub(crate) topic: Text,
    pub(crate) partition: i32,
    /// The offset from now on; `None`: it is gone.
    pub(crate) offset: Option<CommittedOffset>,
}

#[derive(Debug, Default)]
struct Slot {
    /// What is durable.
    visible: Option<CommittedOffset>,
    /// Changes that are on their way to the disk.
    in_flight: u32,
}

/// The offsets of all groups of a shard.
#[derive(Debug, Default)]
pub(crate) struct OffsetTable {
    groups: BTreeMap<Text, BTreeMap<Text, BTreeMap<i32, Slot>>>,
}

impl OffsetChange {
    pub(crate) fn record(&self) -> Record {
        let key =
            OffsetCommitKey { group: (&*self.group).into(), topic: (&*self.topic).into(), partition: self.partition };
        let value = self.offset.as_ref().map(|committed| OffsetCommitValue {
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: (&*committed.metadata).into(),
            commit_timestamp: committed.commit_ms,
            expire_timestamp: committed.expire_ms.unwrap_or(-1),
            topic_id: committed.topic_id,
        });
        encoded(&GroupRecord::OffsetCommit { key, value })
    }

    /// The change that a record says.
    pub(crate) fn from_record(key: &OffsetCommitKey<'_>, value: Option<&OffsetCommitValue<'_>>) -> Self {
        let offset = value.map(|value| CommittedOffset {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: Text::from(&*value.metadata),
            commit_ms: value.commit_timestamp,
            expire_ms: (value.expire_timestamp != -1).then_some(value.expire_timestamp),
            topic_id: value.topic_id,
        });
        Self { group: Text::from(&*key.group), topic: Text::from(&*key.topic), partition: key.partition, offset }
    }
}

impl OffsetTable {
    /// A change is on its way to the disk.
    pub(crate) fn begin(&mut self, change: &OffsetChange) {
        let topics = self.groups.entry(Text::clone(&change.group)).or_default();
        let slots = topics.entry(Text::clone(&change.topic)).or_default();
        slots.entry(change.partition).or_default().in_flight += 1;
    }

    /// A change that was on its way is durable.
    pub(crate) fn end(&mut self, change: OffsetChange) {
        if let Some(slot) = self.slot(&change) {
            slot.in_flight = slot.in_flight.saturating_sub(1);
        }
        self.apply(change);
    }

    /// A change is true.
    pub(crate) fn apply(&mut self, change: OffsetChange) {
        let OffsetChange { group, topic, partition, offset } = change;
        let topics = self.groups.entry(Text::clone(&group)).or_default();
        let slots = topics.entry(Text::clone(&topic)).or_default();
        let slot = slots.entry(partition).or_default();
        slot.visible = offset;
        // Nothing is kept for what is gone.
        if slot.visible.is_none() && slot.in_flight == 0 {
            slots.remove(&partition);
            if slots.is_empty() {
                topics.remove(&topic);
                if topics.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
    }

    fn slot(&mut self, change: &OffsetChange) -> Option<&mut Slot> {
        self.groups.get_mut(&change.group)?.get_mut(&change.topic)?.get_mut(&change.partition)
    }

    /// The durable offset of a partition.
    pub(crate) fn visible(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.get(topic)?.get(&partition)?.visible.as_ref()
    }

    /// Whether there is an offset of a partition, or is about to be.
    pub(crate) fn exists(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.groups.get(group).and_then(|topics| topics.get(topic)?.get(&partition)).is_some()
    }

    /// Whether a change of an offset is on its way to the disk.
    pub(crate) fn is_changing(&self, group: &str, topic: &str, partition: i32) -> bool {
        let slot = self.groups.get(group).and_then(|topics| topics.get(topic)?.get(&partition));
        slot.is_some_and(|slot| slot.in_flight > 0)
    }

    /// The durable offsets of a group.
    pub(crate) fn visible_of(&self, group: &str) -> impl Iterator<Item = (&Text, i32, &CommittedOffset)> {
        self.groups.get(group).into_iter().flatten().flat_map(|(topic, slots)| {
            slots.iter().filter_map(move |(partition, slot)| Some((topic, *partition, slot.visible.as_ref()?)))
        })
    }

    /// What removes every offset of a group that `gone` picks, those on their way included.
    pub(crate) fn removals(&self, group: &Text, gone: impl Fn(&str, i32) -> bool) -> Vec<OffsetChange> {
        let slots = self
            .groups
            .get(group)
            .into_iter()
            .flatten()
            .flat_map(|(topic, slots)| slots.keys().map(move |partition| (topic, *partition)));
        slots
            .filter(|(topic, partition)| gone(topic, *partition))
            .map(|(topic, partition)| OffsetChange {
                group: Text::clone(group),
                topic: Text::clone(topic),
                partition,
                offset: None,
            })
            .collect()
    }

    /// The groups that have offsets, or are about to.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Text> {
        self.groups.keys()
    }

    /// How many offsets a group has, or is about to.
    pub(crate) fn count(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, |topics| topics.values().map(BTreeMap::len).sum())
    }
}
