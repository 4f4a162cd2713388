//! Finds the offset of a time. The index narrows the search to a part of a segment, headers narrow it to one batch, and
//! the records in the batch give the answer: exactly the first record that is not older than the time, also where
//! timestamps do not rise.

use std::io;
use std::sync::Arc;

use ottla_wire::record::{BATCH_HEADER_BYTES, Batch, BatchHeader, TimestampType};

use super::locate::Walk;
use super::{PartitionLog, Slot};
use crate::Offset;
use crate::error::LocateError;
use crate::index::{IndexEntry, NO_TIMESTAMP};
use crate::scan::{HeaderCursor, batch_bytes};
use crate::segment::Segment;

/// A batch that unpacks to more than this is not unpacked, so that a search cannot fill the memory.
const UNPACKED_MAX_BYTES: usize = 64 << 20;
const WINDOW_BYTES: usize = 4096;

/// A record found by time.
type Found = (Offset, i64);

/// A slot, its segment, and the base offset of the next one.
type Listed = (Arc<Slot>, Arc<Segment>, Option<Offset>);

/// The result of a walk through one segment.
enum Search {
    Found(Found),
    NotHere,
    /// The index pointed to bytes that are not the batch it names.
    IndexWrong,
}

impl PartitionLog {
    /// The first record below `upto` whose timestamp is at or after `timestamp`: its offset and its timestamp. Skips
    /// damaged batches. For a batch whose records cannot be unpacked, the answer is the first offset of the batch.
    pub fn find_by_timestamp(&self, timestamp: i64, upto: Offset) -> Result<Option<(Offset, i64)>, LocateError> {
        let start = self.log_start_offset();
        let mut next = Some(start);
        while let Some((slot, segment, next_base)) = self.segment_from(next, upto)? {
            next = next_base;
            let mut search = search_segment(&segment, timestamp, start, upto)?;
            if matches!(search, Search::IndexWrong) {
                self.rebuild_index(&slot, &segment, next_base)?;
                search = search_segment(&segment, timestamp, start, upto)?;
            }
            if let Search::Found(found) = search {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first record below `upto` that has the greatest timestamp of all.
    pub fn max_timestamp(&self, upto: Offset) -> Result<Option<(Offset, i64)>, LocateError> {
        let mut greatest = NO_TIMESTAMP;
        let mut next = Some(self.log_start_offset());
        while let Some((slot, segment, next_base)) = self.segment_from(next, upto)? {
            next = next_base;
            let mut below = max_below(&segment, upto)?;
            if below.is_none() {
                self.rebuild_index(&slot, &segment, next_base)?;
                below = max_below(&segment, upto)?;
            }
            greatest = greatest.max(below.unwrap_or(NO_TIMESTAMP));
        }
        if greatest == NO_TIMESTAMP {
            return Ok(None);
        }
        match self.find_by_timestamp(greatest, upto)? {
            // The greatest timestamp was that of a record below the log start, or of no record.
            None => self.greatest_of_records(upto),
            found => Ok(found),
        }
    }

    /// The segment that holds `from`, or the first one behind it if that was removed; `None` at or above `upto`.
    /// Callers ask for one segment after another, because the list may change.
    pub(super) fn segment_from(&self, from: Option<Offset>, upto: Offset) -> io::Result<Option<Listed>> {
        loop {
            let Some(from) = from.filter(|from| *from < upto) else { return Ok(None) };
            let Some((slot, next_base)) = self.slot_from(from) else { return Ok(None) };
            if slot.base() >= upto {
                return Ok(None);
            }
            if let Some(segment) = self.open_listed(&slot)? {
                return Ok(Some((slot, segment, next_base)));
            }
        }
    }

    /// The first record with the greatest timestamp; reads every batch that may have it. Skips damaged batches and
    /// segments that are removed meanwhile.
    fn greatest_of_records(&self, upto: Offset) -> Result<Option<Found>, LocateError> {
        let start = self.log_start_offset();
        let mut greatest = None;
        let mut offset = start;
        loop {
            let range = match self.locate(offset, 1, upto) {
                Ok(Some(range)) => range,
                Ok(None) => break,
                Err(LocateError::Corrupt { to, .. }) if to > offset => {
                    offset = to;
                    continue;
                }
                Err(LocateError::OutOfRange { start, .. }) if start > offset => {
                    offset = start;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut head = [0; BATCH_HEADER_BYTES];
            range.segment.read_exact_at(range.position, &mut head)?;
            let at_least = greatest.map_or(NO_TIMESTAMP, |(_, time): Found| time.saturating_add(1));
            if let Ok(header) = BatchHeader::parse(&head)
                && header.record_count > 0
                && header.max_timestamp >= at_least
            {
                greatest = greatest_in_batch(&range.segment, range.position, &header, at_least, start)?.or(greatest);
            }
            offset = range.next_offset;
        }
        Ok(greatest)
    }
}

fn search_segment(segment: &Arc<Segment>, timestamp: i64, start: Offset, upto: Offset) -> io::Result<Search> {
    let (mut entry, published) = {
        let index = segment.index();
        if index.max_timestamp() < timestamp {
            return Ok(Search::NotHere);
        }
        (index.floor_timestamp(timestamp), segment.bytes())
    };
    let mut window = [0; WINDOW_BYTES];
    while let Some(from) = entry {
        let barrier = barrier(segment, from.position, published);
        let mut walk = Walk { cursor: HeaderCursor::new(segment.disk(), segment.file(), &mut window), at: from };
        while walk.at.position < barrier && walk.at.offset < upto {
            let Some(header) = walk.step(barrier)? else { return Ok(Search::IndexWrong) };
            let holds_it = header.record_count > 0 && header.max_timestamp >= timestamp;
            if holds_it && header.next_offset() > start && header.next_offset() <= upto {
                let position = walk.at.position - batch_bytes(&header);
                if let Some(found) = search_batch(segment, position, &header, timestamp, start)? {
                    return Ok(Search::Found(found));
                }
            }
        }
        entry = next_stretch(segment, walk.at, barrier, published);
    }
    Ok(Search::NotHere)
}

/// The greatest timestamp of the batches below `upto`. `None` if the index was wrong.
fn max_below(segment: &Arc<Segment>, upto: Offset) -> io::Result<Option<i64>> {
    let (mut entry, published) = {
        let index = segment.index();
        if index.end_offset() <= upto {
            return Ok(Some(index.max_timestamp()));
        }
        (index.floor_offset(Offset(upto.0 - 1)), segment.bytes())
    };
    let mut greatest = entry.map_or(NO_TIMESTAMP, |entry| entry.max_before);
    let mut window = [0; WINDOW_BYTES];
    while let Some(from) = entry {
        let barrier = barrier(segment, from.position, published);
        let mut walk = Walk { cursor: HeaderCursor::new(segment.disk(), segment.file(), &mut window), at: from };
        while walk.at.position < barrier && walk.at.offset < upto {
            let Some(header) = walk.step(barrier)? else { return Ok(None) };
            if header.next_offset() <= upto {
                greatest = greatest.max(header.max_timestamp);
            }
        }
        entry = next_stretch(segment, walk.at, barrier, published).filter(|next| next.offset < upto);
    }
    Ok(Some(greatest))
}

/// The end of the sound bytes that begin at `position`.
fn barrier(segment: &Segment, position: u64, published: u64) -> u64 {
    segment.index().barrier_after(position).map_or(published, |damage| damage.positions.start.min(published))
}

/// The first batch behind the damage where a walk ended; the index always has an entry there.
fn next_stretch(segment: &Segment, at: IndexEntry, barrier: u64, published: u64) -> Option<IndexEntry> {
    if at.position < barrier || barrier >= published {
        return None;
    }
    segment.index().above_position(barrier.max(at.position))
}

/// The first record of one batch with the greatest timestamp in it, which is at least `at_least`.
fn greatest_in_batch(
    segment: &Segment,
    position: u64,
    header: &BatchHeader,
    mut at_least: i64,
    start: Offset,
) -> io::Result<Option<Found>> {
    let mut greatest = None;
    while let Some(found) = search_batch(segment, position, header, at_least, start)? {
        greatest = Some(found);
        match found.1.checked_add(1) {
            Some(more) if header.timestamp_type() == TimestampType::CreateTime && found.1 < header.max_timestamp => {
                at_least = more;
            }
            _ => break,
        }
    }
    Ok(greatest)
}

/// The first record of one batch that is not older than `timestamp`.
fn search_batch(
    segment: &Segment,
    position: u64,
    header: &BatchHeader,
    timestamp: i64,
    start: Offset,
) -> io::Result<Option<Found>> {
    let whole = Some((header.base_offset.max(start), header.max_timestamp));
    let is_thinned = header.record_count <= header.last_offset_delta;
    if header.timestamp_type() == TimestampType::LogAppendTime && !is_thinned {
        return Ok(whole);
    }
    let mut bytes = vec![0; header.total_bytes()];
    segment.read_exact_at(position, &mut bytes)?;
    let Some(records) = Batch::parse(&bytes).ok().and_then(|batch| batch.records(UNPACKED_MAX_BYTES).ok()) else {
        return Ok(whole);
    };
    for record in &records {
        let Ok(record) = record else { return Ok(whole) };
        let (offset, time) = (header.offset_of(&record), header.timestamp_of(&record));
        if time >= timestamp && offset >= start {
            return Ok(Some((offset, time)));
        }
    }
    Ok(None)
}
