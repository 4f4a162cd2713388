//! The consumer as Python sees it. The GIL is released once per poll, and not at all when records are there already.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ottla_client as core;
use ottla_client::{Assignment, ConsumeError, Event, Records, StartFrom, TopicPartition};
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
    /// Hears of partitions that come and go.
    listener: Mutex<Option<Py<PyAny>>>,
    /// Iteration ends when no record came for this many seconds.
    #[pyo3(get)]
    idle_timeout: Option<f64>,
}

impl Consumer {
    /// Batches from the core: at once if there are any, else within `timeout`; none when that is over. Partitions that come
    /// and go are told on the way.
    fn fetch(&self, py: Python<'_>, records_max: usize, timeout: Option<f64>) -> PyResult<Option<Vec<Py<Batch>>>> {
        let core = self.core.get()?;
        let patience = Patience::of_seconds(timeout)?;
        loop {
            let event = match core.try_next(records_max) {
                Ok(None) if timeout.is_some_and(|seconds| seconds <= 0.0) => return Ok(None),
                Ok(None) => {
                    let step = |slice| match self.runtime.block_on(core.next(records_max, slice)) {
                        Ok(Event::Records(records)) if records.is_empty() => None,
                        other => Some(other),
                    };
                    match wait_for(py, patience, step)? {
                        Some(event) => event,
                        None => return Ok(None),
                    }
                }
                Ok(Some(event)) => Ok(event),
                Err(error) => Err(error),
            };
            match event.map_err(Failure::from)? {
                Event::Records(records) => return to_batches(py, records).map(Some),
                Event::Assigned(partitions) => self.tell(py, "assigned", partitions)?,
                Event::Revoked(partitions) => self.tell(py, "revoked", partitions)?,
                Event::Lost(partitions) => self.tell(py, "lost", partitions)?,
            }
        }
    }

    /// Calls the listener on this thread, which polls.
    fn tell(&self, py: Python<'_>, what: &str, partitions: Vec<TopicPartition>) -> PyResult<()> {
        for TopicPartition { topic, partition } in &partitions {
            self.ready.forget(topic, *partition);
        }
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|it| it.clone_ref(py));
        if let Some(listener) = listener {
            listener.call1(py, (what, places(partitions)))?;
        }
        Ok(())
    }

    /// What was handed to Python: iteration may hold records that it has not yet.
    fn uncommitted(&self) -> PyResult<BTreeMap<TopicPartition, i64>> {
        let mut offsets = self.core.get()?.uncommitted();
        for (TopicPartition { topic, partition }, offset) in &mut offsets {
            if let Some(position) = self.ready.position(topic, *partition) {
                *offset = position;
            }
        }
        Ok(offsets)
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

    /// What iteration holds was not handed to Python: it is read again, by whichever member.
    fn give_back(&self) -> PyResult<()> {
        let core = self.core.get()?;
        for TopicPartition { topic, partition } in core.assignment() {
            if let Some(position) = self.ready.position(&topic, partition) {
                core.seek(&topic, partition, StartFrom::Offset(position)).map_err(Failure::from)?;
                self.ready.forget(&topic, partition);
            }
        }
        Ok(())
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

fn places(partitions: impl IntoIterator<Item = TopicPartition>) -> Vec<(String, i32)> {
    partitions.into_iter().map(|it| ((*it.topic).to_owned(), it.partition)).collect()
}

fn to_batches(py: Python<'_>, records: Records) -> PyResult<Vec<Py<Batch>>> {
    records.into_chunks().into_iter().map(|chunk| Py::new(py, Batch::new(py, chunk))).collect()
}

fn to_records(py: Python<'_>, batches: Vec<Py<Batch>>) -> PyResult<Bound<'_, PyList>> {
    let count = batches.iter().map(|batch| batch.get().len()).sum();
    let mut records = Vec::with_capacity(count);
    for batch in batches {
        let len = batch.get().len() as u32;
        records.extend((0..len).map(|index| Record::new(batch.clone_ref(py), index)));
    }
    PyList::new(py, records)
}

#[pymethods]
impl Consumer {
    #[new]
    fn new(py: Python<'_>, settings: &Bound<'_, PyDict>, idle_timeout: Option<f64>) -> PyResult<Self> {
        let runtime = runtime::handle(py)?;
        events::start(py)?;
        let config = settings::consumer(settings, runtime.clone())?;
        let core = AtHome::new(core::Consumer::new(config).map_err(Failure::from)?);
        Ok(Self {
            core,
            runtime,
            ready: Ready::default(),
            closed: AtomicBool::new(false),
            listener: Mutex::default(),
            idle_timeout,
        })
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
        Ok(places(assigned))
    }

    /// Up to ``max_records`` records as soon as there are any; an empty list after ``timeout`` seconds.
    ///
    /// The fast path: one wait, then records that cost next to nothing until their fields are read. Records of one
    /// partition come in offset order. An error concerns one partition (which then waits for a ``seek``) or the
    /// connection (which is being mended): polling again goes on with the rest.
    #[pyo3(signature = (max_records = ITERATION_RECORDS, timeout = Some(1.0)))]
    fn poll<'py>(&self, py: Python<'py>, max_records: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        let batches = self.take(py, max_records, timeout)?;
        to_records(py, batches)
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

    fn _listen(&self, listener: Option<Py<PyAny>>) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = listener;
    }

    #[allow(clippy::needless_pass_by_value)] // As Python hands them over.
    fn _subscribe(&self, topics: Vec<PyBackedStr>) -> PyResult<()> {
        Ok(self.core.get()?.subscribe(&topics).map_err(Failure::from)?)
    }

    fn _subscribe_pattern(&self, expression: &str) -> PyResult<()> {
        Ok(self.core.get()?.subscribe_pattern(expression).map_err(Failure::from)?)
    }

    #[pyo3(signature = (timeout = None))]
    fn _unsubscribe(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.give_back()?;
        let core = self.core.get()?;
        self.waiting(py, None, core.unsubscribe(Patience::of_seconds(timeout)?.left()))
    }

    #[pyo3(signature = (timeout = None))]
    fn _commit(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let offsets = self.uncommitted()?;
        let core = self.core.get()?;
        self.waiting(py, None, core.commit_offsets(&offsets, Patience::of_seconds(timeout)?.left()))
    }

    #[pyo3(signature = (offsets, timeout = None))]
    fn _commit_offsets(
        &self,
        py: Python<'_>,
        offsets: Vec<(PyBackedStr, i32, i64)>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let core = self.core.get()?;
        let offsets =
            offsets.into_iter().map(|(topic, partition, offset)| (TopicPartition::new(&*topic, partition), offset));
        self.waiting(py, None, core.commit_offsets(&offsets.collect(), Patience::of_seconds(timeout)?.left()))
    }

    #[pyo3(signature = (partitions, timeout = None))]
    fn _committed(
        &self,
        py: Python<'_>,
        partitions: Vec<(PyBackedStr, i32)>,
        timeout: Option<f64>,
    ) -> PyResult<Vec<(String, i32, i64)>> {
        let core = self.core.get()?;
        let partitions: Vec<_> =
            partitions.into_iter().map(|(topic, partition)| TopicPartition::new(&*topic, partition)).collect();
        let found = self.waiting(py, None, core.committed(&partitions, Patience::of_seconds(timeout)?.left()))?;
        Ok(found.into_iter().map(|(it, offset)| ((*it.topic).to_owned(), it.partition, offset)).collect())
    }

    /// The offsets that a commit would commit.
    fn _uncommitted(&self) -> PyResult<Vec<(String, i32, i64)>> {
        let offsets = self.uncommitted()?.into_iter();
        Ok(offsets.map(|(it, offset)| ((*it.topic).to_owned(), it.partition, offset)).collect())
    }

    /// Records that are there already; none while the listener has to be called.
    fn _poll_at_once<'py>(&self, py: Python<'py>, max_records: usize) -> PyResult<Bound<'py, PyList>> {
        let left = self.ready.take(py, max_records)?;
        let batches = if left.is_empty() {
            let found = self.core.get()?.try_records(max_records).map_err(Failure::from)?;
            found.map_or_else(|| Ok(Vec::new()), |records| to_batches(py, records))?
        } else {
            left
        };
        to_records(py, batches)
    }

    /// Leave the group and stop fetching. After a failure, what was polled last is not committed.
    #[pyo3(signature = (timeout, failed))]
    fn _leave(&self, py: Python<'_>, timeout: Option<f64>, failed: bool) -> PyResult<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let core = self.core.get()?;
        let left = Patience::of_seconds(timeout)?.left();
        let left = if failed {
            self.waiting(py, None, core.abandon(left))
        } else {
            self.give_back().and_then(|()| self.waiting(py, None, core.leave(left)))
        };
        core.close();
        left
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
