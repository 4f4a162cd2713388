//! A member of a consumer group as a state machine: it is told what the application wants, what the coordinator answers and
//! what time it is, and says what to ask next and which partitions come and go.
//!
//! One request is under way at a time. [`classic`] is the protocol in which members share out the partitions among
//! themselves (JoinGroup, SyncGroup, Heartbeat), [`by_broker`] the one in which the broker does (KIP-848); what both have in
//! common is here: the coordinator, the subscription, partitions that are given up, the application that has to poll.

mod by_broker;
mod classic;
#[cfg(test)]
mod conversation;
mod effect;
pub(crate) mod messages;
mod subscription;
#[cfg(test)]
mod together;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use ottla_wire::{ErrorCode, Uuid};

use self::by_broker::ByBroker;
use self::classic::Classic;
pub(crate) use self::effect::{Answer, Beat, Call, Effect};
pub(crate) use self::subscription::{Pattern, Seen, Wish};
use super::assignor::Assignor;
use super::backoff::Backoff;
use super::topic_partition::TopicPartition;

/// How soon a topic that is subscribed to and does not exist is looked for again.
const MISSING_TOPIC_LOOK_MS: u64 = 1_000;

/// How a member behaves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) protocol: Protocol,
    pub(crate) assignors: Vec<Assignor>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) heartbeat_interval_ms: u64,
    pub(crate) poll_interval_ms_max: u64,
    pub(crate) metadata_age_ms_max: u64,
    pub(crate) retry: Backoff,
}

/// Who shares out the partitions (Kafka's `group.protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The members, led by one of them. Every broker knows it.
    #[default]
    Classic,
    /// The broker, without stopping anyone (KIP-848). Ottla, and Apache Kafka from 4.0 on.
    Consumer,
}

/// Where the member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has no subscription.
    Out,
    /// It wants in, or into the next generation.
    Joining,
    /// Classic: it leads, and waits to hear how many partitions there are.
    Planning,
    /// It is in.
    In,
    /// The application polled too late: out until it polls again.
    Asleep,
    /// On its way out.
    Leaving,
    /// Refused for good.
    Refused,
}

/// Who a commit comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) member_id: Arc<str>,
    /// The generation or, with KIP-848, the member's epoch. -1: outside of any.
    pub(crate) generation: i32,
}

/// See the module.
pub(crate) struct Member {
    settings: Settings,
    stage: Stage,
    wish: Option<Wish>,
    /// What the subscription comes to; none while that is not known.
    topics: Option<Vec<Arc<str>>>,
    look_up: LookUp,
    coordinator: Option<i32>,
    /// What the coordinator knows it by; empty before it does.
    id: Arc<str>,
    generation: i32,
    owned: BTreeSet<TopicPartition>,
    /// What the application is finishing with.
    giving_up: Option<(u64, Vec<TopicPartition>)>,
    /// Why the member should join again.
    rejoin: Option<&'static str>,
    call: Option<u64>,
    last_number: u64,
    next_beat_ms: u64,
    failures: u32,
    retry_at_ms: u64,
    application: Application,
    classic: Classic,
    by_broker: ByBroker,
    effects: VecDeque<Effect>,
}

/// When topics are looked up, and what was seen.
#[derive(Debug, Default)]
struct LookUp {
    under_way: bool,
    at_ms: Option<u64>,
    names: HashMap<Uuid, Arc<str>>,
}

/// When the application last polled.
#[derive(Clone, Copy, Debug, Default)]
struct Application {
    polls: bool,
    last_poll_ms: u64,
}

impl Member {
    /// A member that subscribes to nothing yet. With KIP-848 it is known by `member_id`, which no other member may have.
    pub(crate) fn new(settings: Settings, member_id: Arc<str>) -> Self {
        let by_broker = ByBroker::new(member_id, settings.heartbeat_interval_ms);
        Self {
            settings,
            stage: Stage::Out,
            wish: None,
            topics: None,
            look_up: LookUp::default(),
            coordinator: None,
            id: "".into(),
            generation: -1,
            owned: BTreeSet::new(),
            giving_up: None,
            rejoin: None,
            call: None,
            last_number: 0,
            next_beat_ms: 0,
            failures: 0,
            retry_at_ms: 0,
            application: Application::default(),
            classic: Classic::default(),
            by_broker,
            effects: VecDeque::new(),
        }
    }

    /// What is to be done, in this order.
    pub(crate) fn take_effects(&mut self) -> VecDeque<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { member_id: Arc::clone(&self.id), generation: self.generation }
    }

    pub(crate) fn coordinator(&self) -> Option<i32> {
        self.coordinator
    }

    pub(crate) fn owns(&self, partition: &TopicPartition) -> bool {
        self.owned.contains(partition)
    }

    /// Whether it waits for the application to poll.
    pub(crate) fn is_asleep(&self) -> bool {
        self.stage == Stage::Asleep
    }

    /// The application wants to read this, and nothing of what it wanted before.
    pub(crate) fn subscribe(&mut self, wish: Wish, now_ms: u64) {
        self.topics = wish.names();
        self.wish = Some(wish);
        self.look_up.at_ms = self.topics.is_none().then_some(now_ms);
        self.by_broker.tell_all();
        match self.stage {
            Stage::Out | Stage::Refused | Stage::Leaving => {
                self.call = None;
                self.stage = Stage::Joining;
                self.rejoin = Some("it subscribes");
                // Time counts from here on.
                self.application.last_poll_ms = now_ms;
            }
            _ => self.rejoin = Some("its subscription changed"),
        }
        self.step(now_ms);
    }

    /// The application is done with all it was given.
    pub(crate) fn leave(&mut self, now_ms: u64) {
        self.wish = None;
        self.topics = None;
        self.look_up.at_ms = None;
        self.giving_up = None;
        self.owned.clear();
        // A JoinGroup may take minutes; its answer is of no use any more.
        self.call = None;
        self.retry_at_ms = now_ms;
        self.stage = Stage::Leaving;
        self.step(now_ms);
    }

    /// The application is finished with what it gives up under this number.
    pub(crate) fn finished(&mut self, number: u64, now_ms: u64) {
        let Some((_, partitions)) = self.giving_up.take_if(|(asked, _)| *asked == number) else { return };
        for partition in &partitions {
            self.owned.remove(partition);
        }
        match self.settings.protocol {
            Protocol::Classic => self.gave_up(),
            Protocol::Consumer => {
                self.reconcile(now_ms);
            }
        }
        self.step(now_ms);
    }

    /// Whether the application polls at this moment, and when it last did.
    pub(crate) fn observe(&mut self, polls: bool, last_poll_ms: u64, now_ms: u64) {
        self.application = Application { polls, last_poll_ms: last_poll_ms.max(self.application.last_poll_ms) };
        if self.stage == Stage::Asleep && (polls || now_ms < self.late_at_ms()) {
            self.stage = Stage::Joining;
            self.rejoin = Some("the application polls again");
        }
        self.step(now_ms);
    }

    /// Topics were looked up; none: that failed.
    pub(crate) fn looked_up(&mut self, seen: Option<&[Seen]>, now_ms: u64) {
        self.look_up.under_way = false;
        let Some(seen) = seen else {
            self.look_up.at_ms = Some(now_ms + self.settings.retry.pause_ms(1, now_ms));
            return self.step(now_ms);
        };
        self.look_up.names.extend(seen.iter().map(|topic| (topic.id, Arc::clone(&topic.name))));
        if let Some(Wish::Pattern(pattern)) = &self.wish {
            let topics = Some(pattern.choose(seen));
            if topics != self.topics {
                if self.topics.is_some() {
                    self.rejoin = Some("topics came or went");
                }
                self.topics = topics;
                self.by_broker.tell_topics();
            }
        }
        let missing = match self.settings.protocol {
            Protocol::Classic => self.classic_looked_up(seen, now_ms),
            Protocol::Consumer => self.reconcile(now_ms),
        };
        let age_ms = if missing { MISSING_TOPIC_LOOK_MS } else { self.settings.metadata_age_ms_max };
        self.look_up.at_ms = self.watches_topics().then_some(now_ms + age_ms);
        self.step(now_ms);
    }

    fn watches_topics(&self) -> bool {
        matches!(self.wish, Some(Wish::Pattern(_))) || self.classic.leads() || self.by_broker.has_unknown()
    }

    /// The answer to a question.
    pub(crate) fn answered(&mut self, number: u64, answer: Answer, now_ms: u64) {
        if self.call.take_if(|asked| *asked == number).is_none() {
            return;
        }
        if !matches!(answer, Answer::Lost | Answer::Refused { .. }) {
            self.failures = 0;
        }
        match answer {
            Answer::Coordinator(node) => self.coordinator = Some(node),
            Answer::Lost => self.lose_coordinator(now_ms),
            _ if self.stage == Stage::Leaving => self.be_out(),
            Answer::Refused { code: ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable, .. } => {
                self.lose_coordinator(now_ms);
            }
            Answer::Refused { code: ErrorCode::CoordinatorLoadInProgress, .. } => self.back_off(now_ms),
            Answer::Refused { code, message, .. } if is_final(code) => self.be_refused(code, message),
            Answer::Refused { code, member_id, .. } => match self.settings.protocol {
                Protocol::Classic => self.classic_refused(code, member_id, now_ms),
                Protocol::Consumer => self.by_broker_refused(code, now_ms),
            },
            Answer::Joined { generation, member_id, protocol, leads, skips } => {
                self.joined(generation, member_id, &protocol, leads, skips, now_ms);
            }
            Answer::Synced(partitions) => self.synced(partitions, now_ms),
            Answer::Done => {}
            Answer::Beat { member_id, epoch, interval_ms, assignment } => {
                self.beat(member_id, epoch, interval_ms, assignment, now_ms);
            }
        }
        self.step(now_ms);
    }

    /// When time matters next.
    pub(crate) fn wake_at_ms(&self) -> Option<u64> {
        let is_idle = matches!(self.stage, Stage::Out | Stage::Asleep | Stage::Refused);
        let call = if is_idle || self.call.is_some() {
            None
        } else if self.wants_call() || self.coordinator.is_none() {
            Some(self.retry_at_ms)
        } else {
            self.beats().then(|| self.next_beat_ms.max(self.retry_at_ms))
        };
        let late = (!is_idle && self.stage != Stage::Leaving && !self.application.polls).then(|| self.late_at_ms());
        let look_up = self.look_up.at_ms.filter(|_| !self.look_up.under_way && self.stage != Stage::Refused);
        [call, late, look_up].into_iter().flatten().min()
    }

    /// Whether something other than a heartbeat is to be asked.
    fn wants_call(&self) -> bool {
        match self.stage {
            Stage::Leaving => true,
            Stage::Joining => self.giving_up.is_none() && self.topics.is_some(),
            Stage::In => match self.settings.protocol {
                Protocol::Classic => self.rejoin.is_some() && self.giving_up.is_none(),
                Protocol::Consumer => self.by_broker.must_tell(),
            },
            _ => false,
        }
    }

    /// Whether the coordinator expects heartbeats.
    fn beats(&self) -> bool {
        let is_in = matches!(self.stage, Stage::Planning | Stage::In);
        self.generation >= 0 && (is_in || self.giving_up.is_some())
    }

    fn late_at_ms(&self) -> u64 {
        self.application.last_poll_ms.saturating_add(self.settings.poll_interval_ms_max)
    }

    fn step(&mut self, now_ms: u64) {
        self.check_application(now_ms);
        if self.look_up.at_ms.is_some_and(|at_ms| at_ms <= now_ms) && !self.look_up.under_way {
            self.look_up.under_way = true;
            let all = matches!(self.wish, Some(Wish::Pattern(_)));
            let topics = (!all).then(|| self.topics_of_interest());
            self.effects.push_back(Effect::LookUp(topics));
        }
        let is_idle = matches!(self.stage, Stage::Out | Stage::Asleep | Stage::Refused);
        if is_idle || self.call.is_some() || now_ms < self.retry_at_ms {
            return;
        }
        if self.stage == Stage::Leaving && self.has_nothing_to_leave() {
            return self.be_out();
        }
        if self.coordinator.is_none() {
            return self.ask(Call::FindCoordinator);
        }
        match self.settings.protocol {
            Protocol::Classic => self.classic_step(now_ms),
            Protocol::Consumer => self.by_broker_step(now_ms),
        }
    }

    fn topics_of_interest(&self) -> Vec<Arc<str>> {
        let mut topics = self.topics.clone().unwrap_or_default();
        topics.extend(self.classic.group_topics().cloned());
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// A member whose application does not poll must not keep its partitions from the others.
    fn check_application(&mut self, now_ms: u64) {
        let is_in = matches!(self.stage, Stage::Joining | Stage::Planning | Stage::In);
        if !is_in || self.application.polls || now_ms < self.late_at_ms() {
            return;
        }
        self.effects.push_back(Effect::TellLate);
        self.lose_all();
        self.call = None;
        // Of a static member the session runs out: it may come back in time and keep its place.
        let says_so = self.settings.instance_id.is_none() || self.settings.protocol == Protocol::Consumer;
        if let Some(call) = self.farewell("the application did not poll in time").filter(|_| says_so) {
            let number = self.next_number();
            self.effects.push_back(Effect::Call(number, call));
        }
        self.forget_membership();
        self.stage = Stage::Asleep;
    }

    fn has_nothing_to_leave(&self) -> bool {
        self.farewell("").is_none()
    }

    /// What the coordinator is told at the end, if it knows the member.
    fn farewell(&self, reason: &'static str) -> Option<Call> {
        match self.settings.protocol {
            Protocol::Classic => self.classic_farewell(reason),
            Protocol::Consumer => self.by_broker_farewell(),
        }
    }

    fn forget_membership(&mut self) {
        self.generation = -1;
        self.classic = Classic::default();
        self.by_broker.forget();
        self.id = "".into();
    }

    fn be_out(&mut self) {
        self.forget_membership();
        self.stage = Stage::Out;
        self.rejoin = None;
        self.effects.push_back(Effect::Left);
    }

    fn be_refused(&mut self, code: ErrorCode, message: Option<Arc<str>>) {
        self.lose_all();
        self.forget_membership();
        self.stage = Stage::Refused;
        self.effects.push_back(Effect::Refuse(code, message));
    }

    /// Another member may own by now what this one had.
    fn lose_all(&mut self) {
        self.giving_up = None;
        let lost: Vec<_> = std::mem::take(&mut self.owned).into_iter().collect();
        if !lost.is_empty() {
            self.effects.push_back(Effect::Lose(lost));
        }
    }

    /// The application is to finish with these. False if there are none.
    fn give_up(&mut self, partitions: Vec<TopicPartition>) -> bool {
        if partitions.is_empty() {
            return false;
        }
        let number = self.next_number();
        self.giving_up = Some((number, partitions.clone()));
        self.effects.push_back(Effect::GiveUp(number, partitions));
        true
    }

    fn own(&mut self, partitions: Vec<TopicPartition>) {
        let new: Vec<_> = partitions.into_iter().filter(|partition| self.owned.insert(partition.clone())).collect();
        if !new.is_empty() {
            self.effects.push_back(Effect::Assign(new));
        }
    }

    fn ask(&mut self, call: Call) {
        let number = self.next_number();
        self.call = Some(number);
        self.effects.push_back(Effect::Call(number, call));
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn back_off(&mut self, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at_ms = now_ms + self.settings.retry.pause_ms(self.failures, now_ms);
    }

    fn lose_coordinator(&mut self, now_ms: u64) {
        self.coordinator = None;
        self.back_off(now_ms);
        if self.stage == Stage::In {
            self.by_broker.tell_all();
        }
    }
}

/// Whether trying again is of no use before something is changed.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::GroupAuthorizationFailed
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::InvalidGroupId
            | ErrorCode::InconsistentGroupProtocol
            | ErrorCode::InvalidSessionTimeout
            | ErrorCode::GroupMaxSizeReached
            | ErrorCode::FencedInstanceId
            | ErrorCode::UnreleasedInstanceId
            | ErrorCode::UnsupportedAssignor
            | ErrorCode::InvalidRegularExpression
            | ErrorCode::UnsupportedVersion
            | ErrorCode::GroupIdNotFound
            | ErrorCode::InvalidRequest
    )
}
