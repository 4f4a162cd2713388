//! Writes the new segment of a compaction beside the old ones. It creates the file only when the new segment differs.

use std::fs::File;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_wire::record::BatchHeader;

use super::CleanError;
use super::filter::{EmptyRange, write_empty};
use super::throttle::Throttle;
use crate::disk::Disk;
use crate::index::Index;
use crate::scan::batch_bytes;
use crate::segment::Segment;

const BUFFER_BYTES: usize = 1 << 20;

/// A segment being written.
pub(super) struct Output {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// The first of the old segments. As long as the new segment equals its beginning, nothing is written.
    first: Arc<Segment>,
    file: Option<File>,
    /// Bytes written to the file.
    stored: u64,
    buffer: Vec<u8>,
    index: Index,
    /// Offsets whose records were removed and for which no empty batch is written yet.
    pending: Option<PendingRange>,
}

struct PendingRange {
    range: EmptyRange,
    /// The position in the first segment at which the same empty batch stands already.
    same_at: Option<u64>,
}

/// A segment that is written and not synced yet.
pub(super) struct Written {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) index: Index,
}

impl Output {
    pub(super) fn new(disk: Arc<dyn Disk>, path: PathBuf, first: Arc<Segment>, interval_bytes: u32) -> Self {
        let index = Index::new(first.base_offset(), interval_bytes);
        Self { disk, path, first, file: None, stored: 0, buffer: Vec::new(), index, pending: None }
    }

    /// Adds a batch that stays as it stands at `position` of `segment`.
    pub(super) fn keep(
        &mut self,
        bytes: &[u8],
        segment: &Segment,
        position: u64,
        throttle: &mut Throttle<'_>,
    ) -> Result<(), CleanError> {
        self.write_pending(throttle)?;
        if self.is_same(segment, position) {
            self.note(bytes);
            return Ok(());
        }
        self.write(bytes, throttle)
    }

    /// Adds a batch with new content.
    pub(super) fn put(&mut self, bytes: &[u8], throttle: &mut Throttle<'_>) -> Result<(), CleanError> {
        self.write_pending(throttle)?;
        self.write(bytes, throttle)
    }

    /// Adds a batch that lost its records and has to stay, empty.
    pub(super) fn put_empty(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
        segment: &Segment,
        position: u64,
        throttle: &mut Throttle<'_>,
    ) -> Result<(), CleanError> {
        let mut empty = Vec::new();
        write_empty(header, &mut empty);
        if empty == batch { self.keep(batch, segment, position, throttle) } else { self.put(&empty, throttle) }
    }

    /// Drops a batch that lost its records and does not have to stay; an empty batch will keep its offsets.
    pub(super) fn drop_batch(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
        segment: &Segment,
        position: u64,
        throttle: &mut Throttle<'_>,
    ) -> Result<(), CleanError> {
        let range = EmptyRange::of(header);
        if let Some(pending) = &mut self.pending
            && pending.range.extend(&range)
        {
            pending.same_at = None;
            return Ok(());
        }
        self.write_pending(throttle)?;
        let mut standing = Vec::new();
        range.write(&mut standing);
        let same_at = (self.is_same(segment, position) && standing == batch).then_some(position);
        self.pending = Some(PendingRange { range, same_at });
        Ok(())
    }

    /// Ends the segment. `None` if it equals the first old segment.
    pub(super) fn finish(mut self, throttle: &mut Throttle<'_>) -> Result<Option<Written>, CleanError> {
        self.write_pending(throttle)?;
        if self.file.is_none() {
            if self.index.end_position() == self.first.bytes() {
                return Ok(None);
            }
            self.begin(throttle)?;
        }
        self.flush(throttle)?;
        let Some(file) = self.file else { return Ok(None) };
        Ok(Some(Written { path: self.path, file, index: self.index }))
    }

    /// Removes the unfinished file.
    pub(super) fn discard(disk: &dyn Disk, path: &std::path::Path) {
        if let Err(error) = disk.remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished segment; the next start removes it");
        }
    }

    /// Whether the batch at `position` of `segment` has the same position in the new segment.
    fn is_same(&self, segment: &Segment, position: u64) -> bool {
        self.file.is_none() && std::ptr::eq(segment, &raw const *self.first) && position == self.index.end_position()
    }

    fn write_pending(&mut self, throttle: &mut Throttle<'_>) -> Result<(), CleanError> {
        let Some(PendingRange { range, same_at }) = self.pending.take() else { return Ok(()) };
        let mut empty = Vec::new();
        range.write(&mut empty);
        if same_at.is_some() {
            self.note(&empty);
            return Ok(());
        }
        self.write(&empty, throttle)
    }

    /// Adds a batch to the index.
    fn note(&mut self, bytes: &[u8]) {
        let Ok(header) = BatchHeader::parse(bytes) else { return };
        let (position, next) = (self.index.end_position(), header.next_offset());
        self.index.push(header.base_offset, position, next, position + batch_bytes(&header), header.max_timestamp);
    }

    fn write(&mut self, bytes: &[u8], throttle: &mut Throttle<'_>) -> Result<(), CleanError> {
        if self.file.is_none() {
            self.begin(throttle)?;
        }
        self.note(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.flush(throttle) } else { Ok(()) }
    }

    /// Creates the file and copies the part that equals the first old segment.
    fn begin(&mut self, throttle: &mut Throttle<'_>) -> Result<(), CleanError> {
        let same = self.index.end_position();
        let file = self.disk.create(&self.path)?;
        self.file = Some(file);
        let mut copied = 0;
        while copied < same {
            let bytes = (same - copied).min(BUFFER_BYTES as u64);
            self.buffer.resize(bytes as usize, 0);
            self.first.read_exact_at(copied, &mut self.buffer)?;
            throttle.consume(bytes)?;
            self.flush(throttle)?;
            copied += bytes;
        }
        Ok(())
    }

    fn flush(&mut self, throttle: &mut Throttle<'_>) -> Result<(), CleanError> {
        let Some(file) = &self.file else { return Ok(()) };
        self.disk.write_at(file, &mut [IoSlice::new(&self.buffer)], self.stored)?;
        self.stored += self.buffer.len() as u64;
        throttle.consume(self.buffer.len() as u64)?;
        self.buffer.clear();
        Ok(())
    }
}
