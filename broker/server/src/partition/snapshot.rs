//! The producers of a topic's partitions as they are kept on the disk, so that a start need not read whole logs.
//!
//! One file per topic, replaced as a whole: a batch that a plugin spread over the partitions of a topic is in the
//! picture of all of them or of none.
//!
//! ```text
//! topic id 16 bytes · partitions u32 · partition*
//! partition: index i32 · scan from i64 · log end i64 · journal mark u64 · producers u32 · producer*
//! producer:  id i64 · epoch i16 · last sequence i32 · used ms i64 · batches u8 · batch*
//! batch:     first sequence i32 · last sequence i32 · 0 u8 · base offset i64
//!         or first sequence i32 · last sequence i32 · 1 u8 · targets u32 · (partition i32 · records i32 · offset i64)*
//!                                                          · runs u32 · (records u32 · target u32)*
//! ```

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, TryGetError};
use ottla_log::{PartitionLog, StateFile, StateReadError, StateWriteError};
use ottla_stage::Run;
use ottla_wire::{Offset, ProducerEpoch, ProducerId, Sequence, Uuid};

use super::place::{Landed, Moved, Target};
use super::sequence::{Producer, Remembered, Tail};

/// Layout of the payload, as drawn above.
const SNAPSHOT_VERSION: u32 = 1;
const HERE: u8 = 0;
const MOVED: u8 = 1;

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
    /// Where the log ended before any partition of the topic was looked at: whatever the picture of another partition
    /// does not hold yet landed here or later.
    pub scan_from: Offset,
    /// Where the log ended when the picture was taken: batches before it are in the picture.
    pub log_end: Offset,
    /// Entries of the route journal up to this mark are in the picture.
    pub journal_mark: u64,
    /// The producers.
    pub producers: Vec<(ProducerId, Producer<Landed>)>,
}

/// The payload of a snapshot file contradicts its own lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a producer snapshot contradicts its own lengths")]
pub struct SnapshotDamaged;

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

impl From<TryGetError> for SnapshotDamaged {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

/// The file of a topic's snapshot: in the directory of its first partition, with which it goes.
const SNAPSHOT_FILE: &str = "producers";

/// Where the snapshot of a topic lies.
pub fn snapshot_path(dir: &Path) -> PathBuf {
    dir.join(SNAPSHOT_FILE)
}

impl TopicSnapshot {
    /// Keeps it with `first`, the first partition, in place of the one before. When this returns it survives a power cut.
    pub fn write(&self, first: &PartitionLog) -> Result<(), StateWriteError> {
        self.write_to(&first.state_file(SNAPSHOT_FILE, SNAPSHOT_VERSION))
    }

    fn write_to(&self, file: &StateFile) -> Result<(), StateWriteError> {
        let mut payload = Vec::new();
        self.encode(&mut payload);
        file.write(&payload)
    }

    /// The one kept in `dir`, if there is one.
    pub fn read(dir: &Path, topic_id: Uuid) -> Result<Option<Self>, SnapshotReadError> {
        match StateFile::new(snapshot_path(dir), SNAPSHOT_VERSION).read()? {
            Some(payload) => Ok(Some(Self::decode(&payload)?).filter(|snapshot| snapshot.topic_id == topic_id)),
            None => Ok(None),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_slice(self.topic_id.as_bytes());
        out.put_u32(self.partitions.len() as u32);
        for partition in &self.partitions {
            out.put_i32(partition.index);
            out.put_i64(partition.scan_from.get());
            out.put_i64(partition.log_end.get());
            out.put_u64(partition.journal_mark);
            out.put_u32(partition.producers.len() as u32);
            for (id, producer) in &partition.producers {
                out.put_i64(id.get());
                encode_producer(producer, out);
            }
        }
    }

    fn decode(mut payload: &[u8]) -> Result<Self, SnapshotDamaged> {
        let rest = &mut payload;
        let topic_id = Uuid::from_u128(rest.try_get_u128()?);
        let partitions = take_list(rest, 32, |rest| {
            Ok(PartitionSnapshot {
                index: rest.try_get_i32()?,
                scan_from: Offset(rest.try_get_i64()?),
                log_end: Offset(rest.try_get_i64()?),
                journal_mark: rest.try_get_u64()?,
                producers: take_list(rest, 23, |rest| Ok((ProducerId(rest.try_get_i64()?), decode_producer(rest)?)))?,
            })
        })?;
        if rest.is_empty() { Ok(Self { topic_id, partitions }) } else { Err(SnapshotDamaged) }
    }
}

fn encode_producer(producer: &Producer<Landed>, out: &mut Vec<u8>) {
    out.put_i16(producer.tail.epoch.get());
    out.put_i32(producer.tail.last.get());
    out.put_i64(producer.used_ms);
    out.put_u8(producer.batches.len() as u8);
    for batch in &producer.batches {
        out.put_i32(batch.first.get());
        out.put_i32(batch.last.get());
        match &batch.place {
            Landed::Here(offset) => {
                out.put_u8(HERE);
                out.put_i64(offset.get());
            }
            Landed::Moved(moved) => {
                out.put_u8(MOVED);
                out.put_u32(moved.targets.len() as u32);
                for target in &moved.targets {
                    out.put_i32(target.partition);
                    out.put_i32(target.records);
                    out.put_i64(target.base_offset.get());
                }
                out.put_u32(moved.runs.len() as u32);
                for run in &moved.runs {
                    out.put_u32(run.records);
                    out.put_u32(run.target);
                }
            }
        }
    }
}

fn decode_producer(rest: &mut &[u8]) -> Result<Producer<Landed>, SnapshotDamaged> {
    let tail = Tail { epoch: ProducerEpoch(rest.try_get_i16()?), last: Sequence(rest.try_get_i32()?) };
    let used_ms = rest.try_get_i64()?;
    let count = rest.try_get_u8()?;
    let mut batches = VecDeque::new();
    for _ in 0..count {
        let (first, last) = (Sequence(rest.try_get_i32()?), Sequence(rest.try_get_i32()?));
        batches.push_back(Remembered { first, last, place: decode_place(rest)? });
    }
    Ok(Producer { tail, used_ms, batches })
}

fn decode_place(rest: &mut &[u8]) -> Result<Landed, SnapshotDamaged> {
    match rest.try_get_u8()? {
        HERE => Ok(Landed::Here(Offset(rest.try_get_i64()?))),
        MOVED => {
            let targets = take_list(rest, 16, |rest| {
                Ok(Target {
                    partition: rest.try_get_i32()?,
                    records: rest.try_get_i32()?,
                    base_offset: Offset(rest.try_get_i64()?),
                })
            })?;
            let runs =
                take_list(rest, 8, |rest| Ok(Run { records: rest.try_get_u32()?, target: rest.try_get_u32()? }))?;
            Ok(Landed::Moved(Arc::new(Moved { targets: targets.into(), runs: runs.into() })))
        }
        _ => Err(SnapshotDamaged),
    }
}

/// A counted list whose items take at least `item_bytes_min` each, so that the count is known to be honest before
/// memory is taken for it.
fn take_list<T>(
    rest: &mut &[u8],
    item_bytes_min: usize,
    mut item: impl FnMut(&mut &[u8]) -> Result<T, SnapshotDamaged>,
) -> Result<Vec<T>, SnapshotDamaged> {
    let count = rest.try_get_u32()? as usize;
    if count > rest.len() / item_bytes_min {
        return Err(SnapshotDamaged);
    }
    (0..count).map(|_| item(rest)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn place() -> impl Strategy<Value = Landed> {
        let target = (any::<i32>(), any::<i32>(), any::<i64>()).prop_map(|(partition, records, offset)| Target {
            partition,
            records,
            base_offset: Offset(offset),
        });
        let run = (any::<u32>(), any::<u32>()).prop_map(|(records, target)| Run { records, target });
        prop_oneof![
            any::<i64>().prop_map(|offset| Landed::Here(Offset(offset))),
            (vec(target, 0..4), vec(run, 0..4)).prop_map(|(targets, runs)| Landed::Moved(Arc::new(Moved {
                targets: targets.into(),
                runs: runs.into(),
            }))),
        ]
    }

    fn producer() -> impl Strategy<Value = (ProducerId, Producer<Landed>)> {
        let batch = (any::<i32>(), any::<i32>(), place()).prop_map(|(first, last, place)| Remembered {
            first: Sequence(first),
            last: Sequence(last),
            place,
        });
        (any::<i64>(), any::<i16>(), any::<i32>(), any::<i64>(), vec(batch, 0..5)).prop_map(
            |(id, epoch, last, used_ms, batches)| {
                let tail = Tail { epoch: ProducerEpoch(epoch), last: Sequence(last) };
                (ProducerId(id), Producer { tail, used_ms, batches: batches.into() })
            },
        )
    }

    proptest! {
        #[test]
        fn a_snapshot_reads_back_as_it_was(
            id: u128,
            partitions in vec((any::<i32>(), any::<i64>(), any::<u64>(), vec(producer(), 0..3)), 0..3),
        ) {
            let partitions = partitions
                .into_iter()
                .map(|(index, end, journal_mark, producers)| PartitionSnapshot {
                    index, scan_from: Offset(end / 2), log_end: Offset(end), journal_mark, producers,
                })
                .collect();
            let snapshot = TopicSnapshot { topic_id: Uuid::from_u128(id), partitions };
            let mut bytes = Vec::new();
            snapshot.encode(&mut bytes);
            prop_assert_eq!(TopicSnapshot::decode(&bytes), Ok(snapshot));
            for length in 0..bytes.len() {
                prop_assert_eq!(TopicSnapshot::decode(&bytes[..length]), Err(SnapshotDamaged));
            }
        }
    }

    #[test]
    fn a_snapshot_belongs_to_one_topic() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let snapshot = TopicSnapshot { topic_id: mine, partitions: Vec::new() };
        snapshot.write_to(&StateFile::new(snapshot_path(dir.path()), SNAPSHOT_VERSION)).unwrap();
        assert_eq!(TopicSnapshot::read(dir.path(), mine).unwrap(), Some(snapshot));
        assert_eq!(TopicSnapshot::read(dir.path(), other).unwrap(), None);
    }
}
