//! Batches that a plugin moved from one topic to another, as far as the snapshots of the two have to know of each other.
//!
//! Each topic has a snapshot of its own, so two rules take the place of the one file in which the partitions of a topic are
//! together:
//!
//! * The snapshot of the topic that was addressed says that the batch is done. What it moved is made durable before.
//! * The snapshot of the topic that received something says from where on its log is to be read at a start. That is not
//!   behind a batch for as long as the snapshot of the addressed topic does not have it: then the start looks for it.

use std::sync::{Arc, Weak};

use ottla_wire::{Offset, Uuid};

use super::Partition;

/// From how many batches on, received since the last snapshots, several of one partition are noted as one.
const RECEIVED_MAX: usize = 1024;

/// What one partition sent to other topics, and received from them, since the snapshots.
#[derive(Debug, Default)]
pub(crate) struct Abroad {
    /// Partitions of other topics that got something that was addressed here.
    sent: Vec<Arc<Partition>>,
    /// What this partition got from other topics, in the order of its log.
    received: Vec<Received>,
}

/// Batches that came from a partition of another topic.
#[derive(Debug)]
struct Received {
    from: Weak<Partition>,
    /// The mark of the last of them in the route journal.
    mark: u64,
    /// Offset of the first of them.
    offset: Offset,
}

impl Received {
    /// The partition, if the snapshot of its topic does not have what it sent, and has to.
    fn unsaved(&self) -> Option<Arc<Partition>> {
        self.from.upgrade().filter(|from| !from.log.is_deleted() && from.saved_mark() < self.mark)
    }
}

impl Abroad {
    /// Something that was addressed here is in a log of another topic.
    pub(crate) fn note_sent(&mut self, target: &Arc<Partition>) {
        if !self.sent.iter().any(|sent| Arc::ptr_eq(sent, target)) {
            self.sent.push(Arc::clone(target));
        }
    }

    /// What has to be durable before the next snapshot of this topic.
    pub(crate) fn take_sent(&mut self) -> Vec<Arc<Partition>> {
        std::mem::take(&mut self.sent)
    }

    /// Something that was addressed to `from`, a partition of another topic, is in the log here, from `offset` on.
    pub(crate) fn note_received(&mut self, from: &Arc<Partition>, mark: u64, offset: Offset) {
        if self.received.len() >= RECEIVED_MAX {
            self.received.retain(|received| received.unsaved().is_some());
        }
        let same = |it: &&mut Received| it.from.as_ptr() == Arc::as_ptr(from);
        if self.received.len() >= RECEIVED_MAX
            && let Some(known) = self.received.iter_mut().rev().find(same)
        {
            known.mark = mark;
        } else {
            self.received.push(Received { from: Arc::downgrade(from), mark, offset });
        }
    }

    /// The first batch in the log that the snapshot of the topic it was addressed to does not have.
    pub(crate) fn unsaved_from(&self) -> Option<Offset> {
        self.received.iter().filter(|received| received.unsaved().is_some()).map(|received| received.offset).min()
    }

    /// The topics whose snapshots do not have what they sent here.
    pub(crate) fn unsaved_senders(&self) -> impl Iterator<Item = Uuid> {
        self.received.iter().filter_map(|received| Some(received.unsaved()?.topic_id))
    }
}
