//! The task of a membership: it asks the coordinator what the [`Member`] wants asked, moves partitions as it says, and tells
//! the application.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ottla_wire::{ErrorCode, Message};
use tokio::sync::oneshot;

use super::assignment::{ConsumerState, Which};
use super::commits;
use super::group::{Group, Inbox, Input, News, Standing, Start, Told};
use super::{StartFrom, TopicPartition};
use crate::config::OffsetReset;
use crate::core::backoff::Backoff;
use crate::core::member::messages::{self, Card};
use crate::core::member::{Answer, Call, Effect, Member, Seen, Settings};
use crate::core::metadata::Metadata;
use crate::error::{ConnectionError, ConsumeError};
use crate::net::{Answer as Reply, Coordinator, Topics};

/// The connection of the member: a JoinGroup waits on it for as long as the slowest member takes.
const CHANNEL: u8 = 255;
/// Beyond the rebalance timeout, for the way there and back.
const JOIN_GRACE: Duration = Duration::from_secs(5);

struct Task {
    shared: Arc<ConsumerState>,
    group: Arc<Group>,
    card: Arc<Card>,
    member: Member,
    /// Partitions that are assigned, and whose start is not known yet: under which number.
    starting: HashMap<TopicPartition, u64>,
    last_number: u64,
    leavers: Vec<oneshot::Sender<()>>,
    next_commit_ms: u64,
}

/// Runs until the consumer is closed.
pub(super) async fn run(shared: Arc<ConsumerState>, group: Arc<Group>, mut inbox: Inbox) {
    let config = &group.config;
    let settings = Settings {
        protocol: config.protocol,
        assignors: config.assignors.clone(),
        instance_id: config.instance_id.as_deref().map(Arc::from),
        heartbeat_interval_ms: config.heartbeat_interval_ms,
        poll_interval_ms_max: config.poll_interval_ms_max,
        metadata_age_ms_max: shared.config.client.metadata_age_ms_max,
        retry: shared.backoff(),
    };
    let mut task = Task {
        member: Member::new(settings, uuid::Uuid::new_v4().to_string().into()),
        card: Arc::new(group.card()),
        starting: HashMap::new(),
        last_number: 0,
        leavers: Vec::new(),
        next_commit_ms: config.auto_commit_interval_ms,
        shared,
        group,
    };
    loop {
        let (polls, last_poll_ms) =
            (task.group.polls.load(Ordering::Acquire) > 0, task.group.last_poll_ms.load(Ordering::Acquire));
        task.member.observe(polls, last_poll_ms, task.shared.now_ms());
        task.carry_out();
        task.commit_from_time_to_time();
        let pause = Duration::from_millis(task.wake_at_ms().saturating_sub(task.shared.now_ms()).max(1));
        tokio::select! {
            input = inbox.0.recv() => match input {
                Some(Input::Close) | None => return,
                Some(input) => task.take_in(input),
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Task {
    fn wake_at_ms(&self) -> u64 {
        // A day is for ever.
        let idle = self.shared.now_ms() + 86_400_000;
        let commit = if self.group.config.auto_commit { self.next_commit_ms } else { idle };
        self.member.wake_at_ms().unwrap_or(idle).min(commit)
    }

    fn take_in(&mut self, input: Input) {
        let now_ms = self.shared.now_ms();
        match input {
            Input::Subscribe(wish) => self.member.subscribe(wish, now_ms),
            Input::Leave(tell) => {
                self.leavers.push(tell);
                *self.group.news() = Told::default();
                self.drop_partitions(&self.shared.assignment());
                self.member.leave(now_ms);
            }
            Input::Polled | Input::Close => {}
            Input::Commit => self.spawn_commit(Which::Polled),
            Input::Answered(number, answer) => self.member.answered(number, answer, now_ms),
            Input::LookedUp(seen) => self.member.looked_up(seen.as_deref(), now_ms),
            Input::Finish(number) => self.finish(number),
            Input::Finished(number) => self.member.finished(number, now_ms),
            Input::Starts(number, starts) => self.start(number, starts),
        }
    }

    /// Effects lead to others where nothing has to be waited for.
    fn carry_out(&mut self) {
        loop {
            let effects = self.member.take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out_one(effect);
            }
        }
        let mut standing = self.group.standing.lock().unwrap_or_else(PoisonError::into_inner);
        *standing = Standing { identity: self.member.identity(), coordinator: self.member.coordinator() };
        drop(standing);
        self.group.asleep.store(self.member.is_asleep(), Ordering::Release);
        // A poll that began in between has not seen that.
        if self.member.is_asleep() && self.group.polls.load(Ordering::Acquire) > 0 {
            self.group.tell(Input::Polled);
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        let group = Arc::clone(&self.group.id);
        match effect {
            Effect::Call(number, call) => self.call(number, call),
            Effect::LookUp(topics) => self.look_up(topics),
            Effect::GiveUp(number, partitions) => self.give_up(number, &partitions),
            Effect::Lose(partitions) => {
                tracing::warn!(%group, partitions = partitions.len(), "partitions went to other members");
                self.group.news().waiting.retain(|news| !matches!(news, News::Revoked(..)));
                let told: Vec<_> = partitions.iter().filter(|it| !self.starting.contains_key(it)).cloned().collect();
                self.drop_partitions(&partitions);
                if !told.is_empty() {
                    self.show(News::Lost(told));
                }
            }
            Effect::Assign(partitions) => self.assign(partitions),
            Effect::TellLate => {
                let interval_ms = self.group.config.poll_interval_ms_max;
                self.show(News::Failed(ConsumeError::PolledTooLate { group, interval_ms }));
            }
            Effect::Refuse(code, message) => {
                self.show(News::Failed(ConsumeError::GroupRefused { group, code, message }));
            }
            Effect::Left => self.leavers.drain(..).for_each(|leaver| {
                // The one who asked may have given up waiting.
                let _ = leaver.send(());
            }),
        }
    }

    fn show(&self, news: News) {
        if let News::Failed(error) = &news {
            tracing::warn!("{error}");
        }
        self.group.news().waiting.push_back(news);
        self.shared.arrival.notify_waiters();
    }

    fn give_up(&mut self, number: u64, partitions: &[TopicPartition]) {
        let told: Vec<_> = partitions.iter().filter(|it| self.starting.remove(it).is_none()).cloned().collect();
        if told.is_empty() {
            return self.member.finished(number, self.shared.now_ms());
        }
        for TopicPartition { topic, partition } in &told {
            // One that was unassigned by hand is gone already.
            let _ = self.shared.with_cursor(topic, *partition, |cursor| cursor.is_going = true);
        }
        self.shared.recount();
        self.show(News::Revoked(number, told));
    }

    /// The application has seen what it gives up, and polls again.
    fn finish(&self, number: u64) {
        let (shared, group) = (Arc::clone(&self.shared), Arc::clone(&self.group));
        self.shared.cluster.runtime().spawn(async move {
            if group.config.auto_commit {
                let offsets = shared.offsets_to_commit(Which::Going);
                let timeout = shared.cluster.request_timeout();
                if let Err(error) = commits::commit(&shared, &group, offsets, timeout).await {
                    tracing::warn!(group = %group.id, "before a rebalance: {error}");
                }
            }
            let going: Vec<_> = shared.assignment_that(|cursor| cursor.is_going);
            for it in &going {
                shared.unassign(&it.topic, it.partition);
            }
            group.tell(Input::Finished(number));
        });
    }

    fn drop_partitions(&mut self, partitions: &[TopicPartition]) {
        for it in partitions {
            self.starting.remove(it);
            self.shared.unassign(&it.topic, it.partition);
        }
    }

    fn assign(&mut self, partitions: Vec<TopicPartition>) {
        self.last_number += 1;
        let number = self.last_number;
        self.starting.extend(partitions.iter().map(|it| (it.clone(), number)));
        let (shared, group) = (Arc::clone(&self.shared), Arc::clone(&self.group));
        self.shared.cluster.runtime().spawn(async move {
            let starts = find_starts(&shared, &group, &partitions).await;
            group.tell(Input::Starts(number, starts));
        });
    }

    fn start(&mut self, number: u64, starts: Vec<(TopicPartition, Start)>) {
        let fits = |(it, _): &(TopicPartition, Start)| self.starting.get(it) == Some(&number) && self.member.owns(it);
        let starts: Vec<_> = starts.into_iter().filter(fits).collect();
        if starts.is_empty() {
            return;
        }
        let partitions = starts.iter().map(|(it, _)| it.clone()).collect();
        for (it, _) in &starts {
            self.starting.remove(it);
        }
        self.shared.assign_from_group(starts);
        self.show(News::Assigned(partitions));
    }

    fn commit_from_time_to_time(&mut self) {
        let now_ms = self.shared.now_ms();
        if self.group.config.auto_commit && now_ms >= self.next_commit_ms {
            self.next_commit_ms = now_ms + self.group.config.auto_commit_interval_ms;
            if self.group.is_subscribed() {
                self.spawn_commit(Which::Done);
            }
        }
    }

    fn spawn_commit(&self, which: Which) {
        let offsets = self.shared.offsets_to_commit(which);
        if offsets.is_empty() {
            return;
        }
        let (shared, group) = (Arc::clone(&self.shared), Arc::clone(&self.group));
        self.shared.cluster.runtime().spawn(async move {
            let timeout = shared.cluster.request_timeout();
            if let Err(error) = commits::commit(&shared, &group, offsets, timeout).await {
                tracing::warn!(group = %group.id, "{error}");
            }
        });
    }

    fn look_up(&self, topics: Option<Vec<Arc<str>>>) {
        let (shared, group) = (Arc::clone(&self.shared), Arc::clone(&self.group));
        self.shared.cluster.runtime().spawn(async move {
            let which = topics.as_deref().map_or(Topics::All, Topics::Named);
            let seen = match shared.cluster.refresh(which, false).await {
                Ok(metadata) => Some(seen(&metadata, topics.as_deref())),
                Err(error) => {
                    tracing::debug!("{error}");
                    None
                }
            };
            group.tell(Input::LookedUp(seen));
        });
    }

    fn call(&self, number: u64, call: Call) {
        let (shared, group, card) = (Arc::clone(&self.shared), Arc::clone(&self.group), Arc::clone(&self.card));
        let coordinator = self.member.coordinator();
        self.shared.cluster.runtime().spawn(async move {
            let answer = match ask(&shared, &group, &card, coordinator, call).await {
                Ok(answer) => answer,
                Err(ConnectionError::Unsupported { .. }) => messages::refused(ErrorCode::UnsupportedVersion),
                Err(error) => {
                    tracing::debug!(group = %group.id, "{error}");
                    Answer::Lost
                }
            };
            group.tell(Input::Answered(number, answer));
        });
    }
}

async fn ask(
    shared: &ConsumerState,
    group: &Group,
    card: &Card,
    coordinator: Option<i32>,
    call: Call,
) -> Result<Answer, ConnectionError> {
    let usual = shared.cluster.request_timeout();
    let to = Way { shared, node: coordinator.unwrap_or(-1) };
    Ok(match call {
        Call::FindCoordinator => match shared.cluster.find_coordinator(&group.id).await? {
            Coordinator::Node(node) => Answer::Coordinator(node),
            Coordinator::Refused(code, message) => Answer::Refused { code, message, member_id: None },
        },
        Call::Join { member_id, protocols, reason } => {
            let patience = usual.max(Duration::from_millis(group.config.poll_interval_ms_max) + JOIN_GRACE);
            let reply = to.ask(&card.join(&member_id, &protocols, reason), patience).await?;
            messages::read_join(&reply.decode()?, &group.config.assignors)
        }
        Call::Sync { generation, member_id, protocol, shares } => {
            let patience = usual.max(Duration::from_millis(group.config.poll_interval_ms_max) + JOIN_GRACE);
            let reply = to.ask(&card.sync(generation, &member_id, &protocol, &shares), patience).await?;
            messages::read_sync(&reply.decode()?)
        }
        Call::Heartbeat { generation, member_id } => {
            let patience = usual.min(Duration::from_millis(group.config.session_timeout_ms));
            messages::read_heartbeat(&to.ask(&card.heartbeat(generation, &member_id), patience).await?.decode()?)
        }
        Call::Leave { member_id, reason } => {
            messages::read_leave(&to.ask(&card.leave(&member_id, reason), usual).await?.decode()?)
        }
        Call::Beat(beat) => messages::read_beat(&to.ask(&card.beat(&beat), usual).await?.decode()?),
    })
}

/// The connection to the coordinator.
struct Way<'a> {
    shared: &'a ConsumerState,
    node: i32,
}

impl Way<'_> {
    async fn ask<'a, M: Message<'a>>(&self, message: &M, patience: Duration) -> Result<Reply, ConnectionError> {
        let connection = self.shared.cluster.broker(self.node, CHANNEL).await?;
        connection.ask(message, i16::MAX, patience).await
    }
}

/// What the metadata says of these topics, or of all.
fn seen(metadata: &Metadata, topics: Option<&[Arc<str>]>) -> Vec<Seen> {
    let wanted = |name: &&Arc<str>| topics.is_none_or(|topics| topics.contains(*name));
    let names = metadata.topics.keys().filter(wanted);
    names
        .filter_map(|name| {
            let topic = metadata.topics.get(name)?;
            let partitions = topic.partitions.len() as i32;
            Some(Seen { name: Arc::clone(name), id: topic.id, partitions, internal: topic.internal })
        })
        .collect()
}

/// Where to begin: where the group is, or by the rule.
async fn find_starts(
    shared: &ConsumerState,
    group: &Group,
    partitions: &[TopicPartition],
) -> Vec<(TopicPartition, Start)> {
    let backoff = Backoff::new(shared.config.client.retry_backoff_ms, shared.config.client.retry_backoff_ms_max);
    let mut failures = 0;
    let committed = loop {
        match commits::committed(shared, group, partitions, shared.cluster.request_timeout()).await {
            Ok(committed) => break committed,
            Err(error @ ConsumeError::CommittedRefused { code, .. })
                if !code.is_retriable() && !commits::passes(code) && !commits::is_outdated(code) =>
            {
                return partitions.iter().map(|it| (it.clone(), Start::Failed(error.clone()))).collect();
            }
            Err(_) if shared.closed.load(Ordering::Acquire) => return Vec::new(),
            Err(error) => {
                failures += 1;
                tracing::debug!("{error}; trying on");
                tokio::time::sleep(Duration::from_millis(backoff.pause_ms(failures, u64::from(failures)))).await;
            }
        }
    };
    let rule = group.config.start.or(match shared.config.offset_reset {
        OffsetReset::Earliest => Some(StartFrom::Earliest),
        OffsetReset::Latest => Some(StartFrom::Latest),
        OffsetReset::Fail => None,
    });
    let start = |it: &TopicPartition| match (committed.get(it), rule) {
        (Some(offset), _) => Start::Committed(*offset),
        (None, Some(rule)) => Start::From(rule),
        (None, None) => {
            let (topic, partition) = (Arc::clone(&it.topic), it.partition);
            Start::Failed(ConsumeError::NoCommittedOffset { group: Arc::clone(&group.id), topic, partition })
        }
    };
    partitions.iter().map(|it| (it.clone(), start(it))).collect()
}
