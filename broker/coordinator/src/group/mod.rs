//! The group coordinator: classic groups, consumer groups (KIP-848) and committed offsets of one partition of
//! `__consumer_offsets`.
//!
//! 1. [`effect`]: what goes in and what comes out.
//! 2. `shard`: from an input to the machine that it is for; loading; what waits for the disk.
//! 3. `classic`: classic groups, one file per step of their protocol.
//! 4. `consumer`: consumer groups, one file per step; `consumer::classic` serves classic members in them.
//! 5. `migrate`: from classic to consumer and back.
//! 6. `offsets`: commit, fetch, delete, expire.
//! 7. `timers`, `writes`, `topics`, `record`: deadlines, writes under way, the topics there are, records as bytes.

mod classic;
mod config;
mod consumer;
mod context;
mod effect;
mod migrate;
mod offsets;
mod record;
mod reply;
mod shard;
mod timers;
mod topics;
mod writes;

use std::sync::Arc;

pub use config::{GroupConfig, MigrationPolicy};
pub(crate) use context::Context;
pub use effect::{Client, Effect, Event, EventKind, Input, Record, Reply, Request, RequestId, WriteId};
pub use reply::{JoinReply, JoinedMember, LeaveReply, LeftMember, SyncReply};
pub use shard::Shard;
pub use topics::{Topic, Topics};

/// Text that is shared: ids of groups and members, names.
pub type Text = Arc<str>;

/// Bytes that are shared: metadata and assignments, opaque to the broker.
pub type Bytes = Arc<[u8]>;
