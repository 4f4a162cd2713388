//! What goes: offsets and groups that are deleted, that expire, or whose topics are gone.

use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{DeletableGroupResult, OffsetDeleteRequest};

use super::super::effect::{EventKind, Record, Reply, Request, RequestId};
use super::super::offsets::{OffsetChange, delete_offsets};
use super::super::timers::Timer;
use super::super::topics::Topics;
use super::super::writes::After;
use super::{Group, Phase, Shard, Text, refuse};

impl Shard {
    pub(super) fn delete_offsets(&mut self, id: RequestId, request: &OffsetDeleteRequest<'_>) {
        let Self { cx, groups, offsets, .. } = self;
        let group = match groups.get(&*request.group_id) {
            Some(Group::Classic(group)) if !group.is_empty() && !group.is_consumer_type() => {
                Err(ErrorCode::NonEmptyGroup)
            }
            Some(group) => Ok(group),
            None => Err(ErrorCode::GroupIdNotFound),
        };
        match group {
            Ok(group) => delete_offsets(cx, offsets, id, request, |topic| group.is_subscribed_to(topic)),
            Err(error) => refuse::refuse(cx, id, &Request::OffsetDelete(request.clone()), error),
        }
    }

    pub(super) fn delete_groups(&mut self, id: RequestId, group_ids: &[&str]) {
        let (mut records, mut changes, mut results) = (Vec::new(), Vec::new(), Vec::new());
        for group_id in group_ids {
            let error_code = match self.groups.get(*group_id) {
                None => ErrorCode::GroupIdNotFound,
                Some(group) if !group.is_empty() => ErrorCode::NonEmptyGroup,
                Some(group) => {
                    let group_id = Text::from(*group_id);
                    changes.extend(self.offsets.removals(&group_id, |_, _| true));
                    records.extend(group.tombstones());
                    self.remove_group(&group_id);
                    ErrorCode::None
                }
            };
            results.push(DeletableGroupResult { group_id: (*group_id).to_owned().into(), error_code });
        }
        let reply = Reply::DeleteGroups(results);
        if records.is_empty() {
            return self.cx.reply(id, reply);
        }
        self.append_with_removals(records, changes, vec![After::Reply(id, reply)]);
    }

    /// Appends records and the removal of offsets as one batch.
    pub(super) fn append_with_removals(
        &mut self,
        mut records: Vec<Record>,
        changes: Vec<OffsetChange>,
        mut after: Vec<After>,
    ) {
        for change in &changes {
            self.offsets.begin(change);
            records.push(change.record());
        }
        after.insert(0, After::Offsets(changes));
        if !records.is_empty() {
            self.cx.append(records, after);
        }
    }

    pub(super) fn topics_changed(&mut self, topics: Arc<Topics>, deleted: &[Text]) {
        self.cx.topics = topics;
        for group in self.groups.values_mut() {
            if let Group::Consumer(group) = group {
                group.topics_changed = true;
                group.topics_changed_at_ms = Some(self.cx.now_ms);
            }
        }
        if deleted.is_empty() || self.phase != Phase::Active {
            return;
        }
        let is_gone = |topic: &str, _| deleted.iter().any(|gone| **gone == *topic);
        let changes: Vec<OffsetChange> =
            self.offsets.groups().flat_map(|group| self.offsets.removals(group, is_gone)).collect();
        self.append_with_removals(Vec::new(), changes, Vec::new());
    }

    /// Looks for offsets that expired, and for groups that have neither members nor offsets.
    pub(super) fn expire(&mut self) {
        let (now_ms, retention_ms) = (self.cx.now_ms, self.cx.config.offsets_retention_ms);
        self.cx.timers.set(Timer::Expiry, now_ms + self.cx.config.offsets_retention_check_interval_ms);
        let (mut records, mut changes, mut empty) = (Vec::new(), Vec::new(), Vec::new());
        for (group_id, group) in &self.groups {
            let expired = self.offsets.expired(group_id, now_ms, retention_ms, |topic, committed| {
                if group.is_subscribed_to(topic) { None } else { group.unused_since_ms(committed.commit_ms) }
            });
            if !expired.is_empty() {
                self.cx.event(
                    group_id,
                    EventKind::OffsetsExpired(expired.len()),
                    "not in use for the time of retention",
                );
            }
            if group.is_forgettable() && self.offsets.count(group_id) == expired.len() {
                records.extend(group.tombstones());
                empty.push(Text::clone(group_id));
            }
            changes.extend(expired);
        }
        for group_id in empty {
            self.remove_group(&group_id);
        }
        self.append_with_removals(records, changes, Vec::new());
    }
}
