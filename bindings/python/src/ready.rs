//! Records that were taken from the core and not yet handed to Python: what iteration draws from.
//!
//! The lock is never held while Python code can run, which any allocation of a Python object may make it do.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ottla_client::Chunk;
use pyo3::prelude::*;

use crate::batch::Batch;
use crate::record::Record;

#[derive(Debug, Default)]
struct Shelf {
    batches: VecDeque<Py<Batch>>,
    /// How many records of the first batch are handed out.
    handed_out: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Ready(Mutex<Shelf>);

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps those whose reader is still where they were fetched from: a seek on another thread forgets what it finds here,
    /// and asks `is_current` under the same lock.
    pub(crate) fn put(&self, batches: Vec<Py<Batch>>, is_current: impl Fn(&Chunk) -> bool) {
        let _outdated = {
            let mut on_shelf = self.lock();
            let (current, outdated): (Vec<_>, Vec<_>) =
                batches.into_iter().partition(|batch| is_current(batch.get().chunk()));
            on_shelf.batches.extend(current);
            outdated
        };
    }

    /// The next record.
    pub(crate) fn next(&self, py: Python<'_>) -> Option<Record> {
        let (batch, index, _done) = {
            let mut on_shelf = self.lock();
            let first = on_shelf.batches.front()?;
            let (batch, index) = (first.clone_ref(py), on_shelf.handed_out);
            on_shelf.handed_out += 1;
            let is_last = on_shelf.handed_out >= batch.get().len();
            let done = if is_last { on_shelf.pop() } else { None };
            (batch, index, done)
        };
        Some(Record::new(batch, index as u32))
    }

    /// At most this many records, in batches; the first and the last one may be parts.
    pub(crate) fn take(&self, py: Python<'_>, records_max: usize) -> PyResult<Vec<Py<Batch>>> {
        let mut taken = Vec::new();
        let mut left = records_max.max(1);
        let handed_out = {
            let mut on_shelf = self.lock();
            let handed_out = on_shelf.handed_out;
            while let Some(batch) = on_shelf.batches.front() {
                let count = batch.get().len() - on_shelf.handed_out;
                if count > left {
                    // The rest stays.
                    taken.push(batch.clone_ref(py));
                    on_shelf.handed_out += left;
                    break;
                }
                left -= count;
                taken.extend(on_shelf.pop());
                if left == 0 {
                    break;
                }
            }
            handed_out
        };
        let mut left = records_max.max(1);
        for (batch, handed_out) in taken.iter_mut().zip(std::iter::once(handed_out).chain(std::iter::repeat(0))) {
            if handed_out > 0 || batch.get().len() > left {
                let part = batch.get().part(py, handed_out, left);
                *batch = Py::new(py, part)?;
            }
            left = left.saturating_sub(batch.get().len());
        }
        Ok(taken)
    }

    /// Up to so many records of the first batch.
    pub(crate) fn take_one(&self, py: Python<'_>, records_max: usize) -> PyResult<Option<Py<Batch>>> {
        let count = {
            let on_shelf = self.lock();
            on_shelf.batches.front().map_or(0, |first| first.get().len() - on_shelf.handed_out)
        };
        if count == 0 { Ok(None) } else { Ok(self.take(py, count.min(records_max))?.into_iter().next()) }
    }

    /// The offset of the next record of this partition, if there is one here.
    pub(crate) fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        let on_shelf = self.lock();
        let at = on_shelf.batches.iter().position(|batch| is_of(batch, topic, partition))?;
        let handed_out = if at == 0 { on_shelf.handed_out } else { 0 };
        Some(on_shelf.batches.get(at)?.get().get(handed_out)?.offset())
    }

    /// Forgets what is here of this partition.
    pub(crate) fn forget(&self, topic: &str, partition: i32) {
        let _forgotten = {
            let mut on_shelf = self.lock();
            if on_shelf.batches.front().is_some_and(|first| is_of(first, topic, partition)) {
                on_shelf.handed_out = 0;
            }
            let (kept, forgotten): (VecDeque<_>, VecDeque<_>) =
                mem::take(&mut on_shelf.batches).into_iter().partition(|batch| !is_of(batch, topic, partition));
            on_shelf.batches = kept;
            forgotten
        };
    }
}

impl Shelf {
    fn pop(&mut self) -> Option<Py<Batch>> {
        self.handed_out = 0;
        self.batches.pop_front()
    }
}

fn is_of(batch: &Py<Batch>, topic: &str, partition: i32) -> bool {
    let chunk = batch.get().chunk();
    chunk.partition() == partition && &**chunk.topic() == topic
}
