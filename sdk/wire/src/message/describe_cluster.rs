//! DescribeCluster, key 60, versions 0-2, flexible from 0.
//!
//! KIP-700. v1 endpoint types (KIP-919), v2 fenced brokers (KIP-1073).

use super::OPERATIONS_NOT_ASKED_FOR;
use crate::{ErrorCode, Str, Wire};

/// `endpoint_type` of brokers.
pub const ENDPOINT_BROKER: i8 = 1;
/// `endpoint_type` of controllers (KIP-919).
pub const ENDPOINT_CONTROLLER: i8 = 2;

/// Asks for the nodes of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 60, versions = 0..=2, flexible = 0.., response = DescribeClusterResponse<'a>)]
pub struct DescribeClusterRequest {
    /// Whether to tell which operations on the cluster are allowed.
    pub include_cluster_authorized_operations: bool,
    /// One of the `ENDPOINT_` constants.
    #[wire(versions = 1.., default = 1)]
    pub endpoint_type: i8,
    /// Whether to list brokers that are fenced.
    #[wire(versions = 2..)]
    pub include_fenced_brokers: bool,
}

/// The nodes of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 60, versions = 0..=2, flexible = 0..)]
pub struct DescribeClusterResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// One of the `ENDPOINT_` constants.
    #[wire(versions = 1.., default = 1)]
    pub endpoint_type: i8,
    /// The id of the cluster.
    pub cluster_id: Str<'a>,
    /// The broker that creates topics.
    #[wire(default = -1)]
    pub controller_id: i32,
    /// The nodes.
    pub brokers: Vec<DescribeClusterBroker<'a>>,
    /// A bit per operation allowed on the cluster.
    #[wire(default = OPERATIONS_NOT_ASKED_FOR)]
    pub cluster_authorized_operations: i32,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeClusterBroker<'a> {
    /// Its id.
    pub broker_id: i32,
    /// The host name for clients.
    pub host: Str<'a>,
    /// The port for clients.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<Str<'a>>,
    /// Whether it is fenced.
    #[wire(versions = 2..)]
    pub is_fenced: bool,
}
