//! Held topics are tried again from time to time, until they can be let go.

use std::time::Duration;

use super::held::{Held, WaitsFor};
use super::recover::{RouteReport, carry_out};
use super::{RouteOpenError, Router, Shared};

/// Between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl Router {
    /// How long to rest before held topics are tried again: `interval`, or less where one waits for space.
    pub(crate) fn retry_rest(&self, interval: Duration) -> Duration {
        let held = self.shared.held.lock();
        let waits_for_space = |held: &Held| matches!(held.waits_for, WaitsFor::Space { .. });
        if held.iter().any(waits_for_space) { interval.min(RETRY_INTERVAL) } else { interval }
    }

    /// Tries every held topic once more.
    pub(crate) fn retry_held(&self) {
        self.shared.held.lock().retain_mut(|held| !try_release(held));
    }
}

impl Shared {
    /// Whether the journal has to keep what it has.
    pub(super) fn is_any_held(&self) -> bool {
        !self.held.lock().is_empty()
    }
}

/// Tries to let topics go. False: they stay.
fn try_release(held: &mut Held) -> bool {
    held.topics.retain(|topic| !topic.partitions.iter().all(|partition| partition.log.is_deleted()));
    if held.topics.is_empty() {
        return true;
    }
    let WaitsFor::Space { entries, journal_end } = &held.waits_for else { return false };
    let mut report = RouteReport::default();
    let topics = &held.topics;
    match carry_out(topics, entries, *journal_end, &mut report) {
        Ok(()) => {
            tracing::info!(?topics, "take batches again: {report}");
            held.let_go();
            return true;
        }
        Err(RouteOpenError::NotYet(reason)) => tracing::debug!(?topics, reason, "are still held"),
        Err(error) => tracing::error!(?topics, %error, "stay held"),
    }
    // The reason may be another one by now.
    held.hold();
    false
}
