//! Loading: from the records of the partition to the state.

use ottla_wire::DecodeError;
use ottla_wire::offsets_topic::GroupRecord;

use super::super::effect::{Effect, EventKind};
use super::super::offsets::OffsetChange;
use super::super::timers::Timer;
use super::{ClassicGroup, Group, Phase, Shard, Text};

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
                    None => {
                        self.groups.remove(&group_id);
                    }
                }
            }
            _ => {}
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
        if self.members.len() > cx.config.classic_size_max {
            let reason = format!("loaded with {} members, more than group.max.size", self.members.len());
            cx.event(&self.id, EventKind::Rebalance, reason.clone());
            self.prepare_rebalance(cx, &reason);
        }
    }
}
