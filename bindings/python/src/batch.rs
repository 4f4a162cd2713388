//! A run of consecutive records of one partition, as it was received: the unit that records are handed out of.

use std::sync::Arc;

use ottla_client::{Chunk, RecordRef, TimestampType};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList, PyString};

use crate::record::Record;

/// Consecutive records of one partition; its columns are the fastest way to their fields.
#[pyclass(frozen, sequence, module = "ottla")]
#[derive(Debug)]
pub(crate) struct Batch {
    chunk: Arc<Chunk>,
    /// The part of the chunk that this batch is: its other records are handed out elsewhere.
    first: usize,
    count: usize,
    topic: Py<PyString>,
}

impl Batch {
    pub(crate) fn new(py: Python<'_>, chunk: Chunk) -> Self {
        let topic = PyString::intern(py, chunk.topic()).unbind();
        let count = chunk.len();
        Self { chunk: Arc::new(chunk), first: 0, count, topic }
    }

    /// Up to `count` of its records, without the first ones.
    pub(crate) fn part(&self, py: Python<'_>, handed_out: usize, count: usize) -> Self {
        let count = self.count.saturating_sub(handed_out).min(count);
        Self { chunk: Arc::clone(&self.chunk), first: self.first + handed_out, count, topic: self.topic.clone_ref(py) }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The record at this place.
    pub(crate) fn get(&self, index: usize) -> Option<RecordRef<'_>> {
        if index < self.count { self.chunk.get(self.first + index) } else { None }
    }

    /// What all of its records share.
    pub(crate) fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    pub(crate) fn topic_object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.topic.bind(py)
    }

    fn records(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> {
        self.chunk.iter().skip(self.first).take(self.count)
    }
}

/// Bytes copied to Python, None for a null.
pub(crate) fn to_python<'py>(py: Python<'py>, bytes: Option<&[u8]>) -> Option<Bound<'py, PyBytes>> {
    bytes.map(|bytes| PyBytes::new(py, bytes))
}

/// The origin of a chunk's timestamps: its producers, or the broker when it appended.
pub(crate) fn timestamp_type(chunk: &Chunk) -> &'static str {
    match chunk.timestamp_type() {
        TimestampType::CreateTime => "create",
        TimestampType::LogAppendTime => "append",
    }
}

#[pymethods]
impl Batch {
    #[getter]
    fn topic(&self, py: Python<'_>) -> Py<PyString> {
        self.topic.clone_ref(py)
    }

    #[getter]
    fn partition(&self) -> i32 {
        self.chunk.partition()
    }

    #[getter]
    fn timestamp_type(&self) -> &'static str {
        timestamp_type(&self.chunk)
    }

    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.records().map(|record| to_python(py, record.value())))
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.records().map(|record| to_python(py, record.key())))
    }

    fn offsets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.records().map(RecordRef::offset))
    }

    fn timestamps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.records().map(RecordRef::timestamp_ms))
    }

    fn __len__(&self) -> usize {
        self.len()
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyIterator>> {
        let indices = 0..slf.get().len() as u32;
        let records = indices.map(|index| Record::new(slf.clone().unbind(), index));
        PyList::new(slf.py(), records.collect::<Vec<_>>())?.try_iter()
    }

    fn __getitem__(slf: &Bound<'_, Self>, index: isize) -> PyResult<Record> {
        let count = slf.get().len();
        let at = if index < 0 { count.checked_add_signed(index) } else { Some(index as usize) };
        match at.filter(|at| *at < count) {
            Some(at) => Ok(Record::new(slf.clone().unbind(), at as u32)),
            None => Err(PyIndexError::new_err("batch index out of range")),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let first = self.get(0).map_or(-1, RecordRef::offset);
        let (topic, partition, count) = (self.topic.bind(py), self.chunk.partition(), self.len());
        format!("Batch(topic={topic:?}, partition={partition}, {count} records from offset {first})")
    }
}
