//! Records whose every byte follows from their sender, and batches of them written by hand: what the codec under test
//! says is not what its test believes.

use ottla_tests::batch::{CRC_COVERS_FROM, stamped};
pub use ottla_tests::batch::{HEADER_BYTES, Sender, seal};

use crate::seed::Seed;

/// Which record it is: its sender, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The sender.
    pub tag: u32,
    /// Counts from 0 for each sender.
    pub number: u64,
}

/// A record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp.
    pub timestamp: i64,
    /// Which record it is.
    pub identity: Identity,
}

/// The value of a record: its identity and up to `filler_max` bytes that follow from it.
pub fn value(identity: Identity, filler_max: u64) -> Vec<u8> {
    let mut seed = Seed::new(u64::from(identity.tag) << 40 ^ identity.number);
    let filler = seed.within(0..filler_max + 1) as usize;
    let mut value = Vec::with_capacity(16 + filler);
    value.extend(identity.tag.to_be_bytes());
    value.extend(identity.number.to_be_bytes());
    value.extend((filler_max as u32).to_be_bytes());
    value.resize(16 + filler, 0);
    seed.fill(&mut value[16..]);
    value
}

/// The record that `value` is, if every byte of it is right.
pub fn identify(bytes: &[u8]) -> Option<Identity> {
    let tag = u32::from_be_bytes(*bytes.first_chunk()?);
    let number = u64::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
    let filler_max = u32::from_be_bytes(*bytes.get(12..)?.first_chunk()?);
    let identity = Identity { tag, number };
    (value(identity, filler_max.into()) == bytes).then_some(identity)
}

/// One uncompressed batch of `count` records from `first` on; the record's timestamp is `timestamp` plus its place.
pub fn batch(first: Identity, count: u32, filler_max: u64, timestamp: i64, sender: Option<Sender>) -> Vec<u8> {
    keyed_batch(first, count, filler_max, timestamp, sender, |_| None)
}

/// The same, each record with the key that `key` has for it.
pub fn keyed_batch(
    first: Identity,
    count: u32,
    filler_max: u64,
    timestamp: i64,
    sender: Option<Sender>,
    key: impl Fn(Identity) -> Option<String>,
) -> Vec<u8> {
    let records = (0..u64::from(count)).map(|place| {
        let identity = Identity { number: first.number + place, ..first };
        (key(identity).map(String::into_bytes), value(identity, filler_max))
    });
    stamped(records, timestamp, 1, sender)
}

/// A batch as it stands in a log.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// All of its bytes.
    pub bytes: &'a [u8],
}

/// The batch at the front of `bytes`, or why there is none. Nothing of it is believed that its CRC does not vouch for,
/// except the base offset.
pub fn first_batch(bytes: &[u8]) -> Result<Raw<'_>, String> {
    let head = bytes.get(..HEADER_BYTES).ok_or("less than a header")?;
    let base_offset = i64::from_be_bytes(*head.first_chunk().ok_or("short")?);
    let length = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    let whole = usize::try_from(length).map_err(|_| format!("a length of {length}"))? + 12;
    let batch = bytes.get(..whole.max(HEADER_BYTES)).ok_or_else(|| format!("{whole} bytes stated, {}", bytes.len()))?;
    let stated = u32::from_be_bytes([head[17], head[18], head[19], head[20]]);
    let crc = crc_fast::crc32_iscsi(&batch[CRC_COVERS_FROM..]);
    if crc != stated || head[16] != 2 {
        return Err(format!("the CRC of the batch at offset {base_offset} does not hold"));
    }
    let delta = i32::from_be_bytes([head[23], head[24], head[25], head[26]]);
    Ok(Raw { base_offset, last_offset: base_offset + i64::from(delta), bytes: batch })
}

/// The records of a batch.
pub fn entries(batch: &Raw<'_>) -> Result<Vec<Entry>, String> {
    let base_timestamp = i64::from_be_bytes(*batch.bytes[27..].first_chunk().ok_or("short")?);
    let mut rest = &batch.bytes[HEADER_BYTES..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = varint(&mut rest)? as usize;
        let mut record = rest.get(..length).ok_or("a record that is cut off")?;
        rest = &rest[length..];
        record = record.get(1..).ok_or("an empty record")?;
        let timestamp = base_timestamp + varint(&mut record)?;
        let offset = batch.base_offset + varint(&mut record)?;
        let key = varint(&mut record)?;
        record = record.get(key.max(0) as usize..).ok_or("a key that is cut off")?;
        let length = varint(&mut record)?.max(0) as usize;
        let value = record.get(..length).ok_or("a value that is cut off")?;
        let identity = identify(value).ok_or_else(|| format!("the bytes of offset {offset} are not what was sent"))?;
        found.push(Entry { offset, timestamp, identity });
    }
    Ok(found)
}

/// Zigzag, seven bits to a byte.
fn varint(bytes: &mut &[u8]) -> Result<i64, String> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or("a number that is cut off")?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
    Err("a number without end".to_owned())
}

#[cfg(test)]
mod tests {
    use ottla_tests::batch::CRC_POSITION;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_no_changed_byte_passes() {
        let first = Identity { tag: 7, number: 40 };
        let bytes = batch(first, 3, 50, 1000, None);
        let raw = first_batch(&bytes).expect("a batch");
        let found = entries(&raw).expect("records");
        let numbers: Vec<_> =
            found.iter().map(|entry| (entry.offset, entry.timestamp, entry.identity.number)).collect();
        assert_eq!(numbers, [(0, 1000, 40), (1, 1001, 41), (2, 1002, 42)]);
        for at in CRC_POSITION..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(first_batch(&damaged).is_err(), "byte {at}");
        }
        let mut other = value(first, 50);
        *other.last_mut().expect("bytes") ^= 1;
        assert_eq!(identify(&other), None);
    }
}
