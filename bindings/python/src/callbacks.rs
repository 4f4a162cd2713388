//! Delivery callbacks: a numbered slip per record with a callback, and nothing at all for the others.

use std::sync::{Arc, Mutex, PoisonError};

use ottla_client::{Ack, AckBatch, DeliverySink, Placement as Place};
use pyo3::prelude::*;

use crate::delivery::Called;
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
#[derive(Debug, Default)]
pub(crate) struct Desk {
    drawer: Mutex<Drawer>,
}

impl Desk {
    /// Keeps a callback; its number is the record's ticket.
    pub(crate) fn keep(&self, callback: Py<PyAny>) -> (u64, Arc<Called>) {
        let called = Arc::new(Called::default());
        let slip = Some(Slip { callback, called: Arc::clone(&called) });
        let mut drawer = self.drawer.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match drawer.free.pop() {
            Some(number) => {
                if let Some(place) = drawer.slips.get_mut(number) {
                    *place = slip;
                }
                number
            }
            None => {
                drawer.slips.push(slip);
                drawer.slips.len() - 1
            }
        };
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
        for batch in batches {
            for ack in batch.iter() {
                if let Some(slip) = self.take(ack.token) {
                    slip.call(py, batch, ack);
                }
            }
        }
    }
}

impl Slip {
    /// A callback that raises must not stop the others: its exception goes where Python puts those nobody can catch.
    fn call(self, py: Python<'_>, batch: &AckBatch, ack: Ack) {
        let settlement = ack.result.map(|(partition, offset)| Place {
            topic: Arc::clone(batch.topic()),
            partition,
            offset,
            timestamp_ms: ack.timestamp_ms,
        });
        self.called.fill(settlement.clone());
        let raised = match settlement {
            Ok(place) => self.callback.call1(py, (None::<PyErr>, Placement::from(place))),
            Err(error) => self.callback.call1(py, (PyErr::from(Failure::from(error)), None::<Placement>)),
        };
        if let Err(error) = raised {
            error.write_unraisable(py, Some(self.callback.bind(py)));
        }
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
