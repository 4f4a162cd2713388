//! PushTelemetry, key 72, versions 0-0, flexible from 0.
//!
//! KIP-714: metrics of a client, as OpenTelemetry's `MetricsData`.

use crate::{ErrorCode, Uuid, Wire};

/// Pushes metrics.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 72, versions = 0..=0, flexible = 0.., response = PushTelemetryResponse)]
pub struct PushTelemetryRequest<'a> {
    /// The id of the client instance.
    pub client_instance_id: Uuid,
    /// The version of the subscription.
    pub subscription_id: i32,
    /// Whether the client is about to end.
    pub terminating: bool,
    /// The codec, as in record batches.
    pub compression_type: i8,
    /// The metrics.
    pub metrics: &'a [u8],
}

/// Whether they were taken.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 72, versions = 0..=0, flexible = 0..)]
pub struct PushTelemetryResponse {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
}
