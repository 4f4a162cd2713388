//! The one thread through which the core's news reach Python: settled deliveries and log lines.
//!
//! Runtime threads push and go on; this thread attaches to Python once per group, however many records the group settles.
//! It ends before the interpreter does.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use ottla_client::AckBatch;
use pyo3::prelude::*;

use crate::callbacks::Desk;
use crate::failure::Failure;
use crate::fork::PerProcess;
use crate::logs::Line;

/// Something that Python must hear of.
#[derive(Debug)]
pub(crate) enum News {
    Settled(Arc<Desk>, Vec<AckBatch>),
    Logged(Line),
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<News>,
    /// News ever pushed, and told.
    pushed: u64,
    told: u64,
    ended: bool,
}

/// The queue in front of the thread.
#[derive(Debug, Default)]
pub(crate) struct Events {
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

static EVENTS: PerProcess<Arc<Events>> = PerProcess::new();

/// The queue of this process; starts the thread if it is not running.
pub(crate) fn start(py: Python<'_>) -> Result<Arc<Events>, Failure> {
    let events = EVENTS.get_or_make(py, || {
        let events = Arc::new(Events::default());
        let told = Arc::clone(&events);
        let started = thread::Builder::new().name("ottla-events".to_owned()).spawn(move || told.run());
        let thread =
            started.map_err(|error| Failure::new("config", "NO_THREADS", format!("cannot start a thread: {error}")))?;
        *events.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(events)
    });
    events.cloned()
}

/// The queue, if any client was ever made in this process.
pub(crate) fn current() -> Option<&'static Arc<Events>> {
    EVENTS.get()
}

/// Called at the interpreter's exit: what is known by now is told, then the thread ends.
#[pyfunction]
#[pyo3(name = "_end_events")]
pub(crate) fn end(py: Python<'_>) {
    let Some(events) = current() else { return };
    py.detach(|| {
        events.lock().ended = true;
        events.changed.notify_all();
        let thread = events.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            thread.join().ok();
        }
    });
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, news: News) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        state.waiting.push(news);
        state.pushed += 1;
        // The thread takes all there is: only the first of a group has to wake it.
        if state.waiting.len() == 1 {
            self.changed.notify_all();
        }
    }

    /// Everything pushed so far has this number.
    pub(crate) fn mark(&self) -> u64 {
        self.lock().pushed
    }

    /// Waits until everything up to the mark is told. The thread itself would wait for ever and does not wait at all.
    pub(crate) fn wait_told(&self, mark: u64, timeout: Duration) -> bool {
        if self.thread_id() == Some(thread::current().id()) {
            return true;
        }
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        while state.told < mark && !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub(crate) fn thread_id(&self) -> Option<ThreadId> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|thread| thread.thread().id())
    }

    fn run(&self) {
        loop {
            let (group, ended) = {
                let mut state = self.lock();
                while state.waiting.is_empty() && !state.ended {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                (mem::take(&mut state.waiting), state.ended)
            };
            let count = group.len() as u64;
            Python::try_attach(|py| group.into_iter().for_each(|news| tell(py, news)));
            self.lock().told += count;
            self.changed.notify_all();
            if ended {
                return;
            }
        }
    }
}

fn tell(py: Python<'_>, news: News) {
    match news {
        News::Settled(desk, batches) => desk.call(py, &batches),
        News::Logged(line) => line.write(py),
    }
}
