//! Topics that take no batches, because what the route journal has for them could not be carried out at the start.
//!
//! Where the disk was full it is tried [again](super::release) until it works; where a log directory is missing it waits for
//! a start that finds it. Meanwhile nothing is appended to the topic and no snapshot of its producers is written, so that
//! trying again is what a start after a crash does: nothing is carried out twice.

use std::sync::Arc;

use ottla_log::JournalEntry;

use crate::partition::Refusal;
use crate::topics::Topic;

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

impl Held {
    pub(super) fn new(topics: Vec<Arc<Topic>>, waits_for: WaitsFor) -> Self {
        let held = Self { topics, waits_for };
        held.hold();
        held
    }

    /// Lets the topics take no batches, and tells their producers why.
    pub(super) fn hold(&self) {
        for topic in &self.topics {
            let refusal = refusal(topic);
            for partition in &topic.partitions {
                partition.intake().held = Some(refusal.clone());
            }
        }
    }

    /// Lets the topics take batches again.
    pub(super) fn let_go(&self) {
        for partition in self.topics.iter().flat_map(|topic| &topic.partitions) {
            partition.intake().held = None;
        }
    }
}

/// What a producer to a held topic gets to hear.
fn refusal(topic: &Topic) -> Refusal {
    let offline = topic.partitions.iter().find_map(|partition| partition.log.offline_reason());
    let reason = offline.unwrap_or_else(|| "the disk is full".to_owned());
    Refusal::Storage(format!("batches moved by a plugin wait in the route journal to be carried out first: {reason}"))
}
