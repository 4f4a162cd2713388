//! KIP-848: the broker shares out the partitions. The member beats its heart, tells what it owns, and moves towards the
//! assignment that it is told: first it gives up, then it takes.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_wire::message::{MEMBER_EPOCH_JOIN, MEMBER_EPOCH_LEAVE, MEMBER_EPOCH_LEAVE_STATIC};
use ottla_wire::{ErrorCode, Uuid};

use super::{Beat, Call, Member, Stage};
use crate::core::topic_partition::TopicPartition;

/// What a member keeps.
#[derive(Debug)]
pub(super) struct ByBroker {
    member_id: Arc<str>,
    interval_ms: u64,
    /// What the broker wants the member to own, while it does not yet.
    target: Option<Vec<(Uuid, i32)>>,
    /// A topic of the target is known by its id alone.
    has_unknown: bool,
    /// The ids of the topics that it owned something of.
    ids: HashMap<Arc<str>, Uuid>,
    /// The broker has not heard yet what the member is, reads or owns.
    untold: Untold,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Untold {
    topics: bool,
    owned: bool,
}

impl ByBroker {
    pub(super) fn new(member_id: Arc<str>, interval_ms: u64) -> Self {
        let untold = Untold { topics: true, owned: true };
        Self { member_id, interval_ms, target: None, has_unknown: false, ids: HashMap::new(), untold }
    }

    pub(super) fn forget(&mut self) {
        self.target = None;
        self.has_unknown = false;
        self.tell_all();
    }

    pub(super) fn tell_all(&mut self) {
        self.untold = Untold { topics: true, owned: true };
    }

    pub(super) fn tell_topics(&mut self) {
        self.untold.topics = true;
    }

    pub(super) fn has_unknown(&self) -> bool {
        self.has_unknown
    }

    pub(super) fn must_tell(&self) -> bool {
        self.untold != Untold::default()
    }
}

impl Member {
    pub(super) fn by_broker_step(&mut self, now_ms: u64) {
        match self.stage {
            Stage::Joining if self.topics.is_some() => {
                self.generation = MEMBER_EPOCH_JOIN;
                self.id = Arc::clone(&self.by_broker.member_id);
                self.by_broker.tell_all();
                self.send_beat(now_ms);
            }
            Stage::In if self.by_broker.must_tell() || now_ms >= self.next_beat_ms => self.send_beat(now_ms),
            Stage::Leaving => {
                if let Some(call) = self.by_broker_farewell() {
                    self.ask(call);
                }
            }
            _ => {}
        }
    }

    fn send_beat(&mut self, now_ms: u64) {
        let untold = std::mem::take(&mut self.by_broker.untold);
        let owned = untold.owned.then(|| self.owned_ids());
        self.next_beat_ms = now_ms + self.by_broker.interval_ms;
        self.rejoin = None;
        self.ask(Call::Beat(Beat {
            member_id: Arc::clone(&self.id),
            epoch: self.generation,
            topics: self.topics.clone().filter(|_| untold.topics),
            owned,
            full: untold.topics && untold.owned,
        }));
    }

    /// What the member owns, by topic id.
    fn owned_ids(&self) -> Vec<(Uuid, i32)> {
        let ids = &self.by_broker.ids;
        self.owned.iter().filter_map(|owned| Some((*ids.get(&owned.topic)?, owned.partition))).collect()
    }

    pub(super) fn beat(
        &mut self,
        member_id: Option<Arc<str>>,
        epoch: i32,
        interval_ms: u64,
        assignment: Option<Vec<(Uuid, i32)>>,
        now_ms: u64,
    ) {
        if self.stage == Stage::Joining {
            self.stage = Stage::In;
        }
        if let Some(member_id) = member_id.filter(|id| !id.is_empty()) {
            self.id = member_id;
        }
        self.generation = epoch;
        if interval_ms > 0 {
            self.by_broker.interval_ms = interval_ms;
            self.next_beat_ms = now_ms + interval_ms;
        }
        if assignment.is_some() {
            self.by_broker.target = assignment;
        }
        self.reconcile(now_ms);
    }

    /// Moves towards the assignment. Returns whether a topic of it is not known by name.
    pub(super) fn reconcile(&mut self, now_ms: u64) -> bool {
        if self.stage != Stage::In || self.giving_up.is_some() {
            return false;
        }
        let Some(target) = self.by_broker.target.take() else { return false };
        let mut wanted = Vec::new();
        for (id, partition) in &target {
            let Some(name) = self.look_up.names.get(id) else { continue };
            self.by_broker.ids.insert(Arc::clone(name), *id);
            wanted.push(TopicPartition::new(Arc::clone(name), *partition));
        }
        let unknown = wanted.len() < target.len();
        self.by_broker.has_unknown = unknown;
        if unknown && !self.look_up.under_way {
            self.look_up.at_ms = Some(now_ms);
        }
        let lost: Vec<_> = self.owned.iter().filter(|partition| !wanted.contains(partition)).cloned().collect();
        if self.give_up(lost) || unknown {
            self.by_broker.target = Some(target);
        }
        if self.giving_up.is_none() {
            self.own(wanted);
            // The broker waits to hear that what it took is free, and that what it gave has arrived.
            self.by_broker.untold.owned = true;
        }
        unknown
    }

    pub(super) fn by_broker_refused(&mut self, code: ErrorCode, now_ms: u64) {
        match code {
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                self.lose_all();
                self.by_broker.forget();
                self.stage = Stage::Joining;
            }
            _ => {
                self.by_broker.tell_all();
                self.back_off(now_ms);
            }
        }
    }

    pub(super) fn by_broker_farewell(&self) -> Option<Call> {
        let epoch = if self.settings.instance_id.is_some() { MEMBER_EPOCH_LEAVE_STATIC } else { MEMBER_EPOCH_LEAVE };
        (self.generation >= MEMBER_EPOCH_JOIN).then(|| {
            let member_id = Arc::clone(&self.id);
            Call::Beat(Beat { member_id, epoch, topics: None, owned: None, full: false })
        })
    }
}
