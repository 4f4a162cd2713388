//! Sends responses: headers and small hot pieces of the log in one gathered write, large or cold ones by `sendfile`.
//!
//! Record data never passes through user memory. Small pieces come from the mapping (the kernel copies them; `sendfile`
//! costs 1.75 times the CPU at 64 KiB), large ones from the file. A piece that is not in the page cache is sent from a
//! blocking thread, because whoever sends it waits for the disk.
//!
//! What goes wrong is the peer's doing or the disk's, and the two look much alike here: see [`blames_disk`]. When the disk
//! refuses, the head of the answer has left and the connection has to end; the partition remembers what could not be
//! read, so that the next fetch of it gets an error.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_log::{FileRange, MappedSlice};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::memory::Memory;
use crate::metrics::FrontMetrics;
use crate::pool::Pool;
use crate::reply::Piece;
use crate::settings::{Bounds, FrontSettings};

/// How long a client may take nothing of its answers while memory is short.
const SHORT_STALL: Duration = Duration::from_secs(10);
/// Most pieces that one `sendmsg` takes.
const PIECES_MAX: usize = 1024;

/// Sends, for all connections.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// From how many bytes on a piece leaves by `sendfile`.
    sendfile_min_bytes: u32,
    /// Bytes handed to one call of `sendfile`.
    step_bytes: usize,
    /// How long the client may take nothing before it is given up.
    stall: Duration,
    /// Threads for pieces that are not in memory.
    reads: Arc<Pool>,
    memory: Arc<Memory>,
    metrics: FrontMetrics,
}

impl Delivery {
    pub(crate) fn new(settings: &FrontSettings, bounds: &Bounds, metrics: &FrontMetrics) -> Self {
        Self {
            sendfile_min_bytes: settings.sendfile_min_bytes,
            step_bytes: settings.sendfile_step_bytes,
            stall: settings.idle,
            reads: Arc::clone(&bounds.reads),
            memory: Arc::clone(&bounds.memory),
            metrics: metrics.clone(),
        }
    }

    /// Sends all pieces, in order.
    pub(crate) async fn send(&self, stream: &TcpStream, pieces: impl IntoIterator<Item = Piece>) -> io::Result<()> {
        let mut gathered = VecDeque::new();
        let mut record_bytes = 0;
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => gathered.push_back(Source::Memory(bytes)),
                Piece::File(range) => {
                    record_bytes += u64::from(range.bytes);
                    if let Some(slice) = self.mapped(&range) {
                        gathered.push_back(Source::Mapped(slice, range));
                    } else {
                        self.send_gathered(stream, &mut gathered, SendFlags::MORE).await?;
                        let sent = self.send_file(stream, &range).await;
                        sent.inspect_err(|error| self.blame(error, &range))?;
                    }
                }
            }
        }
        self.send_gathered(stream, &mut gathered, SendFlags::empty()).await?;
        if record_bytes > 0 {
            self.metrics.sent_record_bytes.inc_by(record_bytes);
        }
        Ok(())
    }

    /// Where the disk is to blame: counts it, and has the next fetch of the range answered with an error.
    fn blame(&self, error: &io::Error, range: &FileRange) {
        if blames_disk(error) {
            self.metrics.read_errors.inc();
            range.report_read_error(error);
        }
    }

    /// The mapping of a range that is small and in memory.
    fn mapped(&self, range: &FileRange) -> Option<MappedSlice> {
        let small = range.bytes < self.sendfile_min_bytes;
        if small && range.segment.cold_bytes(range.position, range.bytes.into()).unwrap_or(0) == 0 {
            range.segment.slice(range.position, range.bytes as usize)
        } else {
            None
        }
    }

    async fn send_gathered(
        &self,
        stream: &TcpStream,
        sources: &mut VecDeque<Source>,
        flags: SendFlags,
    ) -> io::Result<()> {
        let mut all: Vec<IoSlice<'_>> = sources.iter().map(|source| IoSlice::new(source.as_ref())).collect();
        let mut rest = all.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0);
        let mut sent = 0;
        while !rest.is_empty() {
            let (now, flags) = match rest.get(..PIECES_MAX) {
                Some(first) if rest.len() > PIECES_MAX => (first, flags | SendFlags::MORE),
                _ => (&*rest, flags),
            };
            let attempt = || {
                let mut control = SendAncillaryBuffer::default();
                Ok(sendmsg(stream, now, &mut control, flags | SendFlags::NOSIGNAL)?)
            };
            let written = match self.progress(stream.async_io(Interest::WRITABLE, attempt)).await {
                // A source that shrank to nothing: going on would repeat this for ever.
                Ok(0) => Err(truncated()),
                other => other,
            };
            let written = written.inspect_err(|error| {
                // The kernel stops in front of what it cannot read.
                if let Some(range) = first_from_file(sources, sent) {
                    self.blame(error, range);
                }
            })?;
            sent += written;
            IoSlice::advance_slices(&mut rest, written);
        }
        sources.clear();
        Ok(())
    }

    async fn send_file(&self, stream: &TcpStream, range: &FileRange) -> io::Result<()> {
        let mut position = range.position;
        let end = range.position + u64::from(range.bytes);
        while position < end {
            let step = ((end - position) as usize).min(self.step_bytes);
            let cold = range.segment.cold_bytes(position, step as u64).unwrap_or(0) > 0;
            let written = if cold {
                self.send_cold(stream, range, position, step).await?
            } else {
                let send = || {
                    let mut from = position;
                    Ok(rustix::fs::sendfile(stream, &*range.segment, Some(&mut from), step)?)
                };
                self.progress(stream.async_io(Interest::WRITABLE, send)).await?
            };
            if written == 0 {
                // The file ends before the range does. Nothing can complete this response; never spin.
                return Err(truncated());
            }
            position += written as u64;
            tokio::task::consume_budget().await;
        }
        Ok(())
    }

    /// One step of `sendfile` on a thread that may wait for the disk, once the socket takes anything at all.
    async fn send_cold(&self, stream: &TcpStream, range: &FileRange, position: u64, step: usize) -> io::Result<usize> {
        loop {
            self.progress(stream.async_io(Interest::WRITABLE, || writable(stream))).await?;
            // The thread may outlive this future, so it gets a descriptor of its own.
            let socket = stream.as_fd().try_clone_to_owned()?;
            let segment = Arc::clone(&range.segment);
            let send = move || {
                let mut from = position;
                rustix::fs::sendfile(&socket, &*segment, Some(&mut from), step)
            };
            match self.reads.run(send).await.map_err(io::Error::other)? {
                Ok(bytes) => return Ok(bytes),
                // Somebody filled the socket between the probe and the call, or a signal came.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a step of sending, but not for a client that stopped reading.
    async fn progress<T>(&self, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut step = pin!(step);
        let mut waited = Duration::ZERO;
        loop {
            let patience = SHORT_STALL.min(self.stall.saturating_sub(waited));
            if let Ok(done) = tokio::time::timeout(patience, &mut step).await {
                return done;
            }
            waited += patience;
            if waited >= self.stall || self.memory.is_short() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading its answers"));
            }
        }
    }
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a segment is shorter than its index says")
}

/// Whether an error of sending is the disk's doing and not the peer's. Both come back from the same call.
fn blames_disk(error: &io::Error) -> bool {
    match error.raw_os_error() {
        // A page of the mapping that cannot be read, or is not there any more, is EFAULT.
        Some(
            libc::EIO
            | libc::EFAULT
            | libc::ENODATA
            | libc::EUCLEAN
            | libc::EBADMSG
            | libc::EREMOTEIO
            | libc::ENXIO
            | libc::ENODEV
            | libc::ENOMEDIUM
            | libc::ESTALE
            | libc::EILSEQ
            | libc::EROFS,
        ) => true,
        Some(_) => false,
        None => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

/// The first source at or behind `sent` bytes that comes from a file.
fn first_from_file(sources: &VecDeque<Source>, sent: usize) -> Option<&FileRange> {
    let mut end = 0;
    sources.iter().find_map(|source| {
        end += source.as_ref().len();
        match source {
            Source::Mapped(_, range) if end > sent => Some(range),
            Source::Mapped(..) | Source::Memory(_) => None,
        }
    })
}

/// Succeeds when the socket has room. `WouldBlock` makes tokio wait for the next time it has.
fn writable(stream: &TcpStream) -> io::Result<()> {
    let mut probe = [PollFd::new(stream, PollFlags::OUT)];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut probe, Some(&zero))? == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
}

/// Bytes that a gathered write takes.
enum Source {
    Memory(Bytes),
    Mapped(MappedSlice, FileRange),
}

impl AsRef<[u8]> for Source {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(slice, ..) => slice.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_and_the_peer_are_told_apart() {
        let errno = io::Error::from_raw_os_error;
        for disk in [libc::EIO, libc::EFAULT, libc::ENODATA, libc::EUCLEAN] {
            assert!(blames_disk(&errno(disk)), "{disk}");
        }
        assert!(blames_disk(&truncated()));
        for peer in [libc::EPIPE, libc::ECONNRESET, libc::ETIMEDOUT, libc::ENOTCONN, libc::EHOSTUNREACH] {
            assert!(!blames_disk(&errno(peer)), "{peer}");
        }
        assert!(!blames_disk(&io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading its answers")));
    }
}
