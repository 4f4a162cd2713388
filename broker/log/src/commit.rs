//! Group commit: every append wakes the flusher. Appends that arrive while a sync runs are covered by the next sync.
//! There is no linger time, because the running sync has the same effect.
//!
//! One queue per log directory, up to eight threads. The threads sync different files in parallel, and one partition
//! never twice at the same time.

use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::partition::PartitionLog;

/// The state of a partition in the flush queue.
#[derive(Debug, Default)]
pub(crate) struct FlushTicket(AtomicU8);

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const FLUSHING: u8 = 2;
const FLUSHING_AND_DIRTY: u8 = 3;

impl FlushTicket {
    /// Notes an append. Returns true if the caller has to put the partition into the queue.
    fn mark(&self) -> bool {
        // Pairs with the fence in `begin`: either the flush that begins sees the new end, or this call sees that it
        // began.
        fence(Ordering::SeqCst);
        let next = |state| match state {
            IDLE => Some(QUEUED),
            FLUSHING => Some(FLUSHING_AND_DIRTY),
            _ => None,
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) == Ok(IDLE)
    }

    /// Notes that a flush begins: later appends ask for another one.
    fn begin(&self) {
        self.0.store(FLUSHING, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Whether no flush runs and none is queued.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.0.load(Ordering::Acquire) == IDLE
    }

    /// Notes that a flush ended. Returns true if there were appends meanwhile and the partition goes into the queue
    /// again.
    fn end(&self) -> bool {
        let next = |state| Some(if state == FLUSHING_AND_DIRTY { QUEUED } else { IDLE });
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) == Ok(FLUSHING_AND_DIRTY)
    }
}

/// The partitions that wait for a sync, and the threads that sync them.
#[derive(Debug)]
pub(crate) struct CommitQueue {
    state: Mutex<Queue>,
    wake: Condvar,
    threads_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<PartitionLog>>,
    /// Threads that wait for work.
    idle: usize,
    /// Threads that were notified and are not awake yet; `idle` includes them.
    called: usize,
    threads: Vec<JoinHandle<()>>,
    stopping: bool,
}

impl CommitQueue {
    pub(crate) fn new(threads_max: usize) -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), threads_max: threads_max.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.state.lock()
    }

    /// Queues `partition`, which has bytes that are not durable yet.
    pub(crate) fn submit(self: &Arc<Self>, partition: &Arc<PartitionLog>) {
        if partition.ticket().mark() {
            self.enqueue(Arc::clone(partition));
        }
    }

    /// Starts the first thread. From then on, no appending thread has to sync anything itself.
    pub(crate) fn start(self: &Arc<Self>) -> io::Result<()> {
        self.start_thread(&mut self.lock())
    }

    fn start_thread(self: &Arc<Self>, queue: &mut Queue) -> io::Result<()> {
        let commit = Arc::clone(self);
        let name = format!("ottla-flush-{}", queue.threads.len());
        queue.threads.push(thread::Builder::new().name(name).spawn(move || commit.work())?);
        Ok(())
    }

    fn enqueue(self: &Arc<Self>, partition: Arc<PartitionLog>) {
        let mut queue = self.lock();
        if queue.stopping {
            // The shutdown that stops the queue flushes every partition itself.
            return;
        }
        queue.waiting.push_back(partition);
        if queue.idle > queue.called {
            queue.called += 1;
            drop(queue);
            self.wake.notify_one();
        } else if queue.threads.len() < self.threads_max
            && let Err(error) = self.start_thread(&mut queue)
        {
            // The running threads take the partition later.
            tracing::warn!(%error, "cannot start another flusher thread");
        }
    }

    fn work(self: Arc<Self>) {
        let mut queue = self.lock();
        loop {
            if let Some(partition) = queue.waiting.pop_front() {
                drop(queue);
                let again = flush(&partition);
                queue = self.lock();
                if again {
                    // The partition goes behind the others. This thread takes the next one itself; only a second one
                    // needs another thread.
                    queue.waiting.push_back(partition);
                    if queue.waiting.len() > 1 && queue.idle > queue.called {
                        queue.called += 1;
                        self.wake.notify_one();
                    }
                }
            } else if queue.stopping {
                return;
            } else {
                queue.idle += 1;
                self.wake.wait(&mut queue);
                queue.idle -= 1;
                queue.called = queue.called.saturating_sub(1);
            }
        }
    }

    /// Stops the threads after they have emptied the queue.
    pub(crate) fn stop(&self) {
        let threads = {
            let mut queue = self.lock();
            queue.stopping = true;
            std::mem::take(&mut queue.threads)
        };
        self.wake.notify_all();
        let me = thread::current().id();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != me) {
            if thread.join().is_err() {
                tracing::error!("a flusher thread panicked");
            }
        }
    }
}

/// Flushes once. Returns true if there were appends meanwhile and the partition has to be flushed again.
fn flush(partition: &PartitionLog) -> bool {
    partition.ticket().begin();
    // A failed flush has taken the directory offline and called the listeners. No caller waits for this result.
    if panic::catch_unwind(AssertUnwindSafe(|| partition.flush())).is_err() {
        partition.flusher_panicked();
    }
    partition.ticket().end()
}
