//! One partition of `__consumer_offsets`: its groups and offsets.

mod consumer;
mod gone;
mod load;
mod read;
mod refuse;

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{LeaveGroupRequest, LeavingMember, OffsetCommitRequest};

use super::Text;
use super::classic::{ClassicGroup, Join};
use super::config::GroupConfig;
use super::consumer::{Beat, ConsumerGroup};
use super::context::{Context, FAILED, LOADING};
use super::effect::{Effect, Input, Reply, Request, RequestId, WriteId};
use super::offsets::{Commit, OffsetTable};
use super::reply::LeaveReply;
use super::timers::{Timer, Timers};
use super::topics::Topics;
use super::writes::{After, Writes};

/// A group.
#[derive(Debug)]
pub(crate) enum Group {
    /// It speaks the classic protocol.
    Classic(ClassicGroup),
    /// It speaks the consumer protocol, though some members may not.
    Consumer(ConsumerGroup),
}

/// Whether a shard can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Records are being replayed.
    Loading,
    /// It serves.
    Active,
    /// A write failed: what it knows may not be true.
    Failed,
}

/// The groups and offsets of one partition of `__consumer_offsets`. See the [crate's page](crate) for how to drive it.
#[derive(Debug)]
pub struct Shard {
    cx: Context,
    groups: BTreeMap<Text, Group>,
    offsets: OffsetTable,
    phase: Phase,
    /// The time of the last [`Effect::WakeAt`] that has not come yet.
    wake_at_ms: Option<i64>,
}

impl Shard {
    /// A shard that knows nothing yet: [`Shard::replay`] every record of the partition, then say [`Shard::loaded`].
    pub fn new(config: Arc<GroupConfig>, topics: Arc<Topics>) -> Self {
        let cx = Context {
            now_ms: 0,
            config,
            topics,
            timers: Timers::default(),
            writes: Writes::default(),
            effects: Vec::new(),
        };
        Self { cx, groups: BTreeMap::new(), offsets: OffsetTable::default(), phase: Phase::Loading, wake_at_ms: None }
    }

    /// Takes other settings: they hold from the next request or deadline on.
    pub fn configure(&mut self, config: Arc<GroupConfig>) {
        self.cx.config = config;
    }

    /// Takes an input in and gives the effects out, in the order in which they are to be carried out.
    pub fn step(&mut self, now_ms: i64, input: Input<'_>) -> Vec<Effect> {
        self.cx.now_ms = now_ms;
        match input {
            Input::Request { id, version, client, request } => match self.phase {
                Phase::Loading => refuse::refuse(&mut self.cx, id, &request, LOADING),
                Phase::Failed => refuse::refuse(&mut self.cx, id, &request, FAILED),
                Phase::Active => self.request(id, version, client, &request),
            },
            Input::Durable(write) => self.durable(write),
            Input::Failed => self.fail(),
            Input::Topics { topics, deleted } => self.topics_changed(topics, &deleted),
            Input::Wake => self.wake(),
        }
        self.finish()
    }

    /// Takes the effects, and asks to be woken if the next deadline is earlier than the driver knows.
    fn finish(&mut self) -> Vec<Effect> {
        if let Some(at_ms) = self.cx.timers.earliest_ms()
            && self.wake_at_ms.is_none_or(|known_ms| at_ms < known_ms)
        {
            self.wake_at_ms = Some(at_ms);
            self.cx.effects.push(Effect::WakeAt { at_ms });
        }
        std::mem::take(&mut self.cx.effects)
    }

    fn request(&mut self, id: RequestId, version: i16, client: super::Client<'_>, request: &Request<'_>) {
        match request {
            Request::JoinGroup(request, fresh) => {
                self.join(Join { id, version, client, fresh: *fresh, request });
            }
            Request::SyncGroup(request) => match self.groups.get_mut(&*request.group_id) {
                Some(Group::Classic(group)) => group.sync(&mut self.cx, id, request),
                Some(Group::Consumer(group)) => group.classic_sync(&mut self.cx, id, request),
                None => refuse::unknown_member(&mut self.cx, id, &Request::SyncGroup(request.clone())),
            },
            Request::Heartbeat(request) => {
                let error = match self.groups.get_mut(&*request.group_id) {
                    _ if request.group_id.is_empty() => ErrorCode::InvalidGroupId,
                    Some(Group::Classic(group)) => group.heartbeat(&mut self.cx, request),
                    Some(Group::Consumer(group)) => group.classic_heartbeat(&mut self.cx, request),
                    None => ErrorCode::UnknownMemberId,
                };
                self.cx.reply(id, Reply::Heartbeat(error));
            }
            Request::LeaveGroup(request) => self.leave(id, version, request),
            Request::ConsumerGroupHeartbeat(request, fresh) => {
                self.consumer_heartbeat(Beat { id, version, client, fresh: *fresh, request });
            }
            Request::OffsetCommit(request) => self.commit(id, version, request),
            Request::OffsetDelete(request) => self.delete_offsets(id, request),
            Request::DeleteGroups(groups) => self.delete_groups(id, groups),
        }
    }

    fn join(&mut self, join: Join<'_>) {
        let Self { cx, groups, .. } = self;
        let request = join.request;
        let session_timeouts_ms = cx.config.session_timeout_min_ms..=cx.config.session_timeout_max_ms;
        if request.group_id.is_empty() {
            return join.refuse(cx, ErrorCode::InvalidGroupId, "");
        }
        if !session_timeouts_ms.contains(&request.session_timeout_ms) {
            return join.refuse(cx, ErrorCode::InvalidSessionTimeout, "");
        }
        let group_id = Text::from(&*request.group_id);
        let mut records = Vec::new();
        match groups.get(&group_id) {
            Some(Group::Consumer(group)) if !group.members.is_empty() => return self.join_consumer_group(&join),
            // A consumer group without members gives way.
            Some(Group::Consumer(group)) => {
                records = group.tombstones();
                groups.remove(&group_id);
            }
            _ => {}
        }
        let is_new = !groups.contains_key(&group_id);
        if is_new && !request.member_id.is_empty() {
            if !records.is_empty() {
                cx.append(records, Vec::new());
            }
            return join.refuse(cx, ErrorCode::UnknownMemberId, &request.member_id);
        }
        let now_ms = cx.now_ms;
        let group =
            groups.entry(Text::clone(&group_id)).or_insert_with(|| Group::Classic(ClassicGroup::new(group_id, now_ms)));
        let Group::Classic(group) = group else { return };
        let appended = group.join(cx, join);
        if is_new && !appended {
            records.push(group.empty_record());
        }
        if !records.is_empty() {
            cx.append(records, Vec::new());
        }
    }

    fn leave(&mut self, id: RequestId, version: i16, request: &LeaveGroupRequest<'_>) {
        // Below version 3 there is one member.
        let only = [LeavingMember { member_id: request.member_id.clone(), ..LeavingMember::default() }];
        let leaving = if version < 3 { &only[..] } else { &request.members };
        let reply = match self.groups.get_mut(&*request.group_id) {
            _ if request.group_id.is_empty() => LeaveReply { error: ErrorCode::InvalidGroupId, members: Vec::new() },
            Some(Group::Classic(group)) => {
                LeaveReply { error: ErrorCode::None, members: group.leave(&mut self.cx, leaving) }
            }
            Some(Group::Consumer(_)) => return self.leave_consumer_group(id, &request.group_id, leaving),
            None => refuse::nobody_left(leaving, ErrorCode::UnknownMemberId),
        };
        self.cx.reply(id, Reply::LeaveGroup(reply));
    }

    fn commit(&mut self, id: RequestId, version: i16, request: &OffsetCommitRequest<'_>) {
        let Self { cx, groups, offsets, .. } = self;
        let commit = Commit { id, version, request };
        let group_id = Text::from(&*request.group_id);
        let (member_id, epoch) = (&*request.member_id, request.generation_id_or_member_epoch);
        if !groups.contains_key(&group_id) {
            if epoch >= 0 {
                let error = if version >= 9 { ErrorCode::GroupIdNotFound } else { ErrorCode::IllegalGeneration };
                return commit.refuse(cx, error);
            }
            // Offsets alone make a group: of an admin client, or of a consumer that assigns partitions itself.
            let group = ClassicGroup::new(Text::clone(&group_id), cx.now_ms);
            groups.insert(Text::clone(&group_id), Group::Classic(group));
        }
        let checked = match groups.get(&group_id) {
            Some(Group::Classic(group)) => group
                .check_commit(member_id, request.group_instance_id.as_deref(), epoch)
                .map(|()| group.restart_session(cx, member_id)),
            Some(Group::Consumer(group)) => group.check_commit(version, member_id, epoch),
            None => Err(ErrorCode::GroupIdNotFound),
        };
        match checked {
            Ok(()) => commit.accept(cx, offsets, &group_id),
            Err(error) => commit.refuse(cx, error),
        }
    }

    fn remove_group(&mut self, group_id: &Text) {
        let Some(group) = self.groups.remove(group_id) else { return };
        self.cx.timers.cancel(&Timer::Join(Text::clone(group_id)));
        self.cx.timers.cancel(&Timer::Sync(Text::clone(group_id)));
        match group {
            Group::Classic(group) => {
                for member_id in group.pending_joins {
                    self.cx.timers.cancel(&Timer::Session(Text::clone(group_id), member_id));
                }
            }
            Group::Consumer(_) => {}
        }
    }

    fn durable(&mut self, write: WriteId) {
        for after in self.cx.writes.durable(write) {
            match after {
                After::Reply(request, reply) => self.cx.reply(request, reply),
                After::Offsets(changes) => changes.into_iter().for_each(|change| self.offsets.end(change)),
                After::Assigned { group, generation, assignment } => {
                    if let Some(Group::Classic(group)) = self.groups.get_mut(&group) {
                        group.assigned(&mut self.cx, generation, &assignment);
                    }
                }
                After::Rejoined { group, member, previous_leader, may_skip_assignment } => {
                    if let Some(Group::Classic(group)) = self.groups.get_mut(&group) {
                        group.rejoined(&mut self.cx, &member, previous_leader, may_skip_assignment);
                    }
                }
            }
        }
    }

    /// A write failed. What the shard knows may never become durable: it answers all that waits, and no longer serves.
    fn fail(&mut self) {
        self.phase = Phase::Failed;
        self.cx.timers = Timers::default();
        for after in self.cx.writes.failed() {
            if let After::Reply(request, reply) = after {
                self.cx.reply(request, refuse::failed(reply));
            }
        }
        for group in self.groups.values_mut() {
            match group {
                Group::Classic(group) => group.answer_all(&mut self.cx, FAILED),
                Group::Consumer(_) => {}
            }
        }
    }

    fn wake(&mut self) {
        self.wake_at_ms = None;
        while let Some(timer) = self.cx.timers.take_due(self.cx.now_ms) {
            self.due(&timer);
        }
    }

    fn due(&mut self, timer: &Timer) {
        let group_id = match timer {
            Timer::Session(group, _)
            | Timer::Join(group)
            | Timer::Sync(group)
            | Timer::Revoke(group, _)
            | Timer::MemberJoin(group, _)
            | Timer::MemberSync(group, _) => group,
            Timer::Expiry => return self.expire(),
        };
        match (self.groups.get_mut(group_id), timer) {
            (Some(Group::Classic(group)), Timer::Session(_, member)) => group.session_expired(&mut self.cx, member),
            (Some(Group::Classic(group)), Timer::Join(_)) => group.join_timed_out(&mut self.cx),
            (Some(Group::Classic(group)), Timer::Sync(_)) => group.sync_timed_out(&mut self.cx),
            (Some(Group::Consumer(group)), timer) => {
                let (member_id, reason) = match timer {
                    Timer::Session(_, member) => (member, "was not heard of for its session timeout"),
                    Timer::Revoke(_, member) if group.is_late_to_revoke(member) => {
                        (member, "did not revoke its partitions in time")
                    }
                    Timer::MemberJoin(_, member) => (member, "did not rejoin in time"),
                    Timer::MemberSync(_, member) => (member, "did not sync in time"),
                    _ => return,
                };
                if group.members.contains_key(member_id) {
                    let (group_id, member_id) = (Text::clone(&group.id), Text::clone(member_id));
                    self.remove_members(&group_id, &[member_id], reason, Vec::new());
                }
            }
            _ => {}
        }
    }
}

impl Group {
    fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_empty(),
            Self::Consumer(group) => group.members.is_empty(),
        }
    }

    /// Whether nothing is lost without it, but its offsets.
    fn is_forgettable(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_empty() && group.pending_joins.is_empty(),
            Self::Consumer(group) => group.members.is_empty(),
        }
    }

    fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed_to(topic),
            Self::Consumer(group) => group.is_subscribed_to(topic),
        }
    }

    fn unused_since_ms(&self, commit_ms: i64) -> Option<i64> {
        match self {
            Self::Classic(group) => group.unused_since_ms(commit_ms),
            Self::Consumer(_) => Some(commit_ms),
        }
    }

    fn tombstones(&self) -> Vec<super::Record> {
        match self {
            Self::Classic(group) => vec![group.tombstone()],
            Self::Consumer(group) => group.tombstones(),
        }
    }
}
