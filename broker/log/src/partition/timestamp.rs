//! From a time to an offset. The index narrows the search to one stretch of a segment, batch headers to one batch, and
//! the records inside answer: exactly the first record that is not older than the time asked for, whatever order the
//! timestamps come in.

use std::io;
use std::sync::Arc;

use ottla_wire::record::{Batch, BatchHeader, TimestampType};

use super::PartitionLog;
use super::locate::Walk;
use crate::Offset;
use crate::error::LocateError;
use crate::index::{IndexEntry, NO_TIMESTAMP};
use crate::scan::{HeaderCursor, batch_bytes};
use crate::segment::Segment;

/// A batch that unpacks to more than this is answered as a whole: searches must not be a way to fill memory.
const UNPACKED_MAX_BYTES: usize = 64 << 20;
const WINDOW_BYTES: usize = 4096;

/// A record found by time.
type Found = (Offset, i64);

/// Where a walk through one segment ended.
enum Search {
    Found(Found),
    NotHere,
    /// The index led to something that is not the batch it claims.
    IndexLied,
}

impl PartitionLog {
    /// The first record below `upto` whose timestamp is at or after `timestamp`: its offset and its timestamp. Damaged
    /// batches are passed over; one whose records cannot be unpacked is answered with its first offset.
    pub fn find_by_timestamp(&self, timestamp: i64, upto: Offset) -> Result<Option<(Offset, i64)>, LocateError> {
        let start = self.log_start_offset();
        for (slot, next_base) in self.all_slots() {
            if slot.base() >= upto {
                break;
            }
            if next_base.is_some_and(|next| next <= start) {
                continue;
            }
            let Some(segment) = self.open_listed(&slot)? else { continue };
            let mut search = search_segment(&segment, timestamp, start, upto)?;
            if matches!(search, Search::IndexLied) {
                self.remake_index(&slot, &segment, next_base)?;
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
        for (slot, _) in self.all_slots() {
            if slot.base() >= upto {
                break;
            }
            let Some(segment) = self.open_listed(&slot)? else { continue };
            greatest = greatest.max(max_below(&segment, upto)?);
        }
        if greatest == NO_TIMESTAMP { Ok(None) } else { self.find_by_timestamp(greatest, upto) }
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
            let Some(header) = walk.step(barrier)? else { return Ok(Search::IndexLied) };
            if header.max_timestamp >= timestamp && header.next_offset() > start && header.next_offset() <= upto {
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

/// The greatest timestamp of the batches that lie below `upto`.
fn max_below(segment: &Arc<Segment>, upto: Offset) -> io::Result<i64> {
    let (mut entry, published) = {
        let index = segment.index();
        if index.end_offset() <= upto {
            return Ok(index.max_timestamp());
        }
        (index.floor_offset(Offset(upto.0 - 1)), segment.bytes())
    };
    let mut greatest = entry.map_or(NO_TIMESTAMP, |entry| entry.max_before);
    let mut window = [0; WINDOW_BYTES];
    while let Some(from) = entry {
        let barrier = barrier(segment, from.position, published);
        let mut walk = Walk { cursor: HeaderCursor::new(segment.disk(), segment.file(), &mut window), at: from };
        while walk.at.position < barrier && walk.at.offset < upto {
            match walk.step(barrier)? {
                Some(header) if header.next_offset() <= upto => greatest = greatest.max(header.max_timestamp),
                _ => break,
            }
        }
        entry = next_stretch(segment, walk.at, barrier, published).filter(|next| next.offset < upto);
    }
    Ok(greatest)
}

/// Where sound bytes end that begin at `position`.
fn barrier(segment: &Segment, position: u64, published: u64) -> u64 {
    segment.index().barrier_after(position).map_or(published, |damage| damage.positions.start.min(published))
}

/// The first batch behind the damage that a walk came to; the index always has an entry there.
fn next_stretch(segment: &Segment, at: IndexEntry, barrier: u64, published: u64) -> Option<IndexEntry> {
    if at.position < barrier || barrier >= published {
        return None;
    }
    segment.index().above_position(barrier.max(at.position))
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
    if header.timestamp_type() == TimestampType::LogAppendTime {
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
