//! The producers of a topic's partitions as they are kept on the disk, so that a start need not read whole logs.
//!
//! One file per topic, in the directory of its first partition and named with the topic's id, replaced as a whole: a batch
//! that a plugin spread over the partitions of a topic is in the snapshot of all of them or of none.
//!
//! ```text
//! <topic id>.producers                 generation u64 · pieces u32 · the snapshot, where it is not in pieces
//! <topic id>.<parity>-<n>.producers    generation u64 · n u32 · a piece of the snapshot
//! ```
//! What is longer than [`PIECE_BYTES_MAX`] is in pieces: the files of the next generation are written beside those of the
//! one before (the parity of the generation is in their names), then the file that names the generation is replaced.
//! A generation is in force as a whole or not at all.

mod format;
mod saves;

use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};
use ottla_log::canary::{Canary, broken};
use ottla_log::{PartitionLog, StateFile, StateReadError, StateWriteError};
use ottla_wire::{Offset, ProducerId, Uuid};

use super::landing::Landing;
pub use format::SnapshotDamaged;
use format::SnapshotVersion;
use ottla_coordinator::sequence::{Producer, Remembered};
pub(crate) use saves::Saves;

/// The file that release 0.1 wrote. It is read where there is no other, and goes with the next save.
const FILE_OF_V1: &str = "producers";
/// From how many bytes on a snapshot is in pieces of this size. A state file holds 256 MiB.
const PIECE_BYTES_MAX: usize = 32 << 20;
/// Generation and number of pieces, or of the piece.
const HEAD_BYTES: usize = 12;

/// The producers of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSnapshot {
    /// The topic.
    pub topic_id: Uuid,
    /// Those of its partitions that have something to remember.
    pub partitions: Vec<PartitionSnapshot>,
}

/// The producers of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSnapshot {
    /// The partition.
    pub index: i32,
    /// Where the log ended before any partition of the topic was looked at: what the snapshot of another partition does
    /// not hold yet landed here or later.
    pub scan_from: Offset,
    /// Where the log ended when the snapshot was taken: batches before it are in the snapshot.
    pub log_end: Offset,
    /// Entries of the route journal up to this mark are in the snapshot.
    pub journal_mark: u64,
    /// The producers.
    pub producers: Vec<(ProducerId, Producer<Landing>)>,
}

/// Why a snapshot was not read. The producers are then found by reading the logs.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotReadError {
    /// The file.
    #[error(transparent)]
    File(#[from] StateReadError),
    /// What is in it.
    #[error(transparent)]
    Payload(#[from] SnapshotDamaged),
}

impl TopicSnapshot {
    /// Memory that it takes while it is written, about: what it is made of and its bytes.
    pub fn memory_bytes(&self) -> usize {
        let producers = self.partitions.iter().flat_map(|partition| &partition.producers);
        let bytes = producers.map(|(_, producer)| {
            size_of::<(ProducerId, Producer<Landing>)>() + producer.batches.len() * size_of::<Remembered<Landing>>()
        });
        2 * bytes.sum::<usize>()
    }

    /// Keeps it with `first`, the first partition, in place of the one before. When this returns it survives a power cut,
    /// or the topic was deleted. One call at a time per topic: see [`Saves`].
    pub fn write(&self, first: &PartitionLog) -> Result<(), StateWriteError> {
        let write = || Files::of(self.topic_id, |name, version| first.state_file(name, version)).write(self);
        if broken(Canary::ShareSnapshotFile) {
            return write();
        }
        first.unless_deleted(write).unwrap_or(Ok(()))
    }

    /// The one kept in `dir`, if there is one.
    pub fn read(dir: &Path, topic_id: Uuid) -> Result<Option<Self>, SnapshotReadError> {
        Files::of(topic_id, |name, version| StateFile::new(dir.join(name), version)).read()
    }

    /// Where the snapshot of a topic lies.
    pub fn path(dir: &Path, topic_id: Uuid) -> PathBuf {
        dir.join(head_name(topic_id))
    }
}

fn head_name(topic_id: Uuid) -> String {
    format!("{topic_id}.producers")
}

/// The files of one topic's snapshot.
struct Files<F> {
    topic_id: Uuid,
    /// The state file with a name and a version.
    file: F,
    piece_bytes_max: usize,
}

impl<F: Fn(&str, u32) -> StateFile> Files<F> {
    fn of(topic_id: Uuid, file: F) -> Self {
        Self { topic_id, file, piece_bytes_max: PIECE_BYTES_MAX }
    }

    fn head(&self) -> StateFile {
        (self.file)(&head_name(self.topic_id), SnapshotVersion::V2 as u32)
    }

    fn piece(&self, generation: u64, number: u32) -> StateFile {
        let name = format!("{}.{}-{number}.producers", self.topic_id, generation % 2);
        (self.file)(&name, SnapshotVersion::V2 as u32)
    }

    fn of_v1(&self) -> StateFile {
        (self.file)(FILE_OF_V1, SnapshotVersion::V1 as u32)
    }

    fn write(&self, snapshot: &TopicSnapshot) -> Result<(), StateWriteError> {
        let mut bytes = vec![0; HEAD_BYTES];
        format::encode(snapshot, &mut bytes);
        if bytes.len() <= self.piece_bytes_max {
            self.head().write(&bytes)?;
            self.remove_pieces_from(0, 0)?;
            self.remove_pieces_from(1, 0)?;
        } else {
            let generation = self.generation() + 1;
            let mut pieces = 0;
            for bytes in bytes[HEAD_BYTES..].chunks(self.piece_bytes_max) {
                let mut piece = head(generation, pieces);
                piece.put_slice(bytes);
                self.piece(generation, pieces).write(&piece)?;
                pieces += 1;
            }
            self.head().write(&head(generation, pieces))?;
            self.remove_pieces_from(generation, pieces)?;
            self.remove_pieces_from(generation + 1, 0)?;
        }
        self.of_v1().remove()
    }

    /// The generation in force, 0 where the snapshot is not in pieces. One that cannot be read is not in force.
    fn generation(&self) -> u64 {
        let head = self.head().read().ok().flatten();
        head.and_then(|head| head.as_slice().try_get_u64().ok()).unwrap_or(0)
    }

    /// Removes pieces that are not in force, the last one first, so that the rest is found after a crash.
    fn remove_pieces_from(&self, generation: u64, first: u32) -> Result<(), StateWriteError> {
        let mut end = first;
        while self.piece(generation, end).path().exists() {
            end += 1;
        }
        (first..end).rev().try_for_each(|number| self.piece(generation, number).remove())
    }

    fn read(&self) -> Result<Option<TopicSnapshot>, SnapshotReadError> {
        let snapshot = match self.head().read()? {
            Some(head) => format::decode(&self.payload(&head)?, SnapshotVersion::V2)?,
            None => match self.of_v1().read()? {
                Some(payload) => format::decode(&payload, SnapshotVersion::V1)?,
                None => return Ok(None),
            },
        };
        Ok(Some(snapshot).filter(|snapshot| snapshot.topic_id == self.topic_id))
    }

    /// The bytes of the snapshot, put together from its pieces.
    fn payload(&self, mut head: &[u8]) -> Result<Vec<u8>, SnapshotReadError> {
        let head = &mut head;
        let (generation, pieces) = read_head(head)?;
        if pieces == 0 {
            return Ok(head.to_vec());
        }
        let mut payload = Vec::new();
        for number in 0..pieces {
            let piece = self.piece(generation, number).read()?.ok_or(SnapshotDamaged)?;
            let rest = &mut piece.as_slice();
            if read_head(rest)? != (generation, number) {
                return Err(SnapshotDamaged.into());
            }
            payload.extend_from_slice(rest);
        }
        Ok(payload)
    }
}

fn head(generation: u64, number: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    bytes.put_u64(generation);
    bytes.put_u32(number);
    bytes
}

fn read_head(rest: &mut &[u8]) -> Result<(u64, u32), SnapshotDamaged> {
    Ok((rest.try_get_u64()?, rest.try_get_u32()?))
}

#[cfg(test)]
mod tests {
    use ottla_log::{LogDir, LogOptions, PartitionName, PartitionOptions};
    use proptest::prelude::*;

    use super::*;

    fn files(dir: &Path, topic_id: Uuid, piece_bytes_max: usize) -> Files<impl Fn(&str, u32) -> StateFile> {
        Files { topic_id, file: |name: &str, version| StateFile::new(dir.join(name), version), piece_bytes_max }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_snapshot_belongs_to_one_topic() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let snapshot = TopicSnapshot { topic_id: mine, partitions: Vec::new() };
        files(dir.path(), mine, PIECE_BYTES_MAX).write(&snapshot).unwrap();
        assert_eq!(TopicSnapshot::read(dir.path(), mine).unwrap(), Some(snapshot));
        assert_eq!(TopicSnapshot::read(dir.path(), other).unwrap(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whole, in pieces, and in pieces again: each save replaces the one before, and nothing of that stays.
        #[test]
        fn a_snapshot_of_any_length_is_kept_whole_or_in_pieces(
            snapshots in proptest::collection::vec((format::tests::snapshot(), 1..200_usize), 1..5),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let topic_id = Uuid::from_u128(1);
            for (snapshot, piece_bytes_max) in snapshots {
                let snapshot = TopicSnapshot { topic_id, ..snapshot };
                files(dir.path(), topic_id, piece_bytes_max).write(&snapshot).unwrap();
                let mut bytes = Vec::new();
                format::encode(&snapshot, &mut bytes);
                let is_whole = bytes.len() + HEAD_BYTES <= piece_bytes_max;
                let pieces = if is_whole { 0 } else { bytes.len().div_ceil(piece_bytes_max) };
                prop_assert_eq!(names(dir.path()).len(), 1 + pieces);
                prop_assert_eq!(TopicSnapshot::read(dir.path(), topic_id).unwrap(), Some(snapshot));
            }
        }
    }

    #[test]
    fn a_save_that_ends_between_its_pieces_leaves_the_one_before_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let topic_id = Uuid::from_u128(1);
        let files = files(dir.path(), topic_id, 10);
        let of = |index| {
            let partition = PartitionSnapshot {
                index,
                scan_from: Offset(0),
                log_end: Offset(0),
                journal_mark: 0,
                producers: Vec::new(),
            };
            TopicSnapshot { topic_id, partitions: vec![partition] }
        };
        files.write(&of(1)).unwrap();
        let before: Vec<_> = names(dir.path())
            .into_iter()
            .map(|name| (name.clone(), std::fs::read(dir.path().join(name)).unwrap()))
            .collect();
        files.write(&of(2)).unwrap();
        // The files of both generations, and the one that says which is in force as it was.
        for (name, bytes) in before {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        assert_eq!(files.read().unwrap(), Some(of(1)));
        files.write(&of(3)).unwrap();
        assert_eq!(files.read().unwrap(), Some(of(3)));
        assert_eq!(names(dir.path()).len(), 1 + 6, "nothing is left of the others");
        // A piece of another generation in its place is found out.
        let piece = files.piece(files.generation(), 1);
        piece.write(&head(7, 1)).unwrap();
        assert!(matches!(files.read(), Err(SnapshotReadError::Payload(SnapshotDamaged))));
    }

    #[test]
    fn the_file_of_the_first_release_is_read_and_then_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let topic_id = Uuid::from_u128(1);
        let files = files(dir.path(), topic_id, PIECE_BYTES_MAX);
        let snapshot = TopicSnapshot { topic_id, partitions: Vec::new() };
        let mut bytes = Vec::new();
        format::encode(&snapshot, &mut bytes);
        files.of_v1().write(&bytes).unwrap();
        assert_eq!(files.read().unwrap(), Some(snapshot.clone()));
        files.write(&snapshot).unwrap();
        assert_eq!(names(dir.path()), [head_name(topic_id)]);
        assert_eq!(files.read().unwrap(), Some(snapshot));
    }

    #[test]
    fn a_save_that_stalled_past_the_end_of_its_topic_leaves_its_successors_snapshot_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (log_dir, _) = LogDir::open(dir.path(), LogOptions::default()).unwrap();
        let name = PartitionName::new("t", 0).unwrap();
        let [before, after] = [1, 2].map(|id| TopicSnapshot { topic_id: Uuid::from_u128(id), partitions: Vec::new() });
        let create = |id| log_dir.create_partition(&name, id, PartitionOptions::default()).unwrap();
        let deleted = create(before.topic_id);
        before.write(&deleted).unwrap();
        log_dir.delete_partition(&name).unwrap();
        let successor = create(after.topic_id);
        after.write(&successor).unwrap();
        let own = names(successor.directory());
        before.write(&deleted).unwrap();
        assert_eq!(TopicSnapshot::read(successor.directory(), after.topic_id).unwrap(), Some(after));
        assert_eq!(names(successor.directory()), own);
    }
}
