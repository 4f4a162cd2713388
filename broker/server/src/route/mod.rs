//! Records that leave the partition they were addressed to, and the order of those that stay behind them.
//!
//! The way of a batch on a topic with a partitioner plugin:
//!
//! 1. The [door](crate::partition::door) of its partition puts it into the lane, behind earlier batches for the same
//!    partition; [`workers`] take it out, one at a time.
//! 2. [`stage`]: the plugin is asked ([`ottla_stage`]). If it stays and nothing is before it, it is appended.
//! 3. [`order`]: otherwise it gets its place in the one order of everything that waits.
//! 4. [`writer`]: one thread gives the new batches of idempotent producers their sequence on each target, writes the
//!    [`entry`] into the journal and syncs it, for as many batches as have come together.
//! 5. [`apply`]: one thread appends them to their targets in that order and tells where they went.
//! 6. [`cut`]: from time to time the journal is cut; the [keeper](crate::keeper) saves the producers in between.
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
mod cut;
mod held;
#[cfg(test)]
mod images;
mod obstacle;
mod order;
mod recover;
mod release;
mod stage;
mod workers;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_front::{Charge, Memory, Pool, Use};
use ottla_log::{Journal, JournalEntry, JournalOpenError};
use ottla_stage::SubBatch;
use parking_lot::Mutex;

use crate::config::Config;
use crate::log_dirs::LogDirs;
use crate::partition::Partition;
use crate::plugins::PluginRegistry;
use crate::stop::Stop;
use crate::topics::{Topic, TopicTable};

pub use recover::RouteReport;

use held::Held;
use order::Order;
use workers::Workers;

/// The folder of the journal in the first log directory.
pub const JOURNAL_NAME: &str = "route";
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
    /// Lanes of one topic that are worked on at the same time.
    pub workers_per_topic_max: usize,
    /// Bytes in the journal after which it is cut at once. A start may have to read twice as much.
    pub journal_bytes_max: u64,
}

impl RouteOptions {
    /// As the settings of the broker say.
    pub fn of(config: &Config) -> Self {
        Self {
            unpacked_bytes_max: config.stage_unpacked_bytes_max,
            order_bytes_max: config.route_queue_bytes_max,
            workers_per_topic_max: config.route_workers_per_topic(),
            journal_bytes_max: config.route_journal_bytes_max,
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
    /// Entries of the journal below it are carried out.
    applied: AtomicU64,
    /// An entry could not be carried out by this process: nothing is cut off the journal any more.
    stuck: AtomicBool,
    /// Bytes put into the journal since it was last cut.
    journal_bytes: AtomicU64,
    stop: Arc<Stop>,
}

/// The threads and the memory of batches on their way.
#[derive(Debug)]
pub struct Way {
    /// The threads that plugins run on.
    pub lanes: Arc<Pool>,
    /// The owner of memory.
    pub memory: Arc<Memory>,
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
        stop: Arc<Stop>,
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
            applied: AtomicU64::new(journal.as_ref().map_or(0, |journal| journal.end().sequence)),
            held: Mutex::new(held),
            stuck: AtomicBool::new(false),
            // What a start could not cut off is left to the first cut.
            journal_bytes: AtomicU64::new(u64::from(kept)),
            stop,
            options,
            topics,
            plugins,
            journal,
        });
        let (written, to_apply) = sync_channel(GROUPS_AHEAD);
        let (writer, applier) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            spawn("ottla-journal", move || writer.write_all(&written))?,
            spawn("ottla-route", move || applier.apply_all(&to_apply))?,
        ];
        Ok((Self { shared, threads: Mutex::new(threads) }, report))
    }

    /// Finishes what was begun, and ends the threads. Blocks on the disk.
    pub fn close(&self) {
        self.shared.order.close();
        if !self.shared.workers.wait_idle(STOP_PATIENCE) {
            tracing::warn!("batches that are still in a plugin are given up");
        }
        self.end();
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
}

impl Drop for Router {
    fn drop(&mut self) {
        self.end();
    }
}

/// The partition that a part of a batch for `topic` goes to; none where its topic is gone.
fn target(topics: &TopicTable, topic: &Arc<Topic>, part: &SubBatch) -> Option<Arc<Partition>> {
    if part.topic_id == topic.id {
        return topic.partition(part.partition).cloned();
    }
    topics.get_by_id(&part.topic_id)?.partition(part.partition).cloned()
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, RouteOpenError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| RouteOpenError::Replay(format!("no thread for {name}: {error}")))
}
