//! The core's errors on their way to Python: plain facts here, the classes in `ottla/errors.py`.

use std::sync::Arc;

use ottla_client::{
    AdminError, Classify, ConfigError, ConnectionError, ConsumeError, ProduceError, RecordError, SendError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::exit;

/// Kafka's codes that we find out ourselves before a broker has to say them.
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TOPIC: i16 = 17;

/// What Python needs to know of an error.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Chooses the class where no code does: a key of `_BY_KIND` in errors.py.
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) code: Option<i16>,
    pub(crate) name: &'static str,
    pub(crate) retriable: bool,
    pub(crate) fatal: bool,
    pub(crate) topic: Option<Arc<str>>,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<i64>,
    pub(crate) in_doubt: bool,
    /// The records for which a broker refused a batch.
    pub(crate) record_errors: Arc<[RecordError]>,
}

impl Failure {
    pub(crate) fn new(kind: &'static str, name: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
            name,
            retriable: false,
            fatal: false,
            topic: None,
            partition: None,
            offset: None,
            in_doubt: false,
            record_errors: Arc::default(),
        }
    }

    pub(crate) fn forked() -> Self {
        let message =
            "this client was made before the process forked and works only in the parent: make a new one here";
        Self { fatal: true, ..Self::new("fork", "FORKED", message) }
    }

    /// A wait that is over, and what stands in the way of what it waited for.
    pub(crate) fn timed_out_by(message: &str, trouble: Option<Arc<str>>) -> Self {
        Self::timed_out(trouble.map_or_else(|| message.to_owned(), |words| format!("{message}: {words}")))
    }

    pub(crate) fn timed_out(message: impl Into<String>) -> Self {
        Self { retriable: true, ..Self::new("timeout", "TIMED_OUT", message) }
    }

    fn of(kind: &'static str, name: &'static str, error: &(impl Classify + std::fmt::Display)) -> Self {
        Self {
            code: error.code().map(ottla_client::ErrorCode::code),
            name: error.code().map_or(name, ottla_client::ErrorCode::name),
            retriable: error.is_retriable(),
            fatal: error.is_fatal(),
            ..Self::new(kind, name, error.to_string())
        }
    }

    fn coded(self, code: i16, name: &'static str) -> Self {
        Self { code: Some(code), name, ..self }
    }

    fn at(self, topic: &Arc<str>, partition: i32) -> Self {
        Self { topic: Some(Arc::clone(topic)), partition: (partition >= 0).then_some(partition), ..self }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::of("config", "CONFIG", &error)
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self::of("connection", connection_name(&error), &error)
    }
}

fn connection_name(error: &ConnectionError) -> &'static str {
    match error {
        ConnectionError::Unreachable { .. } => "UNREACHABLE",
        ConnectionError::NotKafka { .. } => "NOT_KAFKA",
        ConnectionError::Lost { .. } => "CONNECTION_LOST",
        ConnectionError::TimedOut { .. } => "REQUEST_TIMED_OUT",
        ConnectionError::Malformed { .. } => "MALFORMED_RESPONSE",
        ConnectionError::Unsupported { .. } => "UNSUPPORTED",
        _ => "CONNECTION",
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match &error {
            SendError::BufferFull { .. } => Self::of("buffer_full", "BUFFER_FULL", &error),
            SendError::RecordTooLarge { .. } => {
                Self::of("broker", "", &error).coded(MESSAGE_TOO_LARGE, "MESSAGE_TOO_LARGE")
            }
            SendError::InvalidTopic(_) => {
                Self::of("broker", "", &error).coded(INVALID_TOPIC, "INVALID_TOPIC_EXCEPTION")
            }
            SendError::NoSuchPartition { topic, partition, .. } => Self::of("broker", "", &error)
                .coded(UNKNOWN_TOPIC_OR_PARTITION, "UNKNOWN_TOPIC_OR_PARTITION")
                .at(topic, *partition),
            SendError::Closed => Self::of("closed", "CLOSED", &error),
            _ => Self::of("delivery", "PRODUCER_FAILED", &error),
        }
    }
}

impl From<ProduceError> for Failure {
    fn from(error: ProduceError) -> Self {
        let plain = |name| Self::of("delivery", name, &error);
        match &error {
            ProduceError::Refused { topic, partition, .. } | ProduceError::InvalidRecord { topic, partition, .. } => {
                let in_doubt = matches!(error, ProduceError::Refused { in_doubt: true, .. });
                let record_errors = error.record_errors().into();
                Self { in_doubt, record_errors, ..plain("REFUSED").at(topic, *partition) }
            }
            ProduceError::TimedOut { in_doubt, .. } => {
                Self { in_doubt: *in_doubt, ..Self::of("delivery_timeout", "DELIVERY_TIMED_OUT", &error) }
            }
            ProduceError::UnknownTopic { topic, .. } => {
                plain("").coded(UNKNOWN_TOPIC_OR_PARTITION, "UNKNOWN_TOPIC_OR_PARTITION").at(topic, -1)
            }
            ProduceError::NoSuchPartition { topic, partition, .. } => {
                plain("").coded(UNKNOWN_TOPIC_OR_PARTITION, "UNKNOWN_TOPIC_OR_PARTITION").at(topic, *partition)
            }
            ProduceError::NotSent(reason) => plain(connection_name(reason)),
            ProduceError::Closed { in_doubt } => Self { in_doubt: *in_doubt, ..plain("CLOSED") },
            _ => plain("NOT_DELIVERED"),
        }
    }
}

impl From<ConsumeError> for Failure {
    fn from(error: ConsumeError) -> Self {
        let plain = |name| Self::of("broker", name, &error);
        match &error {
            ConsumeError::UnknownTopic { topic } => plain("").at(topic, -1),
            ConsumeError::NoSuchPartition { topic, partition, .. } | ConsumeError::Refused { topic, partition, .. } => {
                plain("").at(topic, *partition)
            }
            ConsumeError::NotAssigned { topic, partition } => plain("NOT_ASSIGNED").at(topic, *partition),
            ConsumeError::OffsetOutOfRange { topic, partition, offset, .. }
            | ConsumeError::Truncated { topic, partition, offset, .. }
            | ConsumeError::Corrupt { topic, partition, offset, .. } => {
                Self { offset: Some(*offset), ..plain("").at(topic, *partition) }
            }
            ConsumeError::BatchTooLarge { topic, partition, offset, .. } => {
                let named = plain("").coded(MESSAGE_TOO_LARGE, "MESSAGE_TOO_LARGE").at(topic, *partition);
                Self { offset: Some(*offset), ..named }
            }
            ConsumeError::NoCommittedOffset { topic, partition, .. } => {
                plain("NO_COMMITTED_OFFSET").at(topic, *partition)
            }
            ConsumeError::CommitRefused { topic, partition, .. } => plain("").at(topic, *partition),
            ConsumeError::PolledTooLate { .. } => Self::of("late", "POLLED_TOO_LATE", &error),
            ConsumeError::NoGroup | ConsumeError::Subscribed { .. } | ConsumeError::BadPattern { .. } => {
                Self::of("config", "CONFIG", &error)
            }
            ConsumeError::Connection(reason) => reason.clone().into(),
            ConsumeError::Closed => Self::of("closed", "CLOSED", &error),
            _ => plain("NOT_CONSUMED"),
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Connection(reason) => reason.into(),
            other => Self::of("broker", "NOT_DONE", &other),
        }
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        static FROM_CORE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        Python::attach(|py| {
            exit::hold_back(py);
            let make = FROM_CORE.import(py, "ottla.errors", "from_core");
            let facts = (
                failure.kind,
                failure.message,
                failure.code,
                failure.name,
                failure.retriable,
                failure.fatal,
                failure.topic.as_deref(),
                failure.partition,
                failure.offset,
                failure.in_doubt,
                failure.record_errors.iter().map(|named| (named.index, &*named.message)).collect::<Vec<_>>(),
            );
            match make.and_then(|make| make.call1(facts)) {
                Ok(error) => PyErr::from_value(error),
                Err(error) => error,
            }
        })
    }
}
