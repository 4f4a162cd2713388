//! The start offsets of leader epochs, for the answers to `OffsetForLeaderEpoch`.
//!
//! Epochs and start offsets both rise strictly. An epoch without a record disappears when the next one starts.

use crate::{LeaderEpoch, Offset};

/// The history of a partition's leader epochs, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EpochHistory {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl EpochHistory {
    /// A history from stored entries. Entries that do not rise are dropped.
    pub(crate) fn from_entries(entries: impl IntoIterator<Item = (LeaderEpoch, Offset)>) -> Self {
        let mut history = Self::default();
        for (epoch, start) in entries {
            history.begin(epoch, start);
        }
        history
    }

    /// All entries, oldest first.
    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// The current epoch, if any began.
    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// Starts `epoch` at `start`. Drops entries with the same or a later offset, or a later epoch.
    pub(crate) fn begin(&mut self, epoch: LeaderEpoch, start: Offset) {
        let kept = self.entries.iter().take_while(|(other, begun)| other.0 < epoch.0 && begun.0 < start.0).count();
        self.entries.truncate(kept);
        self.entries.push((epoch, start));
    }

    /// The epoch of the record at `offset`.
    pub(crate) fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, start)| start.0 <= offset.0);
        self.entries.get(after.checked_sub(1)?).map(|(epoch, _)| *epoch)
    }

    /// The greatest epoch not above `requested`, and the offset after its last record. `None` if `requested` is above
    /// every known epoch. An epoch before all known ones ends where the first known one begins.
    pub(crate) fn end_of(&self, requested: LeaderEpoch, end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let after = self.entries.partition_point(|(epoch, _)| epoch.0 <= requested.0);
        match (after.checked_sub(1).and_then(|at| self.entries.get(at)), self.entries.get(after)) {
            (Some((epoch, _)), Some((_, next))) => Some((*epoch, *next)),
            (Some((epoch, _)), None) => (*epoch == requested).then_some((*epoch, end)),
            (None, Some((_, next))) => Some((requested, *next)),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_answer_as_kafka_does() {
        let mut history = EpochHistory::default();
        assert_eq!(history.end_of(LeaderEpoch(0), Offset(5)), None);
        for (epoch, start) in [(0, 0), (1, 10), (2, 10), (4, 30)] {
            history.begin(LeaderEpoch(epoch), Offset(start));
        }
        // Epoch 1 had no record.
        assert_eq!(history.entries(), [(0, 0), (2, 10), (4, 30)].map(|(e, o)| (LeaderEpoch(e), Offset(o))));
        let end = |epoch| history.end_of(LeaderEpoch(epoch), Offset(42)).map(|(e, o)| (e.0, o.0));
        assert_eq!(end(0), Some((0, 10)));
        assert_eq!(end(1), Some((0, 10)));
        assert_eq!(end(2), Some((2, 30)));
        assert_eq!(end(3), Some((2, 30)));
        assert_eq!(end(4), Some((4, 42)));
        assert_eq!(end(5), None);
        assert_eq!(history.epoch_of(Offset(29)), Some(LeaderEpoch(2)));
        assert_eq!(history.epoch_of(Offset(30)), Some(LeaderEpoch(4)));
        // A truncation to offset 20 starts an epoch there and drops the later entries.
        history.begin(LeaderEpoch(5), Offset(20));
        assert_eq!(history.entries(), [(0, 0), (2, 10), (5, 20)].map(|(e, o)| (LeaderEpoch(e), Offset(o))));
    }
}
