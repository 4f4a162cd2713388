//! A member goes: it says so, it is silent for too long, or it does not revoke in time.

use std::borrow::Cow;

use ottla_wire::ErrorCode;
use ottla_wire::message::{ConsumerGroupHeartbeatResponse, MEMBER_EPOCH_LEAVE_STATIC};

use super::super::effect::{EventKind, Record, Reply};
use super::super::timers::Timer;
use super::super::writes::After;
use super::super::{Context, Text};
use super::heartbeat::{Beat, ErrorAnswer};
use super::{ConsumerGroup, MemberState, Partitions};

impl ConsumerGroup {
    /// The member that a leave is of.
    pub(crate) fn leaving(&self, beat: &Beat<'_>) -> Result<Text, ErrorAnswer> {
        let member_id = &*beat.request.member_id;
        match beat.request.instance_id.as_deref() {
            None => match self.members.get_key_value(member_id) {
                Some((member_id, _)) => Ok(Text::clone(member_id)),
                None => Err(self.unknown(member_id)),
            },
            Some(instance_id) => match self.static_member(instance_id) {
                None => Err((ErrorCode::UnknownMemberId, format!("Instance id {instance_id} is unknown."))),
                Some((current, _)) if **current != *member_id => Err(Self::fenced(member_id, instance_id, current)),
                Some((current, _)) => Ok(Text::clone(current)),
            },
        }
    }

    /// The answer to one that leaves.
    pub(crate) fn left(beat: &Beat<'_>) -> Reply {
        Reply::ConsumerGroupHeartbeat(Box::new(ConsumerGroupHeartbeatResponse {
            member_id: Some(Cow::Owned(beat.request.member_id.clone().into_owned())),
            member_epoch: beat.request.member_epoch,
            ..Default::default()
        }))
    }

    /// A static member leaves and means to come back: what it owns is kept for it, for as long as its session lasts.
    pub(crate) fn leave_for_a_while(&mut self, cx: &mut Context, beat: &Beat<'_>, member_id: &Text) {
        let Some(member) = self.members.get(member_id) else { return };
        let mut member = member.clone();
        member.epoch = MEMBER_EPOCH_LEAVE_STATIC;
        member.revoking = Partitions::new();
        if member.state == MemberState::Unrevoked {
            member.state = MemberState::Stable;
        }
        let record = self.current_record(member_id, &member);
        self.put_member(member_id, member);
        cx.timers.cancel(&Timer::Revoke(Text::clone(&self.id), Text::clone(member_id)));
        cx.event(&self.id, EventKind::MemberRemoved, format!("static member {member_id} left for a while"));
        self.append(cx, vec![record], vec![After::Reply(beat.id, Self::left(beat))]);
    }

    /// Takes members out: the others share what they had.
    pub(crate) fn remove_members(&mut self, cx: &mut Context, member_ids: &[Text], reason: &str) -> Vec<Record> {
        let mut records = Vec::new();
        for member_id in member_ids {
            records.extend(self.member_tombstones(member_id));
            self.take_member(member_id);
            self.target.remove(member_id);
            self.cancel_timers(cx, member_id);
            cx.event(&self.id, EventKind::MemberRemoved, format!("member {member_id} {reason}"));
        }
        self.refresh_regexes(cx, &mut records);
        self.metadata_hash = self.compute_metadata_hash(&cx.topics);
        self.raise_epoch(cx, "a member is gone", &mut records);
        records
    }

    /// Takes a member out of a group that is about to become a classic one.
    pub(crate) fn drop_for_downgrade(&mut self, cx: &mut Context, member_id: &Text) -> [Record; 3] {
        let tombstones = self.member_tombstones(member_id);
        self.cancel_timers(cx, member_id);
        self.take_member(member_id);
        self.target.remove(member_id);
        tombstones
    }

    /// Whether a member that was to revoke partitions in this epoch has still not done so.
    pub(crate) fn is_late_to_revoke(&self, member_id: &str) -> bool {
        self.members.get(member_id).is_some_and(|member| member.state == MemberState::Unrevoked)
    }
}
