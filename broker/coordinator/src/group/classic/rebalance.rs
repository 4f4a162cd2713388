//! From one generation to the next.

use super::super::effect::{EventKind, Reply};
use super::super::reply::SyncReply;
use super::super::timers::Timer;
use super::super::{Context, Text};
use super::{ClassicGroup, InitialDelay, State};
use ottla_wire::ErrorCode;

impl ClassicGroup {
    /// Begins a rebalance, or goes on with the one under way. `true` if an append came of it.
    pub(super) fn rebalance_or_complete(&mut self, cx: &mut Context, reason: &str) -> bool {
        if self.state == State::PreparingRebalance {
            self.complete_if_all_joined(cx)
        } else {
            self.prepare_rebalance(cx, reason)
        }
    }

    /// Waits for the members to join again.
    pub(crate) fn prepare_rebalance(&mut self, cx: &mut Context, reason: &str) -> bool {
        if self.state == State::CompletingRebalance {
            self.refuse_syncs(cx, ErrorCode::RebalanceInProgress);
        }
        self.pending_syncs.clear();
        cx.timers.cancel(&Timer::Sync(Text::clone(&self.id)));
        let was_empty = self.state == State::Empty;
        self.enter(State::PreparingRebalance, cx.now_ms);
        cx.event(&self.id, EventKind::Rebalance, reason);
        if was_empty {
            let delay_ms = cx.config.initial_rebalance_delay_ms;
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.initial = Some(InitialDelay { delay_ms, remaining_ms, new_member: false });
            cx.set_timer(Timer::Join(Text::clone(&self.id)), delay_ms);
            return false;
        }
        if self.has_all_members_joined() {
            return self.complete_join(cx);
        }
        cx.set_timer(Timer::Join(Text::clone(&self.id)), self.rebalance_timeout_ms());
        false
    }

    /// Completes a rebalance, unless it is the first one, which has its own clock.
    pub(super) fn complete_if_all_joined(&mut self, cx: &mut Context) -> bool {
        self.state == State::PreparingRebalance
            && self.initial.is_none()
            && self.has_all_members_joined()
            && self.complete_join(cx)
    }

    /// The time to join is over.
    pub(crate) fn join_timed_out(&mut self, cx: &mut Context) {
        if self.state != State::PreparingRebalance {
            return;
        }
        if let Some(initial) = &mut self.initial
            && initial.new_member
            && initial.remaining_ms != 0
        {
            let delay_ms = cx.config.initial_rebalance_delay_ms.min(initial.remaining_ms);
            let remaining_ms = (initial.remaining_ms - initial.delay_ms).max(0);
            *initial = InitialDelay { delay_ms, remaining_ms, new_member: false };
            cx.set_timer(Timer::Join(Text::clone(&self.id)), delay_ms);
            return;
        }
        self.complete_join(cx);
    }

    /// Forms the next generation out of those that joined. Static members may be late, dynamic ones are out.
    pub(super) fn complete_join(&mut self, cx: &mut Context) -> bool {
        let join_timer = Timer::Join(Text::clone(&self.id));
        cx.timers.cancel(&join_timer);
        let late = |member: &super::Member| member.joining.is_none() && member.instance_id.is_none();
        let missing: Vec<Text> =
            self.members.iter().filter(|(_, member)| late(member)).map(|(id, _)| Text::clone(id)).collect();
        for member_id in missing {
            self.remove(&member_id);
            cx.timers.cancel(&Timer::Session(Text::clone(&self.id), Text::clone(&member_id)));
            cx.event(&self.id, EventKind::MemberRemoved, format!("member {member_id} did not rejoin in time"));
        }
        if !self.has_leader_that_joined() && !self.members.is_empty() {
            // Static members alone, and none of them is back: another round.
            cx.set_timer(join_timer, self.rebalance_timeout_ms());
            return false;
        }
        self.initial = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_syncs.clear();
        self.protocol = self.select_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        if self.members.is_empty() {
            self.enter(State::Empty, cx.now_ms);
            cx.event(&self.id, EventKind::Generation(self.generation), "no members are left");
            let record = self.record(None);
            cx.append(vec![record], Vec::new());
            return true;
        }
        self.enter(State::CompletingRebalance, cx.now_ms);
        cx.event(&self.id, EventKind::Generation(self.generation), format!("{} members", self.members.len()));
        let member_ids: Vec<Text> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let joined = self.members.get_mut(&member_id).and_then(|member| {
                member.is_new = false;
                member.joining.take()
            });
            if let Some(request) = joined {
                let reply = self.joined(&member_id);
                cx.reply(request, Reply::JoinGroup(reply));
            }
            self.restart_session(cx, &member_id);
            self.pending_syncs.insert(member_id);
        }
        cx.set_timer(Timer::Sync(Text::clone(&self.id)), self.rebalance_timeout_ms());
        false
    }

    /// Whether the leader joined, or another one that did could take its place.
    fn has_leader_that_joined(&mut self) -> bool {
        let joined = |id: &Text, group: &Self| group.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(|leader| joined(leader, self)) {
            return true;
        }
        let other = self.members.iter().find(|(_, member)| member.joining.is_some()).map(|(id, _)| Text::clone(id));
        if other.is_some() {
            self.leader = other;
            return true;
        }
        false
    }

    /// The assignment will not come: tells those that wait for it. What members were assigned before, they may still own.
    pub(super) fn refuse_syncs(&mut self, cx: &mut Context, error: ErrorCode) {
        for (member_id, member) in &mut self.members {
            if let Some(request) = member.syncing.take() {
                cx.reply(request, Reply::SyncGroup(SyncReply::error(error)));
                let timer = Timer::Session(Text::clone(&self.id), Text::clone(member_id));
                cx.set_timer(timer, member.session_timeout_ms);
            }
        }
    }
}
