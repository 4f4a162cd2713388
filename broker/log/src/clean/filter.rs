//! Decides which records of one batch stay, and writes the new batch. No I/O: bytes in, bytes out.
//!
//! Promises: offsets never change. Key, value and headers of a record that stays are copied byte for byte. A batch of
//! which every record stays is not changed, nor is a batch that cannot be read. If a batch loses all its records, an
//! empty batch keeps its offsets; neighbouring batches may share one. So the batches of a segment have no gap in their
//! offsets, and recovery can demand that.

use ottla_wire::record::{
    BATCH_HEADER_BYTES, BATCH_OVERHEAD_BYTES, Batch, BatchBuilder, BatchHeader, Codec, DELETE_HORIZON_BIT, Record,
    TimestampType,
};
use ottla_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::index::NO_TIMESTAMP;

/// Timestamp of an empty batch: Kafka's "none".
const NO_RECORD_TIMESTAMP: i64 = -1;
/// The bits of the attributes that name the codec.
const CODEC_BITS: i16 = 7;

/// The decision about one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The record stays.
    Keep,
    /// The record is a deletion marker: it stays, and its retention time starts unless it runs already.
    Expire,
    /// The record is removed.
    Drop,
}

/// The result for one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The batch stays as it is; nothing was written.
    Kept,
    /// Some records stay; the new batch was written.
    Rewritten,
    /// No record stays; nothing was written.
    Emptied,
    /// The records cannot be read, so the batch stays as it is; nothing was written.
    Opaque,
}

/// Asks `verdict` about every record of `batch` and appends a batch of the remaining ones to `out`. `horizon_ms` is the
/// time at which deletion markers may be removed whose retention starts now. A batch that unpacks to more than
/// `unpacked_bytes_max` is not read. Control batches stay.
pub(crate) fn filter(
    batch: &Batch<'_>,
    unpacked_bytes_max: usize,
    horizon_ms: i64,
    mut verdict: impl FnMut(Offset, &Record<'_>) -> Verdict,
    out: &mut Vec<u8>,
) -> Outcome {
    let header = batch.header;
    if header.is_control() {
        return Outcome::Kept;
    }
    if header.record_count == 0 {
        return Outcome::Emptied;
    }
    let Ok(records) = batch.records(unpacked_bytes_max) else { return Outcome::Opaque };
    let (mut kept, mut expire, mut before) = (Vec::new(), false, -1);
    for record in &records {
        let Ok(record) = record else { return Outcome::Opaque };
        // The offsets of a sound batch rise and lie inside of it.
        if record.offset_delta <= before || record.offset_delta > header.last_offset_delta {
            return Outcome::Opaque;
        }
        before = record.offset_delta;
        match verdict(header.offset_of(&record), &record) {
            Verdict::Keep => kept.push(true),
            Verdict::Expire => {
                expire = true;
                kept.push(true);
            }
            Verdict::Drop => kept.push(false),
        }
    }
    let horizon = header.delete_horizon().or(expire.then_some(horizon_ms));
    if !kept.contains(&true) {
        Outcome::Emptied
    } else if !kept.contains(&false) && horizon == header.delete_horizon() {
        Outcome::Kept
    } else {
        let records = records.iter().zip(&kept).filter(|(_, kept)| **kept).filter_map(|(record, _)| record.ok());
        // If the rest cannot be packed again, the whole batch stays.
        write_thinned(&header, horizon, records, out).map_or(Outcome::Opaque, |()| Outcome::Rewritten)
    }
}

/// Appends a batch with some of the records of another batch.
fn write_thinned<'r>(
    header: &BatchHeader,
    horizon: Option<i64>,
    records: impl Iterator<Item = Record<'r>>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let base_timestamp = horizon.unwrap_or(header.base_timestamp);
    let mut builder = BatchBuilder::new(header.codec().ok()?).counting_from(base_timestamp);
    let (mut next_delta, mut newest) = (0, NO_TIMESTAMP);
    for record in records {
        builder.skip_offsets(record.offset_delta.checked_sub(next_delta)?).ok()?;
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        builder.append_record(timestamp, &record).ok()?;
        next_delta = record.offset_delta.checked_add(1)?;
        newest = newest.max(timestamp);
    }
    let start = out.len();
    let built = builder.finish(out).ok()?;
    let thinned = BatchHeader {
        batch_length: built.batch_length,
        record_count: built.record_count,
        attributes: header.attributes | if horizon.is_some() { DELETE_HORIZON_BIT } else { 0 },
        base_timestamp,
        max_timestamp: match header.timestamp_type() {
            TimestampType::CreateTime => newest,
            TimestampType::LogAppendTime => header.max_timestamp,
        },
        ..*header
    };
    seal(&thinned, out.get_mut(start..)?);
    Some(())
}

/// Appends an empty batch that keeps the offsets, the producer and the sequence numbers of a batch.
pub(crate) fn write_empty(header: &BatchHeader, out: &mut Vec<u8>) {
    let start = out.len();
    let empty = BatchHeader {
        batch_length: (BATCH_HEADER_BYTES - BATCH_OVERHEAD_BYTES) as i32,
        attributes: header.attributes & !(CODEC_BITS | DELETE_HORIZON_BIT) | i16::from(Codec::None.bits()),
        base_timestamp: NO_RECORD_TIMESTAMP,
        max_timestamp: NO_RECORD_TIMESTAMP,
        record_count: 0,
        ..*header
    };
    out.resize(start + BATCH_HEADER_BYTES, 0);
    seal(&empty, out.get_mut(start..).unwrap_or_default());
}

/// Writes `header` over the start of `batch`, with the new CRC.
fn seal(header: &BatchHeader, batch: &mut [u8]) {
    /// The CRC covers everything from the attributes on.
    const CRC: std::ops::Range<usize> = 17..21;
    let mut front = Vec::with_capacity(BATCH_HEADER_BYTES);
    header.write(&mut front);
    if let Some(place) = batch.get_mut(..BATCH_HEADER_BYTES) {
        place.copy_from_slice(&front);
    }
    let crc = crc_fast::crc32_iscsi(batch.get(CRC.end..).unwrap_or_default());
    if let Some(place) = batch.get_mut(CRC) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
}

/// Neighbouring offsets whose records were removed. One empty batch without a producer stands for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EmptyRange {
    base: Offset,
    last: Offset,
    epoch: LeaderEpoch,
}

impl EmptyRange {
    /// The offsets of one batch.
    pub(crate) fn of(header: &BatchHeader) -> Self {
        Self { base: header.base_offset, last: header.last_offset(), epoch: header.partition_leader_epoch }
    }

    /// Adds the offsets that follow. Returns false if one batch cannot stand for both: the leader epochs differ, or the
    /// offsets are too many for one batch.
    pub(crate) fn extend(&mut self, next: &Self) -> bool {
        let joins = next.base == self.last.advance(1)
            && next.epoch == self.epoch
            && i32::try_from(next.last.get() - self.base.get()).is_ok();
        if joins {
            self.last = next.last;
        }
        joins
    }

    /// Appends the empty batch that stands for these offsets.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let header = BatchHeader {
            base_offset: self.base,
            batch_length: 0,
            partition_leader_epoch: self.epoch,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: (self.last.get() - self.base.get()) as i32,
            base_timestamp: NO_RECORD_TIMESTAMP,
            max_timestamp: NO_RECORD_TIMESTAMP,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            record_count: 0,
        };
        write_empty(&header, out);
    }
}

#[cfg(test)]
mod tests {
    use ottla_wire::record::{Header, batches, set_base_offset, set_leader_epoch, set_log_append_time};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const UNPACKED_MAX: usize = 1 << 20;

    type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

    /// A record as a reader sees it.
    #[derive(Clone, Debug, PartialEq)]
    struct Seen {
        offset: i64,
        timestamp: i64,
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        headers: Vec<OwnedHeader>,
    }

    fn read(bytes: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        for batch in batches(bytes) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            for record in &batch.records(UNPACKED_MAX).unwrap() {
                let record = record.unwrap();
                seen.push(Seen {
                    offset: batch.header.offset_of(&record).get(),
                    timestamp: batch.header.timestamp_of(&record),
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: record.headers.iter().map(|it| (it.key.to_vec(), it.value.map(<[u8]>::to_vec))).collect(),
                });
            }
        }
        seen
    }

    #[derive(Clone, Debug)]
    struct Plan {
        timestamp: i64,
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        headers: Vec<OwnedHeader>,
        verdict: u8,
    }

    fn plan() -> impl Strategy<Value = Plan> {
        let bytes = || vec(any::<u8>(), 0..12);
        (
            -5_i64..2_000_000_000_000,
            proptest::option::of(bytes()),
            proptest::option::of(bytes()),
            vec((bytes(), proptest::option::of(bytes())), 0..4),
            0_u8..3,
        )
            .prop_map(|(timestamp, key, value, headers, verdict)| Plan {
                timestamp,
                key,
                value,
                headers,
                verdict,
            })
    }

    fn build(codec: Codec, plans: &[Plan], producer: bool) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        if producer {
            builder = builder.producer(ProducerId(77), ProducerEpoch(3), Sequence(40));
        }
        for plan in plans {
            let headers: Vec<Header<'_>> =
                plan.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
            let (key, value) = (plan.key.as_deref(), plan.value.as_deref());
            builder.append(plan.timestamp, key, value, headers.into_iter()).unwrap();
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        set_base_offset(&mut bytes, Offset(1000));
        set_leader_epoch(&mut bytes, LeaderEpoch(9));
        bytes
    }

    fn verdict_of(plans: &[Plan]) -> impl FnMut(Offset, &Record<'_>) -> Verdict + '_ {
        |offset, _| match plans[(offset.get() - 1000) as usize].verdict {
            0 => Verdict::Keep,
            1 => Verdict::Drop,
            _ => Verdict::Expire,
        }
    }

    proptest! {
        #[test]
        fn remaining_records_are_unchanged_and_no_others_remain(
            plans in vec(plan(), 1..20), codec in 0_usize..5, producer: bool, stamped: bool,
        ) {
            let mut bytes = build(Codec::ALL[codec], &plans, producer);
            if stamped {
                set_log_append_time(&mut bytes, 4711);
            }
            let batch = Batch::parse(&bytes).unwrap();
            let mut out = b"before".to_vec();
            let outcome = filter(&batch, UNPACKED_MAX, 5_000, verdict_of(&plans), &mut out);
            let written = out.strip_prefix(b"before").unwrap();
            let wanted: Vec<Seen> =
                read(&bytes).into_iter().zip(&plans).filter(|(_, plan)| plan.verdict != 1).map(|(it, _)| it).collect();
            let expires = plans.iter().any(|plan| plan.verdict == 2);
            match outcome {
                Outcome::Opaque => prop_assert!(false, "every batch here can be read"),
                Outcome::Emptied => prop_assert!(wanted.is_empty() && written.is_empty()),
                Outcome::Kept => {
                    prop_assert!(written.is_empty() && wanted.len() == plans.len() && !expires);
                }
                Outcome::Rewritten => {
                    prop_assert!(wanted.len() < plans.len() || expires);
                    prop_assert_eq!(read(written), wanted.clone());
                    let (old, new) = (batch.header, Batch::parse(written).unwrap().header);
                    prop_assert_eq!(new.total_bytes(), written.len());
                    let same = |header: &BatchHeader| (
                        header.base_offset, header.last_offset_delta, header.partition_leader_epoch, header.codec(),
                        header.timestamp_type(), header.producer_id, header.producer_epoch, header.base_sequence,
                    );
                    prop_assert_eq!(same(&old), same(&new));
                    prop_assert_eq!(new.record_count as usize, wanted.len());
                    prop_assert_eq!(new.delete_horizon(), expires.then_some(5_000));
                    let newest = wanted.iter().map(|it| it.timestamp).max();
                    prop_assert_eq!(Some(new.max_timestamp), newest);
                    // A second pass with a later horizon keeps the first horizon.
                    let again = filter(&Batch::parse(written).unwrap(), UNPACKED_MAX, 9_000,
                        |offset, _| if plans[(offset.get() - 1000) as usize].verdict == 2 { Verdict::Expire } else { Verdict::Keep },
                        &mut Vec::new());
                    prop_assert_eq!(again, Outcome::Kept);
                }
            }
        }

        #[test]
        fn damaged_records_stay_as_they_are(plans in vec(plan(), 1..8), codec in 0_usize..5, at: usize, bit in 0_u8..8) {
            let mut bytes = build(Codec::ALL[codec], &plans, false);
            let at = BATCH_HEADER_BYTES + at % (bytes.len() - BATCH_HEADER_BYTES);
            bytes[at] ^= 1 << bit;
            let mut out = Vec::new();
            // No damage to the bytes may cause a panic or a half-written batch.
            let outcome = filter(&Batch::parse(&bytes).unwrap(), UNPACKED_MAX, 0, |_, _| Verdict::Keep, &mut out);
            prop_assert!(matches!(outcome, Outcome::Kept | Outcome::Opaque) && out.is_empty());
        }
    }

    #[test]
    fn batches_that_unpack_to_too_many_bytes_stay() {
        let plans = [Plan { timestamp: 1, key: None, value: Some(vec![0; 100_000]), headers: Vec::new(), verdict: 1 }];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let bytes = build(codec, &plans, false);
            let outcome = filter(&Batch::parse(&bytes).unwrap(), 50_000, 0, |_, _| Verdict::Drop, &mut Vec::new());
            assert_eq!(outcome, Outcome::Opaque);
        }
    }

    #[test]
    fn empty_batch_keeps_offsets_and_numbers_of_the_one_it_stands_for() {
        let plans = vec![Plan { timestamp: 5, key: None, value: None, headers: Vec::new(), verdict: 1 }; 3];
        let bytes = build(Codec::Zstd, &plans, true);
        let batch = Batch::parse(&bytes).unwrap();
        let mut out = Vec::new();
        write_empty(&batch.header, &mut out);
        let empty = Batch::parse(&out).unwrap();
        empty.check_crc().unwrap();
        assert_eq!((out.len(), empty.header.record_count, empty.header.codec()), (61, 0, Ok(Codec::None)));
        assert_eq!(empty.header.next_offset(), batch.header.next_offset());
        assert_eq!(empty.header.last_sequence(), batch.header.last_sequence());
        assert_eq!(empty.header.partition_leader_epoch, batch.header.partition_leader_epoch);
        assert!(read(&out).is_empty());
    }

    #[test]
    fn neighbours_share_an_empty_batch_within_an_epoch() {
        let at = |base, last, epoch| EmptyRange { base: Offset(base), last: Offset(last), epoch: LeaderEpoch(epoch) };
        let mut range = at(10, 12, 1);
        assert!(range.extend(&at(13, 20, 1)));
        assert!(!range.extend(&at(22, 23, 1)) && !range.extend(&at(21, 23, 2)));
        assert!(!range.extend(&at(21, 11 + i64::from(i32::MAX), 1)));
        let mut out = Vec::new();
        range.write(&mut out);
        let empty = Batch::parse(&out).unwrap();
        empty.check_crc().unwrap();
        assert_eq!((empty.header.base_offset, empty.header.next_offset()), (Offset(10), Offset(21)));
        assert!(!empty.header.is_idempotent());
    }
}
