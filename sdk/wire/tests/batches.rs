//! Record batches: what is built is read, by every codec, and what is damaged is refused.

use ottla_wire::record::{
    BATCH_HEADER_BYTES, Batch, BatchBuilder, BatchError, BatchHeader, Codec, DecompressError, Header, RecordError,
    TimestampType, batches, check_crc, compress, decompress, set_base_offset, set_leader_epoch, set_log_append_time,
};
use ottla_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use proptest::prelude::*;

const UNPACKED_BYTES_MAX: usize = 16 << 20;

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct OwnedRecord {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<OwnedHeader>,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0_usize..40_000).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    let headers = prop::collection::vec((prop::collection::vec(any::<u8>(), 0..6), prop::option::of(bytes())), 0..4);
    let record = (any::<i64>(), prop::option::of(bytes()), prop::option::of(bytes()), headers)
        .prop_map(|(timestamp, key, value, headers)| OwnedRecord { timestamp, key, value, headers });
    prop::collection::vec(record, 1..20)
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::ALL.to_vec())
}

fn append(builder: &mut BatchBuilder, record: &OwnedRecord) {
    let headers = record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() });
    builder.append(record.timestamp, record.key.as_deref(), record.value.as_deref(), headers).unwrap();
}

fn build(codec: Codec, records: &[OwnedRecord]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for record in records {
        append(&mut builder, record);
    }
    let mut bytes = Vec::new();
    let header = builder.finish(&mut bytes).unwrap();
    assert_eq!(header, BatchHeader::parse(&bytes).unwrap());
    bytes
}

fn read(batch: &Batch<'_>) -> Vec<OwnedRecord> {
    batch.check_crc().unwrap();
    let records = batch.records(UNPACKED_BYTES_MAX).unwrap();
    records
        .iter()
        .map(|record| {
            let record = record.unwrap();
            OwnedRecord {
                timestamp: batch.header.timestamp_of(&record),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers
                    .iter()
                    .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                    .collect(),
            }
        })
        .collect()
}

fn text(value: &str) -> OwnedRecord {
    OwnedRecord { timestamp: 1_000, key: None, value: Some(value.into()), headers: Vec::new() }
}

proptest! {
    #[test]
    fn what_is_built_is_read(codec in codec(), records in records()) {
        let bytes = build(codec, &records);
        let batch = Batch::parse(&bytes).unwrap();
        prop_assert_eq!(batch.bytes.len(), bytes.len());
        batch.header.check_as_produced().unwrap();
        prop_assert_eq!(batch.header.codec(), Ok(codec));
        prop_assert_eq!(batch.header.max_timestamp, records.iter().map(|record| record.timestamp).max().unwrap().max(-1));
        prop_assert_eq!(read(&batch), records);
    }

    #[test]
    fn rebatching_keeps_records_byte_for_byte(codec in codec(), records in records(), chosen: u32) {
        let bytes = build(codec, &records);
        let batch = Batch::parse(&bytes).unwrap();
        let unpacked = batch.records(UNPACKED_BYTES_MAX).unwrap();
        let is_chosen = |index: usize| chosen >> (index % 32) & 1 == 1;

        let mut builder = BatchBuilder::like(&batch.header);
        let mut kept = Vec::new();
        for (index, record) in unpacked.iter().enumerate().filter(|(index, _)| is_chosen(*index)) {
            let record = record.unwrap();
            let offset_delta = builder.append_record(batch.header.timestamp_of(&record), &record).unwrap();
            prop_assert_eq!(offset_delta as usize, kept.len());
            kept.push((index, record));
        }
        prop_assume!(!kept.is_empty());
        let mut rebatched = Vec::new();
        builder.finish(&mut rebatched).unwrap();

        let rebatched = Batch::parse(&rebatched).unwrap();
        prop_assert_eq!(rebatched.header.codec(), batch.header.codec());
        prop_assert_eq!(rebatched.header.base_timestamp, batch.header.base_timestamp);
        let expected: Vec<_> = kept.iter().map(|(index, _)| records[*index].clone()).collect();
        prop_assert_eq!(read(&rebatched), expected);
        let unpacked = rebatched.records(UNPACKED_BYTES_MAX).unwrap();
        for (new, (_, old)) in unpacked.iter().zip(&kept) {
            let new = new.unwrap();
            prop_assert_eq!(new.content, old.content);
            prop_assert_eq!(new.timestamp_delta, old.timestamp_delta);
        }
    }

    #[test]
    fn every_codec_gives_back_what_it_got(codec in codec(), input in bytes(), level in -10..30) {
        let mut packed = b"in front".to_vec();
        compress(codec, Some(level), &input, &mut packed).unwrap();
        prop_assert!(packed.starts_with(b"in front"));
        let unpacked = decompress(codec, &packed[8..], input.len()).unwrap();
        prop_assert_eq!(&*unpacked, &input);
        if codec != Codec::None && !input.is_empty() {
            let refused = decompress(codec, &packed[8..], input.len() - 1);
            prop_assert_eq!(refused.unwrap_err(), DecompressError::TooLarge { bytes_max: input.len() - 1 });
        }
    }

    #[test]
    fn a_flipped_bit_behind_the_leader_epoch_fails_the_crc(records in records(), at: prop::sample::Index, bit in 0_u32..8) {
        let mut bytes = build(Codec::None, &records);
        let at = 17 + at.index(bytes.len() - 17);
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(check_crc(&bytes).is_err());
    }
}

#[test]
fn headers_keep_duplicates_order_and_keys_that_are_not_text() {
    let headers: Vec<OwnedHeader> = vec![
        (b"trace".to_vec(), Some(b"1".to_vec())),
        (b"\xff\xfe".to_vec(), None),
        (b"trace".to_vec(), Some(b"2".to_vec())),
        (Vec::new(), Some(Vec::new())),
    ];
    let record = OwnedRecord { headers, ..text("v") };
    let bytes = build(Codec::Zstd, std::slice::from_ref(&record));
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!(read(&batch), [record]);
    let records = batch.records(UNPACKED_BYTES_MAX).unwrap();
    let record = records.iter().next().unwrap().unwrap();
    assert_eq!(record.headers.len(), 4);
    assert_eq!(
        record.headers.iter().map(|header| header.key_text()).collect::<Vec<_>>(),
        [Some("trace"), None, Some("trace"), Some("")]
    );
    assert_eq!(record.headers.last("trace"), Some(Some(b"2".as_slice())));
    assert_eq!(record.headers.last("absent"), None);
}

#[test]
fn the_broker_rewrites_offset_and_epoch_without_touching_the_crc() {
    let mut bytes = build(Codec::None, &[text("a"), text("b")]);
    let before = BatchHeader::parse(&bytes).unwrap();
    set_base_offset(&mut bytes, Offset(1_000));
    set_leader_epoch(&mut bytes, LeaderEpoch(7));
    check_crc(&bytes).unwrap();
    let after = BatchHeader::parse(&bytes).unwrap();
    assert_eq!(after, BatchHeader { base_offset: Offset(1_000), partition_leader_epoch: LeaderEpoch(7), ..before });
    assert_eq!((after.last_offset(), after.next_offset()), (Offset(1_001), Offset(1_002)));
}

#[test]
fn the_broker_stamps_a_batch_and_seals_it_anew() {
    let mut bytes = build(Codec::Gzip, &[text("a"), text("b")]);
    set_log_append_time(&mut bytes, 9_999);
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!(batch.header.timestamp_type(), TimestampType::LogAppendTime);
    assert!(read(&batch).iter().all(|record| record.timestamp == 9_999));
}

#[test]
fn an_idempotent_batch_with_a_hole_keeps_the_count_of_sequences() {
    let mut builder = BatchBuilder::new(Codec::None).producer(ProducerId(5), ProducerEpoch(1), Sequence(i32::MAX));
    append(&mut builder, &text("a"));
    builder.skip_offsets(2).unwrap();
    append(&mut builder, &text("d"));
    builder.skip_offsets(1).unwrap();
    let mut bytes = Vec::new();
    let header = builder.finish(&mut bytes).unwrap();
    assert_eq!((header.record_count, header.last_offset_delta), (2, 4));
    assert_eq!(header.last_sequence(), Sequence(3));
    let batch = Batch::parse(&bytes).unwrap();
    let records = batch.records(UNPACKED_BYTES_MAX).unwrap();
    assert_eq!(records.iter().map(|record| record.unwrap().offset_delta).collect::<Vec<_>>(), [0, 3]);
    assert!(batch.header.check_as_produced().is_err());
}

#[test]
fn batches_follow_each_other_and_a_cut_one_is_named() {
    let mut bytes = build(Codec::None, &[text("a")]);
    bytes.extend(build(Codec::Lz4, &[text("b"), text("c")]));
    let whole = bytes.len();
    assert_eq!(batches(&bytes).map(|batch| batch.unwrap().header.record_count).collect::<Vec<_>>(), [1, 2]);
    for cut in 1..whole {
        let all: Vec<_> = batches(&bytes[..cut]).collect();
        assert!(all.iter().rev().skip(1).all(Result::is_ok));
        let first_bytes = all[0].as_ref().map(|batch| batch.bytes.len()).unwrap_or_default();
        assert_eq!(all.last().unwrap().is_ok(), cut == first_bytes, "cut at {cut}");
    }
}

#[test]
fn what_is_no_batch_gets_a_name() {
    let good = build(Codec::None, &[text("a"), text("b")]);
    let with = |at: usize, bytes: &[u8]| {
        let mut batch = good.clone();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        batch
    };
    assert_eq!(BatchHeader::parse(&good[..60]), Err(BatchError::Truncated { needed: 61, found: 60 }));
    assert_eq!(BatchHeader::parse(&with(16, &[1])), Err(BatchError::UnsupportedMagic { magic: 1 }));
    assert_eq!(BatchHeader::parse(&with(8, &48_i32.to_be_bytes())), Err(BatchError::BadLength { length: 48 }));
    assert_eq!(BatchHeader::parse(&with(8, &i32::MIN.to_be_bytes())), Err(BatchError::BadLength { length: i32::MIN }));
    assert!(matches!(Batch::parse(&with(8, &i32::MAX.to_be_bytes())), Err(BatchError::Truncated { .. })));
    let negative = BatchHeader::parse(&with(57, &(-1_i32).to_be_bytes()));
    assert_eq!(negative, Err(BatchError::BadRecordCount { record_count: -1, last_offset_delta: 1 }));

    let produced = |batch: &[u8]| BatchHeader::parse(batch).unwrap().check_as_produced();
    produced(&good).unwrap();
    assert_eq!(produced(&with(21, &5_i16.to_be_bytes())), Err(BatchError::UnknownCodec { codec: 5 }));
    assert_eq!(produced(&with(21, &0x20_i16.to_be_bytes())), Err(BatchError::ControlBatch));
    let too_many = BatchError::BadRecordCount { record_count: i32::MAX, last_offset_delta: 1 };
    assert_eq!(produced(&with(57, &i32::MAX.to_be_bytes())), Err(too_many));
    let without_sequence = with(43, &7_i64.to_be_bytes());
    assert_eq!(produced(&without_sequence), Err(BatchError::BadSequence { base_sequence: -1 }));
}

#[test]
fn a_false_record_count_ends_in_an_error() {
    let bytes = build(Codec::None, &[text("a"), text("b")]);
    let batch = Batch::parse(&bytes).unwrap();
    let last = |count| {
        let header = BatchHeader { record_count: count, ..batch.header };
        let records = Batch { header, ..batch }.records(UNPACKED_BYTES_MAX).unwrap();
        let all: Vec<_> = records.iter().map(|record| record.map(|record| record.offset_delta)).collect();
        (all.len(), *all.last().unwrap())
    };
    let record_bytes = (bytes.len() - BATCH_HEADER_BYTES) / 2;
    assert_eq!(last(2), (2, Ok(1)));
    assert_eq!(last(i32::MAX), (3, Err(RecordError::Damaged { index: 2, part: "length" })));
    assert_eq!(last(1), (2, Err(RecordError::TrailingBytes { bytes: record_bytes })));
    assert_eq!(last(0), (1, Err(RecordError::TrailingBytes { bytes: 2 * record_bytes })));
}

#[test]
fn an_empty_builder_builds_nothing() {
    let mut out = Vec::new();
    BatchBuilder::new(Codec::Lz4).finish(&mut out).unwrap_err();
    assert!(out.is_empty());
}
