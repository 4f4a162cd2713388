//! ConsumerGroupHeartbeat: join, stay, move on.

use std::borrow::Cow;

use ottla_wire::message::{
    ConsumerGroupAssignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    ConsumerGroupTopicPartitions, MEMBER_EPOCH_JOIN, MEMBER_EPOCH_LEAVE, MEMBER_EPOCH_LEAVE_STATIC,
};
use ottla_wire::{ErrorCode, Uuid};

use super::super::effect::{Client, Record, Reply, RequestId};
use super::super::timers::Timer;
use super::super::writes::After;
use super::super::{Context, Text};
use super::record::partitions_of;
use super::{ConsumerGroup, ConsumerMember, MemberState, Partitions, assignor, regex};

/// From this version on, members choose their ids (KIP-1082).
const MEMBER_ID_REQUIRED_FROM: i16 = 1;

/// A ConsumerGroupHeartbeat with what it is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beat<'a> {
    pub(crate) id: RequestId,
    pub(crate) version: i16,
    pub(crate) client: Client<'a>,
    /// No other member has this id.
    pub(crate) fresh: Uuid,
    pub(crate) request: &'a ConsumerGroupHeartbeatRequest<'a>,
}

/// An error with the words that go with it.
pub(crate) type ErrorAnswer = (ErrorCode, String);

impl Beat<'_> {
    pub(crate) fn refuse(&self, cx: &mut Context, (error_code, message): ErrorAnswer) {
        let response = ConsumerGroupHeartbeatResponse {
            error_code,
            error_message: Some(Cow::Owned(message)),
            ..Default::default()
        };
        cx.reply(self.id, Reply::ConsumerGroupHeartbeat(Box::new(response)));
    }

    pub(crate) fn is_join(&self) -> bool {
        self.request.member_epoch == MEMBER_EPOCH_JOIN
    }

    pub(crate) fn is_leave(&self) -> bool {
        matches!(self.request.member_epoch, MEMBER_EPOCH_LEAVE | MEMBER_EPOCH_LEAVE_STATIC)
    }

    /// Errors of the request that do not depend on the group.
    pub(crate) fn check(&self, cx: &Context) -> Result<(), ErrorAnswer> {
        let request = self.request;
        let invalid = |message: &str| Err((ErrorCode::InvalidRequest, message.to_owned()));
        let is_blank = |text: Option<&str>| text.is_some_and(|text| text.trim().is_empty());
        if request.group_id.trim().is_empty() {
            return invalid("GroupId can't be empty.");
        }
        if is_blank(request.instance_id.as_deref()) {
            return invalid("InstanceId can't be empty.");
        }
        if is_blank(request.rack_id.as_deref()) {
            return invalid("RackId can't be empty.");
        }
        let needs_member_id = self.version >= MEMBER_ID_REQUIRED_FROM || !self.is_join();
        if needs_member_id && request.member_id.trim().is_empty() {
            return invalid("MemberId can't be empty.");
        }
        match request.member_epoch {
            MEMBER_EPOCH_JOIN => {
                if request.rebalance_timeout_ms == -1 {
                    return invalid("RebalanceTimeoutMs must be provided in first request.");
                }
                if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
                    return invalid("TopicPartitions must be empty when (re-)joining.");
                }
                if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
                    return invalid(
                        "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                    );
                }
            }
            MEMBER_EPOCH_LEAVE_STATIC if request.instance_id.is_none() => {
                return invalid("InstanceId can't be null.");
            }
            epoch if epoch < MEMBER_EPOCH_LEAVE_STATIC => return invalid("MemberEpoch is invalid."),
            _ => {}
        }
        if let Some(wanted) = request.server_assignor.as_deref()
            && !assignor::is_known(wanted)
        {
            let known = assignor::names();
            let message = format!("ServerAssignor {wanted} is not supported. Supported assignors: {known}.");
            return Err((ErrorCode::UnsupportedAssignor, message));
        }
        if let Some(expression) = request.subscribed_topic_regex.as_deref().filter(|regex| !regex.is_empty()) {
            regex::compiled(expression, cx.config.regex_size_max_bytes)
                .map_err(|message| (ErrorCode::InvalidRegularExpression, message))?;
        }
        Ok(())
    }

    fn owned(&self) -> Option<Partitions> {
        let topics = self.request.topic_partitions.as_ref()?.iter();
        Some(partitions_of(topics.map(|topic| (topic.topic_id, topic.partitions.clone()))))
    }

    /// The member with what the request says anew. From now on it speaks the consumer protocol.
    fn updated(&self, member: &ConsumerMember) -> ConsumerMember {
        let request = self.request;
        let text = |new: &Option<Cow<'_, str>>, old: &Option<Text>| new.as_deref().map(Text::from).or(old.clone());
        ConsumerMember {
            instance_id: text(&request.instance_id, &member.instance_id),
            rack_id: text(&request.rack_id, &member.rack_id),
            client_id: self.client.id.into(),
            client_host: self.client.host.into(),
            topics: match &request.subscribed_topic_names {
                Some(names) => names.iter().map(|name| Text::from(&**name)).collect(),
                None => member.topics.clone(),
            },
            // An empty expression takes back the one before.
            regex: text(&request.subscribed_topic_regex, &member.regex).filter(|regex| !regex.is_empty()),
            rebalance_timeout_ms: match request.rebalance_timeout_ms {
                -1 => member.rebalance_timeout_ms,
                timeout_ms => timeout_ms,
            },
            assignor: text(&request.server_assignor, &member.assignor),
            classic: None,
            ..member.clone()
        }
    }

    /// Whether the member says everything about itself, and so is told everything.
    fn is_full(&self) -> bool {
        let request = self.request;
        self.is_join()
            || (request.rebalance_timeout_ms != -1
                && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
                && request.topic_partitions.is_some())
    }
}

impl ConsumerGroup {
    /// Handles a heartbeat of a member that joins or stays. `before` are records that come first.
    pub(crate) fn heartbeat(
        &mut self,
        cx: &mut Context,
        beat: Beat<'_>,
        before: Vec<Record>,
    ) -> Result<(), ErrorAnswer> {
        let mut records = before;
        let member_id = if beat.request.member_id.is_empty() {
            beat.fresh.to_string().into()
        } else {
            Text::from(&*beat.request.member_id)
        };
        let owned = beat.owned();
        let member = self.member_for(cx, &member_id, &beat, owned.as_ref(), &mut records)?;
        let updated = beat.updated(&member);
        let is_new = !self.members.contains_key(&member_id);
        let mut changed = updated.topics != member.topics || updated.regex != member.regex;
        // What looks at all members is done only where there is a reason to: most heartbeats say nothing.
        let assignor_before =
            (is_new || updated.assignor != member.assignor).then(|| self.preferred_assignor().to_owned());
        if is_new || updated.differs_in_subscription(&member) {
            records.push(self.member_record(&member_id, &updated));
        }
        self.put_member(&member_id, updated);
        if changed || !self.are_regexes_current(cx) {
            changed |= self.refresh_regexes(cx, &mut records);
        }
        changed |= assignor_before.is_some_and(|before| before != self.preferred_assignor());
        self.raise_epoch_if_needed(cx, changed, &mut records);
        self.update_target(cx, &mut records);
        let moved = self.move_on(cx, &member_id, owned.as_ref(), &mut records);
        self.restart_session(cx, &member_id);

        let Some(now) = self.members.get(&member_id) else { return Ok(()) };
        let is_told = beat.is_full() || moved || now.assigned != member.assigned;
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(Cow::Owned(member_id.to_string())),
            member_epoch: now.epoch,
            heartbeat_interval_ms: cx.config.heartbeat_interval_ms(&self.id),
            assignment: is_told.then(|| assignment(&now.assigned)),
            ..Default::default()
        };
        let reply = Reply::ConsumerGroupHeartbeat(Box::new(response));
        if records.is_empty() {
            // A repeated question may see what its first answer waits for.
            cx.reply_after(self.last_write, beat.id, reply);
        } else {
            self.append(cx, records, vec![After::Reply(beat.id, reply)]);
        }
        Ok(())
    }

    /// The member that a heartbeat is of: a known one, a new one, or a static one that comes back.
    fn member_for(
        &mut self,
        cx: &mut Context,
        member_id: &Text,
        beat: &Beat<'_>,
        owned: Option<&Partitions>,
        records: &mut Vec<Record>,
    ) -> Result<ConsumerMember, ErrorAnswer> {
        let epoch = beat.request.member_epoch;
        let Some(instance_id) = beat.request.instance_id.as_deref() else {
            return match self.members.get(member_id) {
                Some(member) => check_epoch(member, epoch, owned).map(|()| member.clone()),
                None if beat.is_join() => Ok(ConsumerMember::default()),
                None => Err(self.unknown(member_id)),
            };
        };
        match self.static_member(instance_id) {
            None if beat.is_join() => Ok(self.members.get(member_id).cloned().unwrap_or_default()),
            None => Err((ErrorCode::UnknownMemberId, format!("Instance id {instance_id} is unknown."))),
            Some((current_id, member)) if beat.is_join() => {
                if member.classic.is_none() && member.epoch != MEMBER_EPOCH_LEAVE_STATIC {
                    let message = format!(
                        "Static member {member_id} with instance id {instance_id} cannot join the group because the \
                         instance id is owned by {current_id} member."
                    );
                    return Err((ErrorCode::UnreleasedInstanceId, message));
                }
                let current_id = Text::clone(current_id);
                Ok(self.replace_static_member(cx, &current_id, member_id, records))
            }
            Some((current_id, _)) if current_id != member_id => Err(Self::fenced(member_id, instance_id, current_id)),
            Some((_, member)) => check_epoch(member, epoch, owned).map(|()| member.clone()),
        }
    }

    /// A static member is back under a new id: it takes over what its old self owned and was to own.
    pub(super) fn replace_static_member(
        &mut self,
        cx: &mut Context,
        old_id: &Text,
        new_id: &Text,
        records: &mut Vec<Record>,
    ) -> ConsumerMember {
        records.extend(self.member_tombstones(old_id));
        self.cancel_timers(cx, old_id);
        let mut member = self.take_member(old_id).unwrap_or_default();
        (member.epoch, member.previous_epoch) = (0, 0);
        let target = self.target.remove(old_id).unwrap_or_default();
        records.push(self.member_record(new_id, &member));
        records.push(self.target_record(new_id, &target));
        records.push(self.current_record(new_id, &member));
        self.target.insert(Text::clone(new_id), target);
        self.put_member(new_id, member.clone());
        member
    }

    pub(super) fn unknown(&self, member_id: &str) -> ErrorAnswer {
        (ErrorCode::UnknownMemberId, format!("Member {member_id} is not a member of group {}.", self.id))
    }

    pub(super) fn fenced(member_id: &str, instance_id: &str, current_id: &str) -> ErrorAnswer {
        let message =
            format!("Static member {member_id} with instance id {instance_id} was fenced by member {current_id}.");
        (ErrorCode::FencedInstanceId, message)
    }

    /// Takes the member one step towards its target. `true` if what it owns changed.
    pub(super) fn move_on(
        &mut self,
        cx: &mut Context,
        member_id: &Text,
        owned: Option<&Partitions>,
        records: &mut Vec<Record>,
    ) -> bool {
        let Some(member) = self.members.get(member_id) else { return false };
        let next = self.reconciled(member, &self.target_of(member_id), owned);
        if next == *member {
            return false;
        }
        let changed = next.assigned != member.assigned;
        records.push(self.current_record(member_id, &next));
        let revoke = Timer::Revoke(Text::clone(&self.id), Text::clone(member_id));
        if next.state == MemberState::Unrevoked && next.classic.is_none() {
            cx.set_timer(revoke, next.rebalance_timeout_ms);
        } else {
            cx.timers.cancel(&revoke);
        }
        self.put_member(member_id, next);
        changed
    }

    /// The member was heard of.
    pub(crate) fn restart_session(&self, cx: &mut Context, member_id: &str) {
        let Some((member_id, member)) = self.members.get_key_value(member_id) else { return };
        let timeout_ms = match &member.classic {
            Some(classic) => classic.session_timeout_ms,
            None => cx.config.session_timeout_ms(&self.id),
        };
        cx.set_timer(Timer::Session(Text::clone(&self.id), Text::clone(member_id)), timeout_ms);
    }

    pub(crate) fn cancel_timers(&self, cx: &mut Context, member_id: &Text) {
        let ids = || (Text::clone(&self.id), Text::clone(member_id));
        for timer in [Timer::Session, Timer::Revoke, Timer::MemberJoin, Timer::MemberSync] {
            let (group_id, member_id) = ids();
            cx.timers.cancel(&timer(group_id, member_id));
        }
    }
}

/// A member may be at its epoch, or at the one before if the answer with the new one was lost.
fn check_epoch(member: &ConsumerMember, epoch: i32, owned: Option<&Partitions>) -> Result<(), ErrorAnswer> {
    if member.state == MemberState::Unknown && owned.is_none_or(|owned| !owned.is_empty()) {
        let message =
            "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.";
        return Err((ErrorCode::FencedMemberEpoch, message.to_owned()));
    }
    if epoch == MEMBER_EPOCH_JOIN || epoch == member.epoch {
        return Ok(());
    }
    let owns_no_more = owned.is_some_and(|owned| {
        owned.iter().all(|(topic, partitions)| {
            member.assigned.get(topic).is_some_and(|assigned| partitions.is_subset(assigned))
        })
    });
    if epoch < member.epoch && epoch == member.previous_epoch && owns_no_more {
        return Ok(());
    }
    let than = if epoch > member.epoch { "greater" } else { "smaller" };
    let message = format!(
        "The consumer group member has a {than} member epoch ({epoch}) than the one known by the group coordinator ({}). \
         The member must abandon all its partitions and rejoin.",
        member.epoch
    );
    Err((ErrorCode::FencedMemberEpoch, message))
}

fn assignment(partitions: &Partitions) -> ConsumerGroupAssignment {
    let topic_partitions = partitions.iter().map(|(topic_id, partitions)| ConsumerGroupTopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
    });
    ConsumerGroupAssignment { topic_partitions: topic_partitions.collect() }
}
