//! FindCoordinator, key 10, versions 0-6, flexible from 3.
//!
//! v1 key types, v4 several keys at once (KIP-699), v5 `TRANSACTION_ABORTABLE` (KIP-890), v6 share groups (KIP-932).

use crate::{ErrorCode, Str, Wire};

/// `key_type` of a consumer group.
pub const COORDINATOR_GROUP: i8 = 0;
/// `key_type` of a transaction.
pub const COORDINATOR_TRANSACTION: i8 = 1;
/// `key_type` of a share group.
pub const COORDINATOR_SHARE: i8 = 2;

/// Asks for the coordinator of a group or a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 10, versions = 0..=6, flexible = 3.., response = FindCoordinatorResponse<'a>)]
pub struct FindCoordinatorRequest<'a> {
    /// The group or transaction.
    #[wire(versions = 0..=3)]
    pub key: Str<'a>,
    /// What the key names: one of the `COORDINATOR_` constants.
    #[wire(versions = 1..)]
    pub key_type: i8,
    /// The groups or transactions.
    #[wire(versions = 4..)]
    pub coordinator_keys: Vec<Str<'a>>,
}

/// The coordinators.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 10, versions = 0..=6, flexible = 3..)]
pub struct FindCoordinatorResponse<'a> {
    /// How long the request was held back by a quota.
    #[wire(versions = 1..)]
    pub throttle_time_ms: i32,
    /// The error, if any.
    #[wire(versions = 0..=3)]
    pub error_code: ErrorCode,
    /// The error in words.
    #[wire(versions = 1..=3)]
    pub error_message: Option<Str<'a>>,
    /// The broker.
    #[wire(versions = 0..=3)]
    pub node_id: i32,
    /// Its host name.
    #[wire(versions = 0..=3)]
    pub host: Str<'a>,
    /// Its port.
    #[wire(versions = 0..=3)]
    pub port: i32,
    /// One answer per key.
    #[wire(versions = 4..)]
    pub coordinators: Vec<Coordinator<'a>>,
}

/// The coordinator of one key.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct Coordinator<'a> {
    /// The group or transaction.
    pub key: Str<'a>,
    /// The broker.
    pub node_id: i32,
    /// Its host name.
    pub host: Str<'a>,
    /// Its port.
    pub port: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
}
