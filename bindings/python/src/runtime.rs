//! The one tokio runtime of this process, and how a Python thread waits for it: without the GIL, and awake often enough
//! to notice Ctrl-C.
//!
//! No runtime thread ever touches a Python object; what Python must hear of goes through a queue to a thread of its own.

use std::future::Future;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::exit;
use crate::failure::Failure;
use crate::fork::PerProcess;

/// How often a waiting thread asks Python for signals.
const SIGNAL_CHECK: Duration = Duration::from_millis(100);
/// Sockets and codecs share these.
const WORKERS: usize = 2;

/// Never dropped: its threads end with the process. A forked child has none of them and gets a runtime of its own.
static RUNTIME: PerProcess<Runtime> = PerProcess::new();

pub(crate) fn handle(py: Python<'_>) -> Result<Handle, Failure> {
    let made = RUNTIME.get_or_make(py, || {
        let built = Builder::new_multi_thread().worker_threads(WORKERS).thread_name("ottla").enable_all().build();
        built.map_err(|error| Failure::new("config", "NO_THREADS", format!("cannot start threads: {error}")))
    });
    Ok(made?.handle().clone())
}

/// How long a call may wait: None is for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    deadline: Option<Instant>,
}

impl Patience {
    /// From Python's `timeout`: seconds, or None.
    pub(crate) fn of_seconds(timeout: Option<f64>) -> PyResult<Self> {
        let Some(seconds) = timeout else { return Ok(Self { deadline: None }) };
        if seconds.is_nan() {
            return Err(PyValueError::new_err("timeout is not a number"));
        }
        Ok(Self::of(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)))
    }

    pub(crate) fn of(wait: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(wait) }
    }

    /// What is left of it.
    pub(crate) fn left(self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn slice(self) -> Duration {
        self.left().min(SIGNAL_CHECK)
    }
}

/// Calls `step` with a short time to wait, again and again, until it has an answer or patience ends (then: none).
pub(crate) fn wait_for<T: Send>(
    py: Python<'_>,
    patience: Patience,
    mut step: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    loop {
        let slice = patience.slice();
        let answer = py.detach(|| {
            let answer = step(slice);
            exit::hold_back_detached();
            answer
        });
        if let Some(answer) = answer {
            return Ok(Some(answer));
        }
        py.check_signals()?;
        if patience.left().is_zero() {
            return Ok(None);
        }
    }
}

/// Waits for a future of the core. A signal or the end of patience drops it.
pub(crate) fn block_on<F>(
    py: Python<'_>,
    runtime: &Handle,
    patience: Patience,
    future: F,
) -> PyResult<Option<F::Output>>
where
    F: Future + Send,
    F::Output: Send,
{
    let mut future = Box::pin(future);
    wait_for(py, patience, |slice| runtime.block_on(async { tokio::time::timeout(slice, &mut future).await.ok() }))
}
