//! The way out: from an offset to bytes in a file. The index says where to look, the batches found say whether it is true.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError};

use ottla_wire::record::{BATCH_HEADER_BYTES, BatchHeader};

use super::{Meta, PartitionLog, Slot};
use crate::Offset;
use crate::canary::{Canary, broken};
use crate::error::LocateError;
use crate::index::{Index, IndexEntry};
use crate::scan::{Bounds, HeaderCursor, batch_bytes, survey};
use crate::segment::Segment;

/// Whole batches that lie next to each other in one segment.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The segment: keep it while the range is in use.
    pub segment: Arc<Segment>,
    /// Where the first batch starts.
    pub position: u64,
    /// Bytes of all batches.
    pub bytes: u32,
    /// Offset of the first batch: at or before the offset asked for, or behind it where compaction left no record.
    pub base_offset: Offset,
    /// Offset after the last batch: where to go on.
    pub next_offset: Offset,
}

/// Damaged bytes that recovery or a read found: exactly these offsets are answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedRange {
    /// The offsets that are lost.
    pub offsets: Range<i64>,
    /// The segment they were in.
    pub segment_base: Offset,
    /// Where in it.
    pub positions: Range<u64>,
}

/// What a scan of batch headers passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedRange {
    /// Offset after the last batch seen.
    pub next_offset: Offset,
    /// Batches seen.
    pub batches: u64,
    /// Offsets that could not be seen because their bytes are damaged.
    pub damaged: Vec<Range<i64>>,
}

/// Why a segment did not answer.
enum Miss {
    /// The offset is damaged.
    Damaged(Range<i64>),
    /// The index led to something that is not the batch it claims: nothing may be concluded from it.
    IndexLied,
    Io(io::Error),
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Window of a short walk: a few dozen headers of small batches in one read.
const WALK_BYTES: usize = 4096;
/// Window of a long walk.
const SCAN_BYTES: usize = 64 << 10;

impl PartitionLog {
    /// The bytes from the batch that holds `offset` on, or from the next one with records where compaction left none:
    /// whole batches, at least one, at most `max_bytes` if the first is not longer, none that ends above `upto`. `None`
    /// where there is nothing to read (yet).
    pub fn locate(&self, offset: Offset, max_bytes: u32, upto: Offset) -> Result<Option<FileRange>, LocateError> {
        let mut vacant: Option<FileRange> = None;
        loop {
            let from = vacant.as_ref().map_or(offset, |range| range.next_offset);
            let found = self.locate_batch(from, max_bytes, upto);
            if let Ok(Some((range, true))) = &found
                && range.next_offset < upto
            {
                vacant = Some(range.clone());
                continue;
            }
            // Where nothing behind an empty batch can be read (yet), a reader that gets the empty one still gets on.
            return match (found, vacant) {
                (Err(_) | Ok(None), Some(range)) => Ok(Some(range)),
                (found, _) => found.map(|found| found.map(|(range, _)| range)),
            };
        }
    }

    /// The same within one segment, and whether there are no records in it from there on.
    fn locate_batch(
        &self,
        offset: Offset,
        max_bytes: u32,
        upto: Offset,
    ) -> Result<Option<(FileRange, bool)>, LocateError> {
        let (start, end) = (self.log_start_offset(), self.end_offset());
        if offset < start || offset > end {
            return Err(LocateError::OutOfRange { requested: offset, start, end });
        }
        if offset >= upto || offset == end {
            return Ok(None);
        }
        let Some((slot, next_base)) = self.slot_of(offset) else {
            if self.log_start_offset() > start {
                return self.locate_batch(offset, max_bytes, upto);
            }
            let first = self.slots().first().map_or(end, |slot| slot.base());
            return Err(LocateError::Corrupt { from: start, to: first });
        };
        self.check_readable(&slot)?;
        let segment = match self.open_slot(&slot) {
            // Removed or replaced since: the list knows what is there now.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.next_base(&slot).is_none() => {
                return self.locate_batch(offset, max_bytes, upto);
            }
            opened => opened?,
        };
        let found = match range_of(&segment, offset, max_bytes, upto) {
            Err(Miss::IndexLied) => {
                self.remake_index(&slot, &segment, next_base)?;
                range_of(&segment, offset, max_bytes, upto)
            }
            other => other,
        };
        match found {
            Ok(range) => Ok(range),
            Err(Miss::Damaged(offsets)) => {
                Err(LocateError::Corrupt { from: Offset(offsets.start), to: Offset(offsets.end) })
            }
            // Not even a fresh index leads to a batch: the offset is gone, up to the end of the segment.
            Err(Miss::IndexLied) => Err(LocateError::Corrupt { from: offset, to: next_base.unwrap_or(end) }),
            Err(Miss::Io(source)) => Err(LocateError::Io { source }),
        }
    }

    /// The bytes that [`locate`](Self::locate) finds, checked if need be and read into memory; the offset of the first batch and the next one.
    pub fn read_batches(
        &self,
        offset: Offset,
        max_bytes: u32,
        upto: Offset,
    ) -> Result<Option<(Vec<u8>, FileRange)>, LocateError> {
        let Some(mut range) = self.locate(offset, max_bytes, upto)? else { return Ok(None) };
        if let Err(LocateError::Corrupt { .. }) = self.check(&range) {
            // Up to the damage it can be had.
            match self.locate(offset, max_bytes, upto)? {
                Some(shorter) => range = shorter,
                None => return Ok(None),
            }
            self.check(&range)?;
        }
        let mut bytes = vec![0; range.bytes as usize];
        range.segment.read_exact_at(range.position, &mut bytes)?;
        Ok(Some((bytes, range)))
    }

    /// Shows `visit` the header of every batch from the one that holds `from` on, in order, reading headers only.
    /// Damaged ranges are passed over and named in the answer.
    pub fn scan_batches(&self, from: Offset, mut visit: impl FnMut(&BatchHeader)) -> Result<ScannedRange, LocateError> {
        let end = self.end_offset();
        let mut scanned =
            ScannedRange { next_offset: from.max(self.log_start_offset()), batches: 0, damaged: Vec::new() };
        let mut window = vec![0; SCAN_BYTES];
        let mut next = Some(scanned.next_offset);
        while let Some((slot, segment, next_base)) = self.segment_from(next, end)? {
            next = next_base;
            if scan_segment(&segment, &mut window, &mut scanned, &mut visit)?.is_none() {
                self.remake_index(&slot, &segment, next_base)?;
                if scan_segment(&segment, &mut window, &mut scanned, &mut visit)?.is_none() {
                    // Not even a fresh index leads to the next batch.
                    let to = next_base.unwrap_or(end);
                    return Err(LocateError::Corrupt { from: scanned.next_offset.max(slot.base()), to });
                }
            }
        }
        Ok(scanned)
    }

    /// Damaged ranges known so far: those that recovery found, and those of segments that were opened since the start.
    pub fn quarantined(&self) -> Vec<QuarantinedRange> {
        self.damage().values().flatten().cloned().collect()
    }

    /// Keeps what the index of a segment says about damage, and reports what was not known before.
    pub(super) fn note_damage(&self, index: &Index) {
        let base = index.base_offset();
        let mut damage = self.damage();
        let known = damage.get(&base.0).map(Vec::as_slice).unwrap_or_default();
        let found: Vec<_> = index
            .quarantined()
            .iter()
            .map(|range| QuarantinedRange {
                offsets: range.offsets.clone(),
                segment_base: base,
                positions: range.positions.clone(),
            })
            .collect();
        for range in found.iter().filter(|range| !known.contains(range)) {
            let (from, to) = (range.offsets.start, range.offsets.end);
            tracing::error!(partition = %self.name(), from, to, "damaged records, answered with an error");
        }
        if found.is_empty() {
            damage.remove(&base.0);
        } else {
            damage.insert(base.0, found);
        }
    }

    /// Takes over what recovery found, and has reported.
    pub(crate) fn take_damage(&self, found: Vec<QuarantinedRange>) {
        let mut damage = self.damage();
        for range in found {
            damage.entry(range.segment_base.0).or_default().push(range);
        }
    }

    /// Forgets damage that nobody can ask for any more.
    pub(super) fn forget_damage_below(&self, start: Offset) {
        self.damage().retain(|_, ranges| ranges.iter().any(|range| range.offsets.end > start.0));
    }

    /// Whether the segment is known to be damaged.
    pub(super) fn is_damaged(&self, base: Offset) -> bool {
        self.damage().contains_key(&base.0)
    }

    fn damage(&self) -> MutexGuard<'_, BTreeMap<i64, Vec<QuarantinedRange>>> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the index of a segment again from its batches, because one of them was not where the index says, and finds
    /// out exactly what is damaged. A crash does not cut the log off there.
    pub(super) fn remake_index(
        &self,
        slot: &Arc<Slot>,
        segment: &Segment,
        next_base: Option<Offset>,
    ) -> io::Result<()> {
        let (known_end, published) = {
            let index = segment.index();
            (index.end_offset(), segment.bytes())
        };
        // Not even its length is believed, where the file can tell.
        let settled = segment.is_settled();
        let file_bytes = if settled { segment.file().metadata()?.len() } else { published };
        let meta = self.meta();
        let Meta { options, epochs, .. } = &*meta;
        let bounds = Bounds {
            epochs,
            base: slot.base(),
            durable: known_end,
            next_base: Some(next_base.unwrap_or(known_end)),
            file_bytes,
            interval_bytes: options.index_interval_bytes,
            salvages: self.is_damaged(slot.base()),
        };
        let mut fresh = survey(segment.disk(), segment.file(), bounds)?.index;
        self.note_damage(&fresh);
        let mut index = segment.index_mut();
        if settled {
            segment.publish(fresh.end_position());
        } else {
            fresh.extend_from(&index);
        }
        *index = fresh;
        let damage_end = index.damage_end();
        segment.set_unstored(damage_end.is_some());
        drop(index);
        if let Some(behind) = damage_end {
            self.secure_damage(behind);
        }
        // All of it was looked at; what is appended meanwhile is this process's own.
        segment.checked().note_whole();
        // The file of a segment that was removed or replaced is not its own any more.
        if settled && !self.is_deleted() && self.next_base(slot).is_some() {
            self.store_index_of(segment);
        }
        Ok(())
    }
}

/// Whole batches of `segment` from the one that holds `offset` on, and whether none of them has records.
fn range_of(
    segment: &Arc<Segment>,
    offset: Offset,
    max_bytes: u32,
    upto: Offset,
) -> Result<Option<(FileRange, bool)>, Miss> {
    let (start, barrier, barrier_offset) = {
        let index = segment.index();
        let published = segment.bytes();
        if let Some(damage) = index.quarantine_of(offset) {
            return Err(Miss::Damaged(damage.offsets.clone()));
        }
        let Some(start) = index.floor_offset(offset) else { return Err(Miss::IndexLied) };
        match index.barrier_after(start.position) {
            Some(damage) => (start, damage.positions.start.min(published), Offset(damage.offsets.start)),
            None => (start, published, index.end_offset()),
        }
    };
    let mut window = [0; WALK_BYTES];
    let mut walk = Walk { cursor: HeaderCursor::new(segment.disk(), segment.file(), &mut window), at: start };
    let mut first = loop {
        let Some(header) = walk.step(barrier)? else { return Err(Miss::IndexLied) };
        if header.next_offset() > offset {
            break header;
        }
    };
    // What compaction emptied is passed over, where there is something behind it to read instead.
    while is_empty(&first) && first.next_offset() < upto {
        match walk.peek(barrier)? {
            Some(next) if next.next_offset() <= upto => {
                walk.pass(&next);
                first = next;
            }
            _ => break,
        }
    }
    if first.next_offset() > upto {
        // Not to be read yet; unless its length in offsets is damage, which would hold readers up for ever.
        let sound =
            if walk.at.position >= barrier { walk.at.offset == barrier_offset } else { walk.peek(barrier)?.is_some() };
        return if sound { Ok(None) } else { Err(Miss::IndexLied) };
    }
    let position = walk.at.position - batch_bytes(&first);
    let limit = position.saturating_add(u64::from(max_bytes)).min(barrier);
    // Most of the range is skipped by the index; only its last stretch is walked. What begins at the limit may have been
    // appended since the limit was read.
    let jump = segment.index().floor_position(limit.saturating_sub(1), upto);
    if let Some(entry) = jump.filter(|entry| entry.position > walk.at.position) {
        walk.at = entry;
        if walk.peek(barrier)?.is_none() {
            return Err(Miss::IndexLied);
        }
    }
    while let Some(header) = walk.peek(limit)? {
        if header.next_offset() > upto {
            break;
        }
        walk.pass(&header);
    }
    let bytes = u32::try_from(walk.at.position - position).map_err(|_| Miss::IndexLied)?;
    let range = FileRange {
        segment: Arc::clone(segment),
        position,
        bytes,
        base_offset: first.base_offset,
        next_offset: walk.at.offset,
    };
    Ok(Some((range, is_empty(&first))))
}

/// Whether compaction left this batch without records. One that says so and is longer is damage, to be found out by who
/// checks it.
fn is_empty(header: &BatchHeader) -> bool {
    header.record_count == 0 && batch_bytes(header) == BATCH_HEADER_BYTES as u64
}

/// A walk from batch to batch that demands what it expects: the next batch begins where the last one ended.
pub(super) struct Walk<'a> {
    pub(super) cursor: HeaderCursor<'a>,
    pub(super) at: IndexEntry,
}

impl Walk<'_> {
    /// The batch at the current place, if a batch of the expected offset stands there and ends within `limit`.
    pub(super) fn peek(&mut self, limit: u64) -> io::Result<Option<BatchHeader>> {
        let header = self.cursor.header_at(self.at.position, limit)?;
        Ok(header.filter(|header| header.base_offset == self.at.offset || broken(Canary::TrustIndex)))
    }

    /// Goes behind the batch just peeked at.
    pub(super) fn pass(&mut self, header: &BatchHeader) {
        self.at.position += batch_bytes(header);
        self.at.offset = header.next_offset();
    }

    /// Takes the batch at the current place and goes behind it.
    pub(super) fn step(&mut self, limit: u64) -> io::Result<Option<BatchHeader>> {
        let header = self.peek(limit)?;
        if let Some(header) = &header {
            self.pass(header);
        }
        Ok(header)
    }
}

/// Scans one segment from `scanned.next_offset` on. `None` where the index led astray.
fn scan_segment(
    segment: &Segment,
    window: &mut [u8],
    scanned: &mut ScannedRange,
    visit: &mut impl FnMut(&BatchHeader),
) -> io::Result<Option<()>> {
    let (published, end, damage) = {
        let index = segment.index();
        (segment.bytes(), index.end_offset(), index.quarantined().to_vec())
    };
    let begin = scanned.next_offset.0;
    let mut damage = damage.into_iter().skip_while(move |range| range.offsets.end <= begin).peekable();
    let mut from = scanned.next_offset.max(segment.base_offset());
    while from < end {
        if let Some(range) = damage.next_if(|range| range.offsets.contains(&from.0)) {
            from = Offset(range.offsets.end);
            scanned.next_offset = from;
            scanned.damaged.push(range.offsets);
            continue;
        }
        let Some(start) = segment.index().floor_offset(from) else { return Ok(None) };
        let barrier = damage.peek().map_or(published, |range| range.positions.start.min(published));
        let mut walk = Walk { cursor: HeaderCursor::new(segment.disk(), segment.file(), window), at: start };
        while walk.at.position < barrier {
            let Some(header) = walk.step(barrier)? else { return Ok(None) };
            if walk.at.offset > from {
                visit(&header);
                scanned.batches += 1;
                scanned.next_offset = walk.at.offset;
            }
        }
        if walk.at.offset <= from {
            return Ok(None);
        }
        from = walk.at.offset;
    }
    Ok(Some(()))
}
