//! The sparse index of one segment: offsets, positions and timestamps. Derived data: the log checks every answer from
//! the index against the batch it finds. A missing or damaged file, or one of another segment, is rebuilt from the log.
//!
//! ```text
//! file   = magic "OTTLAIX\x01" · base offset i64 · end offset i64 · end position u64 · greatest timestamp i64
//!          · entries u32 · quarantined ranges u32 · entry… · range… · CRC-32C u32 of all before
//! entry  = offset − base u32 · position u32 · greatest timestamp of the batches before it i64      (16 bytes)
//! range  = first offset i64 · offset after i64 · first position u64 · position after u64           (32 bytes)
//! ```
//!
//! Timestamps of batches may go up and down, but their running maximum only rises. So one binary search finds the first
//! entry that reaches a timestamp.

use std::ops::Range;

use crate::Offset;
use crate::canary::{Canary, broken};
use crate::format::INDEX_MAGIC;

const HEAD_BYTES: usize = 48;
const ENTRY_BYTES: usize = 16;
const RANGE_BYTES: usize = 32;
/// Most entries that a sealed segment keeps in memory: 256 KiB, independent of the size of its batches.
const SEALED_ENTRIES_MAX: usize = 16 << 10;

/// "No batch yet": less than every timestamp, also less than Kafka's −1 for "none".
pub(crate) const NO_TIMESTAMP: i64 = i64::MIN;

/// A batch that the index points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Its base offset.
    pub(crate) offset: Offset,
    /// Its position in the segment.
    pub(crate) position: u64,
    /// Greatest timestamp of all batches before it in the segment.
    pub(crate) max_before: i64,
}

/// Offsets whose bytes are damaged. Reads of exactly these offsets answer an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quarantine {
    pub(crate) offsets: Range<i64>,
    pub(crate) positions: Range<u64>,
}

/// The index in memory.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    base: Offset,
    interval_bytes: u64,
    entries: Vec<Packed>,
    quarantined: Vec<Quarantine>,
    end_offset: Offset,
    end_position: u64,
    max_timestamp: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed {
    relative: u32,
    position: u32,
    max_before: i64,
}

impl Index {
    /// The index of an empty segment.
    pub(crate) fn new(base: Offset, interval_bytes: u32) -> Self {
        Self {
            base,
            interval_bytes: u64::from(interval_bytes),
            entries: Vec::new(),
            quarantined: Vec::new(),
            end_offset: base,
            end_position: 0,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    /// Adds the batch that follows the last one.
    pub(crate) fn push(&mut self, offset: Offset, position: u64, next: Offset, next_position: u64, max_timestamp: i64) {
        // The batch behind a quarantined range always gets an entry, so that no walk has to cross the damage.
        let after_damage = self.quarantined.last().is_some_and(|range| range.positions.end == position);
        let due = match self.entries.last() {
            None => true,
            Some(last) => position >= u64::from(last.position) + self.interval_bytes,
        };
        if due || after_damage {
            let relative = u32::try_from(offset.0 - self.base.0);
            if let (Ok(relative), Ok(position)) = (relative, u32::try_from(position)) {
                self.entries.push(Packed { relative, position, max_before: self.max_timestamp });
            }
        }
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
        self.end_offset = next;
        self.end_position = next_position;
    }

    /// Adds a damaged range that follows the last batch.
    pub(crate) fn quarantine(&mut self, range: Quarantine) {
        self.end_offset = Offset(range.offsets.end);
        self.end_position = range.positions.end;
        self.quarantined.push(range);
    }

    /// Offset of the first batch.
    pub(crate) fn base_offset(&self) -> Offset {
        self.base
    }

    /// Whether the segment ends in damage: then no append goes behind it.
    pub(crate) fn ends_damaged(&self) -> bool {
        self.quarantined.last().is_some_and(|range| range.offsets.end == self.end_offset.0)
    }

    /// Offset after everything that the segment holds or held.
    pub(crate) fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// Position after everything that the segment holds.
    pub(crate) fn end_position(&self) -> u64 {
        self.end_position
    }

    /// Greatest timestamp of any batch, [`NO_TIMESTAMP`] if there is none.
    pub(crate) fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// All damaged ranges, in order.
    pub(crate) fn quarantined(&self) -> &[Quarantine] {
        &self.quarantined
    }

    /// The offset after the last damaged range, if there is one.
    pub(crate) fn damage_end(&self) -> Option<Offset> {
        self.quarantined.last().map(|range| Offset(range.offsets.end))
    }

    /// The damaged range that holds `offset`.
    pub(crate) fn quarantine_of(&self, offset: Offset) -> Option<&Quarantine> {
        let after = self.quarantined.partition_point(|range| range.offsets.end <= offset.0);
        self.quarantined.get(after).filter(|range| range.offsets.contains(&offset.0))
    }

    /// The next damaged range behind `position`, if there is one: sound bytes that start at `position` end there.
    pub(crate) fn barrier_after(&self, position: u64) -> Option<&Quarantine> {
        let after = self.quarantined.partition_point(|range| range.positions.end <= position);
        self.quarantined.get(after)
    }

    /// All entries, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = IndexEntry> {
        self.entries.iter().map(|entry| self.unpack(*entry))
    }

    /// The last entry at or before `offset`.
    pub(crate) fn floor_offset(&self, offset: Offset) -> Option<IndexEntry> {
        let relative = offset.0 - self.base.0;
        self.entry_before(self.entries.partition_point(|entry| i64::from(entry.relative) <= relative))
    }

    /// The last entry at or before `position` whose offset is not above `upto`.
    pub(crate) fn floor_position(&self, position: u64, upto: Offset) -> Option<IndexEntry> {
        let relative = upto.0 - self.base.0;
        self.entry_before(
            self.entries.partition_point(|entry| {
                u64::from(entry.position) <= position && i64::from(entry.relative) <= relative
            }),
        )
    }

    /// The last entry before which no batch reaches `timestamp`: a search for the timestamp starts here.
    pub(crate) fn floor_timestamp(&self, timestamp: i64) -> Option<IndexEntry> {
        // A search never starts before the first batch.
        self.entry_before(self.entries.partition_point(|entry| entry.max_before < timestamp).max(1))
    }

    /// The first entry above `position`.
    pub(crate) fn above_position(&self, position: u64) -> Option<IndexEntry> {
        let at = self.entries.partition_point(|entry| u64::from(entry.position) <= position);
        self.entries.get(at).map(|entry| self.unpack(*entry))
    }

    fn entry_before(&self, after: usize) -> Option<IndexEntry> {
        self.entries.get(after.checked_sub(1)?).map(|entry| self.unpack(*entry))
    }

    fn unpack(&self, entry: Packed) -> IndexEntry {
        IndexEntry {
            offset: Offset(self.base.0 + i64::from(entry.relative)),
            position: u64::from(entry.position),
            max_before: entry.max_before,
        }
    }

    /// Adds the entries that `newer` has beyond the end of this index: for an index that was rebuilt while the segment
    /// grew.
    pub(crate) fn extend_from(&mut self, newer: &Index) {
        let end = self.end_position;
        for entry in newer.entries.iter().filter(|entry| u64::from(entry.position) >= end) {
            let max_before = entry.max_before.max(self.max_timestamp);
            self.entries.push(Packed { max_before, ..*entry });
        }
        if newer.end_position > end {
            self.end_position = newer.end_position;
            self.end_offset = newer.end_offset;
            self.max_timestamp = self.max_timestamp.max(newer.max_timestamp);
        }
    }

    /// Drops entries of a segment that does not grow any more, so that the memory per segment has a limit.
    pub(crate) fn thin(&mut self) {
        let every = self.entries.len().div_ceil(SEALED_ENTRIES_MAX).max(1);
        if every > 1 {
            let guarded: Vec<u64> = self.quarantined.iter().map(|range| range.positions.end).collect();
            let mut at = 0;
            self.entries.retain(|entry| {
                at += 1;
                (at - 1) % every == 0 || guarded.contains(&u64::from(entry.position))
            });
        }
        self.entries.shrink_to_fit();
    }

    /// The content of the index file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = self.entries.len() * ENTRY_BYTES + self.quarantined.len() * RANGE_BYTES;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body + 4);
        bytes.extend_from_slice(&INDEX_MAGIC);
        bytes.extend_from_slice(&self.base.0.to_be_bytes());
        bytes.extend_from_slice(&self.end_offset.0.to_be_bytes());
        bytes.extend_from_slice(&self.end_position.to_be_bytes());
        bytes.extend_from_slice(&self.max_timestamp.to_be_bytes());
        bytes.extend_from_slice(&(self.entries.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&(self.quarantined.len() as u32).to_be_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.relative.to_be_bytes());
            bytes.extend_from_slice(&entry.position.to_be_bytes());
            bytes.extend_from_slice(&entry.max_before.to_be_bytes());
        }
        for range in &self.quarantined {
            bytes.extend_from_slice(&range.offsets.start.to_be_bytes());
            bytes.extend_from_slice(&range.offsets.end.to_be_bytes());
            bytes.extend_from_slice(&range.positions.start.to_be_bytes());
            bytes.extend_from_slice(&range.positions.end.to_be_bytes());
        }
        let crc = crc_fast::crc32_iscsi(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads the index file of the segment that starts at `base`. `None` if the file is damaged or of another segment.
    pub(crate) fn decode(bytes: &[u8], base: Offset, interval_bytes: u32) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc_fast::crc32_iscsi(body) != u32::from_be_bytes(*crc) && !broken(Canary::TrustIndex) {
            return None;
        }
        let mut fields = Fields(body);
        let magic: [u8; 8] = fields.take()?;
        let stored_base = i64::from_be_bytes(fields.take()?);
        if magic != INDEX_MAGIC || stored_base != base.0 {
            return None;
        }
        let mut index = Self::new(base, interval_bytes);
        index.end_offset = Offset(i64::from_be_bytes(fields.take()?));
        index.end_position = u64::from_be_bytes(fields.take()?);
        index.max_timestamp = i64::from_be_bytes(fields.take()?);
        let entries = u32::from_be_bytes(fields.take()?) as usize;
        let ranges = u32::from_be_bytes(fields.take()?) as usize;
        if fields.0.len() != entries.checked_mul(ENTRY_BYTES)?.checked_add(ranges.checked_mul(RANGE_BYTES)?)? {
            return None;
        }
        index.entries.reserve_exact(entries);
        for _ in 0..entries {
            index.entries.push(Packed {
                relative: u32::from_be_bytes(fields.take()?),
                position: u32::from_be_bytes(fields.take()?),
                max_before: i64::from_be_bytes(fields.take()?),
            });
        }
        for _ in 0..ranges {
            let offsets = i64::from_be_bytes(fields.take()?)..i64::from_be_bytes(fields.take()?);
            let positions = u64::from_be_bytes(fields.take()?)..u64::from_be_bytes(fields.take()?);
            index.quarantined.push(Quarantine { offsets, positions });
        }
        index.is_plausible().then_some(index)
    }

    /// Whether the content can be an index at all. The CRC says only that the bytes are as they were written.
    fn is_plausible(&self) -> bool {
        let rising = self.entries.windows(2).all(|pair| match pair {
            [a, b] => a.relative < b.relative && a.position < b.position && a.max_before <= b.max_before,
            _ => true,
        });
        let inside = self.entries.last().is_none_or(|last| u64::from(last.position) < self.end_position);
        let ranges = self.quarantined.iter().all(|range| {
            range.offsets.start <= range.offsets.end
                && range.positions.start <= range.positions.end
                && range.offsets.end <= self.end_offset.0
                && range.positions.end <= self.end_position
        });
        rising && inside && ranges && self.end_offset.0 >= self.base.0
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Index {
        let mut index = Index::new(Offset(1000), 100);
        for at in 0..50_i64 {
            let (position, timestamp) = (at as u64 * 60, if at % 7 == 0 { 500 + at } else { 10 });
            index.push(Offset(1000 + at * 2), position, Offset(1002 + at * 2), position + 60, timestamp);
        }
        index
    }

    #[test]
    fn searches_find_the_entry_before() {
        let index = sample();
        assert_eq!(index.floor_offset(Offset(1000)).unwrap().position, 0);
        assert_eq!(index.floor_offset(Offset(1004)).unwrap(), index.floor_offset(Offset(1007)).unwrap());
        assert_eq!(index.floor_offset(Offset(1004)).unwrap().position, 120);
        assert_eq!(index.floor_offset(Offset(999)), None);
        assert_eq!(index.floor_position(119, Offset(9999)).unwrap().position, 0);
        assert_eq!(index.floor_position(2000, Offset(1005)).unwrap().offset, Offset(1004));
        assert_eq!(index.above_position(120).unwrap().position, 240);
        // Batch 7 is the first to reach 507; the search starts at or before it, and not at 0.
        let start = index.floor_timestamp(507).unwrap();
        assert!(start.position <= 420 && start.position > 0 && start.max_before < 507);
    }

    #[test]
    fn every_damaged_byte_of_the_file_is_noticed() {
        let bytes = sample().encode();
        let read = Index::decode(&bytes, Offset(1000), 100).unwrap();
        assert_eq!(read.encode(), bytes);
        assert!(Index::decode(&bytes, Offset(1001), 100).is_none());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Index::decode(&damaged, Offset(1000), 100).is_none());
            assert!(Index::decode(&bytes[..at], Offset(1000), 100).is_none());
        }
        assert!(Index::decode(&vec![0; bytes.len()], Offset(1000), 100).is_none());
    }
}
