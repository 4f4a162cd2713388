//! Points in time as Python gives them: milliseconds since 1970 as an int, or a datetime.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDateTime;

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) i64);

impl<'py> FromPyObject<'_, 'py> for Moment {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(time) = object.cast::<PyDateTime>() {
            // A naive one is local time, as everywhere in Python.
            let seconds: f64 = time.call_method0(intern!(object.py(), "timestamp"))?.extract()?;
            return Ok(Self((seconds * 1000.0).round() as i64));
        }
        object.extract().map(Self).map_err(|_| {
            let kind = object.get_type();
            PyTypeError::new_err(format!("milliseconds since 1970 as an int or a datetime are wanted, not {kind}"))
        })
    }
}
