//! GetTelemetrySubscriptions, key 71, versions 0-0, flexible from 0.
//!
//! KIP-714: which metrics the broker wants from a client, and how often.

use crate::{ErrorCode, Str, Uuid, Wire};

/// Asks which metrics are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 71, versions = 0..=0, flexible = 0.., response = GetTelemetrySubscriptionsResponse<'a>)]
pub struct GetTelemetrySubscriptionsRequest {
    /// The id of the client instance; zero to get one.
    pub client_instance_id: Uuid,
}

/// Which metrics are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 71, versions = 0..=0, flexible = 0..)]
pub struct GetTelemetrySubscriptionsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The id given to the client instance.
    pub client_instance_id: Uuid,
    /// The version of the subscription.
    pub subscription_id: i32,
    /// The codecs that the broker reads, best first (numbers as in record batches).
    pub accepted_compression_types: Vec<i8>,
    /// How often to push.
    pub push_interval_ms: i32,
    /// How large a push may be.
    pub telemetry_max_bytes: i32,
    /// Whether counters are sent as differences.
    pub delta_temporality: bool,
    /// Prefixes of the metrics wanted; one empty text: all.
    pub requested_metrics: Vec<Str<'a>>,
}
