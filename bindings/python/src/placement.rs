//! Where a record is stored.

use ottla_client as core;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Where a record is stored.
#[pyclass(frozen, module = "ottla", get_all, eq, hash)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Placement {
    topic: String,
    /// The partition that holds the record: the addressed one, or the one that the topic's partitioner chose.
    partition: i32,
    /// The offset there; None if the broker does not tell (``acks=0``).
    offset: Option<i64>,
    /// Milliseconds since 1970: the record's own, or the broker's if the topic stamps records itself.
    timestamp: i64,
}

impl From<core::Placement> for Placement {
    fn from(place: core::Placement) -> Self {
        Self {
            topic: (*place.topic).to_owned(),
            partition: place.partition,
            offset: place.offset,
            timestamp: place.timestamp_ms,
        }
    }
}

#[pymethods]
impl Placement {
    #[new]
    fn new(topic: String, partition: i32, offset: Option<i64>, timestamp: i64) -> Self {
        Self { topic, partition, offset, timestamp }
    }

    /// For pickle and copy.
    fn __getnewargs__(&self) -> (String, i32, Option<i64>, i64) {
        (self.topic.clone(), self.partition, self.offset, self.timestamp)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let Self { partition, offset, timestamp, .. } = self;
        let topic = PyString::new(py, &self.topic);
        let offset = offset.map_or_else(|| "None".to_owned(), |offset| offset.to_string());
        format!("Placement(topic={topic:?}, partition={partition}, offset={offset}, timestamp={timestamp})")
    }
}
