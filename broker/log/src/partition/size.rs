//! How large a partition is, and whether its bytes are at hand.

use std::sync::atomic::Ordering;

use super::PartitionLog;
use crate::Offset;

/// What a search for an offset reads at first.
const HEADER_BYTES: u64 = 4096;

impl PartitionLog {
    /// Bytes appended since the directory was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Acquire)
    }

    /// Whether finding `offset` may have to wait for the disk: its segment is closed, or is an older one whose batch
    /// headers are not in memory. The active segment is taken to be.
    pub fn is_cold(&self, offset: Offset) -> bool {
        let Some((slot, next_base)) = self.slot_of(offset) else { return false };
        let Some(segment) = slot.opened() else { return true };
        if next_base.is_none() {
            return false;
        }
        let position = segment.index().floor_offset(offset).map_or(0, |entry| entry.position);
        segment.cold_bytes(position, HEADER_BYTES).unwrap_or(0) > 0
    }

    /// Bytes of all batches on the disk, nothing reserved or derived. Asks the disk for segments that are not open.
    pub fn stored_bytes(&self) -> u64 {
        let bytes = self.all_slots().into_iter().map(|(slot, _)| match slot.opened() {
            Some(segment) => segment.bytes(),
            None => std::fs::metadata(self.segment_path(slot.base())).map_or(0, |file| file.len()),
        });
        bytes.sum()
    }
}
