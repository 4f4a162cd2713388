//! CreateTopics, key 19, versions 2-7, flexible from 5.
//!
//! v4 −1 for the broker's default of partitions and replicas (KIP-464), v5 the answer tells the configuration (KIP-525),
//! v6 quotas (KIP-599), v7 the answer tells the topic id (KIP-516).

use crate::{ErrorCode, Str, Uuid, Wire};

/// Creates topics.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 19, versions = 2..=7, flexible = 5.., response = CreateTopicsResponse<'a>)]
pub struct CreateTopicsRequest<'a> {
    /// The topics.
    pub topics: Vec<CreatableTopic<'a>>,
    /// How long to wait for them to exist.
    #[wire(default = 60_000)]
    pub timeout_ms: i32,
    /// Only check, do not create.
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct CreatableTopic<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// How many partitions, −1 for the default or with `assignments`.
    pub num_partitions: i32,
    /// How many replicas, −1 for the default or with `assignments`.
    pub replication_factor: i16,
    /// Which brokers hold which partition; empty to leave it to the broker.
    pub assignments: Vec<CreatableReplicaAssignment>,
    /// Configuration values.
    pub configs: Vec<CreatableTopicConfig<'a>>,
}

/// The brokers of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct CreatableReplicaAssignment {
    /// The partition.
    pub partition_index: i32,
    /// The brokers that hold it.
    pub broker_ids: Vec<i32>,
}

/// A configuration value to set.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct CreatableTopicConfig<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// Its value.
    pub value: Option<Str<'a>>,
}

/// What became of the topics.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 19, versions = 2..=7, flexible = 5..)]
pub struct CreateTopicsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<CreatableTopicResult<'a>>,
}

/// What became of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct CreatableTopicResult<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// Its id.
    #[wire(versions = 7..)]
    pub topic_id: Uuid,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// Why the configuration is not told.
    #[wire(versions = 5.., tag = 0)]
    pub topic_config_error_code: ErrorCode,
    /// How many partitions it has.
    #[wire(versions = 5.., default = -1)]
    pub num_partitions: i32,
    /// How many replicas it has.
    #[wire(versions = 5.., default = -1)]
    pub replication_factor: i16,
    /// Its configuration.
    #[wire(versions = 5..)]
    pub configs: Option<Vec<CreatableTopicConfigs<'a>>>,
}

/// A configuration value of a created topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct CreatableTopicConfigs<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// Its value.
    pub value: Option<Str<'a>>,
    /// Whether it cannot be changed.
    pub read_only: bool,
    /// Where the value comes from, as in DescribeConfigs.
    #[wire(default = -1)]
    pub config_source: i8,
    /// Whether the value is a secret.
    pub is_sensitive: bool,
}
