//! Loading: from the records of the partition to the state.

use ottla_wire::DecodeError;
use ottla_wire::offsets_topic::GroupRecord;

use super::super::effect::Effect;
use super::super::offsets::OffsetChange;
use super::super::timers::Timer;
use super::{ClassicGroup, ConsumerGroup, Group, Phase, Shard, Text};

impl Shard {
    /// Takes a record of the partition, in the order of its offsets. A record that does not read changes nothing: say so in
    /// the log and go on. Records of share and streams groups are left alone.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), DecodeError> {
        if let Some(record) = GroupRecord::decode(key, value)? {
            self.apply(&record);
        }
        Ok(())
    }

    fn apply(&mut self, record: &GroupRecord<'_>) {
        match record {
            GroupRecord::OffsetCommit { key, value } => {
                let change = OffsetChange::from_record(key, value.as_ref());
                if value.is_some() && !self.groups.contains_key(&change.group) {
                    let group_id = Text::clone(&change.group);
                    let group = ClassicGroup::new(Text::clone(&group_id), 0);
                    self.groups.insert(group_id, Group::Classic(group));
                }
                self.offsets.apply(change);
            }
            GroupRecord::GroupMetadata { key, value } => {
                let group_id = Text::from(&*key.group);
                match value {
                    Some(value) => {
                        let group = ClassicGroup::from_record(Text::clone(&group_id), value);
                        self.groups.insert(group_id, Group::Classic(group));
                    }
                    // A group that changed its protocol has the other one's records by now, or gets them next.
                    None if matches!(self.groups.get(&group_id), Some(Group::Classic(_))) => {
                        self.groups.remove(&group_id);
                    }
                    None => {}
                }
            }
            GroupRecord::ConsumerGroupMetadata { key, value: None } => {
                if matches!(self.groups.get(&*key.group_id), Some(Group::Consumer(_))) {
                    self.groups.remove(&*key.group_id);
                }
            }
            GroupRecord::ConsumerGroupMetadata { key, .. }
            | GroupRecord::ConsumerGroupPartitionMetadata { key, .. }
            | GroupRecord::ConsumerGroupTargetAssignmentMetadata { key, .. } => {
                self.consumer_record(&key.group_id, record);
            }
            GroupRecord::ConsumerGroupMemberMetadata { key, .. }
            | GroupRecord::ConsumerGroupTargetAssignmentMember { key, .. }
            | GroupRecord::ConsumerGroupCurrentMemberAssignment { key, .. } => {
                self.consumer_record(&key.group_id, record);
            }
            GroupRecord::ConsumerGroupRegularExpression { key, .. } => self.consumer_record(&key.group_id, record),
        }
    }

    /// A record of a consumer group. What says something makes the group; a tombstone does not.
    fn consumer_record(&mut self, group_id: &str, record: &GroupRecord<'_>) {
        let is_consumer = matches!(self.groups.get(group_id), Some(Group::Consumer(_)));
        if !is_consumer {
            // A simple group that only offsets made gives way; after compaction they may come first.
            if is_tombstone(record) {
                return;
            }
            let group_id = Text::from(group_id);
            self.groups.insert(Text::clone(&group_id), Group::Consumer(ConsumerGroup::new(group_id)));
        }
        if let Some(Group::Consumer(group)) = self.groups.get_mut(group_id) {
            group.replay(record);
        }
    }

    /// All records have been replayed: the shard serves from now on, and every member has its full session timeout.
    pub fn loaded(&mut self, now_ms: i64) -> Vec<Effect> {
        self.cx.now_ms = now_ms;
        self.phase = Phase::Active;
        let Self { cx, groups, .. } = self;
        for group in groups.values_mut() {
            match group {
                Group::Classic(group) => group.loaded(cx),
                Group::Consumer(group) => group.loaded(cx),
            }
        }
        cx.timers.set(Timer::Expiry, now_ms + cx.config.offsets_retention_check_interval_ms);
        self.finish()
    }
}

impl ClassicGroup {
    fn loaded(&mut self, cx: &mut super::Context) {
        let member_ids: Vec<Text> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            self.restart_session(cx, &member_id);
        }
        if self.leader.is_none() && !self.members.is_empty() {
            // The group was made of a consumer group and has not been assigned anew since.
            self.leader = self.members.keys().next().cloned();
            self.prepare_rebalance(cx, "loaded without a leader");
        }
        if self.members.len() > cx.config.classic_size_max {
            let reason = format!("loaded with {} members, more than group.max.size", self.members.len());
            self.prepare_rebalance(cx, &reason);
        }
    }
}

impl ConsumerGroup {
    fn loaded(&mut self, cx: &mut super::Context) {
        // The topics may be other ones than those that the last broker saw.
        self.topics_changed = true;
        self.topics_changed_at_ms = Some(cx.now_ms);
        for (member_id, member) in &self.members {
            self.restart_session(cx, member_id);
            if self.is_late_to_revoke(member_id) {
                let timer = Timer::Revoke(Text::clone(&self.id), Text::clone(member_id));
                cx.set_timer(timer, member.rebalance_timeout_ms);
            }
        }
    }
}

fn is_tombstone(record: &GroupRecord<'_>) -> bool {
    match record {
        GroupRecord::OffsetCommit { value, .. } => value.is_none(),
        GroupRecord::GroupMetadata { value, .. } => value.is_none(),
        GroupRecord::ConsumerGroupMetadata { value, .. } => value.is_none(),
        GroupRecord::ConsumerGroupPartitionMetadata { value, .. } => value.is_none(),
        GroupRecord::ConsumerGroupMemberMetadata { value, .. } => value.is_none(),
        GroupRecord::ConsumerGroupTargetAssignmentMetadata { value, .. } => value.is_none(),
        GroupRecord::ConsumerGroupTargetAssignmentMember { value, .. } => value.is_none(),
        GroupRecord::ConsumerGroupCurrentMemberAssignment { value, .. } => value.is_none(),
        GroupRecord::ConsumerGroupRegularExpression { value, .. } => value.is_none(),
    }
}
