//! One shard behind its lock: inputs in, effects carried out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_coordinator::group::{
    Client, Effect, Event, EventKind, GroupConfig, Input, Record, Reply, Request, RequestId, Shard, Topics, WriteId,
};
use ottla_log::canary::{Canary, broken};
use ottla_wire::Offset;
use ottla_wire::record::{BatchBuilder, BuildError, Codec};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::AllGroups;
use crate::partition::{Partition, Refusal};

/// A shard that takes requests. Its task, [`keep`](super::keep), does what comes with time.
pub(super) struct LiveShard {
    /// The partition of `__consumer_offsets` whose groups it has.
    pub(super) partition: Arc<Partition>,
    state: Mutex<State>,
    /// Rung when the task has something else to wait for.
    bell: Notify,
}

/// What is under the lock.
pub(super) struct State {
    /// The groups.
    pub(super) shard: Shard,
    /// The topics that the shard knows.
    topics: Arc<Topics>,
    last_request: u64,
    waiting: HashMap<RequestId, oneshot::Sender<Reply>>,
    /// Writes that are not durable yet, each with the offset behind it.
    writes: VecDeque<(WriteId, Offset)>,
    wake_at_ms: Option<i64>,
    /// A write failed: the shard has to be loaded anew.
    failed: bool,
}

/// What the task waits for.
pub(super) struct Due {
    /// The watermark at which the first write is durable.
    pub(super) durable_at: Option<Offset>,
    /// The watermark at which all writes are.
    pub(super) all_durable_at: Option<Offset>,
    pub(super) wake_at_ms: Option<i64>,
    pub(super) failed: bool,
}

/// Why records were not appended.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl LiveShard {
    /// A shard that is being loaded.
    pub(super) fn new(partition: Arc<Partition>, config: &Arc<GroupConfig>, topics: &Arc<Topics>) -> Self {
        let state = State {
            shard: Shard::new(Arc::clone(config), Arc::clone(topics)),
            topics: Arc::clone(topics),
            last_request: 0,
            waiting: HashMap::new(),
            writes: VecDeque::new(),
            wake_at_ms: None,
            failed: false,
        };
        Self { partition, state: Mutex::new(state), bell: Notify::new() }
    }

    /// Takes a request. The answer goes to `answered`, now or later.
    pub(super) fn request(
        &self,
        groups: &AllGroups,
        topics: &Arc<Topics>,
        version: i16,
        client: Client<'_>,
        request: Request<'_>,
        answered: oneshot::Sender<Reply>,
    ) {
        let mut state = self.current(groups, topics);
        state.last_request += 1;
        let id = RequestId(state.last_request);
        state.waiting.insert(id, answered);
        state.step(self, groups, Input::Request { id, version, client, request });
    }

    /// The shard, once it knows these topics.
    pub(super) fn current(&self, groups: &AllGroups, topics: &Arc<Topics>) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if !Arc::ptr_eq(&state.topics, topics) {
            let before = std::mem::replace(&mut state.topics, Arc::clone(topics));
            let gone = before.iter().filter(|topic| topics.with_id(topic.id).is_none());
            let deleted = gone.map(|topic| Arc::clone(&topic.name)).collect();
            state.step(self, groups, Input::Topics { topics: Arc::clone(topics), deleted });
        }
        state
    }

    /// Puts a shard in place that was loaded while these were the topics. It serves from now on.
    pub(super) fn open(&self, groups: &AllGroups, mut shard: Shard, topics: Arc<Topics>) {
        let mut state = self.state();
        // They may have changed while it was loaded.
        shard.configure(groups.config());
        let effects = shard.loaded(groups.clock.now_ms());
        *state = State {
            shard,
            topics,
            last_request: state.last_request,
            waiting: HashMap::new(),
            writes: VecDeque::new(),
            wake_at_ms: None,
            failed: false,
        };
        state.carry_out(self, groups, effects);
    }

    /// Takes other settings.
    pub(super) fn configure(&self, config: Arc<GroupConfig>) {
        self.state().shard.configure(config);
    }

    /// Says what became durable and what is due.
    pub(super) fn advance(&self, groups: &AllGroups, topics: &Arc<Topics>) {
        let mut state = self.current(groups, topics);
        let high = self.partition.watermark.high();
        let mut durable = None;
        while let Some((write, _)) = state.writes.pop_front_if(|(_, end)| *end <= high) {
            durable = Some(write);
        }
        if let Some(write) = durable {
            state.step(self, groups, Input::Durable(write));
        }
        if state.wake_at_ms.is_some_and(|at_ms| at_ms <= groups.clock.now_ms()) {
            state.wake_at_ms = None;
            state.step(self, groups, Input::Wake);
        }
    }

    /// Ends the shard: all that waits is answered, and all that comes refused.
    pub(super) fn fail(&self, groups: &AllGroups) {
        let mut state = self.state();
        if !state.failed {
            state.failed = true;
            state.give_up(self, groups);
        }
    }

    /// What the task has to wait for.
    pub(super) fn due(&self) -> Due {
        let state = self.state();
        Due {
            durable_at: state.writes.front().map(|(_, end)| *end),
            all_durable_at: state.writes.back().map(|(_, end)| *end),
            wake_at_ms: state.wake_at_ms,
            failed: state.failed,
        }
    }

    /// Has the task look at what it waits for.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits for [`ring`](Self::ring).
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Appends records as one batch; the offset behind it.
    fn append(&self, now_ms: i64, records: &[Record]) -> Result<Offset, WriteError> {
        let mut builder = BatchBuilder::new(Codec::None);
        for Record { key, value } in records {
            builder.append(now_ms, Some(key), value.as_deref(), std::iter::empty())?;
        }
        let mut batch = Vec::new();
        builder.finish(&mut batch)?;
        Ok(self.partition.append_own(&mut batch)?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn step(&mut self, live: &LiveShard, groups: &AllGroups, input: Input<'_>) {
        let effects = self.shard.step(groups.clock.now_ms(), input);
        self.carry_out(live, groups, effects);
    }

    fn carry_out(&mut self, live: &LiveShard, groups: &AllGroups, effects: Vec<Effect>) {
        let (was_failed, waited_for) = (self.failed, (self.writes.is_empty(), self.wake_at_ms));
        for effect in effects {
            match effect {
                // One that follows a failed one would be read without it.
                Effect::Append { .. } if self.failed => {}
                Effect::Append { write, records } => match live.append(groups.clock.now_ms(), &records) {
                    Ok(end) => {
                        let end = if broken(Canary::AnswerCommitsEarly) { Offset(0) } else { end };
                        self.writes.push_back((write, end));
                    }
                    Err(error) => {
                        tracing::error!(partition = ?live.partition, "groups cannot be written down: {error}");
                        self.failed = true;
                    }
                },
                Effect::Reply { request, reply } => {
                    if let Some(answered) = self.waiting.remove(&request) {
                        // Its connection may have ended.
                        let _ = answered.send(reply);
                    }
                }
                Effect::WakeAt { at_ms } => self.wake_at_ms = Some(at_ms),
                Effect::Event(event) => {
                    if event.kind == EventKind::Rebalance {
                        groups.rebalances.fetch_add(1, Ordering::Relaxed);
                    }
                    tell(&event);
                }
            }
        }
        if self.failed && !was_failed {
            self.give_up(live, groups);
        } else if waited_for != (self.writes.is_empty(), self.wake_at_ms) {
            live.ring();
        }
    }

    fn give_up(&mut self, live: &LiveShard, groups: &AllGroups) {
        self.writes.clear();
        self.wake_at_ms = None;
        self.step(live, groups, Input::Failed);
        live.ring();
    }
}

fn tell(event: &Event) {
    let Event { group, kind, reason } = event;
    match kind {
        EventKind::Rebalance => tracing::info!(%group, "rebalances: {reason}"),
        EventKind::Generation(generation) => tracing::info!(%group, generation, "new generation: {reason}"),
        EventKind::MemberRemoved => tracing::info!(%group, "a member was removed: {reason}"),
        EventKind::Upgraded => tracing::info!(%group, "speaks the consumer protocol now: {reason}"),
        EventKind::Downgraded => tracing::info!(%group, "speaks the classic protocol now: {reason}"),
        EventKind::OffsetsExpired(offsets) => tracing::info!(%group, offsets, "offsets expired: {reason}"),
    }
}
