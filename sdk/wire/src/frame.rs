//! The 4-byte length in front of every request and response.

use crate::ErrorCode;

/// Bytes of the length itself.
pub const FRAME_LENGTH_BYTES: usize = 4;

/// Why a frame is refused before any of it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is negative.
    #[error("a frame of {length} bytes was announced")]
    Negative {
        /// The announced length.
        length: i32,
    },
    /// The frame would be larger than the reader accepts.
    #[error("a frame of {length} bytes was announced, at most {bytes_max} are accepted")]
    TooLarge {
        /// The announced length.
        length: usize,
        /// The reader's limit.
        bytes_max: usize,
    },
}

impl FrameError {
    /// What a log line or a client error calls this.
    pub const fn error_code(self) -> ErrorCode {
        match self {
            Self::Negative { .. } => ErrorCode::InvalidRequest,
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
        }
    }
}

/// How many bytes follow `prefix`, if that is no more than `bytes_max`.
pub fn frame_length(prefix: [u8; FRAME_LENGTH_BYTES], bytes_max: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    let bytes = usize::try_from(length).map_err(|_| FrameError::Negative { length })?;
    if bytes > bytes_max {
        return Err(FrameError::TooLarge { length: bytes, bytes_max });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_checked_before_it_is_believed() {
        assert_eq!(frame_length([0, 0, 1, 0], 256), Ok(256));
        assert_eq!(frame_length([0, 0, 1, 1], 256), Err(FrameError::TooLarge { length: 257, bytes_max: 256 }));
        assert_eq!(frame_length([0x80, 0, 0, 0], 256), Err(FrameError::Negative { length: i32::MIN }));
        assert!(frame_length([0x7f, 0xff, 0xff, 0xff], 100 << 20).is_err());
    }
}
