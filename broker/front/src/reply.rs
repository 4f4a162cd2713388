//! What the service hands back to the connection: an answer now, later, never, or the end of the connection.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_log::FileRange;
use ottla_wire::{ApiKey, ApiVersion, DecodeError, Message};

use crate::pool::{Pool, PoolError};

/// What becomes of one request. Replies leave in the order of their requests, whatever their kind.
pub enum Reply {
    /// The answer.
    Ready(Response),
    /// The answer comes later. The future is first polled when the replies of all earlier requests have left, so work
    /// that must not wait for those (an append, a plugin call) is done or spawned before this is returned.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// Like `Later`, and no further request of this connection is handled before the future has given its reply, because
    /// the request changes what they would see: topics, settings, plugins, or the end of a partition. It is polled at
    /// once, and may give another reply that comes later.
    Exclusive(Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// No answer: a produce with acks=0.
    Silent,
    /// The connection ends, without an answer to this request and those after it.
    Close(CloseReason),
}

impl Reply {
    /// A reply that `future` will give.
    pub fn later<R: Into<Self>>(future: impl Future<Output = R> + Send + 'static) -> Self {
        Self::Later(Box::pin(async move { future.await.into() }))
    }

    /// A reply that `work` gives, which may block or take long: it is done on a thread of `pool`, when the reply is first
    /// in turn. What the pool refuses is answered by `refused`.
    pub fn pooled<R: Into<Self> + Send + 'static>(
        pool: &Arc<Pool>,
        work: impl FnOnce() -> R + Send + 'static,
        refused: impl FnOnce(PoolError) -> Self + Send + 'static,
    ) -> Self {
        let pool = Arc::clone(pool);
        Self::Later(Box::pin(async move { pool.run(work).await.map_or_else(refused, Into::into) }))
    }

    /// The same reply; where it comes later, no further request of its connection is handled before it is there.
    #[must_use]
    pub fn exclusive(self) -> Self {
        match self {
            Self::Later(future) => Self::Exclusive(future),
            other => other,
        }
    }

    /// Bytes of an answer that is there, those in files not counted.
    pub(crate) fn ready_bytes(&self) -> usize {
        match self {
            Self::Ready(response) => response.memory_bytes(),
            Self::Later(_) | Self::Exclusive(_) | Self::Silent | Self::Close(_) => 0,
        }
    }

    /// Whether it is not yet there.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Later(_) | Self::Exclusive(_))
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Ready(response)
    }
}

impl From<CloseReason> for Reply {
    fn from(reason: CloseReason) -> Self {
        Self::Close(reason)
    }
}

impl<R: Into<Self>> From<Result<R, CloseReason>> for Reply {
    fn from(result: Result<R, CloseReason>) -> Self {
        match result {
            Ok(reply) => reply.into(),
            Err(reason) => Self::Close(reason),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(response) => write!(f, "Ready({} bytes)", response.total_bytes()),
            Self::Later(_) => f.write_str("Later"),
            Self::Exclusive(_) => f.write_str("Exclusive"),
            Self::Silent => f.write_str("Silent"),
            Self::Close(reason) => write!(f, "Close({reason})"),
        }
    }
}

/// The part of a request header that an answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// Which API.
    pub key: ApiKey,
    /// In which version: always one that is served.
    pub version: i16,
    /// The client's number for the request, which its answer carries.
    pub correlation_id: i32,
}

/// A whole response frame, length and header included, as pieces that leave one after the other.
#[derive(Debug)]
pub struct Response {
    /// The beginning of the frame; for most APIs all of it.
    pub head: Bytes,
    /// What follows: record data in files and the bytes between them.
    pub rest: Vec<Piece>,
}

/// A part of a response.
#[derive(Debug)]
pub enum Piece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Record batches in a segment file, which the kernel copies to the socket.
    File(FileRange),
}

impl Piece {
    /// How many bytes it puts on the wire.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(range) => u64::from(range.bytes),
        }
    }

    /// How many of them are in memory.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(_) => 0,
        }
    }

    /// Whether it puts none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a response frame has its correlation id, behind the length.
const CORRELATION_ID_AT: Range<usize> = 4..8;

impl Response {
    /// The frame that carries `message` as the answer to `head`.
    pub fn of<'a, M: Message<'a>>(head: RequestHead, message: &M) -> Self {
        Self::at_version(head, head.version, message)
    }

    /// The same in another version than was asked for: ApiVersions alone may do so.
    pub fn at_version<'a, M: Message<'a>>(head: RequestHead, version: i16, message: &M) -> Self {
        let mut frame = Vec::with_capacity(128);
        ottla_wire::encode_response(head.correlation_id, ApiVersion(version), message, &mut frame);
        Self { head: Bytes::from(frame), rest: Vec::new() }
    }

    /// The answer to `head` with the bytes of an earlier answer that is in memory whole: only the correlation id is another.
    pub fn again(head: RequestHead, earlier: &Self) -> Self {
        let mut frame = BytesMut::from(&earlier.head[..]);
        if let Some(id) = frame.get_mut(CORRELATION_ID_AT) {
            id.copy_from_slice(&head.correlation_id.to_be_bytes());
        }
        Self { head: frame.freeze(), rest: Vec::new() }
    }

    /// How many bytes of it are in memory, and not in files.
    pub fn memory_bytes(&self) -> usize {
        self.head.len() + self.rest.iter().map(Piece::memory_bytes).sum::<usize>()
    }

    /// How many bytes the response puts on the wire.
    pub fn total_bytes(&self) -> u64 {
        self.head.len() as u64 + self.rest.iter().map(Piece::len).sum::<u64>()
    }
}

/// Why the server ends a connection; the log line carries it beside the address of the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// A length field that no request can have.
    #[error("a frame of {0} bytes was announced")]
    NegativeFrame(i32),
    /// A frame above the limit; nothing of it was read.
    #[error("a frame of {bytes} bytes was announced, socket.request.max.bytes is {bytes_max}")]
    FrameTooLarge {
        /// What was announced.
        bytes: i32,
        /// The limit.
        bytes_max: i32,
    },
    /// The first bytes are those of another protocol.
    #[error("it speaks {0}, and this port the Kafka protocol")]
    Foreign(ForeignProtocol),
    /// A key that is not served.
    #[error("API key {0} is not served")]
    UnknownApi(i16),
    /// A version that is not served.
    #[error("version {version} of API {api} is not served")]
    UnsupportedVersion {
        /// The API by name.
        api: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// Bytes that are not what header and version promise.
    #[error("a request does not decode: {0}")]
    Undecodable(#[from] DecodeError),
    /// A produce with acks=0 failed, and closing is the only way to say so.
    #[error("a produce request with acks=0 failed: {0}")]
    UnacknowledgedFailure(String),
    /// All memory that requests may take is taken, and none came free in time.
    #[error("no memory for {bytes} bytes and more within {} s, ottla.memory.max.bytes is {bytes_max}", .patience.as_secs())]
    OutOfMemory {
        /// What the connection holds.
        bytes: usize,
        /// The limit for all connections.
        bytes_max: usize,
        /// How long it waited.
        patience: Duration,
    },
    /// The work that a request asks for was refused, and its answer has no place to say so.
    #[error("{0}")]
    Busy(PoolError),
    /// The service failed on a request, for example because it panicked.
    #[error("the broker failed on a request: {0}")]
    Internal(String),
}

impl CloseReason {
    /// What kind it is: log lines of one kind about one peer are counted instead of written when they become many.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NegativeFrame(_) | Self::FrameTooLarge { .. } => "impossible frames",
            Self::Foreign(_) => "bytes of other protocols",
            Self::UnknownApi(_) | Self::UnsupportedVersion { .. } => "requests that are not served",
            Self::Undecodable(_) => "requests that do not decode",
            Self::UnacknowledgedFailure(_) => "failures with acks=0",
            Self::OutOfMemory { .. } => "want of memory",
            Self::Busy(_) => "work that was refused",
            Self::Internal(_) => "failures of the broker",
        }
    }

    /// What a peer of another protocol is sent before the end, in its own.
    pub(crate) fn farewell(&self) -> Option<&'static [u8]> {
        match self {
            Self::Foreign(ForeignProtocol::Http) => Some(HTTP_FAREWELL.as_bytes()),
            Self::Foreign(ForeignProtocol::Tls) => Some(&TLS_FAREWELL),
            _ => None,
        }
    }
}

/// What may come to a port of Kafka by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignProtocol {
    /// A web browser, curl, a scraper of metrics.
    Http,
    /// A client that was told to encrypt.
    Tls,
}

impl ForeignProtocol {
    /// The protocol that begins with these bytes.
    pub(crate) fn of(start: [u8; 4]) -> Option<Self> {
        match &start {
            b"GET " | b"HEAD" | b"POST" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"PRI " => Some(Self::Http),
            // A handshake record of SSL 3.0 to TLS 1.3.
            [0x16, 0x03, 0..=4, _] => Some(Self::Tls),
            _ => None,
        }
    }
}

impl fmt::Display for ForeignProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Tls => "TLS",
        })
    }
}

const HTTP_FAREWELL: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    This port speaks the Kafka protocol, not HTTP. Metrics are served where metrics.listener says.\n";
/// A fatal alert, `handshake_failure` (RFC 8446, 6.2).
const TLS_FAREWELL: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 40];
