//! From time to time the producers of the topics are saved, and the route journal is cut.
//!
//! An entry of the journal may go when its batches are durable in their targets and the snapshot of the partition it was
//! addressed to is on the disk. So the order is: the route begins a new file of the journal and waits until all before it
//! is carried out; the topics that are due are saved, which syncs their logs; the route removes the old files.
//!
//! The snapshots are also what lets old records go: [`Saved`](crate::partition::Saved) says up to where.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock;
use crate::config::Config;
use crate::partition::set::{Due, save_due};
use crate::plugins::PluginRegistry;
use crate::route::Router;
use crate::stop::Stop;
use crate::topics::TopicTable;

/// When producers are saved and forgotten.
#[derive(Debug, Clone, Copy)]
pub struct KeeperOptions {
    /// Time between two looks at what has to be saved.
    pub interval: Duration,
    /// Bytes appended to a partition after which its producers are saved: a start may have to read the headers of as much
    /// of each partition.
    pub unsaved_bytes_max: u64,
    /// Idle time after which a producer is forgotten, in milliseconds.
    pub producer_expiration_ms: i64,
}

impl KeeperOptions {
    /// As the settings of the broker say.
    pub fn of(config: &Config) -> Self {
        Self {
            interval: Duration::from_millis(config.producer_snapshot_ms),
            unsaved_bytes_max: config.producer_snapshot_bytes,
            producer_expiration_ms: config.producer_expiration_ms,
        }
    }
}

/// Saves producers. Dropping it without [`close`](Self::close) is what a crash looks like to the next start.
pub struct Keeper {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    options: KeeperOptions,
    topics: Arc<TopicTable>,
    plugins: Arc<PluginRegistry>,
    router: Arc<Router>,
    stop: Arc<Stop>,
}

impl Keeper {
    /// Begins to work. `stop` is the one that the router was opened with: a journal that is too long nudges it.
    pub fn start(
        options: KeeperOptions,
        topics: Arc<TopicTable>,
        plugins: Arc<PluginRegistry>,
        router: Arc<Router>,
        stop: Arc<Stop>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { options, topics, plugins, router, stop });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("ottla-keeper".to_owned()).spawn(move || worker.work())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread and saves everything that has changed. Called once the router is closed. Blocks on the disk.
    pub fn close(&self) {
        self.end();
        self.shared.checkpoint(Due::Changed);
    }

    /// Saves now what is due.
    pub fn checkpoint(&self) {
        self.shared.checkpoint(Due::Grown(self.shared.options.unsaved_bytes_max));
    }

    /// Ends the thread. It holds the log and the metadata, which a later broker may open again.
    fn end(&self) {
        self.shared.stop.begin();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the keeper panicked");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn work(&self) {
        while !self.stop.wait_or_nudge(self.router.retry_rest(self.options.interval)) {
            self.router.retry_held();
            self.checkpoint(Due::Grown(self.options.unsaved_bytes_max));
            self.plugins.tell_unmentioned_failures();
        }
    }

    fn checkpoint(&self, due: Due) {
        let cut = self.router.begin_cut();
        let topics = self.topics.all();
        let since_ms = clock::now_ms().saturating_sub(self.options.producer_expiration_ms);
        for topic in &topics {
            topic.partitions.expire(since_ms);
        }
        match self.topics.producers.take_forgotten() {
            0 => {}
            forgotten => {
                tracing::warn!(forgotten, "more producers than ottla.producer.ids.max: idle ones are forgotten");
            }
        }
        let all_saved = save_due(topics.iter().map(|topic| &topic.partitions), due);
        self.plugins.forget_topics(|id| self.topics.get_by_id(&id).is_none());
        if let Some(cut) = cut {
            self.router.end_cut(cut, all_saved);
        }
    }
}
