//! Limits how fast a compaction reads and writes.

use std::thread;
use std::time::{Duration, Instant};

/// Longest sleep before the throttle checks again whether the compaction has to stop.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// Spreads reads and writes over time.
pub(super) struct Throttle<'a> {
    bytes_per_second: u64,
    should_stop: &'a dyn Fn() -> bool,
    begun: Instant,
    bytes: u64,
}

/// The compaction has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped;

impl<'a> Throttle<'a> {
    /// A throttle of at most `bytes_per_second`; 0 for no limit.
    pub(super) fn new(bytes_per_second: u64, should_stop: &'a dyn Fn() -> bool) -> Self {
        Self { bytes_per_second, should_stop, begun: Instant::now(), bytes: 0 }
    }

    /// Counts bytes read or written, and sleeps until they are within the limit.
    pub(super) fn consume(&mut self, bytes: u64) -> Result<(), Stopped> {
        self.bytes += bytes;
        loop {
            if (self.should_stop)() {
                return Err(Stopped);
            }
            if self.bytes_per_second == 0 {
                return Ok(());
            }
            let due = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_second as f64);
            match due.checked_sub(self.begun.elapsed()).filter(|rest| !rest.is_zero()) {
                Some(rest) => thread::sleep(rest.min(SLEEP_MAX)),
                None => return Ok(()),
            }
        }
    }
}
