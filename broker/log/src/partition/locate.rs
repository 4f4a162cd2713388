//! Finds the bytes of an offset. The index says where to look; the log checks the index against the batches it finds.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use ottla_wire::record::{BATCH_HEADER_BYTES, BatchHeader};
use parking_lot::MutexGuard;

use super::{Meta, PartitionLog, Slot};
use crate::Offset;
use crate::canary::{Canary, broken};
use crate::error::LocateError;
use crate::index::{Index, IndexEntry};
use crate::scan::{Bounds, HeaderCursor, batch_bytes, survey};
use crate::segment::Segment;

/// Consecutive whole batches of one segment.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The segment. Hold it while you use the range.
    pub segment: Arc<Segment>,
    /// The position of the first batch.
    pub position: u64,
    /// Bytes of all batches.
    pub bytes: u32,
    /// Offset of the first batch. It is at or before the offset asked for, or behind it if compaction removed those
    /// records.
    pub base_offset: Offset,
    /// Offset after the last batch: the next read starts here.
    pub next_offset: Offset,
    /// The partition, for [`FileRange::report_read_error`].
    pub(super) log: Weak<PartitionLog>,
}

/// Damaged bytes that recovery or a read found. Reads of exactly these offsets answer an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedRange {
    /// The offsets that are lost.
    pub offsets: Range<i64>,
    /// The segment that held them.
    pub segment_base: Offset,
    /// Their position in the segment.
    pub positions: Range<u64>,
}

/// The result of a scan of batch headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedRange {
    /// Offset after the last batch seen.
    pub next_offset: Offset,
    /// Batches seen.
    pub batches: u64,
    /// Offsets whose batches were skipped because their bytes are damaged.
    pub damaged: Vec<Range<i64>>,
}

/// Why a segment gave no answer.
enum LocateMiss {
    /// The offset is damaged.
    Damaged(Range<i64>),
    /// The index pointed to bytes that are not the batch it names: the index proves nothing.
    IndexWrong,
    Io(io::Error),
}

impl From<io::Error> for LocateMiss {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Window of a short walk: one read fetches a few dozen headers of small batches.
const WALK_BYTES: usize = 4096;
/// Window of a long walk.
const SCAN_BYTES: usize = 64 << 10;

impl PartitionLog {
    /// The batches from the one that holds `offset` on, or from the next one with records if compaction removed its
    /// records: whole batches, at least one, at most `max_bytes` bytes if the first is not longer, none that ends above
    /// `upto`. `None` if there is nothing to read (yet).
    pub fn locate(&self, offset: Offset, max_bytes: u32, upto: Offset) -> Result<Option<FileRange>, LocateError> {
        let mut empty: Option<FileRange> = None;
        loop {
            let from = empty.as_ref().map_or(offset, |range| range.next_offset);
            let found = self.locate_batch(from, max_bytes, upto);
            if let Ok(Some((range, true))) = &found
                && range.next_offset < upto
            {
                empty = Some(range.clone());
                continue;
            }
            // If nothing behind the empty batch can be read (yet), the reader gets the empty batch, so that it
            // advances.
            return match (found, empty) {
                (Err(_) | Ok(None), Some(range)) => Ok(Some(range)),
                (found, _) => found.map(|found| found.map(|(range, _)| range)),
            };
        }
    }

    /// Does the same within one segment; also says whether the segment has no records from there on.
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
            // The segment was removed or replaced: the list has the new one.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.next_base(&slot).is_none() => {
                return self.locate_batch(offset, max_bytes, upto);
            }
            opened => opened?,
        };
        let found = match range_of(self, &segment, offset, max_bytes, upto) {
            Err(LocateMiss::IndexWrong) => {
                self.rebuild_index(&slot, &segment, next_base)?;
                range_of(self, &segment, offset, max_bytes, upto)
            }
            other => other,
        };
        match found {
            Ok(range) => Ok(range),
            Err(LocateMiss::Damaged(offsets)) => {
                Err(LocateError::Corrupt { from: Offset(offsets.start), to: Offset(offsets.end) })
            }
            // Even a rebuilt index finds no batch: the offsets up to the end of the segment are lost.
            Err(LocateMiss::IndexWrong) => Err(LocateError::Corrupt { from: offset, to: next_base.unwrap_or(end) }),
            Err(LocateMiss::Io(source)) => Err(LocateError::Io { source }),
        }
    }

    /// Reads the bytes that [`locate`](Self::locate) finds into memory, checked. Also returns their range.
    pub fn read_batches(
        &self,
        offset: Offset,
        max_bytes: u32,
        upto: Offset,
    ) -> Result<Option<(Vec<u8>, FileRange)>, LocateError> {
        let Some(mut range) = self.locate(offset, max_bytes, upto)? else { return Ok(None) };
        if let Err(LocateError::Corrupt { .. }) = self.check(&range) {
            // The batches before the damage can be read.
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

    /// Calls `visit` with the header of every batch from the one that holds `from` on, in order. Reads only headers,
    /// and skips damaged ranges; the result names them.
    pub fn scan_batches(&self, from: Offset, mut visit: impl FnMut(&BatchHeader)) -> Result<ScannedRange, LocateError> {
        let end = self.end_offset();
        let mut scanned =
            ScannedRange { next_offset: from.max(self.log_start_offset()), batches: 0, damaged: Vec::new() };
        let mut window = vec![0; SCAN_BYTES];
        let mut next = Some(scanned.next_offset);
        while let Some((slot, segment, next_base)) = self.segment_from(next, end)? {
            next = next_base;
            if scan_segment(&segment, &mut window, &mut scanned, &mut visit)?.is_none() {
                self.rebuild_index(&slot, &segment, next_base)?;
                if scan_segment(&segment, &mut window, &mut scanned, &mut visit)?.is_none() {
                    // Even a rebuilt index does not find the next batch.
                    let to = next_base.unwrap_or(end);
                    return Err(LocateError::Corrupt { from: scanned.next_offset.max(slot.base()), to });
                }
            }
        }
        Ok(scanned)
    }

    /// The known damaged ranges: those that recovery found, and those of segments that were opened since.
    pub fn quarantined(&self) -> Vec<QuarantinedRange> {
        self.damage().values().flatten().cloned().collect()
    }

    /// Stores the damage that the index of a segment knows, and reports the new part of it.
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
            tracing::error!(partition = %self.name(), from, to, "damaged records: reads of them answer an error");
        }
        if found.is_empty() {
            damage.remove(&base.0);
        } else {
            damage.insert(base.0, found);
        }
    }

    /// Takes over the damage that recovery found and has reported.
    pub(crate) fn take_damage(&self, found: Vec<QuarantinedRange>) {
        let mut damage = self.damage();
        for range in found {
            damage.entry(range.segment_base.0).or_default().push(range);
        }
    }

    /// Forgets damage below the log start: reads cannot reach it any more.
    pub(super) fn forget_damage_below(&self, start: Offset) {
        self.damage().retain(|_, ranges| ranges.iter().any(|range| range.offsets.end > start.0));
    }

    /// Whether the segment is known to be damaged.
    pub(super) fn is_damaged(&self, base: Offset) -> bool {
        self.damage().contains_key(&base.0)
    }

    fn damage(&self) -> MutexGuard<'_, BTreeMap<i64, Vec<QuarantinedRange>>> {
        self.damage.quarantined.lock()
    }

    /// Rebuilds the index of a segment from its batches, because a batch was not at the position in the index, and
    /// finds out exactly what is damaged. After a crash, recovery does not cut the log off there.
    pub(super) fn rebuild_index(
        &self,
        slot: &Arc<Slot>,
        segment: &Segment,
        next_base: Option<Offset>,
    ) -> io::Result<()> {
        let (known_end, published) = {
            let index = segment.index();
            (index.end_offset(), segment.bytes())
        };
        // If the file is complete, its length is used and not the one in the index.
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
            unreadable_is_damage: self.is_damaged(slot.base()),
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
        segment.set_unsaved_damage(damage_end.is_some());
        drop(index);
        if let Some(behind) = damage_end {
            self.checkpoint_behind_damage(behind);
        }
        // The scan checked the whole segment; later appends come from this process.
        segment.checked().note_all();
        // If the segment was removed or replaced, the index file of that name belongs to another segment.
        if settled && !self.is_deleted() && self.next_base(slot).is_some() {
            self.store_index_of(segment);
        }
        Ok(())
    }
}

/// Whole batches of `segment` from the one that holds `offset` on, and whether none of them has records.
fn range_of(
    log: &PartitionLog,
    segment: &Arc<Segment>,
    offset: Offset,
    max_bytes: u32,
    upto: Offset,
) -> Result<Option<(FileRange, bool)>, LocateMiss> {
    let (start, barrier, barrier_offset) = {
        let index = segment.index();
        let published = segment.bytes();
        if let Some(damage) = index.quarantine_of(offset) {
            return Err(LocateMiss::Damaged(damage.offsets.clone()));
        }
        let Some(start) = index.floor_offset(offset) else { return Err(LocateMiss::IndexWrong) };
        match index.barrier_after(start.position) {
            Some(damage) => (start, damage.positions.start.min(published), Offset(damage.offsets.start)),
            None => (start, published, index.end_offset()),
        }
    };
    let mut window = [0; WALK_BYTES];
    let mut walk = Walk { cursor: HeaderCursor::new(segment.disk(), segment.file(), &mut window), at: start };
    let mut first = loop {
        let Some(header) = walk.step(barrier)? else { return Err(LocateMiss::IndexWrong) };
        if header.next_offset() > offset {
            break header;
        }
    };
    // Skips batches that compaction emptied, if there is something behind them to read.
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
        // Either the batch cannot be read yet, or its offset count is damaged; then readers would wait for ever.
        let sound =
            if walk.at.position >= barrier { walk.at.offset == barrier_offset } else { walk.peek(barrier)?.is_some() };
        return if sound { Ok(None) } else { Err(LocateMiss::IndexWrong) };
    }
    let position = walk.at.position - batch_bytes(&first);
    let limit = position.saturating_add(u64::from(max_bytes)).min(barrier);
    // The index skips most of the range; only its last part is walked. A batch that starts at the limit may have been
    // appended after the limit was read.
    let jump = segment.index().floor_position(limit.saturating_sub(1), upto);
    if let Some(entry) = jump.filter(|entry| entry.position > walk.at.position) {
        walk.at = entry;
        if walk.peek(barrier)?.is_none() {
            return Err(LocateMiss::IndexWrong);
        }
    }
    while let Some(header) = walk.peek(limit)? {
        if header.next_offset() > upto {
            break;
        }
        walk.pass(&header);
    }
    let bytes = u32::try_from(walk.at.position - position).map_err(|_| LocateMiss::IndexWrong)?;
    let range = FileRange {
        segment: Arc::clone(segment),
        position,
        bytes,
        base_offset: first.base_offset,
        next_offset: walk.at.offset,
        log: Weak::clone(&log.me),
    };
    Ok(Some((range, is_empty(&first))))
}

/// Whether compaction left this batch without records. A longer batch that says so is damaged; the check of its CRC
/// finds that.
fn is_empty(header: &BatchHeader) -> bool {
    header.record_count == 0 && batch_bytes(header) == BATCH_HEADER_BYTES as u64
}

/// Walks from batch to batch and demands that the next batch begins where the last one ended.
pub(super) struct Walk<'a> {
    pub(super) cursor: HeaderCursor<'a>,
    pub(super) at: IndexEntry,
}

impl Walk<'_> {
    /// The batch at the current position, if it has the expected offset and ends within `limit`.
    pub(super) fn peek(&mut self, limit: u64) -> io::Result<Option<BatchHeader>> {
        let header = self.cursor.header_at(self.at.position, limit)?;
        Ok(header.filter(|header| header.base_offset == self.at.offset || broken(Canary::TrustIndex)))
    }

    /// Moves behind the batch that `peek` returned.
    pub(super) fn pass(&mut self, header: &BatchHeader) {
        self.at.position += batch_bytes(header);
        self.at.offset = header.next_offset();
    }

    /// Returns the batch at the current position and moves behind it.
    pub(super) fn step(&mut self, limit: u64) -> io::Result<Option<BatchHeader>> {
        let header = self.peek(limit)?;
        if let Some(header) = &header {
            self.pass(header);
        }
        Ok(header)
    }
}

/// Scans one segment from `scanned.next_offset` on. `None` if the index was wrong.
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
