//! The stop of the broker, as threads that wait for something hear of it.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Tells the threads that wait for something that the broker stops, or that there is work.
#[derive(Debug, Default)]
pub struct Stop {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    begun: bool,
    nudged: bool,
}

impl Stop {
    /// The broker stops: nothing waits any more.
    pub(crate) fn begin(&self) {
        self.state.lock().begun = true;
        self.changed.notify_all();
    }

    /// Waits; true when the broker stops.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.begun, at_most);
        state.begun
    }

    /// Waits, or for a nudge; true when the broker stops.
    pub(crate) fn wait_or_nudge(&self, at_most: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.begun && !state.nudged, at_most);
        state.nudged = false;
        state.begun
    }

    /// Ends one [`wait_or_nudge`](Self::wait_or_nudge) early.
    pub(crate) fn nudge(&self) {
        self.state.lock().nudged = true;
        self.changed.notify_all();
    }
}
