//! DeleteTopics, key 20, versions 1-6, flexible from 4.
//!
//! v5 errors in words (KIP-599), v6 topics by id (KIP-516).

use crate::{ErrorCode, Str, Uuid, Wire};

/// Deletes topics.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 20, versions = 1..=6, flexible = 4.., response = DeleteTopicsResponse<'a>)]
pub struct DeleteTopicsRequest<'a> {
    /// The topics, by name or id.
    #[wire(versions = 6..)]
    pub topics: Vec<DeleteTopicState<'a>>,
    /// The topics, by name.
    #[wire(versions = 0..=5)]
    pub topic_names: Vec<Str<'a>>,
    /// How long to wait until they are gone.
    pub timeout_ms: i32,
}

/// A topic to delete.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DeleteTopicState<'a> {
    /// Its name, or `None` to name it by id.
    pub name: Option<Str<'a>>,
    /// Its id, or zero to name it by name.
    pub topic_id: Uuid,
}

/// What became of the topics.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 20, versions = 1..=6, flexible = 4..)]
pub struct DeleteTopicsResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// The topics.
    pub responses: Vec<DeletableTopicResult<'a>>,
}

/// What became of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DeletableTopicResult<'a> {
    /// Its name; `None` only for an id that nothing is known about.
    #[wire(nullable = 6..)]
    pub name: Option<Str<'a>>,
    /// Its id.
    #[wire(versions = 6..)]
    pub topic_id: Uuid,
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    #[wire(versions = 5..)]
    pub error_message: Option<Str<'a>>,
}
