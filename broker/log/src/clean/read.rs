//! Reads a segment batch by batch and checks each one, because compaction writes back what it reads.

use std::io;

use ottla_wire::Offset;
use ottla_wire::record::{BATCH_HEADER_BYTES, Batch, BatchHeader};

use super::CleanError;
use super::throttle::Throttle;
use crate::index::IndexEntry;
use crate::scan::batch_bytes;
use crate::segment::Segment;

/// How much one read fetches where batches are small.
const WINDOW_BYTES: usize = 1 << 20;

/// The result of one step.
pub(super) enum Next<'r> {
    Batch {
        batch: Batch<'r>,
        position: u64,
    },
    End,
    /// The bytes here are not the batch of this offset.
    Damaged(Offset),
}

/// Reads the batches of a segment that takes no appends any more.
pub(super) struct BatchReader<'a> {
    segment: &'a Segment,
    window: Vec<u8>,
    /// The position of the window in the segment.
    start: u64,
    at: IndexEntry,
    end_position: u64,
    pub(super) read_bytes: u64,
}

impl<'a> BatchReader<'a> {
    /// Starts at the batch that holds `from`, or a little before.
    pub(super) fn new(segment: &'a Segment, from: Offset) -> Self {
        let first = IndexEntry { offset: segment.base_offset(), position: 0, max_before: 0 };
        let index = segment.index();
        let at = index.floor_offset(from.max(segment.base_offset())).unwrap_or(first);
        let end_position = index.end_position();
        drop(index);
        Self { segment, window: Vec::new(), start: at.position, at, end_position, read_bytes: 0 }
    }

    pub(super) fn next(&mut self, throttle: &mut Throttle<'_>) -> Result<Next<'_>, CleanError> {
        let position = self.at.position;
        if position >= self.end_position {
            return Ok(Next::End);
        }
        let damaged = Next::Damaged(self.at.offset);
        if !self.fill(BATCH_HEADER_BYTES, throttle)? {
            return Ok(damaged);
        }
        let Ok(header) = BatchHeader::parse(self.rest()) else { return Ok(damaged) };
        let in_place = header.base_offset == self.at.offset && position + batch_bytes(&header) <= self.end_position;
        if !in_place || !self.fill(header.total_bytes(), throttle)? {
            return Ok(damaged);
        }
        let from = (position - self.start) as usize;
        match Batch::parse(self.window.get(from..).unwrap_or_default()) {
            Ok(batch) if batch.check_crc().is_ok() => {
                self.at.position += batch_bytes(&header);
                self.at.offset = header.next_offset();
                Ok(Next::Batch { batch, position })
            }
            _ => Ok(damaged),
        }
    }

    fn rest(&self) -> &[u8] {
        self.window.get((self.at.position - self.start) as usize..).unwrap_or_default()
    }

    /// Reads until the window has this many bytes from the current position on. Returns false if the segment ends
    /// before.
    fn fill(&mut self, bytes: usize, throttle: &mut Throttle<'_>) -> Result<bool, CleanError> {
        let have = self.rest().len();
        if have >= bytes {
            return Ok(true);
        }
        let left = (self.end_position - self.at.position) as usize;
        if left < bytes {
            return Ok(false);
        }
        let passed = self.window.len() - have;
        self.window.drain(..passed);
        self.start = self.at.position;
        let want = bytes.max(WINDOW_BYTES).min(left);
        self.window.resize(want, 0);
        let read =
            self.segment.read_exact_at(self.start + have as u64, self.window.get_mut(have..).unwrap_or_default());
        match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        self.read_bytes += (want - have) as u64;
        throttle.consume((want - have) as u64)?;
        Ok(true)
    }
}
