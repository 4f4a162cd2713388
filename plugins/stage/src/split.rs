//! A batch taken apart by partition: every record goes into one new batch, byte for byte but for its offset delta.

use std::collections::HashMap;

use ottla_wire::record::{
    Batch, BatchBuilder, BatchRecords, BuildError, TimestampType, set_log_append_time, set_producer,
};
use ottla_wire::{ProducerEpoch, ProducerId, Sequence, Uuid};

use crate::StageError;

/// A batch in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// One new batch per target, in the order in which the partitions first appear.
    pub parts: Vec<SubBatch>,
    /// The runs of the old batch; their `target` is an index into `parts`.
    pub runs: Vec<Run>,
}

/// Consecutive records of a batch that go to the same partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How many records.
    pub records: u32,
    /// Index of their target.
    pub target: u32,
}

/// The records of a batch that go to one partition, as a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubBatch {
    /// The topic.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// How many records.
    pub records: i32,
    /// The batch, without producer and offset.
    pub bytes: Vec<u8>,
}

impl Split {
    /// Bytes of the new batches.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }
}

/// Takes a batch apart. `answer` names the partition of every record, in the topic `topic_id`. Codec, timestamps, keys,
/// values and headers stay as they are; the limit on the size of a batch does not hold for the new ones.
pub fn split(
    batch: &Batch<'_>,
    records: &BatchRecords<'_>,
    topic_id: Uuid,
    answer: &[i32],
) -> Result<Split, StageError> {
    let runs = Runs::of(answer);
    let mut parts = match runs.partitions.as_slice() {
        [one] => vec![whole(batch, topic_id, *one)],
        _ => rebatched(batch, records, topic_id, &runs)?,
    };
    if batch.header.timestamp_type() == TimestampType::LogAppendTime {
        for part in &mut parts {
            set_log_append_time(&mut part.bytes, batch.header.max_timestamp);
        }
    }
    Ok(Split { parts, runs: runs.runs })
}

/// The answer as runs over the partitions that occur.
struct Runs {
    partitions: Vec<i32>,
    runs: Vec<Run>,
}

impl Runs {
    fn of(answer: &[i32]) -> Self {
        let mut target_of: HashMap<i32, u32> = HashMap::new();
        let mut runs: Vec<Run> = Vec::new();
        let mut partitions = Vec::new();
        let mut last = None;
        for &partition in answer {
            if last == Some(partition)
                && let Some(run) = runs.last_mut()
            {
                run.records += 1;
                continue;
            }
            last = Some(partition);
            let target = *target_of.entry(partition).or_insert_with(|| {
                partitions.push(partition);
                partitions.len() as u32 - 1
            });
            runs.push(Run { records: 1, target });
        }
        Self { partitions, runs }
    }
}

/// All records go to one partition: the packed records move as they are.
fn whole(batch: &Batch<'_>, topic_id: Uuid, partition: i32) -> SubBatch {
    let mut bytes = batch.bytes.to_vec();
    set_producer(&mut bytes, ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE);
    SubBatch { topic_id, partition, records: batch.header.record_count, bytes }
}

fn rebatched(
    batch: &Batch<'_>,
    records: &BatchRecords<'_>,
    topic_id: Uuid,
    runs: &Runs,
) -> Result<Vec<SubBatch>, StageError> {
    let mut builders: Vec<BatchBuilder> = runs.partitions.iter().map(|_| BatchBuilder::like(&batch.header)).collect();
    let mut source = records.iter();
    for run in &runs.runs {
        for record in source.by_ref().take(run.records as usize) {
            let record = record.map_err(|error| StageError::Undecodable(error.to_string()))?;
            if let Some(builder) = builders.get_mut(run.target as usize) {
                let timestamp = batch.header.base_timestamp.wrapping_add(record.timestamp_delta);
                builder.append_record(timestamp, &record).map_err(failure)?;
            }
        }
    }
    let finish = |(builder, partition): (BatchBuilder, &i32)| {
        let records = builder.record_count();
        let mut bytes = Vec::with_capacity(builder.uncompressed_bytes());
        builder.finish(&mut bytes).map_err(failure)?;
        Ok(SubBatch { topic_id, partition: *partition, records, bytes })
    };
    builders.into_iter().zip(&runs.partitions).map(finish).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
fn failure(error: BuildError) -> StageError {
    StageError::Undecodable(error.to_string())
}

#[cfg(test)]
mod tests {
    use ottla_wire::record::{Codec, Header, batches, check_crc};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A record as a test says it: timestamp, key, value, headers.
    type Said = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), 0..40)
    }

    fn said() -> impl Strategy<Value = Said> {
        let header = (bytes(), proptest::option::of(bytes()));
        let timestamp = 1_700_000_000_000_i64..1_700_000_100_000;
        (timestamp, proptest::option::of(bytes()), proptest::option::of(bytes()), vec(header, 0..3))
    }

    fn batch_of(codec: Codec, records: &[Said]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec).producer(ProducerId(7), ProducerEpoch(2), Sequence(100));
        for (timestamp, key, value, headers) in records {
            let headers: Vec<_> = headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
            builder.append(*timestamp, key.as_deref(), value.as_deref(), headers.into_iter()).unwrap();
        }
        let mut out = Vec::new();
        builder.finish(&mut out).unwrap();
        out
    }

    fn heard(batch: &[u8]) -> Vec<Said> {
        let batch = batches(batch).next().unwrap().unwrap();
        let records = batch.records(1 << 24).unwrap();
        let read = |record: ottla_wire::record::Record<'_>| {
            let headers = record.headers.iter().map(|it| (it.key.to_vec(), it.value.map(<[u8]>::to_vec)));
            let timestamp = batch.header.timestamp_of(&record);
            (timestamp, record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), headers.collect())
        };
        records.iter().map(|record| read(record.unwrap())).collect()
    }

    fn split_of(bytes: &[u8], answer: &[i32]) -> Split {
        let batch = batches(bytes).next().unwrap().unwrap();
        split(&batch, &batch.records(1 << 24).unwrap(), Uuid::nil(), answer).unwrap()
    }

    proptest! {
        /// What the parts hold, put together again by the runs, is what went in: nothing lost, nothing twice, nothing
        /// changed, order kept.
        #[test]
        fn the_parts_are_the_batch(
            codec in proptest::sample::select(Codec::ALL.to_vec()),
            records in vec((said(), 0_i32..5), 1..60),
        ) {
            let (records, answer): (Vec<Said>, Vec<i32>) = records.into_iter().unzip();
            let original = batch_of(codec, &records);
            let original_header = batches(&original).next().unwrap().unwrap().header;
            let split = split_of(&original, &answer);
            let mut unread: Vec<_> = split.parts.iter().map(|part| heard(&part.bytes).into_iter()).collect();
            let mut together = Vec::new();
            let mut partitions = Vec::new();
            for run in &split.runs {
                let target = run.target as usize;
                together.extend(unread[target].by_ref().take(run.records as usize));
                partitions.extend(std::iter::repeat_n(split.parts[target].partition, run.records as usize));
            }
            prop_assert_eq!(&together, &records);
            prop_assert_eq!(&partitions, &answer);
            for (part, mut rest) in split.parts.iter().zip(unread) {
                prop_assert!(rest.next().is_none());
                check_crc(&part.bytes).unwrap();
                let header = batches(&part.bytes).next().unwrap().unwrap().header;
                header.check_as_produced().unwrap();
                prop_assert_eq!(header.total_bytes(), part.bytes.len());
                prop_assert_eq!(header.record_count, part.records);
                prop_assert_eq!(header.codec(), original_header.codec());
                prop_assert_eq!(header.base_timestamp, original_header.base_timestamp);
                prop_assert!(!header.is_idempotent());
                let newest = heard(&part.bytes).iter().map(|said| said.0).max();
                prop_assert_eq!(Some(header.max_timestamp), newest);
            }
        }
    }

    #[test]
    fn a_batch_that_moves_as_a_whole_is_not_packed_again() {
        let records: Vec<Said> = (0..50).map(|at| (at, Some(vec![1; 20]), Some(vec![2; 20]), Vec::new())).collect();
        let original = batch_of(Codec::Zstd, &records);
        let split = split_of(&original, &[3; 50]);
        assert_eq!(split.runs, [Run { records: 50, target: 0 }]);
        assert_eq!(split.parts.len(), 1);
        assert_eq!(split.parts[0].bytes[61..], original[61..]);
        check_crc(&split.parts[0].bytes).unwrap();
    }

    #[test]
    fn the_brokers_time_stays_with_every_part() {
        let records: Vec<Said> = (0..4).map(|at| (at, None, None, Vec::new())).collect();
        let mut original = batch_of(Codec::None, &records);
        set_log_append_time(&mut original, 1234);
        for answer in [[0, 1, 0, 1], [2, 2, 2, 2]] {
            for part in split_of(&original, &answer).parts {
                assert!(heard(&part.bytes).iter().all(|said| said.0 == 1234));
                check_crc(&part.bytes).unwrap();
            }
        }
    }
}
