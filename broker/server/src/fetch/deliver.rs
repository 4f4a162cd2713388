//! Sends responses: headers and small hot pieces of the log in one gathered write, large or cold ones by `sendfile`.
//!
//! Record data never passes through user memory. Small pieces come from the mapping (the kernel copies them; `sendfile`
//! costs 1.75 times the CPU at 64 KiB), large ones from the file. A piece that is not in the page cache is sent from a
//! blocking thread, because whoever sends it waits for the disk.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use ottla_log::{FileRange, MappedSlice};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::config::Config;
use crate::request::Piece;

/// Most pieces that one `sendmsg` takes.
const PIECES_MAX: usize = 1024;

/// The settings of sending.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// From how many bytes on a piece leaves by `sendfile`.
    sendfile_min_bytes: u32,
    /// Bytes handed to one call of `sendfile`.
    step_bytes: usize,
    /// How long the client may take nothing before it is given up.
    stall: Duration,
}

impl Delivery {
    /// The settings of this broker.
    pub fn new(config: &Config) -> Self {
        Self {
            sendfile_min_bytes: config.sendfile_min_bytes,
            step_bytes: config.deliver_step_bytes,
            stall: Duration::from_millis(config.connection_idle_ms),
        }
    }

    /// Sends all pieces, in order.
    pub async fn send(&self, stream: &TcpStream, pieces: impl IntoIterator<Item = Piece>) -> io::Result<()> {
        let mut gathered = VecDeque::new();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => gathered.push_back(Source::Memory(bytes)),
                Piece::File(range) => {
                    if let Some(slice) = self.mapped(&range) {
                        gathered.push_back(Source::Mapped(slice));
                    } else {
                        self.send_gathered(stream, &mut gathered, SendFlags::MORE).await?;
                        self.send_file(stream, &range).await?;
                    }
                }
            }
        }
        self.send_gathered(stream, &mut gathered, SendFlags::empty()).await
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
        while !rest.is_empty() {
            let (now, flags) = match rest.get(..PIECES_MAX) {
                Some(first) if rest.len() > PIECES_MAX => (first, flags | SendFlags::MORE),
                _ => (&*rest, flags),
            };
            let send = || {
                let mut control = SendAncillaryBuffer::default();
                Ok(sendmsg(stream, now, &mut control, flags | SendFlags::NOSIGNAL)?)
            };
            let written = self.progress(stream.async_io(Interest::WRITABLE, send)).await?;
            if written == 0 {
                // A source that shrank to nothing: going on would repeat this for ever.
                return Err(io::ErrorKind::WriteZero.into());
            }
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
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a segment is shorter than its index says"));
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
            let segment = std::sync::Arc::clone(&range.segment);
            let send = move || {
                let mut from = position;
                rustix::fs::sendfile(&socket, &*segment, Some(&mut from), step)
            };
            match tokio::task::spawn_blocking(send).await.map_err(io::Error::other)? {
                Ok(bytes) => return Ok(bytes),
                // Somebody filled the socket between the probe and the call, or a signal came.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a step of sending, but not for a client that stopped reading.
    async fn progress<T>(&self, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        match tokio::time::timeout(self.stall, step).await {
            Ok(done) => done,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading its answers")),
        }
    }
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
    Mapped(MappedSlice),
}

impl AsRef<[u8]> for Source {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(slice) => slice.as_ref(),
        }
    }
}
