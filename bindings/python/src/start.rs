//! Where to read from, as Python says it: `"earliest"`, `"latest"`, an offset, a datetime.

use ottla_client::StartFrom;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDateTime, PyString};

use crate::moment::Moment;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Start(pub(crate) StartFrom);

impl<'py> FromPyObject<'_, 'py> for Start {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyString>() {
            let word: PyBackedStr = object.extract()?;
            return match &*word {
                "earliest" => Ok(Self(StartFrom::Earliest)),
                "latest" => Ok(Self(StartFrom::Latest)),
                other => Err(PyValueError::new_err(format!("{other:?} is no start: say \"earliest\" or \"latest\""))),
            };
        }
        if object.is_instance_of::<PyDateTime>() {
            return Moment::extract(object).map(|moment| Self(StartFrom::Timestamp(moment.0)));
        }
        match object.extract::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Self(StartFrom::Offset(offset))),
            Ok(_) => Err(PyValueError::new_err("an offset is not negative; say \"latest\" for the end")),
            Err(_) => {
                let kind = object.get_type();
                Err(PyTypeError::new_err(format!("\"earliest\", \"latest\", an offset or a datetime, not {kind}")))
            }
        }
    }
}
