//! What a batch from a client has to fulfil before anything else looks at it, and the fields that the broker fills in.
//!
//! Reads the header and the CRC, and walks records that are not compressed: one that does not read would stop every
//! consumer of its partition. Compressed ones are unpacked only where the topic asks for something that stands in them
//! (keys for compaction, how old a timestamp may be), the batch says that a timestamp lies too far ahead, or the client
//! left the largest timestamp out; unpacking all of them would cost many times what appending does.

use ottla_wire::record::{
    Batch, BatchError, BatchHeader, Codec, DecompressError, Record, TimestampType as StampedAt, set_create_time,
    set_log_append_time,
};

use super::Refusal;
use crate::config::TopicSettings;
use crate::config::topic::TimestampType;
use crate::producer_ids::JOURNAL_PRODUCER;
use ottla_coordinator::sequence::Span;

/// The first Produce version whose batches may be compressed with zstd (KIP-110).
const ZSTD_VERSION_MIN: i16 = 7;

/// What a topic asks of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Version of the Produce request.
    pub version: i16,
    /// Most bytes of a batch as it was sent.
    pub batch_bytes_max: usize,
    /// Most bytes that records may unpack to, where they have to be looked at.
    pub unpacked_bytes_max: usize,
    /// Whether every record needs a key.
    pub compacted: bool,
    /// The earliest and the latest timestamp allowed, `i64::MIN` being no bound; none when the topic does not care.
    pub timestamps: Option<(i64, i64)>,
    /// The broker's time, where the topic is stamped with that.
    pub append_time_ms: Option<i64>,
}

impl Rules {
    /// The rules of a topic at this moment.
    pub fn new(version: i16, settings: &TopicSettings, unpacked_bytes_max: usize, now_ms: i64) -> Self {
        let bounded = settings.timestamp_before_max_ms != i64::MAX || settings.timestamp_after_max_ms != i64::MAX;
        let stamped = settings.timestamp_type == TimestampType::LogAppendTime;
        Self {
            version,
            batch_bytes_max: usize::try_from(settings.max_message_bytes).unwrap_or(0),
            unpacked_bytes_max,
            compacted: settings.cleanup_policy.compact,
            timestamps: (bounded && !stamped).then(|| {
                let earliest = match settings.timestamp_before_max_ms {
                    i64::MAX => i64::MIN,
                    before_max_ms => now_ms.saturating_sub(before_max_ms),
                };
                (earliest, now_ms.saturating_add(settings.timestamp_after_max_ms))
            }),
            append_time_ms: stamped.then_some(now_ms),
        }
    }
}

/// Checks the one batch that a client sent for a partition and fills in what is the broker's to fill in.
pub fn check_batch(bytes: &mut [u8], rules: &Rules) -> Result<BatchHeader, Refusal> {
    let batch = Batch::parse(bytes).map_err(|error| structure(error, bytes.len()))?;
    if bytes.len() > batch.bytes.len() {
        return Err(Refusal::SeveralBatches(bytes.len() - batch.bytes.len()));
    }
    let header = batch.header;
    if bytes.len() > rules.batch_bytes_max {
        return Err(Refusal::TooLarge { bytes: bytes.len(), bytes_max: rules.batch_bytes_max });
    }
    batch.check_crc().map_err(|error| structure(error, bytes.len()))?;
    header.check_as_produced().map_err(|error| structure(error, bytes.len()))?;
    check_producer(&header)?;
    if header.codec() == Ok(Codec::Zstd) && rules.version < ZSTD_VERSION_MIN {
        return Err(Refusal::Codec(header.attributes & 7));
    }
    let claims_append_time = header.timestamp_type() == StampedAt::LogAppendTime;
    if claims_append_time && rules.append_time_ms.is_some() {
        return Err(Refusal::StampedByClient);
    }
    let newest = check_records(&batch, rules)?.unwrap_or(header.max_timestamp);
    if let Some(now_ms) = rules.append_time_ms {
        set_log_append_time(bytes, now_ms);
    } else if claims_append_time || newest != header.max_timestamp {
        set_create_time(bytes, newest);
    }
    Ok(header)
}

/// Whether [`check_batch`] will unpack compressed records, which can take a while.
pub fn unpacks(bytes: &[u8], rules: &Rules) -> bool {
    BatchHeader::parse(bytes).is_ok_and(|header| is_packed(&header) && looks_at_records(&header, rules))
}

fn is_packed(header: &BatchHeader) -> bool {
    header.codec() != Ok(Codec::None)
}

/// Whether the records of a batch have to be looked at although they are packed.
fn looks_at_records(header: &BatchHeader, rules: &Rules) -> bool {
    let unstamped = matches!(header.max_timestamp, -1 | 0) && rules.append_time_ms.is_none();
    // How new its records are the header says; how old they are only the records do.
    let in_bounds =
        rules.timestamps.is_none_or(|(earliest, latest)| earliest == i64::MIN && header.max_timestamp <= latest);
    rules.compacted || unstamped || !in_bounds
}

/// The sequence numbers of a batch from an idempotent producer.
pub fn span_of(header: &BatchHeader) -> Option<Span> {
    // Not by the count of records: compaction may have removed some, or all.
    let BatchHeader { producer_epoch: epoch, base_sequence: first, .. } = *header;
    header.is_idempotent().then(|| Span { epoch, first, last: header.last_sequence() })
}

fn structure(error: BatchError, bytes: usize) -> Refusal {
    match error {
        _ if bytes == 0 => Refusal::NoBatch,
        BatchError::UnsupportedMagic { magic } => Refusal::OldMagic(magic),
        BatchError::UnknownCodec { codec } => Refusal::Codec(i16::from(codec)),
        BatchError::BadRecordCount { record_count: records, last_offset_delta } => {
            Refusal::BadCount { records, last_offset_delta }
        }
        BatchError::ControlBatch => Refusal::ControlBatch,
        // Sent again it would be the same: not a code that clients retry.
        BatchError::BadSequence { .. } | BatchError::Truncated { .. } | BatchError::BadLength { .. } => {
            Refusal::Undecodable(error.to_string())
        }
        BatchError::CrcMismatch { .. } => Refusal::Corrupt(error.to_string()),
    }
}

fn check_producer(header: &BatchHeader) -> Result<(), Refusal> {
    if header.is_transactional() {
        return Err(Refusal::Transactional);
    }
    // The journal's own numbers must never come from outside: recovery believes them.
    let possible = header.producer_id != JOURNAL_PRODUCER && header.producer_epoch.get() >= 0;
    if header.is_idempotent() && !possible {
        return Err(Refusal::BadProducer {
            producer_id: header.producer_id.get(),
            epoch: header.producer_epoch.get(),
            sequence: header.base_sequence,
        });
    }
    Ok(())
}

/// Looks at the records as far as the settings ask. The largest timestamp comes back if they were looked at.
fn check_records(batch: &Batch<'_>, rules: &Rules) -> Result<Option<i64>, Refusal> {
    if is_packed(&batch.header) && !looks_at_records(&batch.header, rules) {
        return Ok(None);
    }
    let records = batch.records(rules.unpacked_bytes_max).map_err(|error| match error {
        DecompressError::TooLarge { .. } => Refusal::UnpackedTooLarge { bytes_max: rules.unpacked_bytes_max },
        other => Refusal::Undecodable(other.to_string()),
    })?;
    let mut keyless = Vec::new();
    let mut outside = Vec::new();
    let mut newest = i64::MIN;
    for (index, record) in (0..).zip(&records) {
        let record: Record<'_> = record.map_err(|error| Refusal::Undecodable(error.to_string()))?;
        if record.offset_delta != index {
            return Err(Refusal::Undecodable(format!("record {index} has offset delta {}", record.offset_delta)));
        }
        let timestamp = batch.header.base_timestamp.wrapping_add(record.timestamp_delta);
        newest = newest.max(timestamp);
        if rules.compacted && record.key.is_none() {
            keyless.push(index);
        }
        let bounds = rules.timestamps.filter(|_| timestamp != -1);
        if bounds.is_some_and(|(earliest, latest)| timestamp < earliest || timestamp > latest) {
            outside.push(index);
        }
    }
    if !keyless.is_empty() {
        return Err(Refusal::NoKey { indexes: keyless });
    }
    if !outside.is_empty() {
        return Err(Refusal::Timestamps { indexes: outside });
    }
    Ok(Some(newest))
}

#[cfg(test)]
mod tests {
    use ottla_wire::record::{BatchBuilder, TimestampType, check_crc};
    use ottla_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence};

    use super::*;

    const RULES: Rules = Rules {
        version: 9,
        batch_bytes_max: 10_000,
        unpacked_bytes_max: 100_000,
        compacted: false,
        timestamps: None,
        append_time_ms: None,
    };

    fn batch(codec: Codec, producer: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        if producer >= 0 {
            builder = builder.producer(ProducerId(producer), ProducerEpoch(0), Sequence(0));
        }
        for (at, key) in [(1000, Some(b"k".as_slice())), (3000, None), (2000, Some(b"k"))] {
            builder.append(at, key, Some(b"value"), [].into_iter()).unwrap();
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        bytes
    }

    /// Overwrites bytes of a sound batch and makes the CRC fit again.
    fn forged(at: usize, field: &[u8]) -> Vec<u8> {
        let mut bytes = batch(Codec::None, 5);
        bytes[at..at + field.len()].copy_from_slice(field);
        let crc = ottla_wire::record::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn refused(mut bytes: Vec<u8>, rules: &Rules) -> ErrorCode {
        check_batch(&mut bytes, rules).unwrap_err().error_code()
    }

    #[test]
    fn uncompressed_records_that_do_not_read_are_refused() {
        let sound = batch(Codec::None, -1);
        // Each change is made under a CRC that fits.
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = sound.clone();
            change(&mut bytes);
            let crc = ottla_wire::record::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            check_batch(&mut bytes, &RULES).map(|_| ())
        };
        let undecodable = |outcome: Result<(), Refusal>| matches!(outcome, Err(Refusal::Undecodable(_)));
        assert_eq!(changed(&|_| ()), Ok(()));
        assert!(undecodable(changed(&|bytes| bytes[61..].fill(0xff))), "garbage");
        let count = |records: u8| move |bytes: &mut Vec<u8>| (bytes[26], bytes[60]) = (records - 1, records);
        assert!(undecodable(changed(&count(4))), "more counted than there are");
        assert!(undecodable(changed(&count(2))), "fewer counted than there are");
        // The first record: length, attributes, timestamp delta, offset delta.
        assert!(undecodable(changed(&|bytes| bytes[64] = 2)), "an offset delta out of turn");
    }

    #[test]
    fn a_sound_batch_passes_untouched() {
        for codec in Codec::ALL {
            let sound = batch(codec, 5);
            let mut bytes = sound.clone();
            let header = check_batch(&mut bytes, &RULES).unwrap();
            assert_eq!(bytes, sound);
            assert_eq!(span_of(&header), Some(Span::new(ProducerEpoch(0), Sequence(0), 3)));
        }
        assert_eq!(span_of(&check_batch(&mut batch(Codec::None, -1), &RULES).unwrap()), None);
    }

    #[test]
    fn each_fault_has_its_code() {
        let sound = batch(Codec::None, 5);
        let mut flipped = sound.clone();
        flipped[70] ^= 1;
        assert_eq!(refused(flipped, &RULES), ErrorCode::CorruptMessage);
        assert_eq!(refused(sound[..sound.len() - 1].to_vec(), &RULES), ErrorCode::InvalidRecord);
        assert_eq!(refused(Vec::new(), &RULES), ErrorCode::InvalidRecord);
        assert_eq!(refused([sound.clone(), sound.clone()].concat(), &RULES), ErrorCode::InvalidRecord);
        assert_eq!(refused(forged(16, &[1]), &RULES), ErrorCode::InvalidRecord);
        assert_eq!(refused(forged(21, &[0, 5]), &RULES), ErrorCode::UnsupportedCompressionType);
        assert_eq!(refused(forged(21, &[0, 0x10]), &RULES), ErrorCode::InvalidTxnState);
        assert_eq!(refused(forged(21, &[0, 0x20]), &RULES), ErrorCode::InvalidRecord);
        assert_eq!(refused(forged(23, &9_i32.to_be_bytes()), &RULES), ErrorCode::InvalidRecord);
        assert_eq!(refused(forged(43, &i64::MAX.to_be_bytes()), &RULES), ErrorCode::InvalidRecord);
        assert_eq!(refused(forged(51, &[0xff, 0xff]), &RULES), ErrorCode::InvalidRecord);
        assert_eq!(refused(sound.clone(), &Rules { batch_bytes_max: 99, ..RULES }), ErrorCode::MessageTooLarge);
        assert_eq!(
            refused(batch(Codec::Zstd, 5), &Rules { version: 6, ..RULES }),
            ErrorCode::UnsupportedCompressionType
        );
    }

    #[test]
    fn a_negative_sequence_is_refused() {
        let mut bytes = forged(53, &(-1_i32).to_be_bytes());
        assert!(check_batch(&mut bytes, &RULES).is_err());
    }

    #[test]
    fn a_compacted_topic_names_the_records_without_a_key() {
        let rules = Rules { compacted: true, ..RULES };
        for codec in Codec::ALL {
            let refusal = check_batch(&mut batch(codec, 5), &rules).unwrap_err();
            assert_eq!(refusal, Refusal::NoKey { indexes: vec![1] });
        }
    }

    #[test]
    fn timestamps_outside_the_bounds_are_named() {
        let rules = Rules { timestamps: Some((1500, 2500)), ..RULES };
        let refusal = check_batch(&mut batch(Codec::Gzip, 5), &rules).unwrap_err();
        assert_eq!(refusal, Refusal::Timestamps { indexes: vec![0, 1] });
    }

    #[test]
    fn records_too_far_ahead_are_found_without_unpacking_those_that_are_not() {
        let ahead = Rules { timestamps: Some((i64::MIN, 2500)), ..RULES };
        for codec in Codec::ALL {
            let refusal = check_batch(&mut batch(codec, 5), &ahead).unwrap_err();
            assert_eq!(refusal, Refusal::Timestamps { indexes: vec![1] }, "{codec:?}");
        }
        let fine = Rules { timestamps: Some((i64::MIN, 3000)), unpacked_bytes_max: 1, ..RULES };
        check_batch(&mut batch(Codec::Zstd, 5), &fine).unwrap();
        let config = crate::config::Config::default();
        let rules = Rules::new(9, &TopicSettings::defaults(&config), 1, 5_000_000);
        assert_eq!(rules.timestamps, Some((i64::MIN, 8_600_000)));
    }

    #[test]
    fn a_largest_timestamp_left_out_is_filled_in() {
        for left_out in [0_i64, -1] {
            let mut bytes = forged(35, &left_out.to_be_bytes());
            check_batch(&mut bytes, &RULES).unwrap();
            assert_eq!(BatchHeader::parse(&bytes).unwrap().max_timestamp, 3000);
            check_crc(&bytes).unwrap();
        }
    }

    #[test]
    fn a_largest_timestamp_that_no_record_has_is_put_right() {
        for wrong in [2999_i64, 3001, i64::MAX] {
            let mut bytes = forged(35, &wrong.to_be_bytes());
            check_batch(&mut bytes, &RULES).unwrap();
            assert_eq!(BatchHeader::parse(&bytes).unwrap().max_timestamp, 3000);
            check_crc(&bytes).unwrap();
        }
    }

    #[test]
    fn only_the_broker_marks_a_batch_as_stamped_by_it() {
        for codec in Codec::ALL {
            let mut marked = batch(codec, 5);
            set_log_append_time(&mut marked, 3000);
            let mut taken = marked.clone();
            check_batch(&mut taken, &RULES).unwrap();
            assert_eq!(taken, batch(codec, 5), "the mark is taken off");
            let stamped = Rules { append_time_ms: Some(77), ..RULES };
            assert_eq!(refused(marked, &stamped), ErrorCode::InvalidTimestamp);
        }
    }

    #[test]
    fn the_broker_stamps_where_the_topic_says_so() {
        let mut bytes = batch(Codec::Lz4, 5);
        check_batch(&mut bytes, &Rules { append_time_ms: Some(77), ..RULES }).unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!((header.timestamp_type(), header.max_timestamp), (TimestampType::LogAppendTime, 77));
        check_crc(&bytes).unwrap();
    }

    #[test]
    fn a_bomb_stops_at_the_cap() {
        let mut builder = BatchBuilder::new(Codec::Zstd);
        builder.append(0, None, Some(&vec![0; 1 << 20]), [].into_iter()).unwrap();
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        let rules = Rules { compacted: true, ..RULES };
        assert_eq!(check_batch(&mut bytes, &rules), Err(Refusal::UnpackedTooLarge { bytes_max: 100_000 }));
    }
}
