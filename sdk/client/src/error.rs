//! What can go wrong, one enum per operation. Every enum answers the same three questions, see [`Classify`].

use std::sync::Arc;

use ottla_wire::ErrorCode;

/// The questions a binding or a retry loop asks of any error of this crate.
pub trait Classify {
    /// The Kafka error code, when a broker gave one.
    fn code(&self) -> Option<ErrorCode>;
    /// Whether trying the same thing again later can succeed.
    fn is_retriable(&self) -> bool;
    /// Whether the object that returned it is of no more use and must be made anew.
    fn is_fatal(&self) -> bool {
        false
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// No bootstrap address was given.
    #[error("no bootstrap address: give at least one HOST:PORT")]
    NoBootstrap,
    /// A bootstrap address is not `HOST:PORT`.
    #[error("{0:?} is no address: write HOST:PORT, for example 127.0.0.1:9092")]
    BadAddress(String),
    /// Neither a runtime handle was configured nor is the caller inside a tokio runtime.
    #[error("no tokio runtime: call from inside one, or set `ClientConfig::runtime`")]
    NoRuntime,
    /// Idempotence needs acknowledgement by the durable log.
    #[error("an idempotent producer needs acks=all: set `idempotent` to false to use acks=0 or acks=1")]
    IdempotenceNeedsAcksAll,
    /// A setting that may not be empty.
    #[error("{name} is empty")]
    Missing {
        /// The setting.
        name: &'static str,
    },
    /// A number outside its range.
    #[error("{name} is {value}, it must be {bound}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The range in words.
        bound: &'static str,
    },
}

impl Classify for ConfigError {
    fn code(&self) -> Option<ErrorCode> {
        None
    }
    fn is_retriable(&self) -> bool {
        false
    }
}

/// Why a request got no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The address does not resolve or nothing listens there.
    #[error("cannot reach {address}: {reason}{hint}")]
    Unreachable {
        /// The address tried.
        address: Arc<str>,
        /// What the system said, and after how many attempts if there was more than one.
        reason: Arc<str>,
        /// What the user can do, starting with `; `, or empty.
        hint: Arc<str>,
    },
    /// The peer accepts connections and speaks something else.
    #[error("{address} does not answer like a Kafka broker: {reason}")]
    NotKafka {
        /// The peer.
        address: Arc<str>,
        /// What it did.
        reason: Arc<str>,
    },
    /// The connection ended while requests were in flight.
    #[error("connection to {address} lost: {reason}")]
    Lost {
        /// The peer.
        address: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// No answer in time.
    #[error("{address} did not answer {api} within {timeout_ms} ms")]
    TimedOut {
        /// The peer.
        address: Arc<str>,
        /// The request.
        api: &'static str,
        /// The configured `request_timeout_ms`.
        timeout_ms: u64,
    },
    /// The peer sent bytes that are no answer to what was asked.
    #[error("{address} sent a malformed {api} response: {reason}")]
    Malformed {
        /// The peer.
        address: Arc<str>,
        /// The request.
        api: &'static str,
        /// What is wrong with the bytes.
        reason: Arc<str>,
    },
    /// Broker and client have no version of this API in common.
    #[error("{address} does not offer {api} (this client speaks versions {low} to {high})")]
    Unsupported {
        /// The peer.
        address: Arc<str>,
        /// The request.
        api: &'static str,
        /// Our lowest version.
        low: i16,
        /// Our highest version.
        high: i16,
    },
    /// The metadata names no such broker.
    #[error("broker {node} is not part of the cluster any more")]
    UnknownBroker {
        /// Its node id.
        node: i32,
    },
}

impl ConnectionError {
    /// The same, as the last of so many attempts.
    pub(crate) fn after(self, attempts: u32) -> Self {
        match self {
            Self::Unreachable { address, reason, hint } if attempts > 1 => {
                Self::Unreachable { address, reason: format!("{reason} ({attempts} attempts)").into(), hint }
            }
            other => other,
        }
    }
}

impl Classify for ConnectionError {
    fn code(&self) -> Option<ErrorCode> {
        None
    }
    fn is_retriable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Lost { .. } | Self::TimedOut { .. } | Self::UnknownBroker { .. }
        )
    }
}

/// Why a record was not taken over. Nothing was buffered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// `buffer_bytes` are waiting for acknowledgement; wait for space and try again.
    #[error(
        "the producer's buffer of {buffer_bytes} bytes is full: the broker takes records more slowly than they are sent"
    )]
    BufferFull {
        /// The configured bound.
        buffer_bytes: usize,
    },
    /// The record can never be sent with these settings.
    #[error("record of {bytes} bytes is larger than request_bytes_max ({max} bytes)")]
    RecordTooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Empty, too long, or with characters outside `[a-zA-Z0-9._-]`.
    #[error("{0:?} is no topic name: use 1 to 249 of the characters a-z A-Z 0-9 . _ -")]
    InvalidTopic(String),
    /// An explicit partition that the topic does not have.
    #[error("topic {topic} has partitions 0 to {last}, not {partition}", last = .count - 1)]
    NoSuchPartition {
        /// The topic.
        topic: Arc<str>,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        count: i32,
    },
    /// The producer was closed.
    #[error("the producer is closed")]
    Closed,
    /// The producer met an error that it cannot outlive.
    #[error("the producer has failed: {0}")]
    Failed(ProduceError),
}

impl Classify for SendError {
    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Failed(error) => error.code(),
            _ => None,
        }
    }
    fn is_retriable(&self) -> bool {
        matches!(self, Self::BufferFull { .. })
    }
    fn is_fatal(&self) -> bool {
        matches!(self, Self::Closed | Self::Failed(_))
    }
}

/// A record for which a broker refused a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// The record's index in its batch, from 0.
    pub index: u32,
    /// The broker's words about it.
    pub message: Arc<str>,
}

/// Why a record that was taken over is not known to be stored.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The broker refused the record's batch; nothing of it is stored unless it is in doubt.
    #[error("{topic}-{partition}: {}{}{}", .code.name(), colon(.message.as_deref()), if *.in_doubt { IN_DOUBT } else { "" })]
    Refused {
        /// The topic.
        topic: Arc<str>,
        /// The addressed partition.
        partition: i32,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<Arc<str>>,
        /// The records of the batch that the broker named, by their index in it.
        record_errors: Arc<[RecordError]>,
        /// An earlier attempt was not answered, or the broker may have failed after it stored the batch.
        in_doubt: bool,
    },
    /// The broker refused the batch because of this very record.
    #[error("{topic}-{partition}: the record was refused: {message}")]
    InvalidRecord {
        /// The topic.
        topic: Arc<str>,
        /// The addressed partition.
        partition: i32,
        /// Kafka's code of the batch.
        code: ErrorCode,
        /// The broker's words about the record.
        message: Arc<str>,
        /// All records of the batch that the broker named, this one included.
        record_errors: Arc<[RecordError]>,
    },
    /// `delivery_timeout_ms` passed.
    #[error("not acknowledged within {timeout_ms} ms{}{}", if *.in_doubt { IN_DOUBT } else { "; it is not stored" }, colon(.last.as_deref()))]
    TimedOut {
        /// The configured bound.
        timeout_ms: u64,
        /// The record had been sent and its answer is missing: it may be stored.
        in_doubt: bool,
        /// What stood in the way at last.
        last: Option<Arc<str>>,
    },
    /// The topic stayed unknown for `topic_wait_ms`.
    #[error("topic {topic} does not exist ({}); create it with `ottla topic create {topic}`", .code.name())]
    UnknownTopic {
        /// The topic.
        topic: Arc<str>,
        /// What the broker says of it.
        code: ErrorCode,
    },
    /// An explicit partition that the topic turned out not to have.
    #[error("topic {topic} has partitions 0 to {last}, not {partition}", last = .count - 1)]
    NoSuchPartition {
        /// The topic.
        topic: Arc<str>,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        count: i32,
    },
    /// The connection ended before an unacknowledged (acks=0) record was written.
    #[error("not sent: {0}")]
    NotSent(ConnectionError),
    /// The producer was closed or dropped before the record was acknowledged.
    #[error("the producer was closed before the record was acknowledged")]
    Closed {
        /// The record had been sent: it may be stored.
        in_doubt: bool,
    },
    /// No producer id can be had, so an idempotent producer cannot work.
    #[error("no producer id: {}{}", .code.name(), colon(.message.as_deref()))]
    NoProducerId {
        /// Kafka's code.
        code: ErrorCode,
        /// More words.
        message: Option<Arc<str>>,
    },
}

impl ProduceError {
    /// Refused by that code, without more words.
    pub(crate) fn refused(topic: Arc<str>, partition: i32, code: ErrorCode) -> Self {
        Self::Refused { topic, partition, code, message: None, record_errors: Arc::default(), in_doubt: false }
    }

    /// The records for which the broker refused the batch, by their index in it.
    pub fn record_errors(&self) -> &[RecordError] {
        match self {
            Self::Refused { record_errors, .. } | Self::InvalidRecord { record_errors, .. } => record_errors,
            _ => &[],
        }
    }
}

impl Classify for ProduceError {
    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. }
            | Self::InvalidRecord { code, .. }
            | Self::UnknownTopic { code, .. }
            | Self::NoProducerId { code, .. } => Some(*code),
            _ => None,
        }
    }
    fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { code, in_doubt, .. } => code.is_retriable() && !in_doubt,
            Self::TimedOut { in_doubt, .. } => !in_doubt,
            Self::UnknownTopic { .. } | Self::NotSent(_) => true,
            _ => false,
        }
    }
    fn is_fatal(&self) -> bool {
        matches!(self, Self::NoProducerId { .. } | Self::Closed { .. })
    }
}

/// Why the consumer cannot go on with a partition or at all. Other partitions go on with the next poll.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The topic does not exist.
    #[error("topic {topic} does not exist; `ottla topic list` shows those that do")]
    UnknownTopic {
        /// The topic.
        topic: Arc<str>,
    },
    /// The topic has no such partition (any more).
    #[error("topic {topic} has partitions 0 to {last}, not {partition}", last = .count - 1)]
    NoSuchPartition {
        /// The topic.
        topic: Arc<str>,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        count: i32,
    },
    /// The partition is not assigned to this consumer.
    #[error("{topic}-{partition} is not assigned to this consumer")]
    NotAssigned {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// The position lies outside the log and the policy is to say so.
    #[error("{topic}-{partition} holds no offset {offset}{}; seek, or choose an `offset_reset`", starts(*.start))]
    OffsetOutOfRange {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The position asked for.
        offset: i64,
        /// The first offset the broker still has, -1 when it did not say.
        start: i64,
    },
    /// Records that were read were taken back: a broker that lacked them became the leader (KIP-320). Those from `end` on
    /// may differ from what was read.
    #[error(
        "{topic}-{partition} was cut back to offset {end} by a change of leader, position {offset} was read of what is gone; seek, or choose an `offset_reset`"
    )]
    Truncated {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The position of the reader.
        offset: i64,
        /// Up to here the log is what was read.
        end: i64,
    },
    /// Bytes that are no intact record batch. The position stays before it: seek past it to go on.
    #[error("{topic}-{partition} is damaged at offset {offset}: {reason}")]
    Corrupt {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Where the damaged batch was expected.
        offset: i64,
        /// What is wrong.
        reason: Arc<str>,
    },
    /// A single batch is larger than this consumer may receive or unpack.
    #[error("{topic}-{partition}: the batch at offset {offset} is larger than {max} bytes; raise {setting}")]
    BatchTooLarge {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The position.
        offset: i64,
        /// The bound.
        max: usize,
        /// Which setting holds the bound.
        setting: &'static str,
    },
    /// The broker refuses this partition for good.
    #[error("{topic}-{partition}: {}", .code.name())]
    Refused {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Kafka's code.
        code: ErrorCode,
    },
    /// The consumer has no group: it can neither subscribe nor commit.
    #[error("this consumer has no group; set one in its configuration")]
    NoGroup,
    /// The partitions come from the group; none can be assigned by hand beside them.
    #[error(
        "this consumer subscribes to topics, its partitions come from group {group}; unsubscribe before assigning any"
    )]
    Subscribed {
        /// The group.
        group: Arc<str>,
    },
    /// A subscription's regular expression cannot be read.
    #[error("{expression:?} is no regular expression: {reason}")]
    BadPattern {
        /// The expression.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The group has committed no offset of the partition, and there is no rule where to begin.
    #[error("group {group} has committed no offset of {topic}-{partition}; seek, or choose an `offset_reset`")]
    NoCommittedOffset {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// The application did not poll in time, so the member left its group: other members read its partitions now. It joins
    /// again with the next poll.
    #[error(
        "not polled for {interval_ms} ms: this member left group {group} and its partitions went to others; poll more often, poll fewer records at a time, or raise `poll_interval_ms_max`"
    )]
    PolledTooLate {
        /// The group.
        group: Arc<str>,
        /// The configured bound.
        interval_ms: u64,
    },
    /// The coordinator does not take the member. Subscribe again once the cause is gone.
    #[error("group {group} refuses this member: {}{}{}", .code.name(), colon(.message.as_deref()), refusal_hint(*.code))]
    GroupRefused {
        /// The group.
        group: Arc<str>,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<Arc<str>>,
    },
    /// An offset was not committed.
    #[error("the offset of {topic}-{partition} is not committed: {}", .code.name())]
    CommitRefused {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Kafka's code. `IllegalGeneration`, `UnknownMemberId`, `FencedInstanceId` and `StaleMemberEpoch`: the partition may
        /// belong to another member by now, which begins at the offset committed before.
        code: ErrorCode,
    },
    /// The coordinator does not answer OffsetFetch, or refuses it.
    #[error("the committed offsets of group {group} cannot be read: {}", .code.name())]
    CommittedRefused {
        /// The group.
        group: Arc<str>,
        /// Kafka's code.
        code: ErrorCode,
    },
    /// No broker could be reached for some time; polling again keeps trying.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The consumer was closed.
    #[error("the consumer is closed")]
    Closed,
}

impl Classify for ConsumeError {
    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::UnknownTopic { .. } | Self::NoSuchPartition { .. } => Some(ErrorCode::UnknownTopicOrPartition),
            Self::OffsetOutOfRange { .. } | Self::Truncated { .. } => Some(ErrorCode::OffsetOutOfRange),
            Self::Corrupt { .. } => Some(ErrorCode::CorruptMessage),
            Self::Refused { code, .. }
            | Self::GroupRefused { code, .. }
            | Self::CommitRefused { code, .. }
            | Self::CommittedRefused { code, .. } => Some(*code),
            _ => None,
        }
    }
    fn is_retriable(&self) -> bool {
        match self {
            Self::Connection(error) => error.is_retriable(),
            Self::Refused { code, .. } | Self::CommitRefused { code, .. } | Self::CommittedRefused { code, .. } => {
                code.is_retriable()
            }
            Self::PolledTooLate { .. } => true,
            _ => false,
        }
    }
    fn is_fatal(&self) -> bool {
        matches!(self, Self::Closed | Self::GroupRefused { .. })
    }
}

/// Why an administrative call failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// No answer.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The broker said no.
    #[error("{subject}: {}{}", .code.name(), colon(.message.as_deref()))]
    Refused {
        /// What the call was about: a topic or a plugin.
        subject: Arc<str>,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<Arc<str>>,
    },
    /// The broker's answer leaves out what was asked for.
    #[error("{address} left {subject} out of its answer")]
    Unanswered {
        /// The peer.
        address: Arc<str>,
        /// What was asked for.
        subject: Arc<str>,
    },
    /// The upload does not get ahead.
    #[error("the broker keeps asking for byte {offset} of {subject} again")]
    UploadStuck {
        /// The plugin.
        subject: Arc<str>,
        /// Where it stands.
        offset: i64,
    },
}

impl Classify for AdminError {
    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
    fn is_retriable(&self) -> bool {
        match self {
            Self::Connection(error) => error.is_retriable(),
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Unanswered { .. } | Self::UploadStuck { .. } => false,
        }
    }
}

const IN_DOUBT: &str = "; it may or may not be stored";

/// What to do about a refusal by a group.
fn refusal_hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InconsistentGroupProtocol => {
            "; its other members share no assignor or protocol with this one: choose other `assignors`, or another group"
        }
        ErrorCode::FencedInstanceId => "; another consumer uses the same instance id",
        ErrorCode::UnreleasedInstanceId => "; another consumer uses the same instance id, or did until a moment ago",
        ErrorCode::InvalidSessionTimeout => "; choose a `session_timeout_ms` that the broker allows",
        ErrorCode::UnsupportedVersion => "; the broker does not know this group protocol: choose the classic one",
        ErrorCode::GroupIdNotFound => "; its members use the classic protocol",
        _ => "",
    }
}

/// `: its log starts at N`, if the broker said where.
fn starts(start: i64) -> String {
    if start >= 0 { format!(": its log starts at {start}") } else { String::new() }
}

/// `: words` or nothing, for the end of a message.
fn colon(words: Option<&str>) -> String {
    words.map(|words| format!(": {words}")).unwrap_or_default()
}
