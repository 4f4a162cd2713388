//! Classic groups: members join, the leader assigns, all sync, heartbeats keep them alive (Kafka's `ClassicGroup`).
//!
//! Nothing of a rebalance under way is durable. What is durable is the generation with its assignment, once its leader handed
//! it in, and the group without members. After a restart a group is stable or empty, and its members have their full session
//! timeout.

mod commit;
mod describe;
mod heartbeat;
mod join;
mod leave;
mod member;
mod rebalance;
mod record;
mod sync;

use std::collections::{BTreeMap, BTreeSet};

use ottla_wire::ErrorCode;
use ottla_wire::consumer_protocol::{CONSUMER_PROTOCOL_TYPE, ConsumerProtocolSubscription};

use super::effect::Reply;
use super::reply::{JoinReply, JoinedMember, SyncReply};
use super::{Context, Text};

pub(crate) use join::Join;
pub(crate) use member::{Member, Protocol};

/// The state of a classic group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No members.
    Empty,
    /// Waits for its members to join again.
    PreparingRebalance,
    /// Waits for the assignment of the leader.
    CompletingRebalance,
    /// Everything is assigned.
    Stable,
}

impl State {
    /// Kafka's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// The first rebalance of a group that was empty: it waits for more members.
#[derive(Debug, Clone, Copy)]
struct InitialDelay {
    /// How long the present wait is.
    delay_ms: i32,
    /// How much longer it may be extended.
    remaining_ms: i32,
    /// Whether a member has come since it began.
    new_member: bool,
}

/// A classic group.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    pub(crate) id: Text,
    pub(crate) state: State,
    /// When it got into its state; none in records of old brokers.
    pub(crate) state_since_ms: Option<i64>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<Text>,
    pub(crate) protocol: Option<Text>,
    pub(crate) leader: Option<Text>,
    pub(crate) members: BTreeMap<Text, Member>,
    /// Static members, by instance id.
    static_members: BTreeMap<Text, Text>,
    /// Ids that were given out and have not joined yet (KIP-394).
    pub(crate) pending_joins: BTreeSet<Text>,
    /// Members that have not synced in this generation yet.
    pending_syncs: BTreeSet<Text>,
    /// What members subscribe to, where that can be read.
    pub(crate) subscribed_topics: Option<BTreeSet<Text>>,
    initial: Option<InitialDelay>,
}

impl ClassicGroup {
    /// A group without members.
    pub(crate) fn new(id: Text, now_ms: i64) -> Self {
        Self {
            id,
            state: State::Empty,
            state_since_ms: Some(now_ms),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            subscribed_topics: None,
            initial: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    pub(crate) fn is_consumer_type(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    fn enter(&mut self, state: State, now_ms: i64) {
        self.state = state;
        self.state_since_ms = Some(now_ms);
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(crate) fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    fn awaiting_join(&self) -> usize {
        self.members.values().filter(|member| member.joining.is_some()).count()
    }

    fn has_all_members_joined(&self) -> bool {
        self.pending_joins.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    pub(crate) fn add(&mut self, member_id: &Text, member: Member) {
        if self.members.is_empty() {
            self.protocol_type = Some(Text::clone(&member.protocol_type));
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(Text::clone(instance_id), Text::clone(member_id));
        }
        self.leader.get_or_insert_with(|| Text::clone(member_id));
        self.pending_joins.remove(member_id);
        self.members.insert(Text::clone(member_id), member);
    }

    /// Takes a member out. The caller answers the requests that wait for it.
    fn remove(&mut self, member_id: &str) -> Option<Member> {
        self.pending_joins.remove(member_id);
        self.pending_syncs.remove(member_id);
        let member = self.members.remove(member_id)?;
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Whether a request may speak for a member: it is known, and if static not fenced.
    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if **current != *member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether a member with these protocols could be in the group.
    fn supports(&self, protocol_type: &str, mut protocols: impl Iterator<Item = impl AsRef<str>>) -> bool {
        if self.is_empty() {
            return !protocol_type.is_empty() && protocols.next().is_some();
        }
        let supported_by_all =
            |name: &str| self.members.values().all(|member| member.protocols.iter().any(|own| &*own.name == name));
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.any(|name| supported_by_all(name.as_ref()))
    }

    /// The protocol of the next generation: of those that all members have, the one that most of them like best. Among
    /// equals, the one that the leader likes best.
    pub(crate) fn select_protocol(&self) -> Option<Text> {
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader))?;
        let has = |member: &Member, name: &Text| member.protocols.iter().any(|own| own.name == *name);
        let names = leader.protocols.iter().map(|protocol| &protocol.name);
        let common: Vec<&Text> = names.filter(|name| self.members.values().all(|member| has(member, name))).collect();
        let mut votes = vec![0; common.len()];
        for member in self.members.values() {
            let best = member.protocols.iter().find_map(|own| common.iter().position(|name| **name == own.name));
            if let Some(best) = best {
                votes[best] += 1;
            }
        }
        // The last of the greatest, seen from behind, is the first one.
        let most = (0..common.len()).rev().max_by_key(|index| votes[*index])?;
        Some(Text::clone(common[most]))
    }

    /// What the members subscribe to. The first version of the embedded protocol is a prefix of all others.
    pub(crate) fn compute_subscribed_topics(&self) -> Option<BTreeSet<Text>> {
        if !self.is_consumer_type() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let (_, subscription) =
                ConsumerProtocolSubscription::parse(member.metadata(self.protocol.as_deref()?)?).ok()?;
            topics.extend(subscription.topics.iter().map(|topic| Text::from(&**topic)));
        }
        Some(topics)
    }

    /// Whether the offsets of a topic are in use. What cannot be read is in use.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed_topics.as_ref().map_or_else(|| self.is_consumer_type(), |topics| topics.contains(topic))
    }

    /// All members with what they joined with, for the leader.
    fn for_leader(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members
            .iter()
            .map(|(member_id, member)| JoinedMember {
                member_id: Text::clone(member_id),
                instance_id: member.instance_id.clone(),
                metadata: member.shared_metadata(protocol),
            })
            .collect()
    }

    /// The answer to a member of the current generation.
    fn joined(&self, member_id: &str) -> JoinReply {
        JoinReply {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: Text::from(member_id),
            members: if self.is_leader(member_id) { self.for_leader() } else { Vec::new() },
            ..JoinReply::default()
        }
    }

    /// Answers everything that waits with an error: the group goes away, or changes its protocol.
    pub(crate) fn answer_all(&mut self, cx: &mut Context, error: ErrorCode) {
        for (member_id, member) in &mut self.members {
            if let Some(request) = member.joining.take() {
                cx.reply(request, Reply::JoinGroup(JoinReply::error(error, member_id)));
            }
            if let Some(request) = member.syncing.take() {
                cx.reply(request, Reply::SyncGroup(SyncReply::error(error)));
            }
        }
    }
}
