//! Members of a consumer group that speak the classic protocol: their epoch is what they call generation, and all of them
//! follow. JoinGroup takes a member one step towards its target, SyncGroup tells what it owns.

use ottla_wire::ErrorCode;
use ottla_wire::consumer_protocol::{
    CONSUMER_PROTOCOL_TYPE, ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription,
};
use ottla_wire::message::{LeavingMember, SyncGroupRequest};

use super::super::classic::Join;
use super::super::effect::{Record, Reply, RequestId};
use super::super::reply::{JoinReply, LeftMember, SyncReply};
use super::super::timers::Timer;
use super::super::topics::Topics;
use super::super::{Context, Text};
use super::record::partitions_of;
use super::{ClassicSide, ConsumerGroup, ConsumerMember, MemberState, Partitions};

impl ConsumerGroup {
    /// Handles a JoinGroup: the records to append and the answer that waits for them.
    pub(crate) fn classic_join(
        &mut self,
        cx: &mut Context,
        join: &Join<'_>,
    ) -> Result<(Vec<Record>, JoinReply), ErrorCode> {
        let request = join.request;
        let is_unknown = request.member_id.is_empty();
        let member_id = if is_unknown { join.new_member_id() } else { Text::from(&*request.member_id) };
        let instance_id = request.group_instance_id.as_deref();
        let is_in = self.members.contains_key(&member_id)
            || instance_id.is_some_and(|instance_id| self.static_members.contains_key(instance_id));
        if !is_in && self.members.len() >= cx.config.consumer_size_max {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        let protocols = join.protocols();
        let first = protocols.first().filter(|_| self.supports_classic(&request.protocol_type, &protocols));
        let first = first.cloned().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let (_, subscription) =
            ConsumerProtocolSubscription::parse(&first.metadata).map_err(|_| ErrorCode::InconsistentGroupProtocol)?;
        if join.requires_member_id() {
            let reply = JoinReply::error(ErrorCode::MemberIdRequired, &member_id);
            return Ok((Vec::new(), reply));
        }

        let mut records = Vec::new();
        let member = self.classic_member_for(cx, &member_id, instance_id, is_unknown, &mut records)?;
        let updated = ConsumerMember {
            instance_id: instance_id.map(Text::from).or(member.instance_id.clone()),
            rack_id: subscription.rack_id.as_deref().map(Text::from).or(member.rack_id.clone()),
            client_id: join.client.id.into(),
            client_host: join.client.host.into(),
            topics: subscription.topics.iter().map(|topic| Text::from(&**topic)).collect(),
            regex: None,
            rebalance_timeout_ms: join.rebalance_timeout_ms(),
            classic: Some(ClassicSide { session_timeout_ms: request.session_timeout_ms, protocols }),
            ..member.clone()
        };
        let changed = updated.topics != member.topics || updated.regex != member.regex;
        if updated.differs_in_subscription(&member) || !self.members.contains_key(&member_id) {
            records.push(self.member_record(&member_id, &updated));
        }
        self.put_member(&member_id, updated);
        let changed = changed | self.refresh_regexes(cx, &mut records);
        self.raise_epoch_if_needed(cx, changed, &mut records);
        self.update_target(cx, &mut records);
        let owned = owned_partitions(&subscription, &cx.topics);
        self.move_on(cx, &member_id, Some(&owned), &mut records);

        let ids = (Text::clone(&self.id), Text::clone(&member_id));
        cx.timers.cancel(&Timer::MemberJoin(ids.0.clone(), ids.1.clone()));
        self.restart_session(cx, &member_id);
        cx.set_timer(Timer::MemberSync(ids.0, ids.1), join.rebalance_timeout_ms());
        let generation = self.members.get(&member_id).map_or(-1, |member| member.epoch);
        let reply = JoinReply {
            generation,
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
            protocol: Some(first.name),
            member_id,
            ..JoinReply::default()
        };
        Ok((records, reply))
    }

    /// Whether a classic member with these protocols could be among the classic members there are.
    fn supports_classic(&self, protocol_type: &str, protocols: &[super::super::classic::Protocol]) -> bool {
        let all_have = |name: &Text| {
            let mut classic = self.members.values().filter_map(|member| member.classic.as_ref());
            classic.all(|classic| classic.protocols.iter().any(|own| own.name == *name))
        };
        protocol_type == CONSUMER_PROTOCOL_TYPE && protocols.iter().any(|protocol| all_have(&protocol.name))
    }

    fn classic_member_for(
        &mut self,
        cx: &mut Context,
        member_id: &Text,
        instance_id: Option<&str>,
        is_unknown: bool,
        records: &mut Vec<Record>,
    ) -> Result<ConsumerMember, ErrorCode> {
        let known = |group: &Self| group.members.get(member_id).cloned().unwrap_or_default();
        let Some(instance_id) = instance_id else { return Ok(known(self)) };
        let current = self.static_member(instance_id).map(|(current, _)| Text::clone(current));
        match current {
            None if is_unknown => Ok(known(self)),
            None => Err(ErrorCode::UnknownMemberId),
            Some(current) if is_unknown => Ok(self.replace_static_member(cx, &current, member_id, records)),
            Some(current) if current != *member_id => Err(ErrorCode::FencedInstanceId),
            Some(_) => Ok(known(self)),
        }
    }

    /// The classic member that a request speaks for.
    fn classic_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(&Text, &ConsumerMember), ErrorCode> {
        let found = match instance_id {
            None => self.members.get_key_value(member_id),
            Some(instance_id) => match self.static_member(instance_id) {
                Some((current, _)) if **current != *member_id => return Err(ErrorCode::FencedInstanceId),
                found => found,
            },
        };
        found.filter(|(_, member)| member.classic.is_some()).ok_or(ErrorCode::UnknownMemberId)
    }

    /// Whether a classic member has to join again to come closer to its target.
    fn has_to_rejoin(&self, member_id: &str, member: &ConsumerMember) -> bool {
        member.epoch < self.epoch
            || member.state == MemberState::Unrevoked
            || (member.state == MemberState::Unreleased && !self.is_waiting_for_others(member_id, member))
    }

    /// Tells a classic member that it has to join again, and gives it the time for it.
    fn expect_to_rejoin(&self, cx: &mut Context, member_id: &Text, member: &ConsumerMember) -> ErrorCode {
        let timer = Timer::MemberJoin(Text::clone(&self.id), Text::clone(member_id));
        cx.timers.set_if_absent(timer, cx.now_ms + i64::from(member.rebalance_timeout_ms.max(0)));
        ErrorCode::RebalanceInProgress
    }

    /// What a classic heartbeat is answered.
    pub(crate) fn classic_heartbeat(
        &mut self,
        cx: &mut Context,
        request: &ottla_wire::message::HeartbeatRequest<'_>,
    ) -> ErrorCode {
        let found = self.classic_member(&request.member_id, request.group_instance_id.as_deref());
        let (member_id, member) = match found {
            Ok(found) => found,
            Err(error) => return error,
        };
        if request.generation_id != member.epoch {
            return ErrorCode::IllegalGeneration;
        }
        self.restart_session(cx, member_id);
        if self.has_to_rejoin(member_id, member) {
            return self.expect_to_rejoin(cx, member_id, member);
        }
        ErrorCode::None
    }

    /// Handles a SyncGroup: the answer, once what the member owns is durable.
    pub(crate) fn classic_sync(&mut self, cx: &mut Context, id: RequestId, request: &SyncGroupRequest<'_>) {
        let reply = match self.classic_synced(cx, request) {
            Ok(reply) => reply,
            Err(error) => return cx.reply(id, Reply::SyncGroup(SyncReply::error(error))),
        };
        cx.reply_after(self.last_write, id, Reply::SyncGroup(reply));
    }

    fn classic_synced(&self, cx: &mut Context, request: &SyncGroupRequest<'_>) -> Result<SyncReply, ErrorCode> {
        let (member_id, member) = self.classic_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != member.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        let protocol = member.classic.as_ref().and_then(|classic| classic.protocols.first());
        let differs = |theirs: Option<&str>, ours: Option<&str>| theirs.is_some_and(|theirs| Some(theirs) != ours);
        if differs(request.protocol_type.as_deref(), Some(CONSUMER_PROTOCOL_TYPE))
            || differs(request.protocol_name.as_deref(), protocol.map(|protocol| &*protocol.name))
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.epoch > member.epoch && member.state != MemberState::Unrevoked {
            return Err(self.expect_to_rejoin(cx, member_id, member));
        }
        cx.timers.cancel(&Timer::MemberSync(Text::clone(&self.id), Text::clone(member_id)));
        self.restart_session(cx, member_id);
        let version = protocol.and_then(|protocol| ConsumerProtocolSubscription::parse(&protocol.metadata).ok());
        Ok(SyncReply {
            error: ErrorCode::None,
            protocol_type: request.protocol_type.as_deref().map(Text::from),
            protocol: request.protocol_name.as_deref().map(Text::from),
            assignment: assignment_bytes(&member.assigned, &cx.topics, version.map_or(0, |(version, _)| version))
                .into(),
        })
    }

    /// The classic members that a LeaveGroup takes out, and the answers for all that it names.
    pub(crate) fn classic_leave(&self, leaving: &[LeavingMember<'_>]) -> (Vec<Text>, Vec<LeftMember>) {
        let mut gone = Vec::new();
        let answers = leaving.iter().map(|leaving| {
            let instance_id = leaving.group_instance_id.as_deref();
            let by_instance = instance_id.filter(|_| leaving.member_id.is_empty());
            let current = by_instance.and_then(|instance_id| self.static_member(instance_id));
            let wanted = current.map_or(&*leaving.member_id, |(current, _)| &**current);
            let found = self.classic_member(wanted, instance_id).map(|(member_id, _)| Text::clone(member_id));
            let is_again = found.as_ref().is_ok_and(|member_id| gone.contains(member_id));
            let error = match found {
                _ if is_again => ErrorCode::UnknownMemberId,
                Err(error) => error,
                Ok(member_id) => {
                    gone.push(member_id);
                    ErrorCode::None
                }
            };
            LeftMember { member_id: Text::from(wanted), instance_id: instance_id.map(Text::from), error }
        });
        let answers = answers.collect();
        (gone, answers)
    }
}

/// What a member says that it owns, by topic id.
fn owned_partitions(subscription: &ConsumerProtocolSubscription<'_>, topics: &Topics) -> Partitions {
    let owned = subscription.owned_partitions.iter();
    partitions_of(owned.filter_map(|owned| Some((topics.named(&owned.topic)?.id, owned.partitions.clone()))))
}

/// Partitions as the embedded consumer protocol says them. Topics that are gone are left out.
pub(crate) fn assignment_bytes(partitions: &Partitions, topics: &Topics, version: i16) -> Vec<u8> {
    let assigned = partitions.iter().filter_map(|(topic_id, partitions)| {
        let topic = (&*topics.with_id(*topic_id)?.name).into();
        Some(ConsumerProtocolPartitions { topic, partitions: partitions.iter().copied().collect() })
    });
    let assignment = ConsumerProtocolAssignment { assigned_partitions: assigned.collect(), user_data: None };
    let mut bytes = Vec::new();
    assignment.write(version, &mut bytes);
    bytes
}
