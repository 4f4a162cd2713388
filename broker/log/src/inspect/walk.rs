//! Walks through one segment batch by batch, and reports what is between the batches.

use std::fs::File;
use std::io;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_wire::record::BatchHeader;

use super::files::{PartitionFiles, disk};
use crate::Offset;
use crate::disk::Disk;
use crate::epochs::EpochHistory;
use crate::scan::{Checker, Content, batch_bytes, holds_bytes};

/// One step of a walk, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A batch with valid CRC, length and epoch.
    Batch {
        /// Where it starts.
        position: u64,
        /// Its header.
        header: BatchHeader,
    },
    /// Bytes below the durable offset that are not a valid batch.
    Damaged {
        /// The offsets that are lost.
        offsets: Range<i64>,
        /// The bytes.
        positions: Range<u64>,
    },
    /// The file ends, or continues with zeros, before its synced end or the next segment.
    Short {
        /// The missing offsets.
        offsets: Range<i64>,
    },
    /// Bytes above the durable offset that are not a valid batch: a crash interrupted an append, or an append is
    /// running.
    Unfinished {
        /// The next offset of the log.
        offset: Offset,
        /// The position of the first of these bytes.
        position: u64,
        /// The number of bytes up to the end of the file.
        bytes: u64,
        /// Sound batches among them.
        batches: u64,
    },
}

/// One segment file, open for reading.
#[derive(Debug)]
pub struct SegmentReader {
    /// Offset of its first batch.
    pub base: Offset,
    /// The file.
    pub path: PathBuf,
    /// Its length when it was opened.
    pub file_bytes: u64,
    file: File,
    disk: Arc<dyn Disk>,
    epochs: EpochHistory,
    durable: Offset,
    next_base: Option<Offset>,
}

impl SegmentReader {
    /// The segment of `files` at `base`; `None` if it is gone.
    pub fn open(files: &PartitionFiles, base: Offset) -> io::Result<Option<Self>> {
        let Some((path, file)) = files.open_segment(base)? else { return Ok(None) };
        let file_bytes = file.metadata()?.len();
        let (epochs, durable, next_base) = (files.epochs(), files.durable_offset(), files.next_segment(base));
        Ok(Some(Self { base, path, file_bytes, file, disk: disk(), epochs, durable, next_base }))
    }

    /// Walks through the file from its start until `visit` breaks. Returns the offset and the position after the last
    /// visited batch.
    pub fn walk(&self, mut visit: impl FnMut(Found) -> ControlFlow<()>) -> io::Result<(Offset, u64)> {
        let mut reader = self.checker();
        let (mut expected, mut position) = (self.base, 0);
        while self.next_base.is_none_or(|next| expected < next) {
            match reader.check(position)? {
                Content::Batch(header) if header.base_offset == expected => {
                    if visit(Found::Batch { position, header }).is_break() {
                        break;
                    }
                    expected = header.next_offset();
                    position += batch_bytes(&header);
                }
                content if expected >= self.durable => {
                    let nothing = matches!(content, Content::Nothing);
                    if nothing && !holds_bytes(&*self.disk, &self.file, position, self.file_bytes)? {
                        break;
                    }
                    let unfinished = self.unfinished(&mut reader, expected, position)?;
                    // The log may be in use. The append that was half written at the first look is complete by now if
                    // a later batch was found, because a partition appends one batch after the other.
                    reader = self.checker();
                    if matches!(reader.check(position)?, Content::Batch(header) if header.base_offset == expected) {
                        continue;
                    }
                    let _ = visit(unfinished);
                    break;
                }
                _ => {
                    let limit = self.next_base.unwrap_or(self.durable).min(self.durable);
                    let resumed = reader.resume(position, expected, limit)?.filter(|(_, end)| *end > position);
                    let (offset, end) = resumed.unwrap_or((limit, self.file_bytes.max(position)));
                    let found = if resumed.is_none() && !holds_bytes(&*self.disk, &self.file, position, end)? {
                        Found::Short { offsets: expected.0..offset.0 }
                    } else {
                        Found::Damaged { offsets: expected.0..offset.0, positions: position..end }
                    };
                    let ends_here = matches!(found, Found::Short { .. });
                    if visit(found).is_break() || ends_here {
                        break;
                    }
                    (expected, position) = (offset, end);
                    if resumed.is_none() {
                        break;
                    }
                }
            }
        }
        Ok((expected, position))
    }

    /// The bytes of a batch that a walk visited.
    pub fn read(&self, position: u64, header: &BatchHeader) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; header.total_bytes()];
        self.file.read_exact_at(&mut bytes, position)?;
        Ok(bytes)
    }

    fn checker(&self) -> Checker<'_> {
        Checker::new(&*self.disk, &self.file, &self.epochs, self.file_bytes)
    }

    fn unfinished(&self, reader: &mut Checker<'_>, offset: Offset, position: u64) -> io::Result<Found> {
        let (mut batches, mut at, mut behind) = (0, position, offset);
        while let Some((_, start)) = reader.resume(at, behind, Offset(i64::MAX))? {
            at = start;
            while let Content::Batch(header) = reader.check(at)? {
                batches += 1;
                at += batch_bytes(&header);
                behind = header.base_offset;
            }
        }
        Ok(Found::Unfinished { offset, position, bytes: self.file_bytes - position, batches })
    }
}
