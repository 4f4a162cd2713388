//! Why one of the things that a request asked for was not done.

use ottla_wire::ErrorCode;

use crate::topics::TopicChangeError;

/// What an answer says about one thing that a request asked for: the code for programs, the words for people.
pub(super) struct ApiError {
    pub(super) error_code: ErrorCode,
    pub(super) message: String,
}

impl ApiError {
    pub(super) fn new(error_code: ErrorCode, message: impl Into<String>) -> Self {
        Self { error_code, message: message.into() }
    }
}

impl From<TopicChangeError> for ApiError {
    fn from(error: TopicChangeError) -> Self {
        let error_code = match error {
            TopicChangeError::Exists(_) | TopicChangeError::Deleting(_) => ErrorCode::TopicAlreadyExists,
            TopicChangeError::Collides { .. } | TopicChangeError::Name(_) => ErrorCode::InvalidTopicException,
            TopicChangeError::Fewer { .. } => ErrorCode::InvalidPartitions,
            TopicChangeError::Unknown => ErrorCode::UnknownTopicOrPartition,
            TopicChangeError::Meta(_)
            | TopicChangeError::Log(_)
            | TopicChangeError::NoSpace(_)
            | TopicChangeError::Unfinished(_)
            | TopicChangeError::Panicked => {
                tracing::error!("a change of a topic failed: {error}");
                ErrorCode::KafkaStorageError
            }
        };
        Self::new(error_code, error.to_string())
    }
}
