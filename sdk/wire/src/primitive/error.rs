//! What can be wrong with bytes that should be a message.

use crate::{ApiVersion, ErrorCode};

/// A message that could not be decoded: what is wrong, and in which field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct DecodeError {
    /// `Struct.field`, or what stands there if it is no field.
    pub place: &'static str,
    /// What is wrong.
    pub fault: DecodeFault,
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFault {
    /// The input ends in the middle of a value.
    #[error("needs {needed} bytes, {remaining} are left")]
    Truncated {
        /// Bytes the value takes.
        needed: usize,
        /// Bytes there are.
        remaining: usize,
    },
    /// A length or count below −1, or −1 where null is not allowed.
    #[error("the length {length} is not allowed here")]
    BadLength {
        /// The length as read.
        length: i64,
    },
    /// More elements than bytes that could hold them.
    #[error("{count} elements cannot fit into the {remaining} bytes left")]
    CountTooLarge {
        /// The declared number of elements.
        count: usize,
        /// Bytes there are.
        remaining: usize,
    },
    /// The elements would take more memory than the frame is granted.
    #[error("{count} elements would take more memory than the {bytes_left} bytes this frame may still use")]
    OverBudget {
        /// The declared number of elements.
        count: usize,
        /// What the budget still holds.
        bytes_left: usize,
    },
    /// A variable-length integer that is longer than its type.
    #[error("a variable-length integer does not end where its type ends")]
    VarintTooLong,
    /// A string that is not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A tagged field that is longer or shorter than it says.
    #[error("the tagged field {tag} leaves {unread} of its bytes unread")]
    TagNotConsumed {
        /// The tag.
        tag: u32,
        /// Bytes between the end of the value and the end of the field.
        unread: usize,
    },
    /// The message does not exist in this version.
    #[error("version {version} is not served")]
    UnsupportedVersion {
        /// The version asked for.
        version: ApiVersion,
    },
}

impl DecodeError {
    /// An error at `place`.
    pub const fn new(place: &'static str, fault: DecodeFault) -> Self {
        Self { place, fault }
    }

    /// Names the field the error happened in. The innermost field wins; an error that already has a place keeps it.
    #[must_use]
    pub fn within(self, place: &'static str) -> Self {
        if self.place.is_empty() { Self { place, ..self } } else { self }
    }

    /// The Kafka error that answers such a request.
    pub const fn error_code(&self) -> ErrorCode {
        match self.fault {
            DecodeFault::UnsupportedVersion { .. } => ErrorCode::UnsupportedVersion,
            _ => ErrorCode::InvalidRequest,
        }
    }
}

impl From<DecodeFault> for DecodeError {
    fn from(fault: DecodeFault) -> Self {
        Self { place: "", fault }
    }
}
