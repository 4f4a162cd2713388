//! ListConfigResources, key 74, versions 0-1, flexible from 0.
//!
//! Version 0 is `ListClientMetricsResources` (KIP-714); v1 all kinds of resources (KIP-1142).

use super::RESOURCE_CLIENT_METRICS;
use crate::{ErrorCode, Str, Wire};

/// Asks which resources can have settings.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 74, versions = 0..=1, flexible = 0.., response = ListConfigResourcesResponse<'a>)]
pub struct ListConfigResourcesRequest {
    /// Only resources of these kinds (the `RESOURCE_` constants); empty: all.
    #[wire(versions = 1..)]
    pub resource_types: Vec<i8>,
}

/// Which resources there are.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 74, versions = 0..=1, flexible = 0..)]
pub struct ListConfigResourcesResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The resources.
    pub config_resources: Vec<ConfigResourceName<'a>>,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConfigResourceName<'a> {
    /// Its name.
    pub resource_name: Str<'a>,
    /// Its kind; before version 1 all are client metrics.
    #[wire(versions = 1.., default = RESOURCE_CLIENT_METRICS)]
    pub resource_type: i8,
}
