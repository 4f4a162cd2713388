//! Fork detection. A forked child has the parent's memory but none of its threads: a wait for the runtime there
//! never ends, and a lock that a runtime thread held at that moment never becomes free.
//!
//! So everything that belongs to a runtime is wrapped in [`AtHome`]: in a child it gives an error instead of itself, and
//! is forgotten instead of dropped.

use std::mem;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::failure::Failure;

/// How often this process has come out of a fork. Python calls [`forked`] in each child before anything else runs there.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Registered with `os.register_at_fork(after_in_child=…)`.
#[pyfunction]
#[pyo3(name = "_forked")]
pub(crate) fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// The process, told apart from its forked children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home(u32);

impl Home {
    pub(crate) fn here() -> Self {
        Self(GENERATION.load(Ordering::Relaxed))
    }
}

/// Something that works only in the process that made it.
#[derive(Debug)]
pub(crate) struct AtHome<T> {
    home: Home,
    inner: Option<T>,
}

impl<T> AtHome<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { home: Home::here(), inner: Some(inner) }
    }

    /// It, or a clear error in a forked child.
    pub(crate) fn get(&self) -> Result<&T, Failure> {
        match &self.inner {
            Some(inner) if self.home == Home::here() => Ok(inner),
            _ => Err(Failure::forked()),
        }
    }
}

impl<T> Drop for AtHome<T> {
    fn drop(&mut self) {
        if self.home != Home::here() {
            mem::forget(self.inner.take());
        }
    }
}

/// Forks of forks of forks: more than this and a child stays without clients.
const GENERATIONS_MAX: usize = 16;

/// Something there is one of in every process. Reading it takes no lock that a fork could leave locked; it is made with
/// the GIL held, which `os.fork` holds too.
#[derive(Debug)]
pub(crate) struct PerProcess<T>([OnceLock<T>; GENERATIONS_MAX]);

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self([const { OnceLock::new() }; GENERATIONS_MAX])
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.get(Home::here().0 as usize)?.get()
    }

    pub(crate) fn get_or_make(
        &self,
        _py: Python<'_>,
        make: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<&T, Failure> {
        let slot = self.0.get(Home::here().0 as usize).ok_or_else(Failure::forked)?;
        if let Some(made) = slot.get() {
            return Ok(made);
        }
        let new = make()?;
        Ok(slot.get_or_init(|| new))
    }
}
