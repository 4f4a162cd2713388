//! What `send` returns: a promise that costs a reference count in the core. Nothing is made per record on the way back
//! unless the program asks.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ottla_client as core;
use ottla_client::Trouble;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};

use crate::failure::Failure;
use crate::fork::AtHome;
use crate::placement::Placement;
use crate::runtime::{Patience, wait_for};

/// The core's answer about one record.
pub(crate) type Settlement = Result<core::Placement, core::ProduceError>;

/// The outcome of a record with a callback, filled in just before the callback runs.
#[derive(Debug)]
pub(crate) struct Called {
    settlement: Mutex<Option<Settlement>>,
    filled: Condvar,
    trouble: Arc<Trouble>,
}

impl Called {
    pub(crate) fn new(trouble: Arc<Trouble>) -> Self {
        Self { settlement: Mutex::default(), filled: Condvar::new(), trouble }
    }

    pub(crate) fn fill(&self, settlement: Settlement) {
        *self.settlement.lock().unwrap_or_else(PoisonError::into_inner) = Some(settlement);
        self.filled.notify_all();
    }

    fn wait(&self, timeout: Duration) -> Option<Settlement> {
        let settlement = self.settlement.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.filled.wait_timeout_while(settlement, timeout, |settlement| settlement.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

/// Where one record's outcome comes from.
#[derive(Debug)]
pub(crate) enum Promise {
    Shared(core::Delivery),
    Called(Arc<Called>),
    /// One of many that are kept together.
    OneOf(Arc<Vec<Promise>>, usize),
}

impl Promise {
    /// What keeps it from being settled.
    fn trouble(&self) -> Option<Arc<str>> {
        match self {
            Self::Shared(delivery) => delivery.trouble(),
            Self::Called(called) => called.trouble.words(),
            Self::OneOf(promises, at) => promises.get(*at).and_then(Self::trouble),
        }
    }

    fn wait(&self, timeout: Duration) -> Option<Settlement> {
        match self {
            Self::Shared(delivery) if timeout.is_zero() => delivery.result(),
            Self::Shared(delivery) => delivery.wait(timeout),
            Self::Called(called) => called.wait(timeout),
            Self::OneOf(promises, at) => promises.get(*at).and_then(|promise| promise.wait(timeout)),
        }
    }
}

fn not_settled(what: &str, trouble: Option<Arc<str>>) -> Failure {
    Failure::timed_out_by(&format!("{what} not settled yet; delivery goes on"), trouble)
}

/// What became of one record. Dropping it does not take the record back.
#[pyclass(frozen, module = "ottla")]
#[derive(Debug)]
pub(crate) struct Delivery {
    promise: AtHome<Promise>,
}

impl Delivery {
    pub(crate) fn new(promise: Promise) -> Self {
        Self { promise: AtHome::new(promise) }
    }

    fn settlement(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Settlement> {
        let promise = self.promise.get()?;
        if let Some(known) = promise.wait(Duration::ZERO) {
            return Ok(known);
        }
        let known = wait_for(py, Patience::of_seconds(timeout)?, |slice| promise.wait(slice))?;
        Ok(known.ok_or_else(|| not_settled("the record is", promise.trouble()))?)
    }
}

#[pymethods]
impl Delivery {
    /// Wait for the record to be stored; raise the error that kept it from being stored.
    #[pyo3(signature = (timeout = None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Placement> {
        Ok(self.settlement(py, timeout)?.map_err(Failure::from)?.into())
    }

    /// Wait for the outcome; return the error, or None if the record is stored.
    #[pyo3(signature = (timeout = None))]
    fn exception(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<PyErr>> {
        Ok(self.settlement(py, timeout)?.err().map(|error| Failure::from(error).into()))
    }

    /// Whether the outcome is known.
    fn done(&self) -> PyResult<bool> {
        Ok(self.promise.get()?.wait(Duration::ZERO).is_some())
    }

    fn __repr__(&self) -> String {
        match self.promise.get().map(|promise| promise.wait(Duration::ZERO)) {
            Ok(Some(Ok(place))) => {
                format!("Delivery(stored: {}-{} at {})", place.topic, place.partition, OrUnknown(place.offset))
            }
            Ok(Some(Err(error))) => format!("Delivery(failed: {error})"),
            Ok(None) => "Delivery(pending)".to_owned(),
            Err(_) => "Delivery(of another process)".to_owned(),
        }
    }
}

struct OrUnknown(Option<i64>);

impl fmt::Display for OrUnknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(offset) => offset.fmt(f),
            None => f.write_str("an offset the broker does not tell"),
        }
    }
}

/// What became of the records of one ``send_many``, in order.
#[pyclass(frozen, sequence, module = "ottla")]
#[derive(Debug)]
pub(crate) struct Deliveries {
    promises: AtHome<Arc<Vec<Promise>>>,
}

impl Deliveries {
    pub(crate) fn new(promises: Vec<Promise>) -> Self {
        Self { promises: AtHome::new(Arc::new(promises)) }
    }

    fn settlements(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Vec<Settlement>> {
        let promises = self.promises.get()?;
        let patience = Patience::of_seconds(timeout)?;
        let mut known = Vec::with_capacity(promises.len());
        let mut step = |slice: Duration| {
            let until = Instant::now() + slice;
            while let Some(promise) = promises.get(known.len()) {
                known.push(promise.wait(until.saturating_duration_since(Instant::now()))?);
            }
            Some(())
        };
        let all = match step(Duration::ZERO) {
            Some(()) => true,
            None => wait_for(py, patience, step)?.is_some(),
        };
        if !all {
            let left = promises.len() - known.len();
            let trouble = promises.get(known.len()).and_then(Promise::trouble);
            return Err(not_settled(&format!("{left} of {} records are", promises.len()), trouble).into());
        }
        Ok(known)
    }
}

#[pymethods]
impl Deliveries {
    /// Wait for all records to be stored; raise the first error, with a note that counts them.
    #[pyo3(signature = (timeout = None))]
    fn result<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        let settlements = self.settlements(py, timeout)?;
        let (count, failed) = (settlements.len(), settlements.iter().filter(|settlement| settlement.is_err()).count());
        let placements: Result<Vec<Placement>, _> =
            settlements.into_iter().map(|settlement| settlement.map(Placement::from)).collect();
        match placements {
            Ok(placements) => PyList::new(py, placements),
            Err(first) => {
                let error = PyErr::from(Failure::from(first));
                error
                    .value(py)
                    .call_method1("add_note", (format!("{failed} of {count} records failed; this is the first"),))?;
                Err(error)
            }
        }
    }

    /// Wait for all outcomes; return one error or None per record.
    #[pyo3(signature = (timeout = None))]
    fn exceptions(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Vec<Option<PyErr>>> {
        let settlements = self.settlements(py, timeout)?;
        Ok(settlements
            .into_iter()
            .map(|settlement| settlement.err().map(|error| Failure::from(error).into()))
            .collect())
    }

    /// Whether all outcomes are known.
    fn done(&self) -> PyResult<bool> {
        Ok(self.promises.get()?.iter().all(|promise| promise.wait(Duration::ZERO).is_some()))
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.promises.get()?.len())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let promises = self.promises.get()?;
        let one = |at| Delivery::new(Promise::OneOf(Arc::clone(promises), at));
        PyList::new(py, (0..promises.len()).map(one).collect::<Vec<_>>())?.try_iter()
    }

    fn __getitem__(&self, index: isize) -> PyResult<Delivery> {
        let promises = self.promises.get()?;
        let at = if index < 0 { promises.len().checked_add_signed(index) } else { Some(index as usize) };
        match at.filter(|at| *at < promises.len()) {
            Some(at) => Ok(Delivery::new(Promise::OneOf(Arc::clone(promises), at))),
            None => Err(PyIndexError::new_err("deliveries index out of range")),
        }
    }

    fn __repr__(&self) -> PyResult<String> {
        let promises = self.promises.get()?;
        let settled = promises.iter().filter(|promise| promise.wait(Duration::ZERO).is_some()).count();
        Ok(format!("Deliveries({settled} of {} settled)", promises.len()))
    }
}
