//! What a producer is to the broker, and how its batches are numbered.

use ottla_wire::{ProducerEpoch, ProducerId};

/// The producer id and epoch under which batches are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

impl Identity {
    /// What a producer without idempotence writes into its batches.
    pub(crate) const NONE: Self = Self { id: ProducerId::NONE, epoch: ProducerEpoch::NONE };

    /// The same producer in its next epoch, under which numbers start again at 0 (KIP-360). None when the epochs are
    /// used up and a new id is needed.
    pub(crate) fn next_epoch(self) -> Option<Self> {
        // 32767 itself is never used: the broker could not count past it.
        let epoch = self.epoch.get().checked_add(1).filter(|epoch| *epoch < i16::MAX)?;
        Some(Self { epoch: ProducerEpoch(epoch), ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_end_before_they_overflow() {
        let mut identity = Identity { id: ProducerId(1), epoch: ProducerEpoch(0) };
        let mut epochs = 1;
        while let Some(next) = identity.next_epoch() {
            identity = next;
            epochs += 1;
        }
        assert_eq!(epochs, i32::from(i16::MAX));
        assert_eq!(identity.epoch, ProducerEpoch(i16::MAX - 1));
    }
}
