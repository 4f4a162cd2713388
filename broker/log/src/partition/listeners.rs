//! The high watermark and its listeners.

use std::fmt;
use std::sync::atomic::Ordering;

use parking_lot::{Mutex, RwLock};

use super::PartitionLog;
use crate::Offset;

type Listener = Box<dyn Fn(Offset) + Send + Sync>;

/// The listeners of a partition's high watermark.
pub(super) struct Listeners {
    all: RwLock<Vec<Listener>>,
    /// The watermark that listeners got last. Held while they are called, so that they see it rise only.
    notified: Mutex<i64>,
}

impl Listeners {
    pub(super) fn new(high_watermark: Offset) -> Self {
        Self { all: RwLock::default(), notified: Mutex::new(high_watermark.0) }
    }

    fn call(&self, watermark: i64) {
        for listener in self.all.read().iter() {
            listener(Offset(watermark));
        }
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listeners")
    }
}

impl PartitionLog {
    /// Calls `listener` with the new high watermark whenever it has moved, in rising order, one call at a time, in the
    /// thread that moved it. Calls it once more when the log directory goes offline or the partition is deleted. The
    /// listener must be fast, and must not append to this partition or flush it.
    pub fn on_advance(&self, listener: Listener) {
        self.listeners.all.write().push(listener);
    }

    /// Moves the high watermark up to `to`, if it is lower, and calls the listeners.
    pub(super) fn raise_watermark(&self, to: Offset) {
        if self.offsets.high_watermark.fetch_max(to.0, Ordering::AcqRel) < to.0 {
            let mut notified = self.listeners.notified.lock();
            // Another thread may have announced a later watermark while this one waited.
            let now = self.offsets.high_watermark.load(Ordering::Acquire);
            if now > *notified {
                *notified = now;
                self.listeners.call(now);
            }
        }
    }

    /// Calls the listeners for an event that does not move the watermark; the listeners look for the event themselves.
    pub(crate) fn notify_listeners(&self) {
        let _one_at_a_time = self.listeners.notified.lock();
        self.listeners.call(self.offsets.high_watermark.load(Ordering::Acquire));
    }

    /// Drops the listeners and everything they hold.
    pub(crate) fn forget_listeners(&self) {
        self.listeners.all.write().clear();
    }
}
