//! How large a partition is, and whether its bytes are at hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PartitionLog, Slot};
use crate::Offset;

impl PartitionLog {
    /// Bytes appended since the directory was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Acquire)
    }

    /// Whether finding `offset` may have to wait for the disk. The end of an open active segment is taken to be in memory
    /// without asking: that is where almost everybody reads.
    pub fn may_wait(&self, offset: Offset) -> bool {
        let at_the_end = |(slot, next): (Arc<Slot>, Option<Offset>)| next.is_none() && slot.opened().is_some();
        !self.slot_of(offset).is_some_and(at_the_end) && self.is_cold(offset)
    }

    /// Bytes of all batches on the disk, nothing reserved or derived. Asks the disk for segments that are not open.
    pub fn stored_bytes(&self) -> u64 {
        let bytes = self.all_slots().into_iter().map(|(slot, _)| match slot.opened() {
            Some(segment) => segment.bytes(),
            None => std::fs::metadata(self.slot_path(&slot)).map_or(0, |file| file.len()),
        });
        bytes.sum()
    }
}
