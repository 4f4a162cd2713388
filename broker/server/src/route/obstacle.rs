//! What a thread of the route cannot do now is tried again, until it works, can never work, or the broker stops.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shared;
use crate::partition::Refusal;

/// Between two log lines about something that goes on failing.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
const RETRY_REST_MIN: Duration = Duration::from_millis(50);
const RETRY_REST_MAX: Duration = Duration::from_secs(1);

/// Why something cannot be done now.
pub(super) enum Obstacle {
    /// It may pass: a full disk, above all.
    Passing(String),
    /// It will not.
    Final(Refusal),
}

impl Shared {
    /// Tries again until it works, can never work, or the broker stops.
    pub(super) fn until_done<T>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> Result<T, Obstacle>,
    ) -> Result<T, Refusal> {
        let mut rest = RETRY_REST_MIN;
        let mut complained: Option<Instant> = None;
        loop {
            match attempt() {
                Ok(done) => {
                    if complained.is_some() {
                        tracing::info!(what, "goes on");
                    }
                    return Ok(done);
                }
                Err(Obstacle::Final(refusal)) => return Err(refusal),
                Err(Obstacle::Passing(reason)) => {
                    if complained.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL) {
                        tracing::error!(what, reason, "waiting for it to pass; batches behind it wait as well");
                        complained = Some(Instant::now());
                    }
                    if self.stop.wait(rest) {
                        self.stuck.store(true, Ordering::Release);
                        return Err(Refusal::Stopping);
                    }
                    rest = (rest * 2).min(RETRY_REST_MAX);
                }
            }
        }
    }
}
