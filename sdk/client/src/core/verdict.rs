//! The broker's word on one batch, and what it means.

use std::sync::Arc;

use ottla_wire::ErrorCode;

use super::lane::Consequence;
use super::outcome::Landing;
use crate::error::RecordError;

/// The broker's word on one batch.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<Arc<str>>,
    pub(crate) landing: Landing,
    pub(crate) append_time_ms: Option<i64>,
    /// Words about single records of a refused batch.
    pub(crate) record_errors: Arc<[RecordError]>,
}

impl Verdict {
    /// Stored there.
    #[cfg(test)]
    pub(crate) fn stored(landing: Landing) -> Self {
        Self { landing, ..Self::refused(ErrorCode::None, None) }
    }

    pub(crate) fn refused(code: ErrorCode, message: Option<Arc<str>>) -> Self {
        Self { code, message, landing: Landing::Untold, append_time_ms: None, record_errors: Arc::default() }
    }

    /// Where the batch is stored, if it is. A duplicate is: under an earlier answer that was lost.
    pub(crate) fn landing(&self) -> Option<Landing> {
        match self.code {
            ErrorCode::None => Some(self.landing.clone()),
            ErrorCode::DuplicateSequenceNumber => Some(Landing::Untold),
            _ => None,
        }
    }

    /// Whether another broker may lead the partition by now.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::NotLeaderOrFollower
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::UnknownTopicId
                | ErrorCode::KafkaStorageError
        )
    }

    /// What a refusal means for the batch and its number.
    pub(crate) fn consequence(&self) -> Consequence {
        match self.code {
            ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId => Consequence::OutOfOrder,
            ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping => {
                Consequence::Fenced
            }
            // The leader appended and then could not say what became of it.
            ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend | ErrorCode::KafkaStorageError => {
                Consequence::Retry { in_doubt: true }
            }
            code if code.is_retriable() => Consequence::Retry { in_doubt: false },
            code => Consequence::Final { in_doubt: !is_checked_before_append(code) },
        }
    }
}

/// Errors that brokers find before they append anything. After any other final error the batch may be stored, so its
/// numbers are not used again: a later batch under them would be taken for a duplicate, acknowledged and lost.
fn is_checked_before_append(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::InvalidRecord
            | ErrorCode::InvalidTimestamp
            | ErrorCode::InvalidTopicException
            | ErrorCode::InvalidRequiredAcks
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::UnsupportedVersion
            | ErrorCode::UnsupportedForMessageFormat
            | ErrorCode::UnsupportedCompressionType
            | ErrorCode::PolicyViolation
            | ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::ProducerFenced
            | ErrorCode::InvalidProducerIdMapping
    )
}
