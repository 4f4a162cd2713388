//! The end of the interpreter. From its first step on, only the thread that ends it and the thread of the callbacks hear
//! of anything: an error raised into a thread that Python is about to abandon is printed over a lock that its owner may
//! never release, and the interpreter aborts on that.
//!
//! Threads that are not daemons have ended before the first step.

use std::sync::OnceLock;
use std::thread::{self, ThreadId};
use std::time::Duration;

use pyo3::prelude::*;

use crate::events;

static ENDED_BY: OnceLock<ThreadId> = OnceLock::new();

/// Called at the interpreter's exit, before clients are closed.
#[pyfunction]
#[pyo3(name = "_begin_exit")]
pub(crate) fn begin() {
    ENDED_BY.get_or_init(|| thread::current().id());
}

/// Whether this thread has nothing more to do with Python.
fn is_abandoned() -> bool {
    let Some(ended_by) = ENDED_BY.get() else { return false };
    let here = thread::current().id();
    here != *ended_by && events::current().and_then(|events| events.thread_id()) != Some(here)
}

/// Does not return on a thread that Python is about to abandon. Called with the GIL held.
pub(crate) fn hold_back(py: Python<'_>) {
    if is_abandoned() {
        py.detach(park);
    }
}

/// The same for a thread that does not hold the GIL and is about to take it.
pub(crate) fn hold_back_detached() {
    if is_abandoned() {
        park();
    }
}

fn park() {
    loop {
        thread::park_timeout(Duration::from_hours(1));
    }
}
