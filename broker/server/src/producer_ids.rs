//! Hands out producer ids that were never handed out before, not even by a process that crashed.
//!
//! Ids are reserved durably in blocks before the first of a block leaves; a crash wastes the rest of its block.

use std::sync::Arc;

use ottla_wire::{ProducerEpoch, ProducerId};
use parking_lot::{Mutex, MutexGuard};

use crate::meta::{MetaError, MetadataStore};

/// Ids reserved with one write to the metadata.
const BLOCK_IDS: i64 = 1000;
/// Ids from here on are never handed out: the route journal writes under the last of them.
const IDS_END: i64 = i64::MAX - BLOCK_IDS;

/// The producer under whose id and sequence numbers the route journal appends. No client gets or may use this id.
pub(crate) const JOURNAL_PRODUCER: ProducerId = ProducerId(i64::MAX);

/// The producer ids of this broker.
pub struct ProducerIds {
    meta: Arc<dyn MetadataStore>,
    block: Mutex<Block>,
    /// Held across the write that reserves a block, for which a thread that takes an id from the block does not wait.
    reserving: Mutex<()>,
}

/// Reserved ids that were not handed out yet.
#[derive(Debug, Clone, Copy)]
struct Block {
    next: i64,
    end: i64,
}

/// Why there is no producer id.
#[derive(Debug, thiserror::Error)]
pub enum ProducerIdError {
    /// The block could not be reserved.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// All 2^63 are gone.
    #[error("the producer ids are used up")]
    UsedUp,
}

impl ProducerIds {
    /// Takes up where the last process may have stopped.
    pub fn open(meta: Arc<dyn MetadataStore>) -> Result<Self, MetaError> {
        let mark = meta.producer_id_mark()?.max(0);
        Ok(Self { meta, block: Mutex::new(Block { next: mark, end: mark }), reserving: Mutex::default() })
    }

    /// A new id, if that needs no disk.
    pub fn next_reserved(&self) -> Option<ProducerId> {
        self.block().take()
    }

    /// A new id. Writes to the disk once per block.
    pub fn next(&self) -> Result<ProducerId, ProducerIdError> {
        let _reserving = self.reserving.lock();
        // Another thread may have reserved a block while this one waited.
        if let Some(id) = self.next_reserved() {
            return Ok(id);
        }
        let next = self.block().end;
        let end = next.saturating_add(BLOCK_IDS);
        if end > IDS_END {
            return Err(ProducerIdError::UsedUp);
        }
        self.meta.set_producer_id_mark(end)?;
        let mut block = self.block();
        *block = Block { next, end };
        block.take().ok_or(ProducerIdError::UsedUp)
    }

    /// The next epoch of a producer, if this broker gave it its id and has one left.
    pub fn next_epoch(&self, id: ProducerId, epoch: ProducerEpoch) -> Option<ProducerEpoch> {
        let given = (0..self.block().next).contains(&id.get());
        (given && (0..i16::MAX - 1).contains(&epoch.get())).then(|| ProducerEpoch(epoch.get() + 1))
    }

    fn block(&self) -> MutexGuard<'_, Block> {
        self.block.lock()
    }
}

impl Block {
    fn take(&mut self) -> Option<ProducerId> {
        let id = (self.next < self.end).then_some(ProducerId(self.next))?;
        self.next += 1;
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::meta::LocalStore;

    fn opened(data_dir: &std::path::Path) -> ProducerIds {
        ProducerIds::open(Arc::new(LocalStore::open(data_dir, Vec::new(), &[]).unwrap().0)).unwrap()
    }

    #[test]
    fn an_id_is_never_handed_out_twice_not_even_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let mut given = HashSet::new();
        for ids_before_crash in [1, 999, 1, 1001] {
            let ids = opened(dir.path());
            assert_eq!(ids.next_reserved(), None);
            for _ in 0..ids_before_crash {
                assert!(given.insert(ids.next().unwrap()));
            }
        }
    }

    #[test]
    fn an_epoch_is_raised_for_ids_of_this_broker_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ids = opened(dir.path());
        let id = ids.next().unwrap();
        assert_eq!(ids.next_epoch(id, ProducerEpoch(0)), Some(ProducerEpoch(1)));
        assert_eq!(ids.next_epoch(id, ProducerEpoch(i16::MAX - 1)), None);
        assert_eq!(ids.next_epoch(id, ProducerEpoch(-1)), None);
        assert_eq!(ids.next_epoch(ProducerId(id.get() + 1), ProducerEpoch(0)), None);
        assert_eq!(ids.next_epoch(JOURNAL_PRODUCER, ProducerEpoch(0)), None);
    }
}
