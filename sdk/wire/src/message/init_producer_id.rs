//! InitProducerId, key 22, versions 0-5, flexible from 2.
//!
//! v3 raises the epoch of a known producer (KIP-360), v4 `PRODUCER_FENCED`, v5 `TRANSACTION_ABORTABLE` (KIP-890).

use crate::{ErrorCode, Str, Wire};

/// Asks for a producer id.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 22, versions = 0..=5, flexible = 2.., response = InitProducerIdResponse)]
pub struct InitProducerIdRequest<'a> {
    /// The transactional id; `None` for a producer that is only idempotent.
    pub transactional_id: Option<Str<'a>>,
    /// When an idle transaction is to be aborted.
    pub transaction_timeout_ms: i32,
    /// The producer id whose epoch is to be raised, −1 for a new one.
    #[wire(versions = 3.., default = -1)]
    pub producer_id: i64,
    /// Its present epoch, −1 for none.
    #[wire(versions = 3.., default = -1)]
    pub producer_epoch: i16,
}

/// A producer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
#[wire(key = 22, versions = 0..=5, flexible = 2..)]
pub struct InitProducerIdResponse {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The producer id.
    #[wire(default = -1)]
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
}
