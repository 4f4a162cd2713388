//! IncrementalAlterConfigs, key 44, versions 0-1, flexible from 1 (KIP-339).

use crate::{ErrorCode, Str, Wire};

/// `config_operation`: give it a value.
pub const OPERATION_SET: i8 = 0;
/// `config_operation`: back to the default.
pub const OPERATION_DELETE: i8 = 1;
/// `config_operation`: add to a list.
pub const OPERATION_APPEND: i8 = 2;
/// `config_operation`: take out of a list.
pub const OPERATION_SUBTRACT: i8 = 3;

/// Changes configuration values.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 44, versions = 0..=1, flexible = 1.., response = IncrementalAlterConfigsResponse<'a>)]
pub struct IncrementalAlterConfigsRequest<'a> {
    /// Whose.
    pub resources: Vec<AlterConfigsResource<'a>>,
    /// Only check, do not change.
    pub validate_only: bool,
}

/// The changes of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct AlterConfigsResource<'a> {
    /// One of the `RESOURCE_` constants.
    pub resource_type: i8,
    /// The topic's name, or the broker's id.
    pub resource_name: Str<'a>,
    /// The changes.
    pub configs: Vec<AlterableConfig<'a>>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct AlterableConfig<'a> {
    /// The name of the value.
    pub name: Str<'a>,
    /// One of the `OPERATION_` constants.
    pub config_operation: i8,
    /// The value to set, add or take out.
    pub value: Option<Str<'a>>,
}

/// What became of the changes.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 44, versions = 0..=1, flexible = 1..)]
pub struct IncrementalAlterConfigsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// One answer per resource.
    pub responses: Vec<AlterConfigsResourceResponse<'a>>,
}

/// What became of the changes of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct AlterConfigsResourceResponse<'a> {
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// One of the `RESOURCE_` constants.
    pub resource_type: i8,
    /// The topic's name, or the broker's id.
    pub resource_name: Str<'a>,
}
