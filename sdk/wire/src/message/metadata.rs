//! Metadata, key 3, versions 0-13, flexible from 9.
//!
//! v0 asks for all topics with an empty list, v1 with null. v4 auto-creation flag, v5 offline replicas, v7 leader epochs,
//! v8 authorized operations (cluster-wide until v10), v10 topic ids, v12 topics by id alone, v13 a top-level error.

use super::OPERATIONS_NOT_ASKED_FOR;
use crate::{ErrorCode, Str, Uuid, Wire};

/// Asks for brokers and topics.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 3, versions = 0..=13, flexible = 9.., response = MetadataResponse<'a>)]
pub struct MetadataRequest<'a> {
    /// The topics. `None` means all; in v0, which has no null, an empty list means all.
    #[wire(nullable = 1..)]
    pub topics: Option<Vec<MetadataRequestTopic<'a>>>,
    /// Whether topics that do not exist may be created.
    #[wire(versions = 4.., default = true)]
    pub allow_auto_topic_creation: bool,
    /// Whether to tell which operations on the cluster are allowed.
    #[wire(versions = 8..=10)]
    pub include_cluster_authorized_operations: bool,
    /// Whether to tell which operations on each topic are allowed.
    #[wire(versions = 8..)]
    pub include_topic_authorized_operations: bool,
}

/// A topic asked for.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct MetadataRequestTopic<'a> {
    /// Its id, or zero to ask by name.
    #[wire(versions = 10..)]
    pub topic_id: Uuid,
    /// Its name, or `None` to ask by id.
    #[wire(nullable = 10..)]
    pub name: Option<Str<'a>>,
}

/// Brokers and topics.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 3, versions = 0..=13, flexible = 9..)]
pub struct MetadataResponse<'a> {
    /// How long the request was held back by a quota.
    #[wire(versions = 3..)]
    pub throttle_time_ms: i32,
    /// The brokers.
    pub brokers: Vec<MetadataResponseBroker<'a>>,
    /// The id of the cluster.
    #[wire(versions = 2..)]
    pub cluster_id: Option<Str<'a>>,
    /// The broker that creates topics.
    #[wire(versions = 1.., default = -1)]
    pub controller_id: i32,
    /// The topics.
    pub topics: Vec<MetadataResponseTopic<'a>>,
    /// A bit per operation allowed on the cluster.
    #[wire(versions = 8..=10, default = OPERATIONS_NOT_ASKED_FOR)]
    pub cluster_authorized_operations: i32,
    /// An error of the whole request.
    #[wire(versions = 13..)]
    pub error_code: ErrorCode,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct MetadataResponseBroker<'a> {
    /// Its id.
    pub node_id: i32,
    /// The host name for clients.
    pub host: Str<'a>,
    /// The port for clients.
    pub port: i32,
    /// Its rack, if it has one.
    #[wire(versions = 1..)]
    pub rack: Option<Str<'a>>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct MetadataResponseTopic<'a> {
    /// The error of this topic.
    pub error_code: ErrorCode,
    /// Its name; `None` only for an id that nothing is known about.
    #[wire(nullable = 12..)]
    pub name: Option<Str<'a>>,
    /// Its id; zero only for a name that nothing is known about.
    #[wire(versions = 10..)]
    pub topic_id: Uuid,
    /// Whether the broker keeps its own state in it.
    #[wire(versions = 1..)]
    pub is_internal: bool,
    /// Its partitions.
    pub partitions: Vec<MetadataResponsePartition>,
    /// A bit per operation allowed on the topic.
    #[wire(versions = 8.., default = OPERATIONS_NOT_ASKED_FOR)]
    pub topic_authorized_operations: i32,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct MetadataResponsePartition {
    /// The error of this partition.
    pub error_code: ErrorCode,
    /// Its number.
    pub partition_index: i32,
    /// The broker that leads it.
    pub leader_id: i32,
    /// The epoch of that leader.
    #[wire(versions = 7.., default = -1)]
    pub leader_epoch: i32,
    /// The brokers that hold it.
    pub replica_nodes: Vec<i32>,
    /// Those of them that are in sync.
    pub isr_nodes: Vec<i32>,
    /// Those of them that are offline.
    #[wire(versions = 5..)]
    pub offline_replicas: Vec<i32>,
}
