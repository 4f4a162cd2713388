//! Old data, let go: retention and compaction of every partition, on a thread of their own.
//!
//! 1. [`retain`]: segments that are too old or too many go
//! 2. [`compact`]: of every key the last record stays
//! 3. [`stats`]: what was done, and what went wrong where
//!
//! Promises: no lock that a produce or a fetch waits for is held while the disk works; reads and writes of compaction
//! are bounded by `log.cleaner.io.max.bytes.per.second`, its memory is charged to that of all; a partition that fails is remembered and does not stop the
//! others; nothing goes before the producers of its topic are written down ([`crate::partition::Saved`]), so that a batch that
//! comes again is still recognised when the log does not have it any more.

mod compact;
mod retain;
mod stats;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ottla_front::Memory;
use parking_lot::{Condvar, Mutex};

use crate::config::Config;
use crate::topics::TopicTable;

pub(crate) use stats::CleanerSnapshot;

use stats::Stats;

/// Bounds and times of the cleaner.
#[derive(Debug, Clone, Copy)]
pub struct CleanerOptions {
    /// Time between two looks at what is too old.
    pub retention_interval: Duration,
    /// Time between two looks at what can be compacted.
    pub backoff: Duration,
    /// Memory for the keys of one compaction.
    pub key_map_bytes_max: usize,
    /// Most bytes that the records of one batch may unpack to.
    pub unpacked_bytes_max: usize,
    /// Bytes that compaction reads and writes per second; 0 for no limit.
    pub io_bytes_per_second: u64,
}

impl CleanerOptions {
    /// What the operator chose.
    pub fn of(config: &Config) -> Self {
        Self {
            retention_interval: Duration::from_millis(config.retention_check_ms),
            backoff: Duration::from_millis(config.cleaner_backoff_ms),
            key_map_bytes_max: config.cleaner_dedupe_bytes,
            unpacked_bytes_max: config.stage_unpacked_bytes_max,
            io_bytes_per_second: config.cleaner_io_bytes_per_second,
        }
    }
}

/// Lets old data go. Dropping it ends its thread; what it was writing is rubbish to the next start.
pub struct Cleaner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    options: CleanerOptions,
    topics: Arc<TopicTable>,
    memory: Arc<Memory>,
    stats: Stats,
    stop: AtomicBool,
    /// Wakes the thread to stop.
    bell: (Mutex<()>, Condvar),
    /// Held by the round under way.
    round: Mutex<()>,
}

impl Cleaner {
    /// Begins to work. Without a thread nothing is cleaned, and the log says so.
    pub fn start(options: CleanerOptions, topics: Arc<TopicTable>, memory: Arc<Memory>) -> Self {
        let shared = Arc::new(Shared {
            options,
            topics,
            memory,
            stats: Stats::default(),
            stop: AtomicBool::new(false),
            bell: Default::default(),
            round: Mutex::default(),
        });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("ottla-cleaner".to_owned()).spawn(move || worker.work());
        let thread = thread.inspect_err(|error| tracing::error!(%error, "old data stays: there is no thread for it"));
        Self { shared, thread: Mutex::new(thread.ok()) }
    }

    /// What was done so far, and what went wrong where.
    pub fn stats(&self) -> CleanerSnapshot {
        self.shared.stats.snapshot()
    }

    /// Does now what is due, in the calling thread. Blocks on the disk.
    pub fn run(&self) {
        self.shared.retain_all();
        self.shared.compact_all();
    }

    /// Ends the thread. A compaction under way is given up.
    pub fn close(&self) {
        self.shared.stop.store(true, Ordering::Release);
        drop(self.shared.bell.0.lock());
        self.shared.bell.1.notify_all();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the cleaner panicked");
        }
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn work(&self) {
        let begun = Instant::now();
        let (mut retain_at, mut compact_at) = (begun + self.options.retention_interval, begun + self.options.backoff);
        while self.sleep_until(retain_at.min(compact_at)) {
            if Instant::now() >= retain_at {
                self.retain_all();
                retain_at = Instant::now() + self.options.retention_interval;
            }
            if Instant::now() >= compact_at {
                self.compact_all();
                compact_at = Instant::now() + self.options.backoff;
            }
        }
    }

    /// False when the broker stops.
    fn sleep_until(&self, until: Instant) -> bool {
        let mut guard = self.bell.0.lock();
        while !self.should_stop() {
            let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) else {
                return true;
            };
            self.bell.1.wait_for(&mut guard, rest);
        }
        false
    }

    fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}
