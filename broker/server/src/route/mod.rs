//! Records that leave the partition they were addressed to, and the order of those that stay behind them.
//!
//! The way of a batch on a topic with a partitioner plugin:
//!
//! 1. [`lane`](crate::partition): it queues up behind earlier batches for the same partition; [`workers`] take it out, one at a time.
//! 2. The sequence check, then the plugin ([`ottla_stage`]). If it stays and nothing is before it, it is appended.
//! 3. [`order`]: otherwise it gets its place in the one order of everything that waits.
//! 4. [`writer`]: one thread gives the new batches of idempotent producers their sequence on each target, writes the
//!    [`entry`] into the journal and syncs it, for as many batches as have come together.
//! 5. [`apply`]: one thread appends them to their targets in that order and tells where they went.
//! 6. [`checkpoint`]: from time to time the producers are written down and the journal is cut.
//! 7. [`recover`]: a start finds the producers again and finishes what the journal holds, before the broker
//!    serves clients.
//!
//! Promises, for idempotent producers: after any failure in between, each record of an acknowledged batch is in exactly
//! one partition, once; a batch that comes again is answered from what is known, and no plugin sees it twice. For
//! others: the order per addressed partition, and nothing across a crash.
//!
//! Once a batch is in the order it does not fail, except with its topic, a log directory or the broker: a full disk
//! makes everything behind it wait. Failing it would be a lie, since the next start would carry it out.
//!
//! The journal is in the first log directory. A part whose own directory fails is passed over: its batch is answered with
//! an error, and the journal keeps the entry for the next start. A topic whose entries cannot be carried out at a start,
//! because a directory is missing or the disk is full, is *held*: it is read as ever, but takes no batches until they are.

pub mod entry;

#[cfg(test)]
mod abroad_tests;
mod apply;
mod checkpoint;
mod held;
#[cfg(test)]
mod images;
mod order;
mod recover;
mod staging;
mod workers;
mod writer;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ottla_front::{Charge, Memory, Pool, Use};
use ottla_log::canary::{Canary, broken};
use ottla_log::{JOURNAL_ENTRY_BYTES_MAX, Journal, JournalEntry, JournalOpenError};
use ottla_stage::{Address, Staged, SubBatch};
use ottla_wire::record::{BatchHeader, Codec};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::config::topic::PartitionerMode;
use crate::config::{Config, TopicSettings};
use crate::log_dirs::LogDirs;
use crate::partition::lane::Job;
use crate::partition::place::ticket;
use crate::partition::{Admission, Claim, Landed, Partition, Place, Refusal, Unplaced};
use crate::plugins::{Binding, BoundPlugin, PluginRegistry, RegistryError};
use crate::topics::{Topic, TopicTable};

pub use recover::RouteReport;

use held::Held;
use order::{Item, ItemRecords, Order, OrderClosed};
use workers::Workers;

/// The folder of the journal in the first log directory.
pub const JOURNAL_NAME: &str = "route";
/// Batches that one worker takes from a lane before others get their turn.
const BATCHES_PER_TURN: usize = 16;
/// Time after which it takes no further one.
const LANE_TURN: Duration = Duration::from_millis(20);
/// From how many bytes on a batch waits in the receive buffer it came in: half of such a buffer.
const OWN_BUFFER_BYTES_MIN: usize = 128 << 10;
/// Most bytes of batches that are appended to one partition together.
const JOINED_BYTES_MAX: usize = 4 << 20;
/// Groups between the journal and the append: while one is appended the next can be synced.
const GROUPS_AHEAD: usize = 1;
/// How long a stop waits for batches that are in a plugin.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Bounds of the route.
#[derive(Debug, Clone, Copy)]
pub struct RouteOptions {
    /// Most bytes that the records of one batch may unpack to.
    pub unpacked_bytes_max: usize,
    /// Most bytes of batches behind the stage, over all topics.
    pub order_bytes_max: usize,
    /// Most bytes of batches before the stage, over all topics; beyond that producers are told to try again.
    pub lane_bytes_max: usize,
    /// Lanes of one topic that are worked on at the same time.
    pub workers_per_topic_max: usize,
    /// Time between two looks at what has to be written down.
    pub checkpoint_interval: Duration,
    /// Bytes in the journal after which it is cut without waiting for that time. A start may have to read twice as much.
    pub journal_bytes_max: u64,
    /// Bytes appended to a partition after which its producers are written down: a start may have to read the headers
    /// of as much of each partition.
    pub unsaved_bytes_max: u64,
    /// Idle time after which a producer is forgotten, in milliseconds.
    pub producer_expiration_ms: i64,
}

impl RouteOptions {
    /// As the settings of the broker say.
    pub fn of(config: &Config) -> Self {
        Self {
            unpacked_bytes_max: config.stage_unpacked_bytes_max,
            order_bytes_max: config.route_queue_bytes_max,
            lane_bytes_max: config.route_lane_bytes_max,
            workers_per_topic_max: config.route_workers_per_topic(),
            checkpoint_interval: Duration::from_millis(config.producer_snapshot_ms),
            journal_bytes_max: config.route_journal_bytes_max,
            unsaved_bytes_max: config.producer_snapshot_bytes,
            producer_expiration_ms: config.producer_expiration_ms,
        }
    }
}

/// Sends batches on their way. Dropping it without [`close`](Self::close) is what a crash looks like to the next start.
pub struct Router {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads share.
pub(crate) struct Shared {
    options: RouteOptions,
    topics: Arc<TopicTable>,
    plugins: Arc<PluginRegistry>,
    /// None: its log directory was missing at the start.
    journal: Option<Journal>,
    held: Mutex<Vec<Held>>,
    order: Order,
    workers: Workers,
    way: Way,
    /// The memory of the plugins' instances, as of their last call.
    instances: Mutex<Charge>,
    /// Bytes of the batches that wait in lanes, over all topics.
    lane_bytes: AtomicUsize,
    /// Entries of the journal below it are carried out.
    applied: AtomicU64,
    /// An entry could not be carried out by this process: nothing is cut off the journal any more.
    stuck: AtomicBool,
    /// Bytes put into the journal since it was last cut.
    journal_bytes: AtomicU64,
    stop: Stop,
}

/// The threads and the memory of batches on their way.
#[derive(Debug)]
pub struct Way {
    /// The threads that plugins run on.
    pub lanes: Arc<Pool>,
    /// The owner of memory.
    pub memory: Arc<Memory>,
}

/// What becomes of a batch that was submitted.
#[derive(Debug)]
pub enum Submitted {
    /// It is known where it went, or what it waits for.
    Placed(Result<Place, Refusal>),
    /// It queues for the stage, which will say.
    Staged(oneshot::Receiver<Result<Place, Refusal>>),
}

/// A checked batch on its way in.
#[derive(Debug)]
pub struct Submission {
    /// The topic it is for.
    pub topic: Arc<Topic>,
    /// The partition that its producer chose.
    pub partition: Arc<Partition>,
    /// The settings it was checked by.
    pub settings: Arc<TopicSettings>,
    /// Its bytes.
    pub batch: BytesMut,
    /// Its header.
    pub header: BatchHeader,
}

/// Why the route did not open.
#[derive(Debug, thiserror::Error)]
pub enum RouteOpenError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalOpenError),
    /// What the journal holds cannot be carried out.
    #[error("the route journal cannot be carried out: {0}")]
    Replay(String),
    /// What the journal holds cannot be carried out now: the disk is full, above all.
    #[error("the route journal cannot be carried out yet: {0}")]
    NotYet(String),
}

impl Router {
    /// Finds the producers of all partitions, carries out what the journal holds, and begins to work. Blocks on the
    /// disk; the broker serves no client before it returns.
    pub fn open(
        options: RouteOptions,
        topics: Arc<TopicTable>,
        log: &LogDirs,
        plugins: Arc<PluginRegistry>,
        way: Way,
    ) -> Result<(Self, RouteReport), RouteOpenError> {
        let (journal, recovered) = match log.journal_home() {
            Some(home) => match home.open_journal(JOURNAL_NAME) {
                // Its directory has just failed, and takes no others along.
                Err(JournalOpenError::Io { .. }) if home.offline_reason().is_some() => {
                    (None, recover::without_journal(&topics.all())?)
                }
                opened => {
                    let (journal, entries) = opened?;
                    let entries: Vec<JournalEntry> =
                        entries.collect::<Result<_, _>>().map_err(|error| RouteOpenError::Replay(error.to_string()))?;
                    let recovered = recover::recover(&topics.all(), &journal, entries)?;
                    (Some(journal), recovered)
                }
            },
            None => (None, recover::without_journal(&topics.all())?),
        };
        let recover::Recovered { report, held, kept } = recovered;
        let shared = Arc::new(Shared {
            order: Order::new(options.order_bytes_max, &way.memory),
            workers: Workers::new(options.workers_per_topic_max),
            instances: Mutex::new(way.memory.charge(Use::Plugins)),
            way,
            lane_bytes: AtomicUsize::new(0),
            applied: AtomicU64::new(journal.as_ref().map_or(0, |journal| journal.end().sequence)),
            held: Mutex::new(held),
            stuck: AtomicBool::new(false),
            // What a start could not cut off is left to the first cut.
            journal_bytes: AtomicU64::new(u64::from(kept)),
            stop: Stop::default(),
            options,
            topics,
            plugins,
            journal,
        });
        let (written, to_apply) = sync_channel(GROUPS_AHEAD);
        let (writer, applier, keeper) = (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            spawn("ottla-journal", move || writer.write_all(&written))?,
            spawn("ottla-route", move || applier.apply_all(&to_apply))?,
            spawn("ottla-keeper", move || keeper.keep())?,
        ];
        Ok((Self { shared, threads: Mutex::new(threads) }, report))
    }

    /// Sends checked batches on their way, given in the order in which those of each partition arrived. Where no plugin
    /// is concerned they are appended before this returns, those of one partition together. What becomes of each comes
    /// back in the order given.
    pub fn submit_all(&self, mut batches: Vec<Submission>) -> Vec<Submitted> {
        if batches.len() < 2 {
            return batches.into_iter().map(|batch| self.submit(batch)).collect();
        }
        let mut outcomes: Vec<_> = batches.iter().map(|_| Submitted::Placed(Err(Refusal::Stopping))).collect();
        let mut numbered: Vec<_> = batches.drain(..).enumerate().collect();
        // A stable sort: batches of one partition keep their order.
        numbered.sort_by_key(|(_, batch)| Arc::as_ptr(&batch.partition));
        let mut numbered = numbered.into_iter().peekable();
        while let Some((number, first)) = numbered.next() {
            let same = |next: &(usize, Submission)| Arc::ptr_eq(&next.1.partition, &first.partition);
            if !numbered.peek().is_some_and(same) {
                outcomes[number] = self.submit(first);
                continue;
            }
            let partition = Arc::clone(&first.partition);
            let mut run = VecDeque::from([(number, first)]);
            run.extend(std::iter::from_fn(|| numbered.next_if(|next| Arc::ptr_eq(&next.1.partition, &partition))));
            self.submit_run(&partition, run, &mut outcomes);
        }
        outcomes
    }

    /// Sends batches of one partition on their way.
    fn submit_run(&self, partition: &Partition, mut run: VecDeque<(usize, Submission)>, outcomes: &mut [Submitted]) {
        let mut intake = partition.intake();
        while let Some((number, first)) = run.pop_front() {
            if intake.held || !intake.lane.is_free() || routes(&first.topic, &first.settings) {
                drop(intake);
                outcomes[number] = self.submit(first);
                for (number, next) in run {
                    outcomes[number] = self.submit(next);
                }
                return;
            }
            match intake.admit(Claim::of(&first.header)) {
                Err(refusal) => outcomes[number] = Submitted::Placed(Err(refusal)),
                Ok(Admission::Duplicate(place)) => outcomes[number] = Submitted::Placed(Ok(place)),
                Ok(Admission::Next { .. }) => {
                    let bytes_max =
                        usize::try_from(first.settings.segment_bytes_in_force()).unwrap_or(0).min(JOINED_BYTES_MAX);
                    let mut bytes = first.batch.len();
                    let mut numbers = vec![number];
                    let mut joined = vec![Unplaced::new(first.batch, &first.header)];
                    while let Some((number, next)) = run.pop_front_if(|(_, next)| {
                        bytes += next.batch.len();
                        bytes <= bytes_max
                            && !routes(&next.topic, &next.settings)
                            && intake.follows(&joined, Claim::of(&next.header))
                    }) {
                        numbers.push(number);
                        joined.push(Unplaced::new(next.batch, &next.header));
                    }
                    let placed = intake.append_joined(&partition.log, joined);
                    for (number, placed) in numbers.into_iter().zip(placed) {
                        outcomes[number] = Submitted::Placed(placed);
                    }
                }
            }
        }
    }

    /// Sends one checked batch on its way.
    fn submit(&self, submission: Submission) -> Submitted {
        let Submission { topic, partition, settings, mut batch, header } = submission;
        let mut intake = partition.intake();
        if intake.held {
            intake.refuse(Claim::of(&header));
            return Submitted::Placed(Err(held::refusal(&topic)));
        }
        if intake.lane.is_free() && !routes(&topic, &settings) {
            let claim = Claim::of(&header);
            let placed = intake.admit(claim).and_then(|admission| match admission {
                Admission::Duplicate(place) => Ok(place),
                Admission::Next { .. } => {
                    let appended = intake.append(&partition.log, &mut batch, claim)?;
                    Ok(Place::Landed(Landed::Here(appended.base_offset)))
                }
            });
            return Submitted::Placed(placed);
        }
        // Its request may be answered, at its timeout, while it still waits: what bounds requests does not bound this.
        let Some(charge) = self.shared.enter_lane(&topic, batch.len()) else {
            intake.refuse(Claim::of(&header));
            return Submitted::Placed(Err(Refusal::LanesFull));
        };
        if batch.len() < OWN_BUFFER_BYTES_MIN {
            // It lies in a large receive buffer, which would otherwise wait with it.
            batch = BytesMut::from(&*batch);
        }
        let (reply, staged) = oneshot::channel();
        let needs_worker = intake.lane.push(Job { batch, header, charge, reply });
        drop(intake);
        if needs_worker && self.shared.workers.add(&topic, partition.index) {
            self.shared.start_worker(topic);
        }
        Submitted::Staged(staged)
    }

    /// Finishes what was begun, writes the producers down, and ends the threads. Blocks on the disk.
    pub fn close(&self) {
        self.shared.order.close();
        if !self.shared.workers.wait_idle(STOP_PATIENCE) {
            tracing::warn!("batches that are still in a plugin are given up");
        }
        self.end();
        self.shared.checkpoint(checkpoint::Extent::Everything);
    }

    /// Ends the threads. They hold the log and the metadata, which another broker of this process may open again.
    fn end(&self) {
        self.shared.order.close();
        self.shared.stop.begin();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the route panicked");
            }
        }
    }

    /// Writes down now what would be written down from time to time.
    pub fn checkpoint(&self) {
        self.shared.checkpoint(checkpoint::Extent::Due);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// Room for a batch in the lanes of its topic. A topic may fill as much as it leaves free, so that one topic never
    /// fills all; one that has nothing there always gets a batch in, as long as there is memory.
    fn enter_lane(&self, topic: &Topic, bytes: usize) -> Option<Charge> {
        let own = topic.lane_bytes.fetch_add(bytes, Ordering::Relaxed);
        let all = self.lane_bytes.fetch_add(bytes, Ordering::Relaxed);
        let free = self.options.lane_bytes_max.saturating_sub(all);
        let shares = own + bytes <= free || (broken(Canary::NoLaneShare) && bytes <= free);
        let charge = (shares || own == 0).then(|| self.way.memory.take(Use::Lanes, 0, bytes)).flatten();
        if charge.is_none() {
            self.leave_lane(topic, bytes);
        }
        charge
    }

    fn leave_lane(&self, topic: &Topic, bytes: usize) {
        topic.lane_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.lane_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Lets a worker of the topic queue up for a thread.
    fn start_worker(self: &Arc<Self>, topic: Arc<Topic>) {
        let shared = Arc::clone(self);
        if let Err(error) = self.way.lanes.submit(move || shared.work(topic)) {
            tracing::error!("a lane has no worker: {error}");
        }
    }

    /// One turn of a worker of a topic. Then it queues up again, behind the workers of other topics.
    fn work(self: Arc<Self>, topic: Arc<Topic>) {
        let Some(lane) = self.workers.next(&topic) else { return };
        if let Some(partition) = topic.partition(lane)
            && self.work_on_lane(&topic, partition)
        {
            self.workers.put_back(&topic, lane);
        }
        if self.workers.goes_on(&topic) {
            self.start_worker(topic);
        }
    }

    /// Takes a few batches of a lane. True: there may be more.
    fn work_on_lane(&self, topic: &Arc<Topic>, partition: &Arc<Partition>) -> bool {
        let begun = Instant::now();
        for _ in 0..BATCHES_PER_TURN {
            if begun.elapsed() >= LANE_TURN {
                break;
            }
            let Some(Job { batch, header, charge, reply }) = partition.intake().lane.pop() else { return false };
            self.leave_lane(topic, batch.len());
            let _held_meanwhile = charge;
            if reply.is_closed() {
                // Its producer was told that it took too long, or is gone. Its number is still free for a retry.
                partition.intake().refuse(Claim::of(&header));
                continue;
            }
            // A panic must not leave the lane without a worker for ever.
            let staged = catch_unwind(AssertUnwindSafe(|| self.stage(topic, partition, batch, &header)));
            let staged = staged.unwrap_or_else(|_| Err(Refusal::Storage("the broker failed on it".to_owned())));
            if staged.is_err() {
                partition.intake().refuse(Claim::of(&header));
            }
            // The client may be gone; the batch went its way all the same.
            let _ = reply.send(staged);
        }
        true
    }

    /// The check, the plugin, and the way on, for one batch. No other thread takes batches of this partition meanwhile.
    fn stage(
        &self,
        topic: &Arc<Topic>,
        partition: &Arc<Partition>,
        mut batch: BytesMut,
        header: &BatchHeader,
    ) -> Result<Place, Refusal> {
        let claim = Claim::of(header);
        if let Admission::Duplicate(place) = partition.intake().admit(claim)? {
            return Ok(place);
        }
        let (staged, plugin) = match self.plugin_for(topic)? {
            Some(plugin) => {
                let partition_count = topic.partitions.len() as i32;
                let address =
                    Address { topic_id: topic.id, topic: &topic.name, partition: partition.index, partition_count };
                let unpacked_bytes_max = self.options.unpacked_bytes_max;
                let mut unpacked = self.way.memory.charge(Use::Work);
                // Bounded by the threads of the lanes.
                unpacked.set(if header.codec() == Ok(Codec::None) { batch.len() } else { unpacked_bytes_max });
                let staged = staging::stage(&plugin, address, &batch, unpacked_bytes_max);
                self.instances.lock().set(self.plugins.host().memory_bytes() as usize);
                let staged = staged?;
                (staged, *plugin.partitioner().digest().as_bytes())
            }
            None => (Staged::Stays, [0; 32]),
        };
        if staged == Staged::Stays
            && let Some(placed) = append_if_first(partition, &mut batch, claim)
        {
            return placed;
        }
        self.check_targets(topic, &staged)?;
        check_entry_bytes(&staged, claim)?;
        let (records, bytes) = match staged {
            Staged::Stays => {
                let bytes = batch.len();
                (ItemRecords::Stays(batch), bytes)
            }
            Staged::Moves(split) => {
                let bytes = split.bytes();
                (ItemRecords::Moves(split), bytes)
            }
        };
        self.order.reserve(bytes).map_err(|OrderClosed| Refusal::Stopping)?;
        let mut intake = partition.intake();
        // Once more: the batch it follows may have failed since.
        let (follows, after) = match intake.admit(claim) {
            Ok(Admission::Next { follows, after }) => (follows, after),
            Ok(Admission::Duplicate(place)) => {
                self.order.release(bytes);
                return Ok(place);
            }
            Err(refusal) => {
                self.order.release(bytes);
                return Err(refusal);
            }
        };
        let (stub, ticket) = ticket();
        let place = Place::Waiting(ticket);
        if let Some(claim) = claim {
            intake.take(claim, place.clone());
        }
        intake.lane.routed += 1;
        self.order.push(Item {
            topic: Arc::clone(topic),
            addressed: Arc::clone(partition),
            claim,
            follows,
            after,
            plugin,
            records,
            stub,
            bytes,
            mark: None,
        });
        Ok(place)
    }

    /// A target that takes no batches refuses this one while its numbers are still free: one whose log directory is
    /// offline, one in another topic that is gone or held.
    fn check_targets(&self, topic: &Arc<Topic>, staged: &Staged) -> Result<(), Refusal> {
        let Staged::Moves(split) = staged else { return Ok(()) };
        for part in &split.parts {
            let target = target(&self.topics, topic, part).ok_or(Refusal::UnknownPartition)?;
            if let Some(reason) = target.log.offline_reason() {
                return Err(Refusal::Storage(reason));
            }
            if part.topic_id != topic.id && target.intake().held {
                return Err(Refusal::Storage(format!(
                    "{target:?} takes no batches before the route journal is carried out"
                )));
            }
        }
        Ok(())
    }

    fn plugin_for(&self, topic: &Topic) -> Result<Option<Arc<BoundPlugin>>, Refusal> {
        let settings = topic.settings();
        let Some(plugin) = settings.partitioner.as_ref().filter(|_| routes(topic, &settings)) else { return Ok(None) };
        let binding = Binding::partitioner(plugin, &settings.partitioner_config);
        match self.plugins.bound(topic.id, &topic.name, binding) {
            Ok(bound) => Ok(Some(bound)),
            Err(error) => {
                tracing::error!(topic = %topic.name, %error, "the partitioner of a topic cannot be run");
                let plugin = crate::config::SettingValue::show(plugin);
                let reason = match error {
                    RegistryError::Load { source, .. } => source.to_string(),
                    other => other.to_string(),
                };
                Err(Refusal::PluginUnavailable { plugin, reason })
            }
        }
    }
}

/// Appends a batch that stays, unless earlier ones of its partition still wait.
fn append_if_first(
    partition: &Partition,
    batch: &mut BytesMut,
    claim: Option<Claim>,
) -> Option<Result<Place, Refusal>> {
    let mut intake = partition.intake();
    if intake.lane.routed > 0 {
        return None;
    }
    // Checked once more: the batch it follows may have failed since.
    Some(intake.admit(claim).and_then(|admission| match admission {
        Admission::Duplicate(place) => Ok(place),
        Admission::Next { .. } => {
            let appended = intake.append(&partition.log, batch, claim)?;
            Ok(Place::Landed(Landed::Here(appended.base_offset)))
        }
    }))
}

/// The partition that a part of a batch for `topic` goes to; none where its topic is gone.
fn target(topics: &TopicTable, topic: &Arc<Topic>, part: &SubBatch) -> Option<Arc<Partition>> {
    if part.topic_id == topic.id {
        return topic.partition(part.partition).cloned();
    }
    topics.get_by_id(&part.topic_id)?.partition(part.partition).cloned()
}

/// Bytes of a journal entry besides those of its parts and runs: more than there are.
const ENTRY_HEAD_BYTES: usize = 256;
/// Bytes of an entry for each part and for each run, besides the part itself.
const ENTRY_ITEM_BYTES: usize = 24;

/// A batch that one entry of the journal cannot hold is refused while its numbers are still free.
fn check_entry_bytes(staged: &Staged, claim: Option<Claim>) -> Result<(), Refusal> {
    let Staged::Moves(split) = staged else { return Ok(()) };
    let items = split.parts.len() + split.runs.len();
    let bytes = split.bytes() + items * ENTRY_ITEM_BYTES + ENTRY_HEAD_BYTES;
    if claim.is_some() && bytes > JOURNAL_ENTRY_BYTES_MAX {
        return Err(Refusal::PartsTooLarge { bytes, bytes_max: JOURNAL_ENTRY_BYTES_MAX });
    }
    Ok(())
}

/// Whether the batches of a topic go through a plugin.
fn routes(topic: &Topic, settings: &TopicSettings) -> bool {
    settings.partitioner.is_some() && settings.partitioner_mode == PartitionerMode::Route && !topic.internal
}

/// Tells the threads that wait for something that the broker stops, or that there is work.
#[derive(Debug, Default)]
struct Stop {
    state: Mutex<StopState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct StopState {
    begun: bool,
    nudged: bool,
}

impl Stop {
    fn begin(&self) {
        self.state.lock().begun = true;
        self.changed.notify_all();
    }

    /// Waits; true when the broker stops.
    fn wait(&self, at_most: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.begun, at_most);
        state.begun
    }

    /// Waits, or for a nudge; true when the broker stops.
    fn wait_or_nudge(&self, at_most: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.begun && !state.nudged, at_most);
        state.nudged = false;
        state.begun
    }

    /// Ends one [`wait_or_nudge`](Self::wait_or_nudge) early.
    fn nudge(&self) {
        self.state.lock().nudged = true;
        self.changed.notify_all();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, RouteOpenError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| RouteOpenError::Replay(format!("no thread for {name}: {error}")))
}

/// Between two log lines about something that goes on failing.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
const RETRY_REST_MIN: Duration = Duration::from_millis(50);
const RETRY_REST_MAX: Duration = Duration::from_secs(1);

/// Why something cannot be done now.
enum Obstacle {
    /// It may pass: a full disk, above all.
    Passing(String),
    /// It will not.
    Final(Refusal),
}

impl Shared {
    /// Tries again until it works, can never work, or the broker stops.
    fn until_done<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<T, Obstacle>) -> Result<T, Refusal> {
        let mut rest = RETRY_REST_MIN;
        let mut complained: Option<std::time::Instant> = None;
        loop {
            match attempt() {
                Ok(done) => {
                    if complained.is_some() {
                        tracing::info!(what, "goes on");
                    }
                    return Ok(done);
                }
                Err(Obstacle::Final(refusal)) => return Err(refusal),
                Err(Obstacle::Passing(reason)) => {
                    if complained.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL) {
                        tracing::error!(what, reason, "waiting for it to pass; batches behind it wait as well");
                        complained = Some(std::time::Instant::now());
                    }
                    if self.stop.wait(rest) {
                        self.stuck.store(true, Ordering::Release);
                        return Err(Refusal::Stopping);
                    }
                    rest = (rest * 2).min(RETRY_REST_MAX);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Uuid};

    use super::*;
    use ottla_coordinator::sequence::Span;
    use ottla_stage::Split;

    #[test]
    fn a_batch_that_no_journal_entry_can_hold_is_refused_as_too_large() {
        let part =
            |partition, length| SubBatch { topic_id: Uuid::nil(), partition, records: 1, bytes: vec![0; length] };
        let half = JOURNAL_ENTRY_BYTES_MAX / 2;
        let moves = |length| Staged::Moves(Split { parts: vec![part(0, half), part(1, length)], runs: Vec::new() });
        let span = Span::new(ProducerEpoch(0), Sequence(0), 2);
        let claim = Some(Claim { producer_id: ProducerId(1), span });
        let refused = check_entry_bytes(&moves(half), claim).unwrap_err();
        assert_eq!(refused.error_code(), ErrorCode::MessageTooLarge);
        assert_eq!(check_entry_bytes(&moves(half - 4096), claim), Ok(()));
        // What is not idempotent has no entry.
        assert_eq!(check_entry_bytes(&moves(half), None), Ok(()));
    }
}
