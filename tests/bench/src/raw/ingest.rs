//! recv → CRC32C → one pwritev into fallocate'd space.

use std::io::IoSlice;
use std::net::TcpStream;
use std::path::Path;

use anyhow::Result;

use super::{Frames, SEGMENT_BYTES, StepFile, answer};

/// Bytes of a frame before the part that a broker checks: the request's header and the batch's own prefix.
const UNCHECKED_BYTES: usize = 64;

pub(super) fn connection(socket: TcpStream, dir: &Path, id: usize) -> Result<()> {
    let path = dir.join(format!("raw-{id}"));
    let mut file = StepFile::create(&path)?;
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
            file = StepFile::create(&path)?;
        }
        file.append(&slices)?;
        answer(&writer, ranges.len())?;
    }
    std::fs::remove_file(&path)?;
    Ok(())
}
