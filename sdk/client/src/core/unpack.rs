//! From the bytes of a fetch response to records: batches are checked and decompressed as they arrive, records are read
//! as they are polled.

use bytes::Bytes;
use ottla_wire::record::{Batch, BatchHeader, Codec, DecompressError, Record, RecordIter, decompress};

use super::chunk::{Entry, Span};

/// A batch whose records lie open.
#[derive(Debug)]
pub(crate) struct OpenedBatch {
    pub(crate) header: BatchHeader,
    /// The records, decompressed.
    pub(crate) buffer: Bytes,
    /// Records below this offset were not asked for.
    first_wanted: i64,
    /// Where in the buffer the next record begins.
    at: usize,
    /// Records not read yet.
    left: i32,
    /// The offset that the next record must at least have.
    next_offset: i64,
}

/// Why a batch cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpenFault {
    /// It is not what was written.
    Corrupt(String),
    /// It would take too much memory.
    TooLarge,
}

impl OpenedBatch {
    /// Checks and decompresses a batch out of `frame`. Uncompressed records stay slices of the frame.
    pub(crate) fn open(
        frame: &Bytes,
        batch: &Batch<'_>,
        first_wanted: i64,
        bytes_max: usize,
        check_crc: bool,
    ) -> Result<Self, OpenFault> {
        let corrupt = |error: &dyn std::fmt::Display| OpenFault::Corrupt(error.to_string());
        let header = batch.header;
        if check_crc {
            batch.check_crc().map_err(|error| corrupt(&error))?;
        }
        let buffer = match header.codec().map_err(|error| corrupt(&error))? {
            Codec::None => frame.slice_ref(batch.payload()),
            codec => match decompress(codec, batch.payload(), bytes_max) {
                Ok(records) => Bytes::from(records.into_owned()),
                Err(DecompressError::TooLarge { .. }) => return Err(OpenFault::TooLarge),
                Err(error) => return Err(corrupt(&error)),
            },
        };
        let next_offset = header.base_offset.get();
        Ok(Self { header, buffer, first_wanted, at: 0, left: header.record_count, next_offset })
    }

    /// Memory that it keeps alive, near enough.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether every record was read.
    pub(crate) fn is_done(&self) -> bool {
        self.left <= 0
    }

    /// Reads up to `count` wanted records. On damage, those before it are there and the offset of the damage is told.
    pub(crate) fn read(&mut self, count: usize, entries: &mut Vec<Entry>) -> Result<(), (i64, String)> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let mut records = RecordIter::new(rest, self.left);
        let mut wanted = 0;
        while self.left > 0 && wanted < count {
            let damaged = |reason: String| (self.next_offset, reason);
            let record = match records.next() {
                Some(Ok(record)) => record,
                Some(Err(error)) => return Err(damaged(error.to_string())),
                None => return Err(damaged("the batch ends before its last record".to_owned())),
            };
            let offset = self.header.offset_of(&record).get();
            if offset < self.next_offset || offset > self.header.last_offset().get() {
                return Err(damaged(format!("a record claims offset {offset}")));
            }
            if offset >= self.first_wanted {
                entries.push(self.entry(offset, &record));
                wanted += 1;
            }
            self.at += record.raw.len();
            self.left -= 1;
            self.next_offset = offset.saturating_add(1);
        }
        Ok(())
    }

    fn entry(&self, offset: i64, record: &Record<'_>) -> Entry {
        let span = |part: &[u8]| Span {
            // A part of the buffer begins behind the buffer's beginning; batches are smaller than 2 GiB.
            start: (part.as_ptr() as usize).saturating_sub(self.buffer.as_ptr() as usize) as u32,
            bytes: part.len() as i32,
        };
        let header_count = record.headers.len() as u32;
        Entry {
            offset,
            timestamp_ms: self.header.timestamp_of(record),
            key: record.key.map_or(Span::NULL, span),
            value: record.value.map_or(Span::NULL, span),
            raw: if header_count == 0 { Span::NULL } else { span(record.raw) },
            header_count,
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_wire::record::{BatchBuilder, batches, set_base_offset};
    use ottla_wire::{Offset, record};

    use super::*;

    fn batch(codec: Codec, base_offset: i64, count: i32) -> Bytes {
        let mut builder = BatchBuilder::new(codec);
        for n in 0..count {
            let header = record::Header { key: b"h", value: Some(b"1") };
            let headers = if n == 1 { vec![header] } else { vec![] };
            builder.append(100 + i64::from(n), None, Some(n.to_string().as_bytes()), headers.into_iter()).unwrap();
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        set_base_offset(&mut bytes, Offset(base_offset));
        bytes.into()
    }

    fn open(frame: &Bytes, first_wanted: i64) -> Result<OpenedBatch, OpenFault> {
        let batch = batches(frame).next().unwrap().unwrap();
        OpenedBatch::open(frame, &batch, first_wanted, 1 << 20, true)
    }

    #[test]
    fn an_offset_in_the_middle_starts_in_the_middle() {
        for codec in Codec::ALL {
            let frame = batch(codec, 40, 10);
            let mut opened = open(&frame, 47).unwrap();
            let mut entries = Vec::new();
            opened.read(2, &mut entries).unwrap();
            assert!(!opened.is_done());
            opened.read(100, &mut entries).unwrap();
            assert!(opened.is_done());
            assert_eq!(entries.iter().map(|entry| entry.offset).collect::<Vec<_>>(), [47, 48, 49]);
            let value = entries[0].value;
            let start = value.start as usize;
            assert_eq!(&opened.buffer[start..start + value.bytes as usize], b"7");
            assert_eq!(entries[0].timestamp_ms, 107);
        }
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let mut bytes = batch(Codec::None, 0, 3).to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(matches!(open(&bytes.into(), 0), Err(OpenFault::Corrupt(_))));
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut builder = BatchBuilder::new(Codec::Zstd);
        builder.append(0, None, Some(&vec![0; 8 << 20]), std::iter::empty()).unwrap();
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        assert!(matches!(open(&bytes.into(), 0), Err(OpenFault::TooLarge)));
    }

    #[test]
    fn records_that_run_backwards_or_beyond_their_batch_are_damage() {
        // Record 1's offset delta, a zigzag varint, is the fourth byte of the record.
        let good = batch(Codec::None, 10, 3).to_vec();
        let payload = &good[record::BATCH_HEADER_BYTES..];
        let second = record::BATCH_HEADER_BYTES + 1 + usize::from(payload[0] / 2);
        for delta in [0_u8, 3, 60] {
            let mut bytes = good.clone();
            bytes[second + 3] = delta * 2;
            let frame = Bytes::from(bytes);
            let batch = batches(&frame).next().unwrap().unwrap();
            let mut opened = OpenedBatch::open(&frame, &batch, 0, 1 << 20, false).unwrap();
            let mut entries = Vec::new();
            let (offset, _) = opened.read(10, &mut entries).unwrap_err();
            assert_eq!((offset, entries.len()), (11, 1), "delta {delta}");
        }
    }
}
