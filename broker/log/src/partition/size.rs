//! How large a partition is.

use super::PartitionLog;

impl PartitionLog {
    /// Bytes of all batches on the disk, nothing reserved or derived. Asks the disk for segments that are not open.
    pub fn stored_bytes(&self) -> u64 {
        let bytes = self.all_slots().into_iter().map(|(slot, _)| match slot.opened() {
            Some(segment) => segment.bytes(),
            None => std::fs::metadata(self.segment_path(slot.base())).map_or(0, |file| file.len()),
        });
        bytes.sum()
    }
}
