//! From the classic protocol to the consumer protocol and back, while members are in the group.
//!
//! Up: the first member that speaks the consumer protocol joins a group of classic consumers. They stay, with what they own,
//! as classic members. Down: the last member that speaks the consumer protocol goes.

use std::collections::BTreeSet;

use ottla_wire::ErrorCode;
use ottla_wire::consumer_protocol::{CONSUMER_PROTOCOL_TYPE, ConsumerProtocolAssignment, ConsumerProtocolSubscription};

use super::classic::{ClassicGroup, Member, State};
use super::consumer::{
    ClassicSide, ConsumerGroup, ConsumerMember, MemberState, Partitions, assignment_bytes, partitions_of,
};
use super::effect::{EventKind, Record};
use super::timers::Timer;
use super::{Context, Text};

/// Makes a consumer group of a classic one, with the records that say so. The error is Kafka's, with its words.
pub(crate) fn upgraded(
    cx: &mut Context,
    classic: &mut ClassicGroup,
) -> Result<(ConsumerGroup, Vec<Record>), (ErrorCode, String)> {
    let refuse = |why: &str| {
        let message = format!("Cannot upgrade classic group {} to consumer group because {why}.", classic.id);
        Err((ErrorCode::GroupIdNotFound, message))
    };
    if !cx.config.migration.may_upgrade() {
        return refuse("the online upgrade is disabled");
    }
    if !classic.is_consumer_type() {
        return refuse("the group does not use the consumer embedded protocol");
    }
    if classic.members.len() > cx.config.consumer_size_max {
        return refuse("the group size exceeds the consumer group maximum size");
    }
    let mut group = ConsumerGroup::new(Text::clone(&classic.id));
    (group.epoch, group.assignment_epoch) = (classic.generation, classic.generation);
    for (member_id, member) in &classic.members {
        let Some((member, target)) = consumer_member(cx, classic, member) else {
            return refuse("the embedded consumer protocol is malformed");
        };
        group.target.insert(Text::clone(member_id), target);
        group.put_member(member_id, member);
    }
    group.topics_changed = true;
    classic.answer_all(cx, ErrorCode::RebalanceInProgress);
    let mut records = vec![classic.tombstone()];
    records.extend(group.all_records());
    for timer in [Timer::Join(Text::clone(&classic.id)), Timer::Sync(Text::clone(&classic.id))] {
        cx.timers.cancel(&timer);
    }
    for member_id in &classic.pending_joins {
        cx.timers.cancel(&Timer::Session(Text::clone(&classic.id), Text::clone(member_id)));
    }
    for member_id in group.members.keys() {
        group.restart_session(cx, member_id);
    }
    cx.event(&classic.id, EventKind::Upgraded, format!("{} classic members", group.members.len()));
    Ok((group, records))
}

/// A classic member as a member of a consumer group, and what it is to own: what it owns.
fn consumer_member(cx: &Context, group: &ClassicGroup, member: &Member) -> Option<(ConsumerMember, Partitions)> {
    let metadata = match group.protocol.as_deref() {
        Some(protocol) => member.metadata(protocol)?,
        None => &member.protocols.first()?.metadata,
    };
    let (_, subscription) = ConsumerProtocolSubscription::parse(metadata).ok()?;
    let mut assigned = Partitions::new();
    if !member.assignment.is_empty() {
        let (_, assignment) = ConsumerProtocolAssignment::parse(&member.assignment).ok()?;
        assigned = partitions_of(assignment.assigned_partitions.into_iter().filter_map(|topic| {
            let id = cx.topics.named(&topic.topic)?.id;
            Some((id, topic.partitions))
        }));
    }
    let member = ConsumerMember {
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack_id.as_deref().map(Text::from),
        client_id: Text::clone(&member.client_id),
        client_host: Text::clone(&member.client_host),
        topics: subscription.topics.iter().map(|topic| Text::from(&**topic)).collect(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        classic: Some(ClassicSide {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
        epoch: group.generation,
        previous_epoch: group.generation,
        state: MemberState::Stable,
        assigned: assigned.clone(),
        ..ConsumerMember::default()
    };
    Some((member, assigned))
}

/// Whether the group speaks the classic protocol once these members are gone: the others all do, and there are some.
pub(crate) fn may_downgrade(cx: &Context, group: &ConsumerGroup, gone: &BTreeSet<&Text>) -> bool {
    let mut stay = group.members.iter().filter(|(member_id, _)| !gone.contains(member_id)).peekable();
    let speaks_consumer =
        |member_id: &&Text| group.members.get(*member_id).is_some_and(|member| member.classic.is_none());
    stay.peek().is_some()
        && stay.all(|(_, member)| member.classic.is_some())
        && gone.iter().any(speaks_consumer)
        && cx.config.migration.may_downgrade()
        && group.members.len() - gone.len() <= cx.config.classic_size_max
}

/// Makes a classic group of a consumer group whose members all speak the classic protocol, with the records that say so.
///
/// Members keep what they own, revoked or not: unlike Kafka, which gives them their targets, so that a group that changes its
/// protocol again before they know never gives one partition to two. Unless `is_complete`, the new group has to rebalance. Its
/// record has no leader then, so that a broker that starts before the rebalance is over knows.
pub(crate) fn downgraded(
    cx: &mut Context,
    group: &ConsumerGroup,
    is_complete: bool,
    why: &str,
) -> (ClassicGroup, Vec<Record>) {
    let mut records = group.tombstones();
    let mut classic = ClassicGroup::new(Text::clone(&group.id), cx.now_ms);
    classic.state = State::Stable;
    classic.generation = group.epoch;
    for (member_id, member) in &group.members {
        let Some(side) = &member.classic else { continue };
        let version =
            side.protocols.first().and_then(|first| ConsumerProtocolSubscription::parse(&first.metadata).ok());
        let mut owned = member.assigned.clone();
        for (topic, partitions) in &member.revoking {
            owned.entry(*topic).or_default().extend(partitions);
        }
        let assignment = assignment_bytes(&owned, &cx.topics, version.map_or(0, |(version, _)| version));
        let member = Member {
            instance_id: member.instance_id.clone(),
            client_id: Text::clone(&member.client_id),
            client_host: Text::clone(&member.client_host),
            session_timeout_ms: side.session_timeout_ms,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
            protocols: side.protocols.clone(),
            assignment: assignment.into(),
            joining: None,
            syncing: None,
            is_new: false,
        };
        classic.add(member_id, member);
    }
    classic.protocol = classic.select_protocol();
    classic.subscribed_topics = classic.compute_subscribed_topics();
    let leader = classic.leader.clone();
    if !is_complete {
        classic.leader = None;
    }
    records.push(classic.record(None));
    classic.leader = leader;
    for member_id in group.members.keys() {
        group.cancel_timers(cx, member_id);
        classic.restart_session(cx, member_id);
    }
    cx.event(&group.id, EventKind::Downgraded, why);
    (classic, records)
}
