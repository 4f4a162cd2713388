//! Heartbeat, and what happens without one.

use ottla_wire::ErrorCode;
use ottla_wire::message::HeartbeatRequest;

use super::super::effect::{EventKind, Reply};
use super::super::reply::{JoinReply, SyncReply};
use super::super::timers::Timer;
use super::super::{Context, Text};
use super::{ClassicGroup, State};

impl ClassicGroup {
    /// What a heartbeat is answered.
    pub(crate) fn heartbeat(&mut self, cx: &mut Context, request: &HeartbeatRequest<'_>) -> ErrorCode {
        if let Err(error) = self.check_member(&request.member_id, request.group_instance_id.as_deref()) {
            return error;
        }
        if request.generation_id != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.restart_session(cx, &request.member_id);
        match self.state {
            State::Empty => ErrorCode::UnknownMemberId,
            State::PreparingRebalance => ErrorCode::RebalanceInProgress,
            State::CompletingRebalance | State::Stable => ErrorCode::None,
        }
    }

    /// The member was heard of.
    pub(crate) fn restart_session(&self, cx: &mut Context, member_id: &str) {
        if let Some((member_id, member)) = self.members.get_key_value(member_id) {
            cx.set_timer(Timer::Session(Text::clone(&self.id), Text::clone(member_id)), member.session_timeout_ms);
        }
    }

    /// The member has been silent for its session timeout.
    pub(crate) fn session_expired(&mut self, cx: &mut Context, member_id: &str) {
        if self.pending_joins.remove(member_id) {
            cx.event(&self.id, EventKind::MemberRemoved, format!("pending member {member_id} did not join in time"));
            self.complete_if_all_joined(cx);
            return;
        }
        if self.members.get(member_id).is_none_or(super::Member::may_be_silent) {
            return;
        }
        self.drop_member(cx, member_id);
        let reason = format!("removing member {member_id} on heartbeat expiration");
        cx.event(&self.id, EventKind::MemberRemoved, reason.clone());
        self.member_is_gone(cx, &reason);
    }

    /// Takes a member out and answers what it waits for.
    pub(super) fn drop_member(&mut self, cx: &mut Context, member_id: &str) {
        cx.timers.cancel(&Timer::Session(Text::clone(&self.id), Text::from(member_id)));
        let Some(member) = self.remove(member_id) else { return };
        if let Some(request) = member.joining {
            cx.reply(request, Reply::JoinGroup(JoinReply::error(ErrorCode::UnknownMemberId, "")));
        }
        if let Some(request) = member.syncing {
            cx.reply(request, Reply::SyncGroup(SyncReply::error(ErrorCode::UnknownMemberId)));
        }
    }

    /// Goes on without a member.
    pub(super) fn member_is_gone(&mut self, cx: &mut Context, reason: &str) {
        match self.state {
            State::Stable | State::CompletingRebalance => {
                self.prepare_rebalance(cx, reason);
            }
            State::PreparingRebalance => {
                self.complete_if_all_joined(cx);
            }
            State::Empty => {}
        }
    }
}
