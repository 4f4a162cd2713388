//! Settings, each with its default. Every one can be left alone: `ProducerConfig::new("127.0.0.1:9092")` is safe and fast.
//!
//! Times are milliseconds and say so; names follow Kafka's where Kafka has the setting.

use std::fmt;
use std::sync::Arc;

use ottla_wire::record::Codec;
use tokio::runtime::Handle;

use crate::core::assignor::Assignor;
use crate::core::cursor::StartFrom;
pub use crate::core::member::Protocol as GroupProtocol;
use crate::error::ConfigError;
use crate::net::{Network, Tcp};
use crate::producer::DeliverySink;

/// How to reach a cluster and how patient to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Addresses to ask for the first metadata, `HOST:PORT` each. One that answers is enough.
    pub bootstrap: Vec<String>,
    /// How this program names itself in the broker's logs.
    pub client_id: String,
    /// Where background tasks run; none means the runtime of the caller.
    pub runtime: Option<Handle>,
    /// How long one connection attempt, name look-up and handshake included, may take.
    pub connect_timeout_ms: u64,
    /// How long a broker may take to answer a request before its connection counts as dead.
    pub request_timeout_ms: u64,
    /// After this long, what is known of topics and brokers is asked for again.
    pub metadata_age_ms_max: u64,
    /// First pause after a failed request; it doubles up to `retry_backoff_ms_max`.
    pub retry_backoff_ms: u64,
    /// Longest pause between two attempts of a request.
    pub retry_backoff_ms_max: u64,
    /// First pause after a failed connection attempt; it doubles up to `reconnect_backoff_ms_max`.
    pub reconnect_backoff_ms: u64,
    /// Longest pause between two connection attempts.
    pub reconnect_backoff_ms_max: u64,
    /// A response that announces more than this ends the connection.
    pub response_bytes_max: usize,
    /// How addresses are reached; TCP unless set.
    pub network: Arc<dyn Network>,
}

impl ClientConfig {
    /// Defaults for these addresses, separated by commas.
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            ..Self::default()
        }
    }

    /// The configured runtime, or the one of the caller.
    pub(crate) fn handle(&self) -> Result<Handle, ConfigError> {
        match &self.runtime {
            Some(handle) => Ok(handle.clone()),
            None => Handle::try_current().map_err(|_| ConfigError::NoRuntime),
        }
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            bootstrap: vec!["127.0.0.1:9092".to_owned()],
            client_id: "ottla".to_owned(),
            runtime: None,
            connect_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            metadata_age_ms_max: 300_000,
            retry_backoff_ms: 50,
            retry_backoff_ms_max: 1_000,
            reconnect_backoff_ms: 50,
            reconnect_backoff_ms_max: 1_000,
            response_bytes_max: 128 * 1024 * 1024,
            network: Arc::new(Tcp),
        }
    }
}

/// What a broker must have done before it answers a produce request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// No answer at all: fast, and silent about every loss.
    None,
    /// Appended to the leader's log, not yet durable.
    Leader,
    /// Durable. The default, and the only one that idempotence works with.
    #[default]
    All,
}

impl Acks {
    /// The number that stands for it on the wire.
    pub fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// Settings of a [`Producer`](crate::Producer).
#[derive(Clone)]
#[non_exhaustive]
pub struct ProducerConfig {
    /// How to reach the cluster.
    pub client: ClientConfig,
    /// When a record counts as delivered.
    pub acks: Acks,
    /// Retries neither double nor reorder records. Needs `acks = All`.
    pub idempotent: bool,
    /// How batches are compressed.
    pub compression: Codec,
    /// The codec's own level; none means its default.
    pub compression_level: Option<i32>,
    /// How long a batch waits for company. 0 sends at once; under load batches fill up anyway.
    pub linger_ms: u64,
    /// A batch is closed when it holds this much. One larger record makes a batch of its own.
    pub batch_bytes: usize,
    /// The largest record, and the most that one request carries. Not above the topic's `max.message.bytes`.
    pub request_bytes_max: usize,
    /// Everything not yet acknowledged fits into this much memory; then senders wait.
    pub buffer_bytes: usize,
    /// Requests on one connection that may await their answers, 1 to 5.
    pub requests_in_flight_max: usize,
    /// From `send` to the acknowledgement, retries included; after that the record has failed.
    pub delivery_timeout_ms: u64,
    /// How long a topic may be unknown to the cluster before records for it fail.
    pub topic_wait_ms: u64,
    /// Whether asking for an unknown topic may create it, if the broker's settings allow that.
    pub auto_create_topics: bool,
    /// The sink that is told, in groups, about records sent with a ticket.
    pub sink: Option<Arc<dyn DeliverySink>>,
}

impl ProducerConfig {
    /// Defaults for these addresses, separated by commas.
    pub fn new(bootstrap: &str) -> Self {
        Self { client: ClientConfig::new(bootstrap), ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.idempotent && self.acks != Acks::All {
            return Err(ConfigError::IdempotenceNeedsAcksAll);
        }
        let in_range = |name, value: u64, low: u64, high: u64, bound| {
            if (low..=high).contains(&value) { Ok(()) } else { Err(ConfigError::OutOfRange { name, value, bound }) }
        };
        in_range("requests_in_flight_max", self.requests_in_flight_max as u64, 1, 5, "1 to 5")?;
        in_range("batch_bytes", self.batch_bytes as u64, 1, 1 << 30, "1 byte to 1 GiB")?;
        in_range("request_bytes_max", self.request_bytes_max as u64, 1024, 1 << 30, "1 KiB to 1 GiB")?;
        in_range("buffer_bytes", self.buffer_bytes as u64, 1024, u64::MAX, "at least 1 KiB")?;
        in_range("delivery_timeout_ms", self.delivery_timeout_ms, 1, u64::MAX, "at least 1")
    }
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            client: ClientConfig::default(),
            acks: Acks::All,
            idempotent: true,
            compression: Codec::None,
            compression_level: None,
            linger_ms: 5,
            batch_bytes: 256 * 1024,
            request_bytes_max: 1_000_000,
            buffer_bytes: 64 * 1024 * 1024,
            requests_in_flight_max: 5,
            delivery_timeout_ms: 120_000,
            topic_wait_ms: 30_000,
            auto_create_topics: true,
            sink: None,
        }
    }
}

impl fmt::Debug for ProducerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerConfig")
            .field("client", &self.client)
            .field("acks", &self.acks)
            .field("idempotent", &self.idempotent)
            .field("compression", &self.compression)
            .field("linger_ms", &self.linger_ms)
            .field("batch_bytes", &self.batch_bytes)
            .field("buffer_bytes", &self.buffer_bytes)
            .field("delivery_timeout_ms", &self.delivery_timeout_ms)
            .finish_non_exhaustive()
    }
}

/// What to do when the log no longer, or not yet, holds the position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// Say so: `poll` returns the error and the partition waits for a seek. Nothing is skipped in silence.
    #[default]
    Fail,
    /// Go on at the first record there is.
    Earliest,
    /// Go on with what comes next.
    Latest,
}

/// Which records of transactions a consumer reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Only those of committed transactions, and records outside of any. Reading stops before the first transaction that
    /// is still open. The default.
    #[default]
    ReadCommitted,
    /// All of them, those of aborted transactions too.
    ReadUncommitted,
}

impl Isolation {
    /// The number that stands for it on the wire.
    pub(crate) fn code(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// Settings of a member of a consumer group.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GroupConfig {
    /// The group (`group.id`).
    pub id: String,
    /// Makes the member a static one (`group.instance.id`, KIP-345): one that comes back within the session gets what it had,
    /// and no rebalance happens. No two members may have the same.
    pub instance_id: Option<String>,
    /// Who shares out the partitions (`group.protocol`).
    pub protocol: GroupProtocol,
    /// Classic protocol: how members may share out partitions, what they like best first (`partition.assignment.strategy`).
    /// Members are cooperative if all of these are.
    pub assignors: Vec<Assignor>,
    /// Consumer protocol: the assignor of the broker (`group.remote.assignor`); none leaves it to the broker.
    pub broker_assignor: Option<String>,
    /// Classic protocol: without a heartbeat for this long the member is taken for dead (`session.timeout.ms`).
    pub session_timeout_ms: u64,
    /// Classic protocol: time between two heartbeats (`heartbeat.interval.ms`).
    pub heartbeat_interval_ms: u64,
    /// The application has to poll this often; else the member leaves the group until it does (`max.poll.interval.ms`). Also
    /// how long a rebalance waits for the application to finish with what it gives up.
    pub poll_interval_ms_max: u64,
    /// Whether what was polled is committed without being asked: from time to time, before partitions are given up, and at
    /// the end (`enable.auto.commit`). A record counts as done when the next poll begins.
    pub auto_commit: bool,
    /// Time between two such commits (`auto.commit.interval.ms`).
    pub auto_commit_interval_ms: u64,
    /// Where partitions begin of which the group has committed no offset; none goes by `offset_reset`.
    pub start: Option<StartFrom>,
}

impl GroupConfig {
    /// Defaults for this group.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            instance_id: None,
            protocol: GroupProtocol::Classic,
            assignors: vec![Assignor::CooperativeSticky],
            broker_assignor: None,
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 3_000,
            poll_interval_ms_max: 300_000,
            auto_commit: true,
            auto_commit_interval_ms: 5_000,
            start: None,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.id.is_empty() {
            return Err(ConfigError::Missing { name: "group id" });
        }
        if self.assignors.is_empty() {
            return Err(ConfigError::Missing { name: "assignors" });
        }
        for (name, value, low, bound) in [
            ("session_timeout_ms", self.session_timeout_ms, 1, "1 to 2147483647"),
            ("heartbeat_interval_ms", self.heartbeat_interval_ms, 1, "1 to 2147483647"),
            ("poll_interval_ms_max", self.poll_interval_ms_max, 1, "1 to 2147483647"),
            ("auto_commit_interval_ms", self.auto_commit_interval_ms, 1, "1 to 2147483647"),
        ] {
            if !(low..=i32::MAX as u64).contains(&value) {
                return Err(ConfigError::OutOfRange { name, value, bound });
            }
        }
        if self.protocol == GroupProtocol::Classic && self.heartbeat_interval_ms >= self.session_timeout_ms {
            let (name, value) = ("heartbeat_interval_ms", self.heartbeat_interval_ms);
            return Err(ConfigError::OutOfRange { name, value, bound: "shorter than session_timeout_ms" });
        }
        Ok(())
    }
}

/// Settings of a [`Consumer`](crate::Consumer).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerConfig {
    /// How to reach the cluster.
    pub client: ClientConfig,
    /// The group it may subscribe in and commit for; none reads on its own.
    pub group: Option<GroupConfig>,
    /// What to do when the position is not in the log.
    pub offset_reset: OffsetReset,
    /// Which records of transactions are read.
    pub isolation: Isolation,
    /// The broker waits for this much, or for `fetch_wait_ms_max`, before it answers.
    pub fetch_bytes_min: i32,
    /// The most one answer carries (one batch may exceed it).
    pub fetch_bytes_max: i32,
    /// The most one answer carries of one partition (one batch may exceed it).
    pub partition_bytes_max: i32,
    /// How long the broker may wait for data.
    pub fetch_wait_ms_max: i32,
    /// Fetching pauses while this much is fetched and not yet polled.
    pub buffer_bytes: usize,
    /// A compressed batch may unpack to this much.
    pub batch_bytes_max: usize,
    /// Whether the checksum of every batch is verified.
    pub check_crcs: bool,
    /// A partition that cannot be read for this long makes `poll` say why (once per period); it is tried all the while.
    pub unreachable_ms_max: u64,
}

impl ConsumerConfig {
    /// Defaults for these addresses, separated by commas.
    pub fn new(bootstrap: &str) -> Self {
        Self { client: ClientConfig::new(bootstrap), ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (name, value) in [
            ("fetch_bytes_min", self.fetch_bytes_min),
            ("fetch_wait_ms_max", self.fetch_wait_ms_max),
            ("fetch_bytes_max", self.fetch_bytes_max.saturating_sub(1)),
            ("partition_bytes_max", self.partition_bytes_max.saturating_sub(1)),
        ] {
            if value < 0 {
                return Err(ConfigError::OutOfRange { name, value: 0, bound: "positive" });
            }
        }
        self.group.as_ref().map_or(Ok(()), GroupConfig::check)
    }
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            client: ClientConfig::default(),
            group: None,
            offset_reset: OffsetReset::Fail,
            isolation: Isolation::ReadCommitted,
            fetch_bytes_min: 1,
            fetch_bytes_max: 16 * 1024 * 1024,
            partition_bytes_max: 1024 * 1024,
            fetch_wait_ms_max: 500,
            buffer_bytes: 32 * 1024 * 1024,
            batch_bytes_max: 64 * 1024 * 1024,
            check_crcs: true,
            unreachable_ms_max: 30_000,
        }
    }
}
