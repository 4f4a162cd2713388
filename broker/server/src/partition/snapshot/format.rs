//! The bytes of a snapshot.
//!
//! ```text
//! topic id 16 bytes · partitions u32 · partition*
//! partition: index i32 · scan from i64 · log end i64 · journal mark u64 · producers u32 · producer*
//! producer:  id i64 · epoch i16 · last sequence i32 · used ms i64 · batches u8 · batch*
//! batch:     first sequence i32 · last sequence i32 · place
//! place:     0 u8 · base offset i64                                                              here
//!            1 u8 · targets u32 · (topic id 16 bytes · partition i32 · records i32 · offset i64)*  moved
//!                 · runs u32 · (records u32 · target u32)*
//!            2 u8 · topics u32 · topic id 16 bytes*                                              scattered
//! ```
//! Version 1, which release 0.1 wrote, has no scattered places and no topic ids in the targets: all of them are in the
//! topic of the snapshot.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, BufMut, TryGetError};
use ottla_stage::Run;
use ottla_wire::{Offset, ProducerEpoch, ProducerId, Sequence, Uuid};

use super::{PartitionSnapshot, TopicSnapshot};
use crate::partition::landing::{Landing, Moved, Target};
use ottla_coordinator::sequence::{Producer, Remembered, Tail};

const HERE: u8 = 0;
const MOVED: u8 = 1;
const SCATTERED: u8 = 2;

/// The layouts that were ever written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotVersion {
    /// Release 0.1.
    V1 = 1,
    /// As drawn above.
    V2 = 2,
}

/// The bytes of a snapshot contradict their own lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a producer snapshot contradicts its own lengths")]
pub struct SnapshotDamaged;

impl From<TryGetError> for SnapshotDamaged {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

/// Appends the bytes of a snapshot.
pub(super) fn encode(snapshot: &TopicSnapshot, out: &mut Vec<u8>) {
    out.put_slice(snapshot.topic_id.as_bytes());
    out.put_u32(snapshot.partitions.len() as u32);
    for partition in &snapshot.partitions {
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

/// Reads a snapshot.
pub(super) fn decode(mut payload: &[u8], version: SnapshotVersion) -> Result<TopicSnapshot, SnapshotDamaged> {
    let rest = &mut payload;
    let topic_id = Uuid::from_u128(rest.try_get_u128()?);
    let reader = Reader { topic_id, version };
    let partitions = take_list(rest, 32, |rest| {
        Ok(PartitionSnapshot {
            index: rest.try_get_i32()?,
            scan_from: Offset(rest.try_get_i64()?),
            log_end: Offset(rest.try_get_i64()?),
            journal_mark: rest.try_get_u64()?,
            producers: take_list(rest, 23, |rest| Ok((ProducerId(rest.try_get_i64()?), reader.producer(rest)?)))?,
        })
    })?;
    if rest.is_empty() { Ok(TopicSnapshot { topic_id, partitions }) } else { Err(SnapshotDamaged) }
}

fn encode_producer(producer: &Producer<Landing>, out: &mut Vec<u8>) {
    out.put_i16(producer.tail.epoch.get());
    out.put_i32(producer.tail.last.get());
    out.put_i64(producer.used_ms);
    out.put_u8(producer.batches.len() as u8);
    for batch in &producer.batches {
        out.put_i32(batch.first.get());
        out.put_i32(batch.last.get());
        encode_place(&batch.place, out);
    }
}

fn encode_place(place: &Landing, out: &mut Vec<u8>) {
    match place {
        Landing::Here { base_offset, .. } => {
            out.put_u8(HERE);
            out.put_i64(base_offset.get());
        }
        Landing::Moved(moved) => {
            out.put_u8(MOVED);
            out.put_u32(moved.targets.len() as u32);
            for target in &moved.targets {
                out.put_slice(target.topic_id.as_bytes());
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
        Landing::Scattered { topics } => {
            out.put_u8(SCATTERED);
            out.put_u32(topics.len() as u32);
            for topic in topics.iter() {
                out.put_slice(topic.as_bytes());
            }
        }
    }
}

/// Reads what depends on the layout.
struct Reader {
    topic_id: Uuid,
    version: SnapshotVersion,
}

impl Reader {
    fn producer(&self, rest: &mut &[u8]) -> Result<Producer<Landing>, SnapshotDamaged> {
        let tail = Tail { epoch: ProducerEpoch(rest.try_get_i16()?), last: Sequence(rest.try_get_i32()?) };
        let used_ms = rest.try_get_i64()?;
        let count = rest.try_get_u8()?;
        let mut batches = VecDeque::new();
        for _ in 0..count {
            let (first, last) = (Sequence(rest.try_get_i32()?), Sequence(rest.try_get_i32()?));
            let batch = Remembered { first, last, place: () };
            let place = self.place(batch.records(), rest)?;
            batches.push_back(batch.with_place(place));
        }
        Ok(Producer { tail, used_ms, batches, before: None })
    }

    /// Where a batch of so many records is.
    fn place(&self, records: i64, rest: &mut &[u8]) -> Result<Landing, SnapshotDamaged> {
        match rest.try_get_u8()? {
            HERE => Ok(Landing::here(Offset(rest.try_get_i64()?), records)),
            MOVED => {
                let targets = take_list(rest, 16, |rest| {
                    Ok(Target {
                        topic_id: match self.version {
                            SnapshotVersion::V1 => self.topic_id,
                            SnapshotVersion::V2 => Uuid::from_u128(rest.try_get_u128()?),
                        },
                        partition: rest.try_get_i32()?,
                        records: rest.try_get_i32()?,
                        base_offset: Offset(rest.try_get_i64()?),
                    })
                })?;
                let runs =
                    take_list(rest, 8, |rest| Ok(Run { records: rest.try_get_u32()?, target: rest.try_get_u32()? }))?;
                let moved = Moved { targets: targets.into(), runs: runs.into() };
                // Version 1 had no bound.
                Ok(Landing::Moved(Arc::new(moved)).remembered())
            }
            SCATTERED if self.version == SnapshotVersion::V2 => {
                let topics = take_list(rest, 16, |rest| Ok(Uuid::from_u128(rest.try_get_u128()?)))?;
                Ok(Landing::Scattered { topics: topics.into() })
            }
            _ => Err(SnapshotDamaged),
        }
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
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Where a batch of so many records is.
    fn place(records: i64) -> impl Strategy<Value = Landing> {
        let target = (any::<u128>(), any::<i32>(), any::<i32>(), any::<i64>()).prop_map(
            |(topic, partition, records, offset)| Target {
                topic_id: Uuid::from_u128(topic),
                partition,
                records,
                base_offset: Offset(offset),
            },
        );
        let run = (any::<u32>(), any::<u32>()).prop_map(|(records, target)| Run { records, target });
        prop_oneof![
            any::<i64>().prop_map(move |offset| Landing::here(Offset(offset), records)),
            (vec(target, 0..4), vec(run, 0..4)).prop_map(|(targets, runs)| Landing::Moved(Arc::new(Moved {
                targets: targets.into(),
                runs: runs.into(),
            }))),
            vec(any::<u128>(), 0..3)
                .prop_map(|topics| Landing::Scattered { topics: topics.into_iter().map(Uuid::from_u128).collect() }),
        ]
    }

    fn producer() -> impl Strategy<Value = (ProducerId, Producer<Landing>)> {
        let batch = (any::<i32>(), any::<i32>()).prop_flat_map(|(first, last)| {
            let batch = Remembered { first: Sequence(first), last: Sequence(last), place: () };
            place(batch.records()).prop_map(move |place| batch.with_place(place))
        });
        (any::<i64>(), any::<i16>(), any::<i32>(), any::<i64>(), vec(batch, 0..5)).prop_map(
            |(id, epoch, last, used_ms, batches)| {
                let tail = Tail { epoch: ProducerEpoch(epoch), last: Sequence(last) };
                (ProducerId(id), Producer { tail, used_ms, batches: batches.into(), before: None })
            },
        )
    }

    pub(in crate::partition::snapshot) fn snapshot() -> impl Strategy<Value = TopicSnapshot> {
        let partition = (any::<i32>(), any::<i64>(), any::<u64>(), vec(producer(), 0..3)).prop_map(
            |(index, end, journal_mark, producers)| PartitionSnapshot {
                index,
                scan_from: Offset(end / 2),
                log_end: Offset(end),
                journal_mark,
                producers,
            },
        );
        (any::<u128>(), vec(partition, 0..3))
            .prop_map(|(id, partitions)| TopicSnapshot { topic_id: Uuid::from_u128(id), partitions })
    }

    proptest! {
        #[test]
        fn a_snapshot_reads_back_as_it_was(snapshot in snapshot()) {
            let mut bytes = Vec::new();
            encode(&snapshot, &mut bytes);
            prop_assert_eq!(decode(&bytes, SnapshotVersion::V2), Ok(snapshot));
            for length in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..length], SnapshotVersion::V2), Err(SnapshotDamaged));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300)) {
            for version in [SnapshotVersion::V1, SnapshotVersion::V2] {
                let _ = decode(&bytes, version);
            }
        }
    }

    #[test]
    fn the_targets_of_version_1_are_in_the_topic_itself() {
        let mut bytes = Vec::new();
        bytes.put_u128(7);
        bytes.put_u32(1);
        bytes.put_i32(2);
        bytes.put_i64(10);
        bytes.put_i64(20);
        bytes.put_u64(30);
        bytes.put_u32(1);
        bytes.put_i64(40);
        bytes.put_i16(0);
        bytes.put_i32(4);
        bytes.put_i64(1000);
        bytes.put_u8(1);
        bytes.put_i32(0);
        bytes.put_i32(4);
        bytes.put_u8(MOVED);
        bytes.put_u32(1);
        bytes.put_i32(1);
        bytes.put_i32(5);
        bytes.put_i64(100);
        bytes.put_u32(1);
        bytes.put_u32(5);
        bytes.put_u32(0);
        let topic_id = Uuid::from_u128(7);
        let target = Target { topic_id, partition: 1, records: 5, base_offset: Offset(100) };
        let moved = Moved { targets: [target].into(), runs: [Run { records: 5, target: 0 }].into() };
        let place = Landing::Moved(Arc::new(moved));
        let batch = Remembered { first: Sequence(0), last: Sequence(4), place };
        let tail = Tail { epoch: ProducerEpoch(0), last: Sequence(4) };
        let producer = Producer { tail, used_ms: 1000, batches: [batch].into(), before: None };
        let partition = PartitionSnapshot {
            index: 2,
            scan_from: Offset(10),
            log_end: Offset(20),
            journal_mark: 30,
            producers: vec![(ProducerId(40), producer)],
        };
        let expected = TopicSnapshot { topic_id, partitions: vec![partition] };
        assert_eq!(decode(&bytes, SnapshotVersion::V1), Ok(expected));
    }
}
