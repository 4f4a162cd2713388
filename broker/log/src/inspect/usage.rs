//! The disk space of a partition, and the part of it that can be freed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::files::{InspectError, PartitionFiles, disk};
use crate::Offset;
use crate::format::{INDEX_SUFFIX, SEGMENT_SUFFIX, parse_segment_file_name};
use crate::scan::{HeaderCursor, batch_bytes};

/// The unit of `stat` block counts.
const BLOCK_BYTES: u64 = 512;
const WINDOW_BYTES: usize = 16 << 10;

/// Bytes of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionUsage {
    /// Batches.
    pub data_bytes: u64,
    /// Index files.
    pub index_bytes: u64,
    /// Space reserved for later batches.
    pub reserved_bytes: u64,
    /// All other files: partition.meta, checkpoint, producers, replaced segments.
    pub other_bytes: u64,
    /// Batches that no reader can reach: those of segments that end before the log start.
    pub reclaimable_bytes: u64,
    /// Segments.
    pub segments: u64,
}

impl PartitionUsage {
    /// All of these bytes together.
    pub fn total_bytes(&self) -> u64 {
        self.data_bytes + self.index_bytes + self.reserved_bytes + self.other_bytes
    }

    /// Counts the bytes of a partition. Reads only batch headers.
    pub fn of(files: &PartitionFiles) -> Result<Self, InspectError> {
        let mut usage = Self::default();
        for entry in fs::read_dir(&files.directory).map_err(InspectError::at(&files.directory))? {
            let entry = entry.map_err(InspectError::at(&files.directory))?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            // The file was removed meanwhile: it takes no space.
            let Ok(metadata) = entry.metadata() else { continue };
            let allocated = metadata.blocks() * BLOCK_BYTES;
            let counts = |base| files.segments.binary_search(&base).is_ok() && files.swap_of(base).is_none();
            let is_segment = parse_segment_file_name(name, SEGMENT_SUFFIX).is_some_and(counts)
                || files.swaps.iter().any(|(_, swap)| *swap == entry.path());
            if name.ends_with(INDEX_SUFFIX) {
                usage.index_bytes += allocated;
            } else if !is_segment && metadata.is_file() {
                usage.other_bytes += allocated;
            }
        }
        for base in &files.segments {
            let Some((data_bytes, allocated)) = segment(files, *base).map_err(InspectError::at(&files.directory))?
            else {
                continue;
            };
            usage.segments += 1;
            usage.data_bytes += data_bytes;
            usage.reserved_bytes += allocated.saturating_sub(data_bytes);
            if files.next_segment(*base).is_some_and(|next| next <= files.log_start_offset()) {
                usage.reclaimable_bytes += data_bytes;
            }
        }
        Ok(usage)
    }
}

/// Bytes of the batches in a segment, and bytes that its file takes on the disk.
fn segment(files: &PartitionFiles, base: Offset) -> io::Result<Option<(u64, u64)>> {
    let Some((_, file)) = files.open_segment(base)? else { return Ok(None) };
    let metadata = file.metadata()?;
    let (file_bytes, allocated) = (metadata.len(), metadata.blocks() * BLOCK_BYTES);
    if files.next_segment(base).is_some() {
        // A closed segment consists of batches only.
        return Ok(Some((file_bytes, allocated.max(file_bytes))));
    }
    let disk = disk();
    let mut window = [0; WINDOW_BYTES];
    let mut cursor = HeaderCursor::new(&*disk, &file, &mut window);
    let known = files.checkpoint.filter(|it| it.active_base == base && it.active_bytes <= file_bytes);
    let mut position = known.map_or(0, |it| it.active_bytes);
    while let Some(header) = cursor.header_at(position, file_bytes)? {
        position += batch_bytes(&header);
    }
    Ok(Some((position, allocated.max(position))))
}
