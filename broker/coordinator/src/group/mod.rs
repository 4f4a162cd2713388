//! The group coordinator: classic groups, consumer groups (KIP-848) and committed offsets of one partition of
//! `__consumer_offsets`.
//!
//! 1. `effect`, `reply`: what goes in and what comes out.
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

pub use config::{GroupConfig, GroupTimes, MigrationPolicy};
pub(crate) use context::Context;
pub use effect::{Client, Effect, Event, EventKind, Input, Record, Reply, Request, RequestId, WriteId};
pub use reply::{JoinReply, JoinedMember, LeaveReply, LeftMember, SyncReply};
pub use shard::Shard;
pub use topics::{Topic, Topics};

/// The partition of `__consumer_offsets` that has a group, out of so many: Java's hash of its id without the sign, as in
/// Kafka, since tools look there. 0 where there are no partitions.
pub fn partition_of(group_id: &str, partitions: u32) -> u32 {
    let hash = group_id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX).unsigned_abs().checked_rem(partitions).unwrap_or(0)
}

/// Text that is shared: ids of groups and members, names.
pub type Text = Arc<str>;

/// Bytes that are shared: metadata and assignments, opaque to the broker.
pub type Bytes = Arc<[u8]>;

#[cfg(test)]
mod tests {
    use super::partition_of;

    #[test]
    fn groups_are_where_kafka_looks_for_them() {
        // From Java: (id.hashCode() & 0x7fffffff) % 50. The last but one has the hash with nothing but a sign.
        let expected =
            [("orders", 17), ("connect-cluster", 13), ("", 0), ("übung", 10), ("polygenelubricants", 0), ("😀", 49)];
        for (group_id, partition) in expected {
            assert_eq!(partition_of(group_id, 50), partition, "{group_id}");
        }
        assert_eq!(partition_of("orders", 0), 0);
    }
}
