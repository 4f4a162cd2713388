//! JoinGroup.

use ottla_wire::message::JoinGroupRequest;
use ottla_wire::{ErrorCode, Uuid};

use super::super::effect::{Client, EventKind, Reply, RequestId, shared};
use super::super::reply::{JoinReply, SyncReply};
use super::super::timers::Timer;
use super::super::writes::After;
use super::super::{Context, Text};
use super::{ClassicGroup, Member, Protocol, State};

/// From this version on a member without an id is given one, and joins with it (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// From this version on a leader can be told to keep the assignment (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;
/// Members of a group that were given an id and have not joined with it yet. Kafka has no bound on them but the session timeout, which
/// the client chooses.
const PENDING_JOINS_MAX: usize = 10_000;

/// A JoinGroup with what it is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Join<'a> {
    pub(crate) id: RequestId,
    pub(crate) version: i16,
    pub(crate) client: Client<'a>,
    /// No other member has this id.
    pub(crate) fresh: Uuid,
    pub(crate) request: &'a JoinGroupRequest<'a>,
}

impl Join<'_> {
    /// The member id for one that has none.
    pub(crate) fn new_member_id(&self) -> Text {
        let prefix = self.request.group_instance_id.as_deref().unwrap_or(self.client.id);
        format!("{prefix}-{}", self.fresh).into()
    }

    /// Whether the member has to join again with the id that it is given.
    pub(crate) fn requires_member_id(&self) -> bool {
        self.request.member_id.is_empty()
            && self.request.group_instance_id.is_none()
            && self.version >= MEMBER_ID_REQUIRED_FROM
    }

    /// The rebalance timeout. Version 0 has none.
    pub(crate) fn rebalance_timeout_ms(&self) -> i32 {
        match self.request.rebalance_timeout_ms {
            -1 => self.request.session_timeout_ms,
            timeout_ms => timeout_ms,
        }
    }

    pub(crate) fn reason(&self) -> &str {
        self.request.reason.as_deref().unwrap_or("not provided")
    }

    fn member(&self) -> Member {
        Member {
            instance_id: self.request.group_instance_id.as_deref().map(Text::from),
            client_id: self.client.id.into(),
            client_host: self.client.host.into(),
            session_timeout_ms: self.request.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms(),
            protocol_type: Text::from(&*self.request.protocol_type),
            protocols: self.protocols(),
            assignment: super::super::Bytes::default(),
            joining: Some(self.id),
            syncing: None,
            is_new: true,
        }
    }

    pub(crate) fn protocols(&self) -> Vec<Protocol> {
        let mut protocols: Vec<Protocol> = Vec::with_capacity(self.request.protocols.len());
        for protocol in &self.request.protocols {
            if protocols.iter().all(|known| *known.name != *protocol.name) {
                protocols.push(Protocol { name: Text::from(&*protocol.name), metadata: shared(protocol.metadata) });
            }
        }
        protocols
    }

    pub(crate) fn refuse(&self, cx: &mut Context, error: ErrorCode, member_id: &str) {
        cx.reply(self.id, Reply::JoinGroup(JoinReply::error(error, member_id)));
    }
}

impl ClassicGroup {
    /// Handles a JoinGroup. `true` if an append came of it: then a new group needs no record of its own.
    pub(crate) fn join(&mut self, cx: &mut Context, join: Join<'_>) -> bool {
        let member_id = &*join.request.member_id;
        if !self.has_room_for(cx, member_id) {
            self.remove(member_id);
            cx.timers.cancel(&Timer::Session(Text::clone(&self.id), Text::from(member_id)));
            join.refuse(cx, ErrorCode::GroupMaxSizeReached, "");
            return self.complete_if_all_joined(cx);
        }
        let protocols = join.request.protocols.iter().map(|protocol| &*protocol.name);
        if !self.supports(&join.request.protocol_type, protocols) {
            join.refuse(cx, ErrorCode::InconsistentGroupProtocol, member_id);
            return false;
        }
        if member_id.is_empty() { self.join_new(cx, join) } else { self.join_known(cx, join) }
    }

    fn has_room_for(&self, cx: &Context, member_id: &str) -> bool {
        let size_max = cx.config.classic_size_max;
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                self.members.get(member_id).is_some_and(|member| member.joining.is_some())
                    || self.awaiting_join() < size_max
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(member_id) || self.members.len() < size_max
            }
        }
    }

    /// A member without an id.
    fn join_new(&mut self, cx: &mut Context, join: Join<'_>) -> bool {
        let member_id = join.new_member_id();
        if let Some(instance_id) = &join.request.group_instance_id {
            if let Some(previous) = self.static_members.get(&**instance_id).cloned() {
                return self.replace_static_member(cx, join, &previous, &member_id);
            }
        } else if join.requires_member_id() {
            if self.pending_joins.len() >= cx.config.classic_size_max.min(PENDING_JOINS_MAX) {
                join.refuse(cx, ErrorCode::GroupMaxSizeReached, "");
                return false;
            }
            self.pending_joins.insert(Text::clone(&member_id));
            let timer = Timer::Session(Text::clone(&self.id), Text::clone(&member_id));
            cx.set_timer(timer, join.request.session_timeout_ms);
            join.refuse(cx, ErrorCode::MemberIdRequired, &member_id);
            return false;
        }
        self.add_member(cx, join, &member_id)
    }

    /// A member with an id.
    fn join_known(&mut self, cx: &mut Context, join: Join<'_>) -> bool {
        let member_id = Text::from(&*join.request.member_id);
        let instance_id = join.request.group_instance_id.as_deref();
        if self.pending_joins.contains(&member_id) {
            if instance_id.is_some() {
                // Ids are handed out to dynamic members alone.
                join.refuse(cx, ErrorCode::InvalidRequest, &member_id);
                return false;
            }
            return self.add_member(cx, join, &member_id);
        }
        if let Err(error) = self.check_member(&member_id, instance_id) {
            join.refuse(cx, error, &member_id);
            return false;
        }
        let Some(member) = self.members.get(&member_id) else { return false };
        let unchanged = same_protocols(member, &join);
        let (rejoins, what) = match self.state {
            State::PreparingRebalance => (true, "is joining group during PreparingRebalance"),
            State::CompletingRebalance => (!unchanged, "changed its metadata during CompletingRebalance"),
            State::Stable if self.is_leader(&member_id) => (true, "rejoins as the leader during Stable"),
            State::Stable => (!unchanged, "changed its metadata during Stable"),
            State::Empty => {
                join.refuse(cx, ErrorCode::UnknownMemberId, &member_id);
                return false;
            }
        };
        if !rejoins {
            // Its first answer was lost: the same one again.
            let mut reply = self.joined(&member_id);
            if self.state == State::Stable {
                reply.members.clear();
            }
            cx.reply(join.id, Reply::JoinGroup(reply));
            return false;
        }
        self.update_member(cx, &member_id, &join);
        self.rebalance_or_complete(cx, &format!("member {member_id} {what}; client reason: {}", join.reason()))
    }

    fn add_member(&mut self, cx: &mut Context, join: Join<'_>, member_id: &Text) -> bool {
        if let Some(initial) = &mut self.initial {
            initial.new_member = true;
        }
        self.add(member_id, join.member());
        let timer = Timer::Session(Text::clone(&self.id), Text::clone(member_id));
        cx.set_timer(timer, cx.config.new_member_join_timeout_ms);
        self.rebalance_or_complete(cx, &format!("adding member {member_id}; client reason: {}", join.reason()))
    }

    fn update_member(&mut self, cx: &mut Context, member_id: &Text, join: &Join<'_>) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.protocols = join.protocols();
        member.session_timeout_ms = join.request.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms();
        if let Some(earlier) = member.joining.replace(join.id) {
            // The client gave up on an earlier attempt; only one of them can be answered with the generation.
            cx.reply(earlier, Reply::JoinGroup(JoinReply::error(ErrorCode::RebalanceInProgress, member_id)));
        }
    }

    /// A static member is back under a new id. Where nothing depends on it, there is no rebalance (KIP-345).
    fn replace_static_member(&mut self, cx: &mut Context, join: Join<'_>, old_id: &Text, new_id: &Text) -> bool {
        let previous_leader = self.leader.clone();
        let Some(mut member) = self.members.remove(old_id) else { return false };
        let fenced = ErrorCode::FencedInstanceId;
        if let Some(request) = member.joining.take() {
            cx.reply(request, Reply::JoinGroup(JoinReply::error(fenced, old_id)));
        }
        if let Some(request) = member.syncing.take() {
            cx.reply(request, Reply::SyncGroup(SyncReply::error(fenced)));
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(Text::clone(instance_id), Text::clone(new_id));
        }
        if self.is_leader(old_id) {
            self.leader = Some(Text::clone(new_id));
        }
        if self.pending_syncs.remove(old_id) {
            self.pending_syncs.insert(Text::clone(new_id));
        }
        member.client_id = join.client.id.into();
        member.client_host = join.client.host.into();
        self.members.insert(Text::clone(new_id), member);
        self.update_member(cx, new_id, &join);
        cx.timers.cancel(&Timer::Session(Text::clone(&self.id), Text::clone(old_id)));
        self.restart_session(cx, new_id);

        let why = format!("static member {old_id} is back as {new_id}; client reason: {}", join.reason());
        match self.state {
            State::Stable if self.select_protocol() == self.protocol => {
                cx.event(&self.id, EventKind::MemberRemoved, format!("{why}; no rebalance"));
                let after = After::Rejoined {
                    group: Text::clone(&self.id),
                    member: Text::clone(new_id),
                    previous_leader,
                    may_skip_assignment: join.version >= SKIP_ASSIGNMENT_FROM,
                };
                let record = self.record(None);
                cx.append(vec![record], vec![after]);
                true
            }
            State::Stable | State::CompletingRebalance => self.rebalance_or_complete(cx, &why),
            State::PreparingRebalance => self.complete_if_all_joined(cx),
            State::Empty => false,
        }
    }

    /// The record of a static member that came back is durable.
    pub(crate) fn rejoined(
        &mut self,
        cx: &mut Context,
        member_id: &Text,
        previous_leader: Option<Text>,
        may_skip_assignment: bool,
    ) {
        let Some(request) = self.members.get_mut(member_id).and_then(|member| member.joining.take()) else { return };
        let mut reply = self.joined(member_id);
        if may_skip_assignment {
            reply.skip_assignment = self.is_leader(member_id);
        } else {
            // A client that cannot skip must not think that it leads: it would assign anew.
            reply.leader = previous_leader.unwrap_or_default();
            reply.members.clear();
        }
        cx.reply(request, Reply::JoinGroup(reply));
    }
}

fn same_protocols(member: &Member, join: &Join<'_>) -> bool {
    member.protocols.len() == join.request.protocols.len()
        && member
            .protocols
            .iter()
            .zip(&join.request.protocols)
            .all(|(own, new)| *own.name == *new.name && *own.metadata == *new.metadata)
}
