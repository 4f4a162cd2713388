//! Threads for work that may wait for a disk or compute for long: pools with a name, a bound and a queue.
//!
//! A pool is for one kind of work, so that much of one kind stops no other. Threads come with work and go after a rest.
//! Work is taken in the order in which it came. A connection has at most one piece of work that is waited for in its
//! turn, so that this order is fair between connections.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_log::canary::{Canary, broken};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// How long a thread waits for more work before it ends.
const REST: Duration = Duration::from_secs(10);

/// What a pool is to be.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// Its name in metrics, in documents and as the name of its threads.
    pub name: &'static str,
    /// Most threads at once.
    pub threads_max: usize,
    /// Most pieces of work that wait for a thread; more are refused.
    pub queue_max: usize,
    /// Whether its threads leave the processors to those that serve connections. For work that computes.
    pub yields: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: PoolOptions,
    state: Mutex<State>,
    work: Condvar,
    refused: AtomicU64,
}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} threads, {} idle, {} waiting", self.threads, self.idle, self.queue.len())
    }
}

/// Why work was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// As much waits as may wait.
    #[error("{name}: {queue_max} requests wait already")]
    Full {
        /// The pool.
        name: &'static str,
        /// Its bound.
        queue_max: usize,
    },
    /// The work takes memory, and none came free in time.
    #[error("{name}: no memory for {bytes} bytes (ottla.memory.max.bytes)")]
    OutOfMemory {
        /// The pool.
        name: &'static str,
        /// What the work takes.
        bytes: usize,
    },
    /// A defect of the broker.
    #[error("{name}: the work panicked")]
    Panicked {
        /// The pool.
        name: &'static str,
    },
}

impl Pool {
    /// A pool without a thread yet.
    pub fn new(options: PoolOptions) -> Self {
        let threads_max = if broken(Canary::NoThreadBound) { usize::MAX } else { options.threads_max.max(1) };
        let options = PoolOptions { threads_max, ..options };
        let shared = Shared { options, state: Mutex::default(), work: Condvar::new(), refused: AtomicU64::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Does `work` on a thread of the pool, when its turn comes. The future may be dropped; the work is done all the same.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PoolError> {
        let (done, result) = oneshot::channel();
        self.submit(move || {
            let _ = done.send(work());
        })?;
        result.await.map_err(|_| PoolError::Panicked { name: self.name() })
    }

    /// The same without waiting for it.
    pub fn submit(&self, work: impl FnOnce() + Send + 'static) -> Result<(), PoolError> {
        let Shared { options, state, work: arrived, refused } = &*self.shared;
        let mut state = state.lock();
        if state.queue.len() >= options.queue_max {
            refused.fetch_add(1, Ordering::Relaxed);
            return Err(PoolError::Full { name: options.name, queue_max: options.queue_max });
        }
        state.queue.push_back(Box::new(work));
        if state.idle >= state.queue.len() {
            arrived.notify_one();
        } else if state.threads < options.threads_max {
            state.threads += 1;
            drop(state);
            self.start();
        }
        Ok(())
    }

    fn start(&self) {
        let shared = Arc::clone(&self.shared);
        let name = format!("ottla-{}", self.name());
        if let Err(error) = std::thread::Builder::new().name(name).spawn(move || shared.serve()) {
            // Its work waits for the next one, or for the threads that there are.
            self.shared.state.lock().threads -= 1;
            tracing::error!("no thread for the pool {}: {error}", self.name());
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.shared.options.name
    }

    /// Most threads at once.
    pub fn threads_max(&self) -> usize {
        self.shared.options.threads_max
    }

    /// Threads that do work now.
    pub fn busy(&self) -> usize {
        let state = self.shared.state.lock();
        state.threads - state.idle
    }

    /// Pieces of work that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.shared.state.lock().queue.len()
    }

    /// Pieces of work that were refused because the queue was full.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Pool {
    /// The threads finish what waits, and end.
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn serve(&self) {
        if self.options.yields {
            // As the thread of this one alone; where it is not allowed, it competes.
            let _ = rustix::process::nice(YIELDING_NICENESS);
        }
        while let Some(job) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("work of the pool {} panicked", self.options.name);
            }
        }
    }

    /// The next piece of work; none when the thread is to end.
    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let rested = !state.closed && self.work.wait_for(&mut state, REST).timed_out();
            state.idle -= 1;
            if state.queue.is_empty() && (rested || state.closed) {
                state.threads -= 1;
                return None;
            }
        }
    }
}

/// A fifth or so of the weight of a thread that serves connections.
const YIELDING_NICENESS: i32 = 7;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn pool(threads_max: usize, queue_max: usize) -> Pool {
        Pool::new(PoolOptions { name: "test", threads_max, queue_max, yields: true })
    }

    #[tokio::test]
    async fn work_is_done_and_answers() {
        let pool = pool(2, 10);
        assert_eq!(pool.run(|| 7).await, Ok(7));
        assert_eq!(pool.run(|| -> i32 { panic!("as a test") }).await, Err(PoolError::Panicked { name: "test" }));
        assert_eq!(pool.run(|| 8).await, Ok(8), "the thread goes on");
    }

    #[test]
    fn a_full_queue_refuses_and_no_thread_comes_for_it() {
        let pool = pool(2, 3);
        let busy = Arc::new(Barrier::new(3));
        for _ in 0..2 {
            let busy = Arc::clone(&busy);
            pool.submit(move || _ = busy.wait()).unwrap();
        }
        while pool.waiting() > 0 {
            std::thread::yield_now();
        }
        for _ in 0..3 {
            pool.submit(|| ()).unwrap();
        }
        assert_eq!(pool.submit(|| ()), Err(PoolError::Full { name: "test", queue_max: 3 }));
        assert_eq!((pool.busy(), pool.waiting(), pool.refused()), (2, 3, 1));
        busy.wait();
        while pool.busy() > 0 || pool.waiting() > 0 {
            std::thread::yield_now();
        }
    }
}
