//! The checkpoint of a partition: the persisted durable offset, below which recovery never cuts.
//!
//! ```text
//! file = slot at 0 ‖ slot at 512, written in turn, so that a torn write leaves the one before
//! slot = magic "OTTLACP\x01" · sequence u64 · durable offset i64 · log start offset i64
//!        · base offset of the active segment i64 · bytes of it below the durable offset u64 · CRC-32C u32
//! ```
//!
//! The log writes it after the sync that makes it true. It may lag behind the durable offset but is never ahead of it.

use std::fs;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Offset;
use crate::disk::Disk;
use crate::format::{CHECKPOINT_FILE, CHECKPOINT_MAGIC};

const SLOT_BYTES: usize = 52;
const SLOT_SPACING: u64 = 512;

/// The content of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Every batch below it has been synced.
    pub(crate) durable: Offset,
    /// First offset that can still be read.
    pub(crate) log_start: Offset,
    /// The segment that holds (or will hold) the batch at `durable`.
    pub(crate) active_base: Offset,
    /// Position of `durable` in that segment.
    pub(crate) active_bytes: u64,
}

/// The checkpoint file. It is open only during a read or write, so ten thousand partitions need no descriptors for it.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    sequence: u64,
    exists: bool,
}

impl CheckpointFile {
    /// The checkpoint of the partition in `directory`, and its newer sound slot, if there is one.
    pub(crate) fn open(disk: Arc<dyn Disk>, directory: &Path) -> io::Result<(Self, Option<Checkpoint>)> {
        let path = directory.join(CHECKPOINT_FILE);
        let (bytes, exists) = match fs::read(&path) {
            Ok(bytes) => (bytes, true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), false),
            Err(error) => return Err(error),
        };
        let slots = [decode(&bytes), decode(bytes.get(SLOT_SPACING as usize..).unwrap_or_default())];
        let newest = slots.into_iter().flatten().max_by_key(|(sequence, _)| *sequence);
        let sequence = newest.map_or(0, |(sequence, _)| sequence);
        Ok((Self { path, disk, sequence, exists }, newest.map(|(_, checkpoint)| checkpoint)))
    }

    /// The checkpoint of a partition whose directory cannot be read. The caller does not write to it.
    pub(crate) fn unread(disk: Arc<dyn Disk>, directory: &Path) -> Self {
        Self { path: directory.join(CHECKPOINT_FILE), disk, sequence: 0, exists: false }
    }

    /// The same file after its directory was renamed.
    pub(crate) fn moved_to(self, directory: &Path) -> Self {
        Self { path: directory.join(CHECKPOINT_FILE), ..self }
    }

    /// Writes the older slot. Returns the paths that the caller has to sync, at once or together with others: the file,
    /// and the directory if the file is new.
    pub(crate) fn write(&mut self, checkpoint: Checkpoint) -> io::Result<Vec<PathBuf>> {
        let file = if self.exists { self.disk.open(&self.path, true)? } else { self.disk.create(&self.path)? };
        let sequence = self.sequence + 1;
        self.disk.write_at(&file, &mut [IoSlice::new(&encode(sequence, checkpoint))], (sequence % 2) * SLOT_SPACING)?;
        self.sequence = sequence;
        let mut unsynced = vec![self.path.clone()];
        if !std::mem::replace(&mut self.exists, true) {
            unsynced.extend(self.path.parent().map(Path::to_path_buf));
        }
        Ok(unsynced)
    }
}

fn encode(sequence: u64, checkpoint: Checkpoint) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    let fields = [
        CHECKPOINT_MAGIC,
        sequence.to_be_bytes(),
        checkpoint.durable.0.to_be_bytes(),
        checkpoint.log_start.0.to_be_bytes(),
        checkpoint.active_base.0.to_be_bytes(),
        checkpoint.active_bytes.to_be_bytes(),
    ];
    let (body, crc) = slot.split_at_mut(SLOT_BYTES - 4);
    for (place, field) in body.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field);
    }
    crc.copy_from_slice(&crc_fast::crc32_iscsi(body).to_be_bytes());
    slot
}

fn decode(bytes: &[u8]) -> Option<(u64, Checkpoint)> {
    let slot = bytes.first_chunk::<SLOT_BYTES>()?;
    let (body, crc) = slot.split_last_chunk::<4>()?;
    let (fields, []) = body.as_chunks::<8>() else { return None };
    let [magic, sequence, durable, log_start, active_base, active_bytes] = fields else { return None };
    if *magic != CHECKPOINT_MAGIC || crc_fast::crc32_iscsi(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let offset = |field: &[u8; 8]| Some(Offset(i64::from_be_bytes(*field))).filter(|offset| offset.0 >= 0);
    let checkpoint = Checkpoint {
        durable: offset(durable)?,
        log_start: offset(log_start)?,
        active_base: offset(active_base)?,
        active_bytes: u64::from_be_bytes(*active_bytes),
    };
    Some((u64::from_be_bytes(*sequence), checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn damaged_newest_slot_leaves_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, none) = CheckpointFile::open(Arc::new(RealDisk), directory.path()).unwrap();
        assert_eq!(none, None);
        let at = |durable| Checkpoint {
            durable: Offset(durable),
            log_start: Offset(1),
            active_base: Offset(2),
            active_bytes: 99,
        };
        for durable in 1..=5 {
            file.write(at(durable)).unwrap();
            let (_, read) = CheckpointFile::open(Arc::new(RealDisk), directory.path()).unwrap();
            assert_eq!(read, Some(at(durable)));
        }
        let whole = fs::read(directory.path().join(CHECKPOINT_FILE)).unwrap();
        for byte in 0..SLOT_BYTES {
            let mut damaged = whole.clone();
            damaged[SLOT_SPACING as usize + byte] ^= 4;
            fs::write(directory.path().join(CHECKPOINT_FILE), damaged).unwrap();
            let (_, read) = CheckpointFile::open(Arc::new(RealDisk), directory.path()).unwrap();
            assert_eq!(read, Some(at(4)));
        }
    }
}
