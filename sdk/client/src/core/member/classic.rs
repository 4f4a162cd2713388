//! The classic protocol: members join, one of them leads and shares out the partitions, all hear of it by SyncGroup.
//!
//! Eager members give up all they own before they join; cooperative ones (KIP-429) keep it, give up what the new share
//! does not have, and join once more for that to reach its new owner.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::consumer_protocol::{
    CONSUMER_PROTOCOL_VERSION_MAX, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};

use super::{Call, Member, Protocol, Seen, Stage};
use crate::core::assignor::{Assignor, PartitionCounts, Subscription, by_topic, user_data};
use crate::core::topic_partition::TopicPartition;

/// The version in which shares are written: no later one has other fields.
const ASSIGNMENT_VERSION: i16 = 1;

/// What a member of a classic group keeps.
#[derive(Debug, Default)]
pub(super) struct Classic {
    /// The chosen assignor, by its name in the protocol.
    chosen: Option<Arc<str>>,
    /// What the leader knows of the members.
    group: Option<Vec<Subscription>>,
    /// The partitions that the leader shared out last.
    counts: Option<PartitionCounts>,
    /// The last share, and its generation: what a sticky assignor goes by.
    last_share: Vec<TopicPartition>,
    last_generation: Option<i32>,
}

impl Classic {
    pub(super) fn leads(&self) -> bool {
        self.group.is_some()
    }

    pub(super) fn group_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.group.iter().flatten().flat_map(|member| &member.topics)
    }
}

impl Member {
    pub(super) fn classic_step(&mut self, now_ms: u64) {
        match self.stage {
            Stage::In if self.rejoin.is_some() && self.giving_up.is_none() => {
                self.stage = Stage::Joining;
                if !self.give_up_before_joining() {
                    self.join();
                }
            }
            Stage::Joining if self.giving_up.is_none() => {
                if self.topics.is_some() {
                    self.join();
                }
            }
            Stage::Joining | Stage::Planning | Stage::In => self.beat_if_due(now_ms),
            Stage::Leaving => {
                if let Some(call) = self.farewell("the consumer is being closed") {
                    self.ask(call);
                }
            }
            Stage::Out | Stage::Asleep | Stage::Refused => {}
        }
    }

    /// Members of one kind are cooperative if all they offer is.
    fn is_cooperative(&self) -> bool {
        self.settings.assignors.iter().all(|assignor| assignor.is_cooperative())
    }

    fn give_up_before_joining(&mut self) -> bool {
        let cooperative = self.is_cooperative();
        let topics = self.topics.clone().unwrap_or_default();
        let goes = |partition: &&TopicPartition| !cooperative || !topics.contains(&partition.topic);
        let partitions: Vec<_> = self.owned.iter().filter(goes).cloned().collect();
        self.give_up(partitions)
    }

    /// The application is finished with what a rebalance takes.
    pub(super) fn gave_up(&mut self) {
        if self.stage == Stage::In {
            self.rejoin = Some("it gave up partitions for another member");
        }
    }

    fn beat_if_due(&mut self, now_ms: u64) {
        if self.generation < 0 || now_ms < self.next_beat_ms {
            return;
        }
        self.next_beat_ms = now_ms + self.settings.heartbeat_interval_ms;
        self.ask(Call::Heartbeat { generation: self.generation, member_id: Arc::clone(&self.id) });
    }

    fn join(&mut self) {
        let owned: Vec<TopicPartition> = self.owned.iter().cloned().collect();
        let topics = self.topics.clone().unwrap_or_default();
        let protocol = |assignor: &Assignor| {
            let data = user_data(*assignor, &self.classic.last_share, self.classic.last_generation.unwrap_or(-1));
            let subscription = ConsumerProtocolSubscription {
                topics: topics.iter().map(|topic| (&**topic).into()).collect(),
                user_data: data.as_deref(),
                owned_partitions: by_topic(&owned),
                generation_id: self.generation,
                rack_id: None,
            };
            let mut bytes = Vec::new();
            subscription.write(CONSUMER_PROTOCOL_VERSION_MAX, &mut bytes);
            (*assignor, bytes)
        };
        let protocols = self.settings.assignors.iter().map(protocol).collect();
        // What comes up while the answer is under way makes it join once more.
        let reason = self.rejoin.take().unwrap_or("the group rebalances");
        self.ask(Call::Join { member_id: Arc::clone(&self.id), protocols, reason });
    }

    pub(super) fn joined(
        &mut self,
        generation: i32,
        member_id: Arc<str>,
        protocol: &Arc<str>,
        leads: Option<Vec<Subscription>>,
        skips: bool,
        now_ms: u64,
    ) {
        (self.generation, self.id) = (generation, member_id);
        self.next_beat_ms = now_ms + self.settings.heartbeat_interval_ms;
        self.classic.chosen = Some(Arc::clone(protocol));
        self.classic.group = leads;
        self.classic.counts = None;
        if self.classic.leads() && !skips {
            self.stage = Stage::Planning;
            self.look_up.at_ms = Some(now_ms);
            return;
        }
        if self.classic.leads() {
            // A static leader that came back: the shares stay, the topics are watched.
            self.look_up.at_ms = Some(now_ms + self.settings.metadata_age_ms_max);
        }
        self.sync(Vec::new());
    }

    /// Topics were looked up. Returns whether one that a member reads is missing.
    pub(super) fn classic_looked_up(&mut self, seen: &[Seen], now_ms: u64) -> bool {
        let Some(group) = &self.classic.group else { return false };
        let counts: HashMap<&Arc<str>, i32> = seen.iter().map(|topic| (&topic.name, topic.partitions)).collect();
        let mut known = PartitionCounts::new();
        let mut missing = false;
        for topic in self.classic.group_topics() {
            match counts.get(topic) {
                Some(count) if *count > 0 => {
                    known.insert(Arc::clone(topic), *count);
                }
                _ => missing = true,
            }
        }
        if self.stage == Stage::Planning {
            let chosen = self.classic.chosen.as_deref().and_then(Assignor::of_name).unwrap_or(Assignor::Range);
            let shares = chosen.assign(group, &known);
            let encode = |share: &Vec<TopicPartition>| {
                let mut bytes = Vec::new();
                let assignment = ConsumerProtocolAssignment { assigned_partitions: by_topic(share), user_data: None };
                assignment.write(ASSIGNMENT_VERSION, &mut bytes);
                bytes
            };
            let shares =
                group.iter().zip(&shares).map(|(member, share)| (Arc::clone(&member.member_id), encode(share)));
            let shares = shares.collect();
            self.classic.counts = Some(known);
            // A heartbeat under way is not waited for: what it would say comes with SyncGroup, too.
            self.sync(shares);
            self.next_beat_ms = now_ms + self.settings.heartbeat_interval_ms;
        } else if self.classic.counts.get_or_insert_with(|| known.clone()) != &known && self.stage == Stage::In {
            self.classic.counts = Some(known);
            self.rejoin = Some("partitions came or went");
        }
        missing
    }

    fn sync(&mut self, shares: Vec<(Arc<str>, Vec<u8>)>) {
        // Until the answer is there the member counts as joining.
        self.stage = Stage::Joining;
        let protocol = self.classic.chosen.clone().unwrap_or_else(|| "".into());
        let (generation, member_id) = (self.generation, Arc::clone(&self.id));
        self.ask(Call::Sync { generation, member_id, protocol, shares });
    }

    pub(super) fn synced(&mut self, share: Vec<TopicPartition>, now_ms: u64) {
        self.stage = Stage::In;
        self.next_beat_ms = now_ms + self.settings.heartbeat_interval_ms;
        self.classic.last_share.clone_from(&share);
        self.classic.last_generation = Some(self.generation);
        // An eager member owns nothing here, so it gives up nothing.
        let lost: Vec<_> = self.owned.iter().filter(|partition| !share.contains(partition)).cloned().collect();
        self.give_up(lost);
        self.own(share);
    }

    pub(super) fn classic_refused(&mut self, code: ErrorCode, member_id: Option<Arc<str>>, now_ms: u64) {
        match code {
            ErrorCode::MemberIdRequired => {
                if let Some(member_id) = member_id {
                    self.id = member_id;
                }
            }
            ErrorCode::RebalanceInProgress => {
                if self.stage == Stage::In {
                    self.rejoin = Some("the group rebalances");
                }
            }
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                if code == ErrorCode::UnknownMemberId {
                    self.id = "".into();
                }
                self.generation = -1;
                self.classic.group = None;
                self.lose_all();
                self.stage = Stage::Joining;
                self.rejoin = Some("the group went on without it");
                if self.failures > 0 {
                    self.back_off(now_ms);
                }
                self.failures = self.failures.max(1);
            }
            _ => self.back_off(now_ms),
        }
    }

    pub(super) fn classic_farewell(&self, reason: &'static str) -> Option<Call> {
        debug_assert_eq!(self.settings.protocol, Protocol::Classic);
        let known = !self.id.is_empty() && self.settings.instance_id.is_none();
        known.then(|| Call::Leave { member_id: Arc::clone(&self.id), reason })
    }
}
