//! One sendfile of 1 MiB per request, behind a small header held back by `MSG_MORE`.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Result, ensure};
use rustix::net::{SendFlags, send};

use super::{Frames, StepFile};

/// Bytes of the file, larger than the last-level cache.
pub(crate) const FILE_BYTES: u64 = 256 << 20;
/// Bytes of one answer's body.
pub(crate) const CHUNK_BYTES: u64 = 1 << 20;
/// Bytes of one answer's header, about that of a fetch response with one partition.
const HEADER_BYTES: usize = 80;

pub(super) fn file(dir: &Path) -> Result<File> {
    let mut file = StepFile::create(&dir.join("raw-egress"))?;
    let chunk = vec![0x5a_u8; CHUNK_BYTES as usize];
    while file.end < FILE_BYTES {
        file.append(&[std::io::IoSlice::new(&chunk)])?;
    }
    Ok(file.file)
}

pub(super) fn connection(socket: TcpStream, file: &File) -> Result<()> {
    let writer = socket.try_clone()?;
    let mut frames = Frames::new(socket);
    let mut ranges = Vec::new();
    let mut position = 0;
    let mut header = [0_u8; 4 + HEADER_BYTES];
    header[..4].copy_from_slice(&(HEADER_BYTES as u32 + CHUNK_BYTES as u32).to_be_bytes());
    while frames.next(&mut ranges)? {
        for _ in &ranges {
            let sent = send(&writer, &header, SendFlags::MORE)?;
            ensure!(sent == header.len(), "a header of {HEADER_BYTES} bytes left in pieces");
            let end = position + CHUNK_BYTES;
            while position < end {
                let want = (end - position) as usize;
                let sent = rustix::fs::sendfile(&writer, file, Some(&mut position), want)?;
                ensure!(sent > 0, "the file ended early");
            }
            position %= FILE_BYTES;
        }
    }
    Ok(())
}
