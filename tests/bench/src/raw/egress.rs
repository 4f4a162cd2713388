//! One sendfile of 1 MiB per request, behind a small header held back by `MSG_MORE`.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{SendFlags, send};

use super::Frames;

/// Bytes of one answer's body.
pub(crate) const CHUNK_BYTES: u64 = 1 << 20;
/// Bodies that are sent before the first one comes again: several times what fits into a last-level cache, and less than
/// one segment.
pub(crate) const FILE_CHUNKS: u64 = 900;
const FILE_BYTES: u64 = FILE_CHUNKS * CHUNK_BYTES;
/// Bytes of one answer's header, about that of a fetch response with one partition.
const HEADER_BYTES: usize = 80;

/// The largest segment below a broker's data directory: the very bytes and page cache that the broker sends from.
pub(super) fn segment(dir: &Path) -> Result<File> {
    let mut largest: Option<(u64, PathBuf)> = None;
    let mut directories = vec![dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "log") {
                let bytes = path.metadata()?.len();
                if largest.as_ref().is_none_or(|(most, _)| bytes > *most) {
                    largest = Some((bytes, path));
                }
            }
        }
    }
    let (bytes, path) = largest.context("no segment to send")?;
    ensure!(bytes >= FILE_BYTES, "{} holds only {bytes} bytes", path.display());
    Ok(File::open(path)?)
}

/// The chunk that a connection begins with, so that connections do not read the same bytes at the same time.
pub(crate) fn apart(connection: usize) -> usize {
    connection * 18 % FILE_CHUNKS as usize
}

pub(super) fn connection(socket: TcpStream, file: &File, id: usize) -> Result<()> {
    let writer = socket.try_clone()?;
    let mut frames = Frames::new(socket);
    let mut ranges = Vec::new();
    let mut position = apart(id) as u64 * CHUNK_BYTES;
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
