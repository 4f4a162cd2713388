//! Topics that take no batches, because what the route journal has for them could not be carried out at the start.
//!
//! Where the disk was full it is tried again until it works; where a log directory is missing it waits for a start that
//! finds it. Meanwhile nothing is appended to the topic and no snapshot of its producers is written, so that trying again
//! is what a start after a crash does: nothing is carried out twice.

use std::sync::Arc;
use std::time::Duration;

use ottla_log::JournalEntry;

use super::recover::{RouteReport, carry_out};
use super::{RouteOpenError, Shared};
use crate::partition::Refusal;
use crate::topics::Topic;

/// Between two attempts.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Topics that wait for the entries between them to be carried out.
pub(super) struct Held {
    pub(super) topics: Vec<Arc<Topic>>,
    pub(super) waits_for: WaitsFor,
}

/// What has to happen before they take batches again.
pub(super) enum WaitsFor {
    /// Space on the disk, for these entries. The journal ended at that sequence when the broker started.
    Space { entries: Vec<JournalEntry>, journal_end: u64 },
    /// A start that finds its log directories.
    Directory,
}

/// What a producer to a held topic gets to hear.
pub(super) fn refusal(topic: &Topic) -> Refusal {
    let offline = topic.partitions.iter().find_map(|partition| partition.log.offline_reason());
    let reason = offline.unwrap_or_else(|| "the disk is full".to_owned());
    Refusal::Storage(format!("batches moved by a plugin wait in the route journal to be carried out first: {reason}"))
}

impl Held {
    pub(super) fn new(topics: Vec<Arc<Topic>>, waits_for: WaitsFor) -> Self {
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            partition.intake().held = true;
        }
        Self { topics, waits_for }
    }

    /// Tries to let the topics go. False: they stay.
    fn try_release(&mut self) -> bool {
        self.topics.retain(|topic| !topic.partitions.iter().all(|partition| partition.log.is_deleted()));
        if self.topics.is_empty() {
            return true;
        }
        let WaitsFor::Space { entries, journal_end } = &self.waits_for else { return false };
        let mut report = RouteReport::default();
        match carry_out(&self.topics, entries, *journal_end, &mut report) {
            Ok(()) => {
                tracing::info!(topics = ?self.topics, "take batches again: {report}");
                for partition in self.topics.iter().flat_map(|topic| &topic.partitions) {
                    partition.intake().held = false;
                }
                true
            }
            Err(RouteOpenError::NotYet(reason)) => {
                tracing::debug!(topics = ?self.topics, reason, "are still held");
                false
            }
            Err(error) => {
                tracing::error!(topics = ?self.topics, %error, "stay held");
                false
            }
        }
    }
}

impl Shared {
    /// How long the keeper rests.
    pub(super) fn keeper_rest(&self) -> Duration {
        let held = self.held.lock();
        let waits_for_space = |held: &Held| matches!(held.waits_for, WaitsFor::Space { .. });
        let interval = self.options.checkpoint_interval;
        if held.iter().any(waits_for_space) { interval.min(RETRY_INTERVAL) } else { interval }
    }

    /// Tries every held topic once more.
    pub(super) fn retry_held(&self) {
        let mut held = self.held.lock();
        held.retain_mut(|held| !held.try_release());
    }

    /// Whether the journal has to keep what it has.
    pub(super) fn is_any_held(&self) -> bool {
        !self.held.lock().is_empty()
    }
}
