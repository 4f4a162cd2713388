//! DeleteGroups, key 42, versions 0-2, flexible from 2.
//!
//! KIP-229.

use crate::{ErrorCode, Str, Wire};

/// Deletes groups with all their offsets.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 42, versions = 0..=2, flexible = 2.., response = DeleteGroupsResponse<'a>)]
pub struct DeleteGroupsRequest<'a> {
    /// The groups.
    pub groups_names: Vec<Str<'a>>,
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 42, versions = 0..=2, flexible = 2..)]
pub struct DeleteGroupsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// One answer per group.
    pub results: Vec<DeletableGroupResult<'a>>,
}

/// What became of one group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DeletableGroupResult<'a> {
    /// The group.
    pub group_id: Str<'a>,
    /// The error, if any.
    pub error_code: ErrorCode,
}
