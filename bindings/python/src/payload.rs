//! Bytes that Python hands in: `bytes` are borrowed, everything else with a buffer is copied once.

use ottla_client::Header;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict, PyString};

/// A key or a value, or the null that None stands for.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    Null,
    Borrowed(&'a [u8]),
    Copied(Vec<u8>),
}

impl Payload<'_> {
    pub(crate) fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Self::Null => None,
            Self::Borrowed(bytes) => Some(bytes),
            Self::Copied(bytes) => Some(bytes),
        }
    }

    fn into_owned(self) -> Option<Vec<u8>> {
        match self {
            Self::Null => None,
            Self::Borrowed(bytes) => Some(bytes.to_vec()),
            Self::Copied(bytes) => Some(bytes),
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Payload<'a> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyBytes>() {
            return Ok(Self::Borrowed(object.extract()?));
        }
        if object.is_none() {
            return Ok(Self::Null);
        }
        match PyBuffer::<u8>::get(&object) {
            Ok(buffer) => Ok(Self::Copied(buffer.to_vec(object.py())?)),
            Err(_) if object.is_instance_of::<PyString>() => {
                Err(PyTypeError::new_err("bytes are wanted, not str: say how to encode it, as in text.encode()"))
            }
            Err(_) => Err(PyTypeError::new_err(format!(
                "bytes, bytearray, memoryview or None are wanted, not {}",
                object.get_type().name()?
            ))),
        }
    }
}

/// Headers as Python gave them: pairs in order, names may repeat, values may be None; or a dictionary.
#[derive(Debug, Default)]
pub(crate) struct GivenHeaders(Vec<(PyBackedStr, Option<Vec<u8>>)>);

impl GivenHeaders {
    pub(crate) fn borrowed(&self) -> Vec<Header<'_>> {
        self.0.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect()
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for GivenHeaders {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let pairs = match object.cast::<PyDict>() {
            Ok(dictionary) => dictionary.items().into_any().try_iter()?,
            Err(_) => object.try_iter()?,
        };
        let read = pairs.map(|pair| {
            let (key, value): (PyBackedStr, Bound<'py, PyAny>) = pair?.extract().map_err(|error: PyErr| {
                PyTypeError::new_err(format!("headers are pairs of a str and bytes (or None): {error}"))
            })?;
            Ok((key, Payload::extract(value.as_borrowed())?.into_owned()))
        });
        Ok(Self(read.collect::<PyResult<_>>()?))
    }
}
