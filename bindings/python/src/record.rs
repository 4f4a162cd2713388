//! One record of a batch. Nothing is copied before it is asked for; `memoryview(record)` sees the value without a copy.

use std::ffi::c_int;

use ottla_client::RecordRef;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use crate::batch::{Batch, timestamp_type, to_python};

/// A record that was read.
///
/// Fields are made when they are asked for: ``value``, ``key`` and ``headers`` copy each time, so keep what you use
/// twice. ``memoryview(record)`` sees the value without a copy. A record keeps the batch alive that it came in.
#[pyclass(frozen, module = "ottla")]
#[derive(Debug)]
pub(crate) struct Record {
    batch: Py<Batch>,
    index: u32,
}

impl Record {
    pub(crate) fn new(batch: Py<Batch>, index: u32) -> Self {
        Self { batch, index }
    }

    fn seen(&self) -> Option<RecordRef<'_>> {
        self.batch.get().get(self.index as usize)
    }
}

#[pymethods]
impl Record {
    #[getter]
    fn topic(&self, py: Python<'_>) -> Py<PyString> {
        self.batch.get().topic_object(py).clone().unbind()
    }

    #[getter]
    fn partition(&self) -> i32 {
        self.batch.get().chunk().partition()
    }

    #[getter]
    fn offset(&self) -> i64 {
        self.seen().map_or(-1, RecordRef::offset)
    }

    /// Milliseconds since 1970, -1 for none.
    #[getter]
    fn timestamp(&self) -> i64 {
        self.seen().map_or(-1, RecordRef::timestamp_ms)
    }

    /// The origin of the timestamp: the producer, or the broker when it appended.
    #[getter]
    fn timestamp_type(&self) -> &'static str {
        timestamp_type(self.batch.get().chunk())
    }

    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        to_python(py, self.seen().and_then(RecordRef::key))
    }

    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        to_python(py, self.seen().and_then(RecordRef::value))
    }

    /// In order; names may repeat.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (name, value) in self.seen().into_iter().flat_map(RecordRef::headers) {
            list.append((String::from_utf8_lossy(name), to_python(py, value)))?;
        }
        Ok(list)
    }

    /// The value of the last header of that name, or ``default``.
    #[pyo3(signature = (name, default = None))]
    fn header<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        let named = self.seen().into_iter().flat_map(RecordRef::headers).filter(|(key, _)| *key == name.as_bytes());
        match named.last() {
            Some((_, value)) => to_python(py, value).map(Bound::into_any),
            None => default,
        }
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let bytes =
            |bytes: Option<&[u8]>| bytes.map_or_else(|| "None".to_owned(), |bytes| format!("{} bytes", bytes.len()));
        let key = to_python(py, self.seen().and_then(RecordRef::key));
        let key = key.map_or_else(|| "None".to_owned(), |key| format!("{key:?}"));
        let value = bytes(self.seen().and_then(RecordRef::value));
        let topic = self.batch.get().topic_object(py);
        let (partition, offset) = (self.partition(), self.offset());
        format!("Record(topic={topic:?}, partition={partition}, offset={offset}, key={key}, value={value})")
    }

    /// The buffer protocol: the value, read-only, without a copy.
    ///
    /// # Safety
    /// Python calls this with a view of its own to be filled in.
    #[allow(unsafe_code)] // The buffer protocol has no safe form in pyo3.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let Some(value) = slf.get().seen().and_then(RecordRef::value) else {
            return Err(PyBufferError::new_err("the record's value is None"));
        };
        // SAFETY: `view` is Python's own. The value lies in the batch's buffer, which never moves or changes and lives as
        // long as this record, to which the filled-in view holds a reference.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), value.as_ptr().cast_mut().cast(), value.len() as isize, 1, flags)
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
