//! Delivery callbacks: a numbered slip per record with a callback, and nothing at all for the others.

use std::sync::{Arc, Mutex, PoisonError};

use ottla_client::{Ack, AckBatch, DeliverySink, Placement as Place, Trouble};
use pyo3::prelude::*;

use crate::delivery::{Called, Settlement};
use crate::events::{Events, News};
use crate::failure::Failure;
use crate::placement::Placement;

/// A callback that waits for its record.
#[derive(Debug)]
struct Slip {
    callback: Py<PyAny>,
    called: Arc<Called>,
}

/// Slips by number; numbers are used again.
#[derive(Debug, Default)]
struct Drawer {
    slips: Vec<Option<Slip>>,
    free: Vec<usize>,
}

/// The callbacks of one producer.
#[derive(Debug)]
pub(crate) struct Desk {
    drawer: Mutex<Drawer>,
    /// Takes all settled records of a group in one call, for an event loop; the callbacks are then its futures.
    postbox: Option<Py<PyAny>>,
}

impl Desk {
    pub(crate) fn new(postbox: Option<Py<PyAny>>) -> Self {
        Self { drawer: Mutex::default(), postbox }
    }

    /// Keeps a callback; its number is the record's ticket.
    pub(crate) fn keep(&self, callback: Py<PyAny>, trouble: &Arc<Trouble>) -> (u64, Arc<Called>) {
        let called = Arc::new(Called::new(Arc::clone(trouble)));
        let slip = Some(Slip { callback, called: Arc::clone(&called) });
        let mut drawer = self.drawer.lock().unwrap_or_else(PoisonError::into_inner);
        let number = drawer.free.pop().unwrap_or(drawer.slips.len());
        match drawer.slips.get_mut(number) {
            Some(place) => *place = slip,
            None => drawer.slips.push(slip),
        }
        (number as u64, called)
    }

    /// Takes a callback out: its record is settled, or was not taken over.
    pub(crate) fn take_back(&self, number: u64) -> Option<Py<PyAny>> {
        self.take(number).map(|slip| slip.callback)
    }

    fn take(&self, number: u64) -> Option<Slip> {
        let mut drawer = self.drawer.lock().unwrap_or_else(PoisonError::into_inner);
        let number = number as usize;
        let slip = drawer.slips.get_mut(number)?.take()?;
        drawer.free.push(number);
        Some(slip)
    }

    /// Runs the callbacks of these batches, in the order of sending within each.
    pub(crate) fn call(&self, py: Python<'_>, batches: &[AckBatch]) {
        let acks = batches.iter().flat_map(|batch| batch.iter().map(move |ack| (batch, ack)));
        let slips = acks.filter_map(|(batch, ack)| Some((self.take(ack.token)?, settlement(batch, ack))));
        let Some(postbox) = &self.postbox else {
            return slips.for_each(|(slip, settlement)| slip.call(py, settlement));
        };
        let letters: Vec<_> = slips
            .map(|(slip, settlement)| {
                let (error, placement) = arguments(settlement);
                (slip.callback, error, placement)
            })
            .collect();
        report(py, postbox.call1(py, (letters,)), postbox);
    }
}

fn settlement(batch: &AckBatch, ack: Ack) -> Settlement {
    let topic = Arc::clone(batch.topic());
    let place = |(partition, offset)| Place { topic, partition, offset, timestamp_ms: ack.timestamp_ms };
    ack.result.map(place)
}

/// Error and placement, one of them None.
fn arguments(settlement: Settlement) -> (Option<PyErr>, Option<Placement>) {
    match settlement {
        Ok(place) => (None, Some(Placement::from(place))),
        Err(error) => (Some(PyErr::from(Failure::from(error))), None),
    }
}

/// A callback that raises must not stop the others: its exception goes to the hook for exceptions that cannot be
/// caught.
fn report(py: Python<'_>, called: PyResult<Py<PyAny>>, callback: &Py<PyAny>) {
    if let Err(error) = called {
        error.write_unraisable(py, Some(callback.bind(py)));
    }
}

impl Slip {
    fn call(self, py: Python<'_>, settlement: Settlement) {
        self.called.fill(settlement.clone());
        report(py, self.callback.call1(py, arguments(settlement)), &self.callback);
    }
}

/// How the core reaches the desk: it rings, the events thread goes there.
pub(crate) struct Bell {
    desk: Arc<Desk>,
    events: Arc<Events>,
}

impl Bell {
    pub(crate) fn new(desk: Arc<Desk>, events: Arc<Events>) -> Self {
        Self { desk, events }
    }
}

impl DeliverySink for Bell {
    fn delivered(&self, batches: Vec<AckBatch>) {
        self.events.push(News::Settled(Arc::clone(&self.desk), batches));
    }
}
