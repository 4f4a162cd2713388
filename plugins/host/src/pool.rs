//! Warm instances of one plugin for one topic, and whose turn it is.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::engine::Idle;
use crate::instance::Instance;

/// Instances waiting for a call, and the number of calls that run.
pub(crate) struct Pool {
    state: Mutex<State>,
    turn: Condvar,
    concurrent_calls_max: usize,
}

#[derive(Default)]
struct State {
    idle: Vec<Instance>,
    running: usize,
    waiting: usize,
}

/// The right to run one call; the next in line gets it when this is dropped.
pub(crate) struct Turn<'a> {
    pool: &'a Pool,
    warm: Option<Instance>,
}

impl Pool {
    pub(crate) fn new(concurrent_calls_max: usize) -> Self {
        Self { state: Mutex::default(), turn: Condvar::new(), concurrent_calls_max: concurrent_calls_max.max(1) }
    }

    /// Waits for a turn; `None` when it did not come in time.
    pub(crate) fn turn(&self, wait_max: Duration) -> Option<Turn<'_>> {
        let mut state = self.state.lock();
        if state.running >= self.concurrent_calls_max {
            state.waiting += 1;
            let full = |state: &mut State| state.running >= self.concurrent_calls_max;
            self.turn.wait_while_for(&mut state, full, wait_max);
            state.waiting -= 1;
            if full(&mut state) {
                return None;
            }
        }
        state.running += 1;
        let warm = state.idle.pop();
        Some(Turn { pool: self, warm })
    }
}

impl Idle for Pool {
    fn drop_idle(&self) {
        let idle = std::mem::take(&mut self.state.lock().idle);
        drop(idle); // outside the lock
    }
}

impl Turn<'_> {
    /// The warm instance, if there was one.
    pub(crate) fn take(&mut self) -> Option<Instance> {
        self.warm.take()
    }

    /// Keeps an instance that answered well for the next call.
    pub(crate) fn give_back(&mut self, instance: Instance) {
        self.warm = Some(instance);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.running -= 1;
        state.idle.extend(self.warm.take());
        // Waking costs a system call even if no thread sleeps.
        let someone_waits = state.waiting > 0;
        drop(state);
        if someone_waits {
            self.pool.turn.notify_one();
        }
    }
}
