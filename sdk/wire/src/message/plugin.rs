//! Ottla's own APIs around plugins, keys 20000 to 20003, from version 0 on, flexible. Only for clients that name themselves
//! `ottla`; no other client gets to see them.

use crate::{ErrorCode, Str, Wire};

/// `version` of [`ActivatePluginRequest`]: the one that was active before; always a rollback.
pub const VERSION_PREVIOUS: i32 = -1;
/// `version` of [`DeletePluginRequest`]: all of them.
pub const VERSION_ALL: i32 = -1;
/// The largest chunk of a [`PushPluginRequest`].
pub const PLUGIN_CHUNK_BYTES_MAX: usize = 1 << 20;

/// Uploads a plugin, chunk by chunk.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 20000, versions = 0..=0, flexible = 0.., response = PushPluginResponse<'a>)]
pub struct PushPluginRequest<'a> {
    /// The name under which it will be known.
    pub name: Str<'a>,
    /// The SHA-256 of the whole component, in hexadecimal.
    pub digest: Str<'a>,
    /// The size of the whole component.
    pub total_bytes: i64,
    /// Where this chunk begins.
    pub offset: i64,
    /// The chunk, at most [`PLUGIN_CHUNK_BYTES_MAX`].
    pub chunk: &'a [u8],
}

/// How far the upload is.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 20000, versions = 0..=0, flexible = 0..)]
pub struct PushPluginResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// Where the next chunk begins.
    pub next_offset: i64,
    /// The version the plugin got, 0 until it is complete.
    pub version: i32,
}

/// Asks for plugins.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 20001, versions = 0..=1, flexible = 0.., response = DescribePluginsResponse<'a>)]
pub struct DescribePluginsRequest<'a> {
    /// Their names, `None` for all.
    pub names: Option<Vec<Str<'a>>>,
}

/// The plugins.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 20001, versions = 0..=1, flexible = 0..)]
pub struct DescribePluginsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// One answer per plugin.
    pub plugins: Vec<DescribedPlugin<'a>>,
}

/// A plugin.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribedPlugin<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// The version that runs, 0 if none does.
    pub active_version: i32,
    /// The version that a rollback would activate, 0 if there is none.
    pub previous_version: i32,
    /// All versions.
    pub versions: Vec<DescribedPluginVersion<'a>>,
    /// The topics that name the plugin in their configuration.
    pub topics: Vec<Str<'a>>,
}

/// A version of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribedPluginVersion<'a> {
    /// Its number.
    pub version: i32,
    /// The SHA-256 of the component, in hexadecimal.
    pub digest: Str<'a>,
    /// What it is: `partitioner`, …
    pub kind: Str<'a>,
    /// The size of the component.
    pub bytes: i64,
    /// When it was uploaded, in milliseconds since 1970.
    pub created_ms: i64,
    /// What it reads of a record: `key`, `value`, `headers`.
    pub reads: Vec<Str<'a>>,
    /// Whether a rollback left it: no rollback returns to it unless it is named.
    #[wire(versions = 1..)]
    pub marked_bad: bool,
}

/// Makes a version the one that runs.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 20002, versions = 0..=1, flexible = 0.., response = ActivatePluginResponse<'a>)]
pub struct ActivatePluginRequest<'a> {
    /// The plugin.
    pub name: Str<'a>,
    /// The version, or [`VERSION_PREVIOUS`] to roll back.
    pub version: i32,
    /// Whether this is a rollback, which marks the version that it leaves as bad.
    #[wire(versions = 1..)]
    pub is_rollback: bool,
}

/// The version that runs.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 20002, versions = 0..=1, flexible = 0..)]
pub struct ActivatePluginResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// The version that runs now.
    pub active_version: i32,
}

/// Removes versions of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 20003, versions = 0..=0, flexible = 0.., response = DeletePluginResponse<'a>)]
pub struct DeletePluginRequest<'a> {
    /// The plugin.
    pub name: Str<'a>,
    /// The version, or [`VERSION_ALL`].
    pub version: i32,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 20003, versions = 0..=0, flexible = 0..)]
pub struct DeletePluginResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
}
