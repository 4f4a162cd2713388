//! ApiVersions, key 18, versions 0-4, flexible from 3. The response header stays v0 in every version.
//!
//! v1 throttle time, v2 no change, v3 the client's name (KIP-511) and features (KIP-584), v4 features whose minimum is 0.

use crate::{ErrorCode, Str, Wire};

/// Asks which APIs the broker speaks.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 18, versions = 0..=4, flexible = 3.., response = ApiVersionsResponse<'a>)]
pub struct ApiVersionsRequest<'a> {
    /// The name of the client library.
    #[wire(versions = 3..)]
    pub client_software_name: Str<'a>,
    /// The version of the client library.
    #[wire(versions = 3..)]
    pub client_software_version: Str<'a>,
}

/// The APIs the broker speaks.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 18, versions = 0..=4, flexible = 3..)]
pub struct ApiVersionsResponse<'a> {
    /// The error, if any. In every version the first field, since an unsupported version is answered in version 0.
    pub error_code: ErrorCode,
    /// The APIs.
    pub api_keys: Vec<ApiVersionsResponseKey>,
    /// How long the request was held back by a quota.
    #[wire(versions = 1..)]
    pub throttle_time_ms: i32,
    /// Features of the broker. Before v4 without those whose minimum is 0 (KAFKA-17011).
    #[wire(versions = 3.., tag = 0)]
    pub supported_features: Vec<SupportedFeatureKey<'a>>,
    /// The epoch of the finalized features, or −1 if there are none.
    #[wire(versions = 3.., tag = 1, default = -1)]
    pub finalized_features_epoch: i64,
    /// Features that hold for the whole cluster.
    #[wire(versions = 3.., tag = 2)]
    pub finalized_features: Vec<FinalizedFeatureKey<'a>>,
    /// Set by a controller that is ready to migrate from `ZooKeeper`.
    #[wire(versions = 3.., tag = 3)]
    pub zk_migration_ready: bool,
}

/// One API. Kafka's schema calls it `ApiVersion`, which here is the name of the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Wire)]
pub struct ApiVersionsResponseKey {
    /// The key.
    pub api_key: i16,
    /// The lowest version, included.
    pub min_version: i16,
    /// The highest version, included.
    pub max_version: i16,
}

/// A feature the broker knows.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct SupportedFeatureKey<'a> {
    /// The name of the feature.
    pub name: Str<'a>,
    /// The lowest level the broker knows.
    pub min_version: i16,
    /// The highest level the broker knows.
    pub max_version: i16,
}

/// A feature that is switched on for the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct FinalizedFeatureKey<'a> {
    /// The name of the feature.
    pub name: Str<'a>,
    /// The highest level in use.
    pub max_version_level: i16,
    /// The lowest level in use.
    pub min_version_level: i16,
}
