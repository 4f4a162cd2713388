//! The producer as Python sees it. `send` takes no detour: the record is copied once, into the batch that travels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_client as core;
use ottla_client::{ProducerRecord, SendError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use tokio::runtime::Handle;

use crate::callbacks::{Bell, Desk};
use crate::delivery::{Deliveries, Delivery, Promise};
use crate::events::{self, Events};
use crate::failure::Failure;
use crate::fork::AtHome;
use crate::moment::Moment;
use crate::payload::{GivenHeaders, Payload};
use crate::runtime::{self, Patience, block_on, wait_for};
use crate::settings;

/// Sends records.
#[pyclass(frozen, subclass, module = "ottla._core")]
#[derive(Debug)]
pub(crate) struct Producer {
    core: AtHome<core::Producer>,
    runtime: Handle,
    desk: Arc<Desk>,
    events: Arc<Events>,
    /// How long `send` waits for room in the buffer; not at all on an event loop's thread.
    patience: Duration,
    closed: AtomicBool,
}

impl Producer {
    /// Hands one record over, waiting for room in the buffer if need be.
    fn hand_over(
        &self,
        py: Python<'_>,
        record: &ProducerRecord<'_>,
        on_delivery: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Promise> {
        let core = self.core.get()?;
        let Some(callback) = on_delivery else {
            let delivery = self.with_room(py, core, || core.try_send(record))?;
            return Ok(Promise::Shared(delivery));
        };
        let (ticket, called) = self.desk.keep(callback.clone().unbind(), core.trouble());
        match self.with_room(py, core, || core.try_send_ticket(record, ticket)) {
            Ok(()) => Ok(Promise::Called(called)),
            Err(error) => {
                drop(self.desk.take_back(ticket));
                Err(error)
            }
        }
    }

    /// The GIL stays held unless the buffer is full.
    fn with_room<T: Send>(
        &self,
        py: Python<'_>,
        core: &core::Producer,
        attempt: impl Fn() -> Result<T, SendError> + Sync,
    ) -> PyResult<T> {
        let full = match attempt() {
            Err(full @ SendError::BufferFull { .. }) => full,
            other => return Ok(other.map_err(Failure::from)?),
        };
        let step = |slice| {
            self.runtime.block_on(core.wait_for_space(slice));
            match attempt() {
                Err(SendError::BufferFull { .. }) => None,
                other => Some(other),
            }
        };
        let sent = wait_for(py, Patience::of(self.patience), step)?;
        Ok(sent.unwrap_or(Err(full)).map_err(Failure::from)?)
    }

    /// Callbacks of everything settled so far have run when this returns true.
    fn wait_for_callbacks(&self, py: Python<'_>, patience: Patience) -> PyResult<bool> {
        let mark = self.events.mark();
        Ok(wait_for(py, patience, |slice| self.events.wait_told(mark, slice).then_some(()))?.is_some())
    }

    /// Failures of records without a kept delivery and without a callback.
    fn raise_unseen(core: &core::Producer) -> PyResult<()> {
        let Some(unseen) = core.take_unseen_failures() else { return Ok(()) };
        let failure = Failure::from(unseen.first);
        let message = match unseen.records {
            1 => format!("a record was not delivered: {}", failure.message),
            count => format!("{count} records were not delivered; the first: {}", failure.message),
        };
        Err(Failure { message, ..failure }.into())
    }
}

#[pymethods]
impl Producer {
    #[new]
    fn new(py: Python<'_>, settings: &Bound<'_, PyDict>, postbox: Option<Py<PyAny>>) -> PyResult<Self> {
        let runtime = runtime::handle(py)?;
        let events = events::start(py)?;
        let waits = postbox.is_none();
        let desk = Arc::new(Desk::new(postbox));
        let mut config = settings::producer(settings, runtime.clone())?;
        config.sink = Some(Arc::new(Bell::new(Arc::clone(&desk), Arc::clone(&events))));
        let patience = if waits { Duration::from_millis(config.delivery_timeout_ms) } else { Duration::ZERO };
        let core = AtHome::new(core::Producer::new(config).map_err(Failure::from)?);
        Ok(Self { core, runtime, desk, events, patience, closed: AtomicBool::new(false) })
    }

    /// Hand over a record and return at once; wait only while ``buffer_bytes`` are on their way.
    ///
    /// Without ``partition`` the key decides as in every Kafka client; without a key, batches take turns. On a topic
    /// with a partitioner the broker decides, and ``Delivery.result().partition`` tells. ``timestamp`` is a datetime
    /// or milliseconds since 1970; now, by default. ``on_delivery(error, placement)`` runs on a thread of this
    /// package; one of its arguments is None.
    ///
    /// A record that fails while the program holds no ``Delivery`` of it and it has no ``on_delivery`` is reported by
    /// the next ``flush`` or ``close``.
    #[pyo3(signature = (topic, value, *, key = None, headers = None, partition = None, timestamp = None, on_delivery = None))]
    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)] // One record's facts, as Python hands them over.
    fn send<'a>(
        &self,
        py: Python<'_>,
        topic: &str,
        value: Payload<'a>,
        key: Option<Payload<'a>>,
        headers: Option<GivenHeaders>,
        partition: Option<i32>,
        timestamp: Option<Moment>,
        on_delivery: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Delivery> {
        let headers = headers.unwrap_or_default();
        let record = ProducerRecord {
            topic,
            partition,
            key: key.as_ref().and_then(Payload::as_slice),
            value: value.as_slice(),
            headers: &headers.borrowed(),
            timestamp_ms: timestamp.map(|moment| moment.0),
        };
        self.hand_over(py, &record, on_delivery).map(Delivery::new)
    }

    /// Hand over many records, each a value or a ``(key, value)``: half the cost of as many calls of ``send``.
    #[pyo3(signature = (topic, records, *, partition = None, timestamp = None, on_delivery = None))]
    fn send_many(
        &self,
        py: Python<'_>,
        topic: &str,
        records: &Bound<'_, PyAny>,
        partition: Option<i32>,
        timestamp: Option<Moment>,
        on_delivery: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Deliveries> {
        let mut promises = Vec::with_capacity(records.len().unwrap_or(0));
        for item in records.try_iter()? {
            let handed_over = item.and_then(|item| {
                let (key, value) = match item.cast::<PyTuple>() {
                    Ok(pair) => {
                        pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>().map(|(key, value)| (Some(key), value))?
                    }
                    Err(_) => (None, item),
                };
                let key = key.as_ref().map(|key| Payload::extract(key.as_borrowed())).transpose()?;
                let value = Payload::extract(value.as_borrowed())?;
                let record = ProducerRecord {
                    topic,
                    partition,
                    key: key.as_ref().and_then(Payload::as_slice),
                    value: value.as_slice(),
                    headers: &[],
                    timestamp_ms: timestamp.map(|moment| moment.0),
                };
                self.hand_over(py, &record, on_delivery)
            });
            match handed_over {
                Ok(promise) => promises.push(promise),
                Err(error) => {
                    let note = format!("in send_many, record {0}; the {0} before it are on their way", promises.len());
                    error.value(py).call_method1(intern!(py, "add_note"), (note,))?;
                    return Err(error);
                }
            }
        }
        Ok(Deliveries::new(promises))
    }

    /// Wait until everything sent so far is settled and its callbacks have run.
    ///
    /// Raises :class:`~ottla.errors.KafkaTimeoutError` when the time is over (sending goes on), or the first error of
    /// records that failed unseen.
    #[pyo3(signature = (timeout = None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let core = self.core.get()?;
        let patience = Patience::of_seconds(timeout)?;
        let flushed = block_on(py, &self.runtime, patience, core.flush())?.is_some();
        if !flushed || !self.wait_for_callbacks(py, patience)? {
            let trouble = core.trouble().words();
            return Err(Failure::timed_out_by("not everything is settled yet; delivery goes on", trouble).into());
        }
        Self::raise_unseen(core)
    }

    /// Take no more records, wait for those under way, give up what is left after ``timeout`` seconds.
    ///
    /// Raises what ``flush`` raises. Closing again does nothing.
    #[pyo3(signature = (timeout = None))]
    fn close(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let core = self.core.get()?;
        let patience = Patience::of_seconds(timeout)?;
        let closed = block_on(py, &self.runtime, patience, core.close(patience.left()));
        let trouble = core.trouble().words();
        if !matches!(closed, Ok(Some(_))) {
            // Interrupted, or just at the deadline: give up what is left.
            py.detach(|| core.close_blocking(Duration::ZERO));
        }
        let flushed = closed? == Some(true);
        self.wait_for_callbacks(py, Patience::of(CALLBACKS_AFTER_CLOSE))?;
        if !flushed {
            let words = match core.given_up() {
                1 => "closed with a record not yet acknowledged, which is given up".to_owned(),
                count => format!("closed with {count} records not yet acknowledged, which are given up"),
            };
            return Err(Failure::timed_out_by(&words, trouble).into());
        }
        Self::raise_unseen(core)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Records that ``close`` gave up.
    #[getter]
    fn given_up(&self) -> PyResult<usize> {
        Ok(self.core.get()?.given_up())
    }

    /// Bytes sent and not yet settled.
    #[getter]
    fn buffered_bytes(&self) -> PyResult<usize> {
        Ok(self.core.get()?.buffered_bytes())
    }

    /// Waits until the buffer has room again, or something of it was settled.
    fn _wait_for_space(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let core = self.core.get()?;
        let step = |slice| self.runtime.block_on(core.wait_for_space(slice)).then_some(());
        Ok(wait_for(py, Patience::of_seconds(Some(timeout))?, step)?.is_some())
    }

    /// How many partitions a topic has; None if there is no such topic.
    #[pyo3(signature = (topic, timeout = None))]
    fn partition_count(&self, py: Python<'_>, topic: &str, timeout: Option<f64>) -> PyResult<Option<usize>> {
        let core = self.core.get()?;
        let count = block_on(py, &self.runtime, Patience::of_seconds(timeout)?, core.partition_count(topic))?;
        Ok(count.ok_or_else(|| Failure::timed_out("no broker answered in time"))?.map_err(Failure::from)?)
    }
}

/// Given-up records have callbacks too.
const CALLBACKS_AFTER_CLOSE: Duration = Duration::from_secs(5);
