//! What concerns consumer groups, and both protocols at once.

use std::collections::BTreeSet;

use ottla_wire::ErrorCode;
use ottla_wire::message::{LeavingMember, MEMBER_EPOCH_LEAVE_STATIC};

use super::super::classic::Join;
use super::super::consumer::{Beat, ConsumerGroup, GroupState};
use super::super::effect::{Record, Reply, RequestId};
use super::super::migrate;
use super::super::reply::LeaveReply;
use super::super::writes::After;
use super::{Group, Shard, Text};

impl Shard {
    /// ConsumerGroupHeartbeat.
    pub(super) fn consumer_heartbeat(&mut self, beat: Beat<'_>) {
        if let Err(refusal) = beat.check(&self.cx).and_then(|()| self.consumer_beat(&beat)) {
            beat.refuse(&mut self.cx, refusal);
        }
    }

    fn consumer_beat(&mut self, beat: &Beat<'_>) -> Result<(), (ErrorCode, String)> {
        let group_id = Text::from(&*beat.request.group_id);
        if beat.is_leave() {
            return self.leave_by_heartbeat(beat, &group_id);
        }
        self.check_room(beat, &group_id)?;
        let mut before = Vec::new();
        let Self { cx, groups, .. } = self;
        match groups.get_mut(&group_id) {
            Some(Group::Consumer(_)) => {}
            Some(Group::Classic(classic)) if beat.is_join() => {
                let group = if classic.is_empty() {
                    before.push(classic.tombstone());
                    for member_id in &classic.pending_joins {
                        let timer = super::Timer::Session(Text::clone(&group_id), Text::clone(member_id));
                        cx.timers.cancel(&timer);
                    }
                    ConsumerGroup::new(Text::clone(&group_id))
                } else {
                    let (group, records) = migrate::upgraded(cx, classic)?;
                    before = records;
                    group
                };
                groups.insert(Text::clone(&group_id), Group::Consumer(group));
            }
            None if beat.is_join() => {
                let group = ConsumerGroup::new(Text::clone(&group_id));
                groups.insert(Text::clone(&group_id), Group::Consumer(group));
            }
            Some(Group::Classic(_)) => {
                let message = format!("Group {group_id} is not a consumer group.");
                return Err((ErrorCode::GroupIdNotFound, message));
            }
            None => {
                let message = format!("Consumer group {group_id} not found.");
                return Err((ErrorCode::GroupIdNotFound, message));
            }
        }
        let Some(Group::Consumer(group)) = groups.get_mut(&group_id) else { return Ok(()) };
        group.heartbeat(cx, *beat, before)
    }

    /// Whether the group may have one more member, before anything is changed for it.
    fn check_room(&self, beat: &Beat<'_>, group_id: &Text) -> Result<(), (ErrorCode, String)> {
        let size_max = self.cx.config.consumer_size_max;
        let member_id = &*beat.request.member_id;
        let instance_id = beat.request.instance_id.as_deref();
        let (members, is_in) = match self.groups.get(group_id) {
            Some(Group::Consumer(group)) => {
                let is_back = instance_id.is_some_and(|instance_id| group.static_members.contains_key(instance_id));
                (group.members.len(), is_back || group.members.contains_key(member_id))
            }
            Some(Group::Classic(group)) => (group.members.len(), group.members.contains_key(member_id)),
            None => (0, false),
        };
        if is_in || members < size_max {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {size_max} members.");
        Err((ErrorCode::GroupMaxSizeReached, message))
    }

    fn leave_by_heartbeat(&mut self, beat: &Beat<'_>, group_id: &Text) -> Result<(), (ErrorCode, String)> {
        let Some(Group::Consumer(group)) = self.groups.get_mut(group_id) else {
            return Err((ErrorCode::GroupIdNotFound, format!("Consumer group {group_id} not found.")));
        };
        let member_id = group.leaving(beat)?;
        if beat.request.member_epoch == MEMBER_EPOCH_LEAVE_STATIC {
            group.leave_for_a_while(&mut self.cx, beat, &member_id);
        } else {
            let after = vec![After::Reply(beat.id, ConsumerGroup::left(beat))];
            self.remove_members(group_id, &[member_id], "left", after);
        }
        Ok(())
    }

    /// LeaveGroup of classic members of a consumer group.
    pub(super) fn leave_consumer_group(&mut self, id: RequestId, group_id: &str, leaving: &[LeavingMember<'_>]) {
        let Some(Group::Consumer(group)) = self.groups.get(group_id) else { return };
        let (gone, members) = group.classic_leave(leaving);
        let reply = Reply::LeaveGroup(LeaveReply { error: ErrorCode::None, members });
        if gone.is_empty() {
            return self.cx.reply(id, reply);
        }
        let group_id = Text::clone(&group.id);
        self.remove_members(&group_id, &gone, "left", vec![After::Reply(id, reply)]);
    }

    /// Takes members out of a consumer group. If only classic members are left, it becomes a classic group.
    pub(super) fn remove_members(&mut self, group_id: &Text, member_ids: &[Text], reason: &str, after: Vec<After>) {
        let Self { cx, groups, .. } = self;
        let Some(Group::Consumer(group)) = groups.get_mut(group_id) else { return };
        let gone: BTreeSet<&Text> = member_ids.iter().collect();
        let is_last_of_its_kind = migrate::may_downgrade(cx, group, &gone);
        let mut records = if is_last_of_its_kind {
            // Their tombstones first: the group's own no longer name them.
            let mut tombstones = Vec::new();
            for member_id in member_ids {
                tombstones.extend(group.drop_for_downgrade(cx, member_id));
            }
            tombstones
        } else {
            group.remove_members(cx, member_ids, reason)
        };
        if !is_last_of_its_kind {
            return group.append(cx, records, after);
        }
        let why = format!("member {} {reason}, the others speak the classic protocol", member_ids.join(", "));
        let (mut classic, more) = migrate::downgraded(cx, group, false, &why);
        records.extend(more);
        cx.append(records, after);
        classic.prepare_rebalance(cx, &why);
        groups.insert(Text::clone(group_id), Group::Classic(classic));
    }

    /// JoinGroup to a consumer group.
    pub(super) fn join_consumer_group(&mut self, join: &Join<'_>) {
        let Self { cx, groups, .. } = self;
        let group_id = Text::from(&*join.request.group_id);
        let Some(Group::Consumer(group)) = groups.get_mut(&group_id) else { return };
        // A static member that comes back as a classic one may be the last that spoke the consumer protocol.
        let instance_id = join.request.group_instance_id.as_deref();
        let previous = instance_id.and_then(|instance_id| group.static_members.get(instance_id)).cloned();
        let is_last_of_its_kind = previous.as_ref().is_some_and(|previous| {
            let speaks_consumer = group.members.get(previous).is_some_and(|member| member.classic.is_none());
            let others_are_classic = group.classic_members() + 1 == group.members.len();
            speaks_consumer
                && others_are_classic
                && cx.config.migration.may_downgrade()
                && group.members.len() <= cx.config.classic_size_max
        });
        let (records, mut reply) = match group.classic_join(cx, join) {
            Ok(joined) => joined,
            Err(error) => return join.refuse(cx, error, &join.request.member_id),
        };
        let is_joined = reply.error.is_none();
        if !is_joined || !is_last_of_its_kind {
            let reply = Reply::JoinGroup(reply);
            if records.is_empty() {
                cx.reply_after(group.last_write, join.id, reply);
            } else {
                group.append(cx, records, vec![After::Reply(join.id, reply)]);
            }
            return;
        }
        let why = format!("static member {} came back with the classic protocol", reply.member_id);
        let is_complete = group.state() == GroupState::Stable;
        let (mut classic, tombstones) = migrate::downgraded(cx, group, is_complete, &why);
        reply.generation = classic.generation;
        let records: Vec<Record> = records.into_iter().chain(tombstones).collect();
        cx.append(records, vec![After::Reply(join.id, Reply::JoinGroup(reply))]);
        if !is_complete {
            classic.prepare_rebalance(cx, &why);
        }
        groups.insert(group_id, Group::Classic(classic));
    }
}
