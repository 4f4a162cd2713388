//! The consumer as Python sees it. The GIL is released once per poll, and not at all when records are there already.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ottla_client as core;
use ottla_client::{Assignment, ConsumeError, Records};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyList};
use tokio::runtime::Handle;

use crate::batch::Batch;
use crate::events;
use crate::failure::Failure;
use crate::fork::AtHome;
use crate::ready::Ready;
use crate::record::Record;
use crate::runtime::{self, Patience, block_on, wait_for};
use crate::settings;
use crate::start::Start;

/// Iteration takes this many records from the core at a time.
const ITERATION_RECORDS: usize = 500;
/// How often a start that is still being looked up is asked for.
const POSITION_CHECK: Duration = Duration::from_millis(5);

/// Reads records.
#[pyclass(frozen, subclass, module = "ottla._core")]
#[derive(Debug)]
pub(crate) struct Consumer {
    core: AtHome<core::Consumer>,
    runtime: Handle,
    ready: Ready,
    closed: AtomicBool,
    /// Iteration ends when no record came for this many seconds.
    #[pyo3(get)]
    idle_timeout: Option<f64>,
}

impl Consumer {
    /// Batches from the core: at once if there are any, else within `timeout`; none when that is over.
    fn fetch(&self, py: Python<'_>, records_max: usize, timeout: Option<f64>) -> PyResult<Option<Vec<Py<Batch>>>> {
        let core = self.core.get()?;
        let fetched = match core.try_poll(records_max) {
            Ok(Some(records)) => Ok(records),
            Ok(None) if timeout.is_some_and(|seconds| seconds <= 0.0) => return Ok(None),
            Ok(None) => {
                let step = |slice| match self.runtime.block_on(core.poll(records_max, slice)) {
                    Ok(records) if records.is_empty() => None,
                    other => Some(other),
                };
                match wait_for(py, Patience::of_seconds(timeout)?, step)? {
                    Some(fetched) => fetched,
                    None => return Ok(None),
                }
            }
            Err(error) => Err(error),
        };
        match fetched {
            Ok(records) => to_batches(py, records).map(Some),
            Err(error) => Err(Failure::from(error).into()),
        }
    }

    /// Batches that iteration left over, else from the core.
    fn take(&self, py: Python<'_>, records_max: usize, timeout: Option<f64>) -> PyResult<Vec<Py<Batch>>> {
        let left = self.ready.take(py, records_max)?;
        if left.is_empty() {
            return Ok(self.fetch(py, records_max, timeout)?.unwrap_or_default());
        }
        Ok(left)
    }

    /// Takes in what iteration draws from. False when it ends.
    fn fill(&self, py: Python<'_>, records_max: usize) -> PyResult<bool> {
        if self.closed() {
            return Ok(false);
        }
        match self.fetch(py, records_max, self.idle_timeout) {
            Ok(Some(batches)) => {
                let core = self.core.get()?;
                self.ready.put(batches, |chunk| core.is_current(chunk));
                Ok(true)
            }
            Ok(None) => Ok(false),
            // Another thread closed it while this one waited.
            Err(_) if self.closed() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn waiting<F, T>(&self, py: Python<'_>, timeout: Option<f64>, future: F) -> PyResult<T>
    where
        F: Future<Output = Result<T, ConsumeError>> + Send,
        T: Send,
    {
        let answer = block_on(py, &self.runtime, Patience::of_seconds(timeout)?, future)?;
        Ok(answer.ok_or_else(|| Failure::timed_out("no broker answered in time"))?.map_err(Failure::from)?)
    }
}

fn to_batches(py: Python<'_>, records: Records) -> PyResult<Vec<Py<Batch>>> {
    records.into_chunks().into_iter().map(|chunk| Py::new(py, Batch::new(py, chunk))).collect()
}

#[pymethods]
impl Consumer {
    #[new]
    fn new(py: Python<'_>, settings: &Bound<'_, PyDict>, idle_timeout: Option<f64>) -> PyResult<Self> {
        let runtime = runtime::handle(py)?;
        events::start(py)?;
        let config = settings::consumer(settings, runtime.clone())?;
        let core = AtHome::new(core::Consumer::new(config).map_err(Failure::from)?);
        Ok(Self { core, runtime, ready: Ready::default(), closed: AtomicBool::new(false), idle_timeout })
    }

    /// Reads every partition that the topic has now.
    #[pyo3(signature = (topic, start, timeout = None))]
    fn _assign_topic(&self, py: Python<'_>, topic: &str, start: Start, timeout: Option<f64>) -> PyResult<Vec<i32>> {
        let core = self.core.get()?;
        let partitions = self.waiting(py, timeout, core.assign_topic(topic, start.0))?;
        for partition in &partitions {
            self.ready.forget(topic, *partition);
        }
        Ok(partitions)
    }

    /// Reads these partitions, too.
    #[pyo3(signature = (partitions, start, timeout = None))]
    fn _assign(
        &self,
        py: Python<'_>,
        partitions: Vec<(PyBackedStr, i32)>,
        start: Start,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let core = self.core.get()?;
        let assignments = partitions.into_iter();
        let assignments: Vec<Assignment> = assignments
            .map(|(topic, partition)| Assignment { topic: (&*topic).into(), partition, start: start.0 })
            .collect();
        self.waiting(py, timeout, core.assign(&assignments))?;
        for Assignment { topic, partition, .. } in &assignments {
            self.ready.forget(topic, *partition);
        }
        Ok(())
    }

    fn _unassign(&self, topic: &str, partition: i32) -> PyResult<()> {
        self.core.get()?.unassign(topic, partition);
        self.ready.forget(topic, partition);
        Ok(())
    }

    fn _assignment(&self) -> PyResult<Vec<(String, i32)>> {
        let assigned = self.core.get()?.assignment();
        Ok(assigned.into_iter().map(|part| ((*part.topic).to_owned(), part.partition)).collect())
    }

    /// Up to ``max_records`` records as soon as there are any; an empty list after ``timeout`` seconds.
    ///
    /// The fast path: one wait, then records that cost next to nothing until their fields are read. Records of one
    /// partition come in offset order. An error concerns one partition (which then waits for a ``seek``) or the
    /// connection (which is being mended): polling again goes on with the rest.
    #[pyo3(signature = (max_records = ITERATION_RECORDS, timeout = Some(1.0)))]
    fn poll<'py>(&self, py: Python<'py>, max_records: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        let batches = self.take(py, max_records, timeout)?;
        let count = batches.iter().map(|batch| batch.get().len()).sum();
        let mut records = Vec::with_capacity(count);
        for batch in batches {
            let len = batch.get().len() as u32;
            records.extend((0..len).map(|index| Record::new(batch.clone_ref(py), index)));
        }
        PyList::new(py, records)
    }

    /// Like ``poll``, in batches: each the consecutive records of one partition.
    #[pyo3(signature = (max_records = ITERATION_RECORDS, timeout = Some(1.0)))]
    fn poll_batches(&self, py: Python<'_>, max_records: usize, timeout: Option<f64>) -> PyResult<Vec<Py<Batch>>> {
        self.take(py, max_records, timeout)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Record>> {
        loop {
            if let Some(record) = self.ready.next(py) {
                return Ok(Some(record));
            }
            if !self.fill(py, ITERATION_RECORDS)? {
                return Ok(None);
            }
        }
    }

    /// The next batch or part of one, where iteration by record goes on; None where that ends.
    fn _next_batch(&self, py: Python<'_>, max_records: usize) -> PyResult<Option<Py<Batch>>> {
        loop {
            if let Some(batch) = self.ready.take_one(py, max_records)? {
                return Ok(Some(batch));
            }
            if !self.fill(py, max_records)? {
                return Ok(None);
            }
        }
    }

    fn _seek(&self, topic: &str, partition: i32, start: Start) -> PyResult<()> {
        self.core.get()?.seek(topic, partition, start.0).map_err(Failure::from)?;
        self.ready.forget(topic, partition);
        Ok(())
    }

    #[pyo3(signature = (topic, partition, timeout = None))]
    fn _position(&self, py: Python<'_>, topic: &str, partition: i32, timeout: Option<f64>) -> PyResult<i64> {
        let core = self.core.get()?;
        if let Some(offset) = self.ready.position(topic, partition) {
            return Ok(offset);
        }
        let step = |slice: Duration| match core.position(topic, partition) {
            Ok(None) => {
                thread::sleep(slice.min(POSITION_CHECK));
                None
            }
            Ok(Some(offset)) => Some(Ok(offset)),
            Err(error) => Some(Err(error)),
        };
        let position = wait_for(py, Patience::of_seconds(timeout)?, step)?;
        Ok(position.ok_or_else(|| Failure::timed_out("the start is still being looked up"))?.map_err(Failure::from)?)
    }

    /// The end as of the last fetch.
    fn _high_watermark(&self, topic: &str, partition: i32) -> PyResult<Option<i64>> {
        Ok(self.core.get()?.high_watermark(topic, partition).map_err(Failure::from)?)
    }

    /// The offset that a start stands for, in every partition of a topic.
    #[pyo3(signature = (topic, start, timeout = None))]
    fn _offsets<'py>(
        &self,
        py: Python<'py>,
        topic: &str,
        start: Start,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let core = self.core.get()?;
        let offsets = PyDict::new(py);
        for (partition, offset) in self.waiting(py, timeout, core.offsets(topic, start.0))? {
            offsets.set_item(partition, offset)?;
        }
        Ok(offsets)
    }

    fn _pause(&self, topic: &str, partition: i32, paused: bool) -> PyResult<()> {
        let core = self.core.get()?;
        let done = if paused { core.pause(topic, partition) } else { core.resume(topic, partition) };
        Ok(done.map_err(Failure::from)?)
    }

    /// Stop fetching. Iteration ends, also in other threads.
    fn close(&self) -> PyResult<()> {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.core.get()?.close();
        }
        Ok(())
    }

    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
