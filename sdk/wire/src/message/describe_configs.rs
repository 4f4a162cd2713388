//! DescribeConfigs, key 32, versions 1-4, flexible from 4.
//!
//! v1 sources and synonyms (KIP-226), v3 types and documentation (KIP-569).

use crate::{ErrorCode, Str, Wire};

/// `resource_type` of a topic.
pub const RESOURCE_TOPIC: i8 = 2;
/// `resource_type` of a broker.
pub const RESOURCE_BROKER: i8 = 4;
/// `resource_type` of the loggers of a broker (KIP-412).
pub const RESOURCE_BROKER_LOGGER: i8 = 8;
/// `resource_type` of a subscription to the metrics of clients (KIP-714).
pub const RESOURCE_CLIENT_METRICS: i8 = 16;
/// `resource_type` of a group (KIP-848).
pub const RESOURCE_GROUP: i8 = 32;

/// `config_source` of a value set on the topic.
pub const SOURCE_TOPIC: i8 = 1;
/// `config_source` of a value set on the broker while it runs.
pub const SOURCE_DYNAMIC_BROKER: i8 = 2;
/// `config_source` of a value set for all brokers while they run.
pub const SOURCE_DYNAMIC_DEFAULT_BROKER: i8 = 3;
/// `config_source` of a value from the broker's configuration file.
pub const SOURCE_STATIC_BROKER: i8 = 4;
/// `config_source` of a default.
pub const SOURCE_DEFAULT: i8 = 5;
/// `config_source` of the level of a logger.
pub const SOURCE_DYNAMIC_BROKER_LOGGER: i8 = 6;
/// `config_source` of a value set on a subscription to the metrics of clients.
pub const SOURCE_CLIENT_METRICS: i8 = 7;
/// `config_source` of a value set on the group.
pub const SOURCE_GROUP: i8 = 8;

/// `config_type` of a truth value.
pub const TYPE_BOOLEAN: i8 = 1;
/// `config_type` of a text.
pub const TYPE_STRING: i8 = 2;
/// `config_type` of a 32-bit number.
pub const TYPE_INT: i8 = 3;
/// `config_type` of a 16-bit number.
pub const TYPE_SHORT: i8 = 4;
/// `config_type` of a 64-bit number.
pub const TYPE_LONG: i8 = 5;
/// `config_type` of a floating-point number.
pub const TYPE_DOUBLE: i8 = 6;
/// `config_type` of a comma-separated list.
pub const TYPE_LIST: i8 = 7;
/// `config_type` of a class name.
pub const TYPE_CLASS: i8 = 8;
/// `config_type` of a secret.
pub const TYPE_PASSWORD: i8 = 9;

/// Asks for configuration values.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 32, versions = 1..=4, flexible = 4.., response = DescribeConfigsResponse<'a>)]
pub struct DescribeConfigsRequest<'a> {
    /// Whose.
    pub resources: Vec<DescribeConfigsResource<'a>>,
    /// Whether to tell where else a value could come from.
    pub include_synonyms: bool,
    /// Whether to tell what each value means.
    #[wire(versions = 3..)]
    pub include_documentation: bool,
}

/// A resource to describe.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeConfigsResource<'a> {
    /// One of the `RESOURCE_` constants.
    pub resource_type: i8,
    /// The topic's name, or the broker's id.
    pub resource_name: Str<'a>,
    /// Which values, `None` for all.
    pub configuration_keys: Option<Vec<Str<'a>>>,
}

/// Configuration values.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 32, versions = 1..=4, flexible = 4..)]
pub struct DescribeConfigsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// One answer per resource.
    pub results: Vec<DescribeConfigsResult<'a>>,
}

/// The configuration of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeConfigsResult<'a> {
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// One of the `RESOURCE_` constants.
    pub resource_type: i8,
    /// The topic's name, or the broker's id.
    pub resource_name: Str<'a>,
    /// Its values.
    pub configs: Vec<DescribeConfigsResourceResult<'a>>,
}

/// One configuration value.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeConfigsResourceResult<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// Its value.
    pub value: Option<Str<'a>>,
    /// Whether it cannot be changed.
    pub read_only: bool,
    /// One of the `SOURCE_` constants.
    #[wire(default = -1)]
    pub config_source: i8,
    /// Whether the value is a secret.
    pub is_sensitive: bool,
    /// Where else the value could come from.
    pub synonyms: Vec<DescribeConfigsSynonym<'a>>,
    /// One of the `TYPE_` constants.
    #[wire(versions = 3..)]
    pub config_type: i8,
    /// What the value means.
    #[wire(versions = 3..)]
    pub documentation: Option<Str<'a>>,
}

/// Another place a value could come from.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribeConfigsSynonym<'a> {
    /// Its name there.
    pub name: Str<'a>,
    /// Its value there.
    pub value: Option<Str<'a>>,
    /// One of the `SOURCE_` constants.
    pub source: i8,
}
