//! Offsets that no member uses any more.

use super::super::Text;
use super::table::{CommittedOffset, OffsetChange, OffsetTable};

impl OffsetTable {
    /// What removes the expired offsets of a group. `unused_since_ms` says since when an offset is not in use.
    pub(crate) fn expired(
        &self,
        group: &Text,
        now_ms: i64,
        retention_ms: i64,
        unused_since_ms: impl Fn(&str, &CommittedOffset) -> Option<i64>,
    ) -> Vec<OffsetChange> {
        let is_expired = |topic: &str, committed: &CommittedOffset| {
            unused_since_ms(topic, committed).is_some_and(|since_ms| match committed.expire_ms {
                Some(expire_ms) => now_ms >= expire_ms,
                None => now_ms.saturating_sub(since_ms) >= retention_ms,
            })
        };
        self.removals(group, |topic, partition| {
            // One that is about to change is in use.
            !self.is_changing(group, topic, partition)
                && self.visible(group, topic, partition).is_some_and(|committed| is_expired(topic, committed))
        })
    }
}
