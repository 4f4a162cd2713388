//! AlterConfigs, key 33, versions 0-2, flexible from 2.
//!
//! Replaces all values of a resource; what is not named falls back to its default. `IncrementalAlterConfigs` changes single values.

use super::AlterConfigsResourceResponse;
use crate::{Str, Wire};

/// Replaces configuration values.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 33, versions = 0..=2, flexible = 2.., response = AlterConfigsResponse<'a>)]
pub struct AlterConfigsRequest<'a> {
    /// Whose.
    pub resources: Vec<ReplaceConfigsResource<'a>>,
    /// Whether to check only.
    pub validate_only: bool,
}

/// All values of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ReplaceConfigsResource<'a> {
    /// One of the `RESOURCE_` constants.
    pub resource_type: i8,
    /// The topic's name, or the broker's id.
    pub resource_name: Str<'a>,
    /// The values.
    pub configs: Vec<ReplaceableConfig<'a>>,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ReplaceableConfig<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// The value, or `None` for the default.
    pub value: Option<Str<'a>>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 33, versions = 0..=2, flexible = 2..)]
pub struct AlterConfigsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// One answer per resource.
    pub responses: Vec<AlterConfigsResourceResponse<'a>>,
}
