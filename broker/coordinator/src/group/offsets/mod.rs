//! Committed offsets: what is visible is durable (Kafka's `OffsetMetadataManager`, without transactions).

mod commit;
mod delete;
mod expire;
mod fetch;
mod table;

pub(crate) use commit::Commit;
pub(crate) use delete::delete_offsets;
pub(crate) use fetch::{empty, fetch};
pub(crate) use table::{OffsetChange, OffsetTable};
