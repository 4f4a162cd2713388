//! SyncGroup.

use std::collections::BTreeMap;

use ottla_wire::ErrorCode;
use ottla_wire::message::SyncGroupRequest;

use super::super::effect::{EventKind, Reply, RequestId, shared};
use super::super::reply::SyncReply;
use super::super::timers::Timer;
use super::super::writes::After;
use super::super::{Bytes, Context, Text};
use super::{ClassicGroup, State};

impl ClassicGroup {
    pub(crate) fn sync(&mut self, cx: &mut Context, id: RequestId, request: &SyncGroupRequest<'_>) {
        if let Err(error) = self.check_sync(request) {
            cx.reply(id, Reply::SyncGroup(SyncReply::error(error)));
            return;
        }
        let member_id = Text::from(&*request.member_id);
        match self.state {
            State::Empty => cx.reply(id, Reply::SyncGroup(SyncReply::error(ErrorCode::UnknownMemberId))),
            State::PreparingRebalance => {
                cx.reply(id, Reply::SyncGroup(SyncReply::error(ErrorCode::RebalanceInProgress)));
            }
            State::CompletingRebalance => {
                if let Some(member) = self.members.get_mut(&member_id)
                    && let Some(earlier) = member.syncing.replace(id)
                {
                    cx.reply(earlier, Reply::SyncGroup(SyncReply::error(ErrorCode::RebalanceInProgress)));
                }
                self.note_synced(cx, &member_id);
                if self.is_leader(&member_id) {
                    self.take_assignment(cx, request);
                }
            }
            State::Stable => {
                self.note_synced(cx, &member_id);
                let reply = self.synced(&member_id);
                cx.reply(id, Reply::SyncGroup(reply));
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest<'_>) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |theirs: Option<&str>, ours: Option<&str>| matches!((theirs, ours), (Some(a), Some(b)) if a != b);
        if differs(request.protocol_type.as_deref(), self.protocol_type.as_deref())
            || differs(request.protocol_name.as_deref(), self.protocol.as_deref())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn note_synced(&mut self, cx: &mut Context, member_id: &str) {
        self.pending_syncs.remove(member_id);
        if self.pending_syncs.is_empty() {
            cx.timers.cancel(&Timer::Sync(Text::clone(&self.id)));
        }
    }

    /// The leader's assignment: it counts once it is durable. A member that the leader left out gets nothing.
    fn take_assignment(&mut self, cx: &mut Context, request: &SyncGroupRequest<'_>) {
        let mut assignment: BTreeMap<Text, Bytes> =
            self.members.keys().map(|id| (Text::clone(id), Bytes::default())).collect();
        for assigned in &request.assignments {
            if let Some(bytes) = assignment.get_mut(&*assigned.member_id) {
                *bytes = shared(assigned.assignment);
            }
        }
        let record = self.record(Some(&assignment));
        let after = After::Assigned { group: Text::clone(&self.id), generation: self.generation, assignment };
        cx.append(vec![record], vec![after]);
    }

    /// The assignment is durable: unless another rebalance began meanwhile, the group is stable.
    pub(crate) fn assigned(&mut self, cx: &mut Context, generation: i32, assignment: &BTreeMap<Text, Bytes>) {
        if self.state != State::CompletingRebalance || self.generation != generation {
            return;
        }
        self.enter(State::Stable, cx.now_ms);
        let member_ids: Vec<Text> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            member.assignment = assignment.get(&member_id).cloned().unwrap_or_default();
            if let Some(request) = member.syncing.take() {
                let reply = self.synced(&member_id);
                cx.reply(request, Reply::SyncGroup(reply));
                self.restart_session(cx, &member_id);
            }
        }
    }

    fn synced(&self, member_id: &str) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(member_id).map(|member| Bytes::clone(&member.assignment)).unwrap_or_default(),
        }
    }

    /// The time to sync is over: members that did not sync are out.
    pub(crate) fn sync_timed_out(&mut self, cx: &mut Context) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.pending_syncs.is_empty() {
            return;
        }
        let late: Vec<Text> = std::mem::take(&mut self.pending_syncs).into_iter().collect();
        for member_id in &late {
            self.remove(member_id);
            cx.timers.cancel(&Timer::Session(Text::clone(&self.id), Text::clone(member_id)));
            cx.event(&self.id, EventKind::MemberRemoved, format!("member {member_id} did not sync in time"));
        }
        self.prepare_rebalance(cx, &format!("removing {} on pending sync request expiration", late.join(", ")));
    }
}
