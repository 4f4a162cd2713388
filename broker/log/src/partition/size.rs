//! The size of a partition, and whether a read would wait for the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PartitionLog, Slot};
use crate::Offset;

impl PartitionLog {
    /// Bytes appended since the directory was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.flushing.appended_bytes.load(Ordering::Acquire)
    }

    /// Records appended since the directory was opened.
    pub fn appended_records(&self) -> u64 {
        u64::try_from(self.end_offset().0 - self.opened_end.0).unwrap_or(0)
    }

    /// Whether a lookup of `offset` may wait for the disk. The end of an open active segment counts as in memory
    /// without a check, because almost all reads are there.
    pub fn may_wait(&self, offset: Offset) -> bool {
        let at_the_end = |(slot, next): (Arc<Slot>, Option<Offset>)| next.is_none() && slot.opened().is_some();
        !self.slot_of(offset).is_some_and(at_the_end) && self.is_cold(offset)
    }

    /// Bytes of all batches on the disk, without reserved space and indexes. Asks the disk about segments that are not
    /// open.
    pub fn stored_bytes(&self) -> u64 {
        let bytes = self.all_slots().into_iter().map(|(slot, _)| match slot.opened() {
            Some(segment) => segment.bytes(),
            None => std::fs::metadata(self.slot_path(&slot)).map_or(0, |file| file.len()),
        });
        bytes.sum()
    }
}
