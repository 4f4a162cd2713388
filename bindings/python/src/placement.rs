//! Where a record is stored.

use ottla_client as core;
use pyo3::prelude::*;

/// Topic, partition, offset and timestamp of a stored record.
#[pyclass(frozen, module = "ottla", get_all, eq, hash)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Placement {
    topic: String,
    partition: i32,
    offset: Option<i64>,
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

    fn __repr__(&self) -> String {
        let Self { topic, partition, offset, timestamp } = self;
        let offset = offset.map_or_else(|| "None".to_owned(), |offset| offset.to_string());
        format!("Placement(topic={topic:?}, partition={partition}, offset={offset}, timestamp={timestamp})")
    }
}
