//! recv → CRC32C → one pwritev into fallocate'd space.

use std::io::IoSlice;
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Frames, SEGMENT_BYTES, StepFile, answer};

/// Bytes of a frame before the part that a broker checks: the request's header and the batch's own prefix.
const UNCHECKED_BYTES: usize = 64;

pub(super) fn connection(socket: TcpStream, dir: &Path, id: usize) -> Result<()> {
    // Every file stays, as the segments of the broker do: a file removed or truncated would give its pages back to the next
    // one, still in the processor's cache, and would never be written to the disk.
    let mut segments = (0..).map(|segment| StepFile::create(&dir.join(format!("raw-{id}-{segment}"))));
    let mut next = || segments.next().context("segments do not end")?;
    let mut file = next()?;
    let writer = socket.try_clone()?;
    let mut frames = Frames::new(socket);
    let mut ranges = Vec::new();
    while frames.next(&mut ranges)? {
        let mut slices = Vec::with_capacity(ranges.len());
        for range in &ranges {
            let frame = &frames.buffer[range.clone()];
            let checked = frame.get(UNCHECKED_BYTES..).unwrap_or_default();
            std::hint::black_box(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, checked));
            slices.push(IoSlice::new(frame));
        }
        if file.end >= SEGMENT_BYTES {
            file = next()?;
        }
        file.append(&slices)?;
        answer(&writer, ranges.len())?;
    }
    Ok(())
}
