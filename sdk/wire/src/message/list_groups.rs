//! ListGroups, key 16, versions 0-5, flexible from 3.
//!
//! v4 states (KIP-518), v5 types (KIP-848).

use crate::{ErrorCode, Str, Wire};

/// Asks which groups there are.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 16, versions = 0..=5, flexible = 3.., response = ListGroupsResponse<'a>)]
pub struct ListGroupsRequest<'a> {
    /// Only groups in these states; empty: all.
    #[wire(versions = 4..)]
    pub states_filter: Vec<Str<'a>>,
    /// Only groups of these types; empty: all.
    #[wire(versions = 5..)]
    pub types_filter: Vec<Str<'a>>,
}

/// Which groups there are.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 16, versions = 0..=5, flexible = 3..)]
pub struct ListGroupsResponse<'a> {
    /// How long the request was held back by a quota.
    #[wire(versions = 1..)]
    pub throttle_time_ms: i32,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// Groups.
    pub groups: Vec<ListedGroup<'a>>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ListedGroup<'a> {
    /// The group.
    pub group_id: Str<'a>,
    /// The protocol type, `consumer` for consumers.
    pub protocol_type: Str<'a>,
    /// Kafka's name of its state.
    #[wire(versions = 4..)]
    pub group_state: Str<'a>,
    /// `Classic` or `Consumer`.
    #[wire(versions = 5..)]
    pub group_type: Str<'a>,
}
