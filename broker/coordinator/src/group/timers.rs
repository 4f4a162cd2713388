//! Deadlines: what is due when. The driver is told the earliest one.

use std::collections::{BTreeMap, BTreeSet};

use super::Text;

/// What is to happen at a deadline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A member has been silent for too long.
    Session(Text, Text),
    /// The members of a classic group have had their time to rejoin.
    Join(Text),
    /// The members of a classic group have had their time to sync.
    Sync(Text),
    /// A member of a consumer group has had its time to revoke partitions.
    Revoke(Text, Text),
    /// A classic member of a consumer group has had its time to rejoin.
    MemberJoin(Text, Text),
    /// A classic member of a consumer group has had its time to sync.
    MemberSync(Text, Text),
    /// It is time to look for expired offsets.
    Expiry,
}

/// All deadlines.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<Timer, i64>,
    order: BTreeSet<(i64, Timer)>,
}

impl Timers {
    /// Sets a deadline, in place of the one before.
    pub(crate) fn set(&mut self, timer: Timer, at_ms: i64) {
        self.cancel(&timer);
        self.order.insert((at_ms, timer.clone()));
        self.due.insert(timer, at_ms);
    }

    /// Sets a deadline unless there is one.
    pub(crate) fn set_if_absent(&mut self, timer: Timer, at_ms: i64) {
        if !self.due.contains_key(&timer) {
            self.set(timer, at_ms);
        }
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(at_ms) = self.due.remove(timer) {
            self.order.remove(&(at_ms, timer.clone()));
        }
    }

    /// Takes one that is due.
    pub(crate) fn take_due(&mut self, now_ms: i64) -> Option<Timer> {
        if self.earliest_ms()? > now_ms {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.due.remove(&timer);
        Some(timer)
    }

    pub(crate) fn earliest_ms(&self) -> Option<i64> {
        self.order.first().map(|(at_ms, _)| *at_ms)
    }
}
