//! Questions as messages, and messages as answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_wire::consumer_protocol::{CONSUMER_PROTOCOL_TYPE, ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use ottla_wire::message::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ConsumerGroupTopicPartitions, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, LeavingMember, SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use ottla_wire::{ErrorCode, Uuid};

use super::{Answer, Beat};
use crate::core::assignor::{Assignor, Subscription, partitions_of};

/// From this version on a subscription says its generation (KIP-792).
const GENERATION_VERSION_MIN: i16 = 2;

/// What all requests of a member say.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    pub(crate) group_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) broker_assignor: Option<Arc<str>>,
}

impl Card {
    fn instance(&self) -> Option<ottla_wire::Str<'_>> {
        self.instance_id.as_deref().map(Into::into)
    }

    pub(crate) fn join<'a>(
        &'a self,
        member_id: &'a str,
        protocols: &'a [(Assignor, Vec<u8>)],
        reason: &'a str,
    ) -> JoinGroupRequest<'a> {
        let protocol = |(assignor, metadata): &'a (Assignor, Vec<u8>)| JoinGroupRequestProtocol {
            name: assignor.name().into(),
            metadata,
        };
        JoinGroupRequest {
            group_id: (&*self.group_id).into(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            member_id: member_id.into(),
            group_instance_id: self.instance(),
            protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
            protocols: protocols.iter().map(protocol).collect(),
            reason: Some(reason.into()),
        }
    }

    pub(crate) fn sync<'a>(
        &'a self,
        generation: i32,
        member_id: &'a str,
        protocol: &'a str,
        shares: &'a [(Arc<str>, Vec<u8>)],
    ) -> SyncGroupRequest<'a> {
        let share = |(member_id, assignment): &'a (Arc<str>, Vec<u8>)| SyncGroupRequestAssignment {
            member_id: (&**member_id).into(),
            assignment,
        };
        SyncGroupRequest {
            group_id: (&*self.group_id).into(),
            generation_id: generation,
            member_id: member_id.into(),
            group_instance_id: self.instance(),
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
            protocol_name: Some(protocol.into()),
            assignments: shares.iter().map(share).collect(),
        }
    }

    pub(crate) fn heartbeat<'a>(&'a self, generation: i32, member_id: &'a str) -> HeartbeatRequest<'a> {
        HeartbeatRequest {
            group_id: (&*self.group_id).into(),
            generation_id: generation,
            member_id: member_id.into(),
            group_instance_id: self.instance(),
        }
    }

    pub(crate) fn leave<'a>(&'a self, member_id: &'a str, reason: &'a str) -> LeaveGroupRequest<'a> {
        LeaveGroupRequest {
            group_id: (&*self.group_id).into(),
            member_id: member_id.into(),
            members: vec![LeavingMember {
                member_id: member_id.into(),
                group_instance_id: self.instance(),
                reason: Some(reason.into()),
            }],
        }
    }

    pub(crate) fn beat<'a>(&'a self, beat: &'a Beat) -> ConsumerGroupHeartbeatRequest<'a> {
        ConsumerGroupHeartbeatRequest {
            group_id: (&*self.group_id).into(),
            member_id: (&*beat.member_id).into(),
            member_epoch: beat.epoch,
            instance_id: self.instance(),
            rebalance_timeout_ms: if beat.full { self.rebalance_timeout_ms } else { -1 },
            subscribed_topic_names: beat
                .topics
                .as_ref()
                .map(|topics| topics.iter().map(|name| (&**name).into()).collect()),
            server_assignor: self.broker_assignor.as_deref().filter(|_| beat.full).map(Into::into),
            topic_partitions: beat.owned.as_deref().map(by_id),
            ..ConsumerGroupHeartbeatRequest::default()
        }
    }
}

fn by_id(partitions: &[(Uuid, i32)]) -> Vec<ConsumerGroupTopicPartitions> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (id, partition) in partitions {
        topics.entry(*id).or_default().push(*partition);
    }
    topics.into_iter().map(|(topic_id, partitions)| ConsumerGroupTopicPartitions { topic_id, partitions }).collect()
}

/// No, without more words.
pub(crate) fn refused(code: ErrorCode) -> Answer {
    Answer::Refused { code, message: None, member_id: None }
}

pub(crate) fn read_join(response: &JoinGroupResponse<'_>, assignors: &[Assignor]) -> Answer {
    let member_id: Arc<str> = (&*response.member_id).into();
    if !response.error_code.is_none() {
        let member_id = Some(member_id).filter(|id| !id.is_empty());
        return Answer::Refused { code: response.error_code, message: None, member_id };
    }
    let protocol: Arc<str> = response.protocol_name.as_deref().unwrap_or_default().into();
    if !assignors.iter().any(|assignor| *assignor.name() == *protocol) {
        return refused(ErrorCode::InconsistentGroupProtocol);
    }
    let leads = response.leader == response.member_id;
    let member = |member: &ottla_wire::message::JoinGroupResponseMember<'_>| {
        // A member that cannot be understood gets nothing, the others their shares.
        let parsed = ConsumerProtocolSubscription::parse(member.metadata).ok();
        let (version, subscription) = parsed.unwrap_or_default();
        Subscription {
            member_id: (&*member.member_id).into(),
            instance_id: member.group_instance_id.as_deref().map(Arc::from),
            topics: subscription.topics.iter().map(|topic| Arc::from(&**topic)).collect(),
            owned: partitions_of(&subscription.owned_partitions),
            generation: Some(subscription.generation_id).filter(|id| version >= GENERATION_VERSION_MIN && *id >= 0),
            user_data: subscription.user_data.map(<[u8]>::to_vec),
        }
    };
    Answer::Joined {
        generation: response.generation_id,
        member_id,
        protocol,
        leads: leads.then(|| response.members.iter().map(member).collect()),
        skips: response.skip_assignment,
    }
}

pub(crate) fn read_sync(response: &SyncGroupResponse<'_>) -> Answer {
    if !response.error_code.is_none() {
        return refused(response.error_code);
    }
    if response.assignment.is_empty() {
        return Answer::Synced(Vec::new());
    }
    match ConsumerProtocolAssignment::parse(response.assignment) {
        Ok((_, assignment)) => Answer::Synced(partitions_of(&assignment.assigned_partitions)),
        Err(_) => refused(ErrorCode::InconsistentGroupProtocol),
    }
}

pub(crate) fn read_heartbeat(response: &HeartbeatResponse) -> Answer {
    if response.error_code.is_none() { Answer::Done } else { refused(response.error_code) }
}

pub(crate) fn read_leave(response: &LeaveGroupResponse<'_>) -> Answer {
    if response.error_code.is_none() { Answer::Done } else { refused(response.error_code) }
}

pub(crate) fn read_beat(response: &ConsumerGroupHeartbeatResponse<'_>) -> Answer {
    if !response.error_code.is_none() {
        let message = response.error_message.as_deref().map(Arc::from);
        return Answer::Refused { code: response.error_code, message, member_id: None };
    }
    let partitions = |topic: &ConsumerGroupTopicPartitions| {
        topic.partitions.iter().map(|partition| (topic.topic_id, *partition)).collect::<Vec<_>>()
    };
    Answer::Beat {
        member_id: response.member_id.as_deref().map(Arc::from),
        epoch: response.member_epoch,
        interval_ms: response.heartbeat_interval_ms.max(0).unsigned_abs().into(),
        assignment: response.assignment.as_ref().map(|it| it.topic_partitions.iter().flat_map(partitions).collect()),
    }
}
