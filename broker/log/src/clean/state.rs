//! How far a partition is compacted. Derived: without the file, the next compaction starts at the beginning of the log.
//!
//! ```text
//! compacted below i64 · the next deletion marker may go at i64, or i64::MAX
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_wire::Offset;

use crate::disk::Disk;
use crate::format::{CLEAN_FILE, CLEAN_VERSION};
use crate::partition::PartitionLog;
use crate::state_file::{StateFile, is_full};

/// The content of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CleanRecord {
    /// Below this offset every key has one record.
    pub(super) clean_upto: Offset,
    /// When the next deletion marker may be removed.
    pub(super) next_horizon_ms: Option<i64>,
}

/// The content of the file, once it was read.
#[derive(Debug, Default)]
pub(crate) struct CleanState {
    known: Option<CleanRecord>,
}

impl CleanState {
    pub(super) fn load(&mut self, log: &PartitionLog) -> CleanRecord {
        *self.known.get_or_insert_with(|| {
            let read = file(log).read().unwrap_or_else(|error| {
                tracing::warn!(partition = %log.name(), %error, "cannot read how far the partition is compacted; compaction starts at the beginning");
                None
            });
            let record = read.and_then(|bytes| decode(&bytes)).unwrap_or_default();
            // The record is from a longer log than this one, so it does not describe this one.
            if record.clean_upto <= log.end_offset() { record } else { CleanRecord::default() }
        })
    }

    /// Stores the record. A failure costs work after the next start.
    pub(super) fn store(&mut self, log: &PartitionLog, record: CleanRecord) {
        if self.known.replace(record) == Some(record) {
            return;
        }
        log.unless_deleted(|| {
            if let Err(error) = file(log).write(&encode(record)) {
                tracing::warn!(partition = %log.name(), %error, "cannot store how far the partition is compacted");
            }
        });
    }
}

/// Removes a record that reaches beyond `end`, where the log ends after a crash. When the log has grown again, nothing
/// would show that the record describes other batches. Returns whether it removed one.
pub(crate) fn forget_beyond(disk: &Arc<dyn Disk>, directory: &Path, end: Offset) -> io::Result<bool> {
    let path = directory.join(CLEAN_FILE);
    let file = StateFile::on(Arc::clone(disk), path.clone(), CLEAN_VERSION);
    let reaches_beyond = match file.read() {
        Ok(bytes) => bytes.and_then(|bytes| decode(&bytes)).is_some_and(|record| record.clean_upto > end),
        Err(_) => false,
    };
    if reaches_beyond {
        match disk.remove_file(&path) {
            // Overwriting the file in place takes no space; the new content says that nothing is compacted.
            Err(error) if is_full(&error) => file.write(&encode(CleanRecord::default()))?,
            removed => removed?,
        }
    }
    Ok(reaches_beyond)
}

fn file(log: &PartitionLog) -> StateFile {
    StateFile::on(log.disk(), log.directory().join(CLEAN_FILE), CLEAN_VERSION)
}

fn encode(record: CleanRecord) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (first, second) = bytes.split_at_mut(8);
    first.copy_from_slice(&record.clean_upto.0.to_be_bytes());
    second.copy_from_slice(&record.next_horizon_ms.unwrap_or(i64::MAX).to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<CleanRecord> {
    let ([upto, horizon], []) = bytes.as_chunks::<8>() else { return None };
    let (upto, horizon) = (i64::from_be_bytes(*upto), i64::from_be_bytes(*horizon));
    (upto >= 0)
        .then(|| CleanRecord { clean_upto: Offset(upto), next_horizon_ms: Some(horizon).filter(|it| *it != i64::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_other_bytes_do_not() {
        for next_horizon_ms in [None, Some(0), Some(1_763_640_000_000)] {
            let record = CleanRecord { clean_upto: Offset(77), next_horizon_ms };
            assert_eq!(decode(&encode(record)), Some(record));
        }
        assert_eq!(decode(&[0; 15]), None);
        assert_eq!(decode(&[0xFF; 16]), None);
    }
}
