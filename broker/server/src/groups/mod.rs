//! Consumer groups: the driver of [`ottla_coordinator::group`] over the partitions of `__consumer_offsets`.
//!
//! 1. this file: from a request to the shard of its group
//! 2. `view`: topics and shards at one time, made anew when a topic is created, deleted or grows
//! 3. `shard`: one shard behind its lock: inputs in, effects carried out
//! 4. `keep`: the task of a shard: loads it, says what became durable, wakes it, ends it
//! 5. `load`: a shard from the records of its partition
//! 6. `offsets_topic`: `__consumer_offsets`
//!
//! Promises: nothing is answered before it is durable; no thread waits for the disk while a request does; one shard that
//! loads, fails or waits holds up no other; a request is answered once, when the broker stops too.

mod keep;
mod load;
mod offsets_topic;
mod shard;
mod view;

pub(crate) use offsets_topic::NAME as OFFSETS_TOPIC;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ottla_coordinator::group::{Client, Effect, GroupConfig, Input, Reply, Request, RequestId, Shard};
use ottla_front::{Pool, ShutdownWatch};
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::Config;
use crate::live::InForce;
use crate::topics::{TopicChangeError, TopicTable};
use shard::{LiveShard, State};
use view::{View, Views};

/// Topics are created in bursts: how long a change waits for others before idle shards hear of it.
const TOPICS_SETTLE: Duration = Duration::from_millis(100);

/// The groups of the broker.
pub struct Groups(Arc<AllGroups>);

/// What the tasks of all shards need.
struct AllGroups {
    config: RwLock<Arc<GroupConfig>>,
    /// Most bytes that the records of one batch may unpack to when a shard is loaded.
    unpacked_bytes_max: usize,
    /// How long a stop waits for writes that are not durable yet.
    stop_patience: Duration,
    topics: Arc<TopicTable>,
    views: Views,
    clock: Clock,
    stop: ShutdownWatch,
    loads: Arc<Pool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Where the tasks run. A thread of a pool may be the first to see that there are shards.
    runtime: OnceLock<Handle>,
    /// Rebalances since the start.
    rebalances: AtomicU64,
}

/// What is known about all groups, for the metrics. Groups that are being loaded are left out.
#[derive(Debug, Default)]
pub struct GroupCounts {
    /// Groups by type and state.
    pub states: BTreeMap<(String, String), u64>,
    /// Shards that do not serve: they are being loaded, or their log directory is offline.
    pub shards_unavailable: usize,
    /// Offsets that are committed.
    pub offsets: usize,
    /// How far each group is behind on each partition.
    pub lags: Vec<GroupLag>,
    /// Rebalances since the start.
    pub rebalances: u64,
}

/// How far a group is behind on a partition.
#[derive(Debug)]
pub struct GroupLag {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Offsets between what it committed and the high watermark.
    pub offsets: i64,
}

/// Why a request got no answer: the broker stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the group coordinator stopped")]
pub struct Stopped;

impl Groups {
    /// The groups of a broker with these settings and topics. Nothing is read before [`begin`](Self::begin).
    pub fn new(settings: &InForce, topics: Arc<TopicTable>, loads: Arc<Pool>, stop: ShutdownWatch) -> Self {
        let config = &settings.config;
        Self(Arc::new(AllGroups {
            config: RwLock::new(Arc::new(settings.group_config())),
            unpacked_bytes_max: config.stage_unpacked_bytes_max,
            stop_patience: Duration::from_millis(config.shutdown_grace_ms),
            topics,
            views: Views::default(),
            clock: Clock::start(),
            stop,
            loads,
            tasks: Mutex::default(),
            runtime: OnceLock::new(),
            rebalances: AtomicU64::new(0),
        }))
    }

    /// Loads the groups there are, in the background, and follows the topics. Needs a tokio runtime.
    pub fn begin(&self) {
        let groups = Arc::clone(&self.0);
        let following = self.0.runtime.get_or_init(Handle::current).spawn(async move { groups.follow_topics().await });
        self.0.tasks().push(following);
    }

    /// Waits until all tasks have ended, which they do when the broker stops.
    pub async fn ended(&self) {
        loop {
            let Some(task) = self.0.tasks().pop() else { return };
            if let Err(error) = task.await {
                tracing::error!("a task of the group coordinator failed: {error}");
            }
        }
    }

    /// Takes other settings: they hold for every group from its next request on.
    pub fn configure(&self, settings: &InForce) {
        let config = Arc::new(settings.group_config());
        *self.0.config.write() = Arc::clone(&config);
        for shard in &self.0.view().shards {
            shard.configure(Arc::clone(&config));
        }
    }

    /// Whether `__consumer_offsets` exists.
    pub fn has_topic(&self) -> bool {
        self.0.topics.get(offsets_topic::NAME).is_some()
    }

    /// Creates `__consumer_offsets` if it does not exist. Blocks on the disk.
    pub fn create_topic(&self, config: &Config) -> Result<(), TopicChangeError> {
        offsets_topic::create(config, &self.0.topics)
    }

    /// Hands a request to the shard of its group. The answer comes once all that it says is durable, or, of JoinGroup and
    /// SyncGroup, when the group has come together.
    pub fn submit(
        &self,
        group_id: &str,
        version: i16,
        client: Client<'_>,
        request: Request<'_>,
    ) -> impl Future<Output = Result<Reply, Stopped>> + Send + use<> {
        let view = self.0.view();
        let (answered, answer) = oneshot::channel();
        if let Some(shard) = view.shard_of(group_id) {
            shard.request(&self.0, &view.topics, version, client, request, answered);
        } else {
            let input = Input::Request { id: RequestId(0), version, client, request };
            let effects = self.0.nowhere(&view).step(self.0.clock.now_ms(), input);
            let reply = effects.into_iter().find_map(|effect| match effect {
                Effect::Reply { reply, .. } => Some(reply),
                _ => None,
            });
            if let Some(reply) = reply {
                // The connection may be gone.
                let _ = answered.send(reply);
            }
        }
        async { answer.await.map_err(|_| Stopped) }
    }

    /// Why a group has no coordinator, where the log directory of its shard is offline.
    pub fn offline_reason(&self, group_id: &str) -> Option<String> {
        let view = self.0.view();
        view.shard_of(group_id).and_then(|shard| shard.partition.log.offline_reason())
    }

    /// Splits the ids of groups by shard. While there is no `__consumer_offsets` they are one part.
    pub fn parts<'a>(&self, group_ids: &[&'a str]) -> Vec<Vec<&'a str>> {
        let view = self.0.view();
        let mut parts: BTreeMap<Option<usize>, Vec<&'a str>> = BTreeMap::new();
        for group_id in group_ids {
            parts.entry(view.index_of(group_id)).or_default().push(group_id);
        }
        parts.into_values().collect()
    }

    /// Reads the shards of these groups, which hold still meanwhile: one shard for each id, in turn.
    pub fn read<R>(&self, group_ids: &[&str], read: impl FnOnce(&[&Shard]) -> R) -> R {
        let view = self.0.view();
        let indexes: Option<Vec<usize>> = group_ids.iter().map(|group_id| view.index_of(group_id)).collect();
        let Some(indexes) = indexes else {
            let nowhere = self.0.nowhere(&view);
            return read(&vec![&nowhere; group_ids.len()]);
        };
        let mut locked: Vec<(usize, MutexGuard<'_, State>)> = Vec::new();
        let mut wanted = indexes.clone();
        // Always in the same order: two readers must not wait for each other.
        wanted.sort_unstable();
        wanted.dedup();
        for index in wanted {
            locked.extend(view.shards.get(index).map(|shard| (index, shard.current(&self.0, &view.topics))));
        }
        let shard = |index: &usize| locked.iter().find(|(at, _)| at == index).map(|(_, state)| &state.shard);
        let shards: Vec<&Shard> = indexes.iter().filter_map(shard).collect();
        read(&shards)
    }

    /// Reads all shards, which hold still meanwhile.
    pub fn read_all<R>(&self, read: impl FnOnce(&[&Shard]) -> R) -> R {
        let view = self.0.view();
        let locked: Vec<_> = view.shards.iter().map(|shard| shard.current(&self.0, &view.topics)).collect();
        let shards: Vec<&Shard> = locked.iter().map(|state| &state.shard).collect();
        read(&shards)
    }
}

impl Groups {
    /// Counts groups, and says how far they are behind, for `lags_max` partitions at most.
    pub fn counts(&self, lags_max: usize) -> GroupCounts {
        let rebalances = self.0.rebalances.load(Ordering::Relaxed);
        let mut counts = GroupCounts { rebalances, ..GroupCounts::default() };
        self.read_all(|shards| {
            for shard in shards {
                if shard.unavailable().is_some() {
                    counts.shards_unavailable += 1;
                    continue;
                }
                for group in shard.list(&[], &[]) {
                    let key = (group.group_type.to_lowercase(), group.group_state.to_string());
                    *counts.states.entry(key).or_default() += 1;
                }
                for (group, topic, index, committed) in shard.offsets() {
                    counts.offsets += 1;
                    let topic = self.0.topics.get(topic).filter(|_| counts.lags.len() < lags_max);
                    if let Some((topic, partition)) =
                        topic.as_ref().and_then(|topic| Some((topic, topic.partition(index)?)))
                    {
                        let offsets = partition.watermark.high().get().saturating_sub(committed).max(0);
                        let (group, topic) = (group.to_owned(), Arc::clone(&topic.name));
                        counts.lags.push(GroupLag { group, topic, partition: index, offsets });
                    }
                }
            }
        });
        counts
    }
}

impl AllGroups {
    /// Topics and shards as they are now. Where `__consumer_offsets` is new, its shards begin to load.
    fn view(self: &Arc<Self>) -> Arc<View> {
        let (view, new) = self.views.current(&self.topics, &self.config());
        for shard in &new {
            self.keep(shard);
        }
        view
    }

    fn keep(self: &Arc<Self>, shard: &Arc<LiveShard>) {
        if self.stop.has_begun() {
            return;
        }
        let (groups, live) = (Arc::clone(self), Arc::clone(shard));
        let Some(runtime) = self.runtime.get() else {
            tracing::error!("a shard of groups was found before the coordinator began, so it is not loaded");
            return;
        };
        let keeping = runtime.spawn(async move { keep::keep(&groups, &live).await });
        self.tasks().push(keeping);
    }

    /// Tells idle shards of topics that come and go.
    async fn follow_topics(self: Arc<Self>) {
        let (mut changes, mut stop) = (self.topics.changes(), self.stop.clone());
        loop {
            self.view().shards.iter().for_each(|shard| shard.ring());
            tokio::select! {
                told = changes.changed() => if told.is_err() { return },
                () = stop.begun() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(TOPICS_SETTLE) => {}
                () = stop.begun() => return,
            }
        }
    }

    /// A shard that refuses everything: what groups have while there is no `__consumer_offsets`. Clients look for their
    /// coordinator again, and with that it is created.
    fn nowhere(&self, view: &View) -> Shard {
        let mut shard = Shard::new(self.config(), Arc::clone(&view.topics));
        shard.step(self.clock.now_ms(), Input::Failed);
        shard
    }

    /// The settings of groups that hold now.
    fn config(&self) -> Arc<GroupConfig> {
        Arc::clone(&self.config.read())
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock()
    }
}

/// Milliseconds since 1970 that never go back while the process lives, even if the wall clock does.
#[derive(Debug)]
struct Clock {
    started_ms: i64,
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { started_ms: clock::now_ms(), started: Instant::now() }
    }

    fn now_ms(&self) -> i64 {
        self.started_ms.saturating_add(i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
    /// Waits until it is so late; for ever where there is no time to wait for.
    async fn reaches(&self, at_ms: Option<i64>) {
        match at_ms {
            Some(at_ms) => {
                let rest_ms = u64::try_from(at_ms.saturating_sub(self.now_ms())).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(rest_ms)).await;
            }
            None => std::future::pending().await,
        }
    }
}
