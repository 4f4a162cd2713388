//! Record batches written a second time, by hand: what the codec under test says is not what its test believes.

/// Bytes in front of the CRC's range: base offset, length, leader epoch, magic, and the CRC itself.
pub const CRC_POSITION: usize = 17;
/// Where the CRC's range begins.
pub const CRC_COVERS_FROM: usize = 21;
/// Bytes of a batch header.
pub const HEADER_BYTES: usize = 61;

/// The sender of a batch, when it is idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// As `InitProducerId` answered.
    pub producer_id: i64,
    /// As `InitProducerId` answered.
    pub epoch: i16,
    /// Number of the first record.
    pub sequence: i32,
}

/// One uncompressed batch, base offset 0, all records with the same timestamp.
pub fn batch(records: &[(&[u8], &[u8])], sender: Option<Sender>) -> Vec<u8> {
    stamped(records.iter().map(|(key, value)| (Some(key.to_vec()), value.to_vec())), 1_700_000_000_000, 0, sender)
}

/// One uncompressed batch, base offset 0: keys and values, the first record at `timestamp_ms`, each further one
/// `step_ms` later.
pub fn stamped(
    records: impl IntoIterator<Item = (Option<Vec<u8>>, Vec<u8>)>,
    timestamp_ms: i64,
    step_ms: i64,
    sender: Option<Sender>,
) -> Vec<u8> {
    let Sender { producer_id, epoch, sequence } = sender.unwrap_or(Sender { producer_id: -1, epoch: -1, sequence: -1 });
    let (mut count, mut bytes, mut record) = (0_i32, Vec::new(), Vec::new());
    for (key, value) in records {
        record.clear();
        record.push(0);
        put_varint(i64::from(count) * step_ms, &mut record);
        put_varint(count.into(), &mut record);
        for part in [key.as_deref(), Some(&value)] {
            put_varint(part.map_or(-1, |part| part.len() as i64), &mut record);
            record.extend_from_slice(part.unwrap_or_default());
        }
        put_varint(0, &mut record);
        put_varint(record.len() as i64, &mut bytes);
        bytes.extend_from_slice(&record);
        count += 1;
    }

    let mut batch = Vec::with_capacity(HEADER_BYTES + bytes.len());
    batch.extend(0_i64.to_be_bytes());
    batch.extend((HEADER_BYTES as i32 - 12 + bytes.len() as i32).to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend([0; 4]);
    batch.extend(0_i16.to_be_bytes());
    batch.extend((count - 1).to_be_bytes());
    batch.extend(timestamp_ms.to_be_bytes());
    batch.extend((timestamp_ms + i64::from(count - 1) * step_ms).to_be_bytes());
    batch.extend(producer_id.to_be_bytes());
    batch.extend(epoch.to_be_bytes());
    batch.extend(sequence.to_be_bytes());
    batch.extend(count.to_be_bytes());
    batch.extend(bytes);
    seal(&mut batch);
    batch
}

/// A batch of `count` records whose records are `compressed` bytes, valid or not.
pub fn with_codec(codec: i16, count: i32, compressed: &[u8]) -> Vec<u8> {
    let mut batch = batch(&[(b"", b"")], None);
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(compressed);
    let batch_length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&batch_length.to_be_bytes());
    batch[21..23].copy_from_slice(&codec.to_be_bytes());
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    seal(&mut batch);
    batch
}

/// Writes the CRC that fits the rest.
pub fn seal(batch: &mut [u8]) {
    let crc = crc_fast::crc32_iscsi(&batch[CRC_COVERS_FROM..]);
    batch[CRC_POSITION..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
}

/// Zigzag, seven bits to a byte.
fn put_varint(number: i64, out: &mut Vec<u8>) {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRC-32C bit by bit, as its definition says.
    fn crc32c(bytes: &[u8]) -> u32 {
        const POLYNOMIAL: u32 = 0x82f6_3b78;
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 })
        })
    }

    #[test]
    fn the_crc_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let sealed = batch(&[(b"key", &[7; 5000])], None);
        assert_eq!(sealed[CRC_POSITION..CRC_COVERS_FROM], crc32c(&sealed[CRC_COVERS_FROM..]).to_be_bytes());
    }

    #[test]
    fn varints_are_zigzag() {
        let encoded = |number| {
            let mut out = Vec::new();
            put_varint(number, &mut out);
            out
        };
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(-1), [1]);
        assert_eq!(encoded(150), [0xac, 0x02]);
    }
}
