//! The ceilings: the same system calls as the broker's, with nothing around them.
//!
//! Each loop speaks just enough framing (a 4-byte length, then that many bytes) for the load generator not to know which
//! side it is driving. Blocking sockets, one thread per connection: the cheapest shape for few connections.

mod echo;
mod egress;
mod group_commit;
mod ingest;
mod recover;

use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;

pub(crate) use egress::{CHUNK_BYTES as EGRESS_CHUNK_BYTES, FILE_CHUNKS as EGRESS_FILE_CHUNKS, apart as egress_apart};
pub(crate) use recover::read_and_check;

/// Bytes of the answer to a produce request: the size of Ottla's own answer for one partition.
const ANSWER_BYTES: usize = 64;

/// Bytes of one preallocation step, the largest step of the broker's log.
const PREALLOCATE_BYTES: u64 = 16 << 20;

/// Bytes after which a loop begins a new file, as the log rolls its segments.
const SEGMENT_BYTES: u64 = 1 << 30;

/// A bare loop.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Ceiling {
    /// recv into a large buffer, CRC32C, one pwritev
    Ingest,
    /// a small header with `MSG_MORE`, then sendfile of 1 MiB
    Egress,
    /// answer a small frame with a small frame, on tokio
    Echo,
    /// append under a lock, fdatasync by one flusher, answer
    GroupCommit,
}

impl Ceiling {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Egress => "egress",
            Self::Echo => "echo",
            Self::GroupCommit => "group-commit",
        }
    }
}

/// Serves `ceiling` on a free loopback port until the process is killed.
pub(crate) fn serve(ceiling: Ceiling, dir: &Path) -> Result<()> {
    match ceiling {
        Ceiling::Ingest => {
            let dir = dir.to_owned();
            accept(move |socket, id| ingest::connection(socket, &dir, id))
        }
        Ceiling::Egress => {
            let file = Arc::new(egress::segment(dir)?);
            accept(move |socket, id| egress::connection(socket, &file, id))
        }
        Ceiling::Echo => echo::serve(),
        Ceiling::GroupCommit => {
            let log = Arc::new(group_commit::Log::create(dir)?);
            accept(move |socket, _| group_commit::connection(socket, &log))
        }
    }
}

fn accept(connection: impl Fn(TcpStream, usize) -> Result<()> + Clone + Send + 'static) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    announce(listener.local_addr()?);
    for (id, socket) in listener.incoming().enumerate() {
        let socket = socket?;
        socket.set_nodelay(true)?;
        let connection = connection.clone();
        std::thread::spawn(move || {
            // A load generator that hangs up in the middle of a run is no news.
            let _ = connection(socket, id);
        });
    }
    Ok(())
}

fn announce(addr: std::net::SocketAddr) {
    println!("listening on {addr}");
    let _ = std::io::stdout().flush();
}

/// Whole frames out of a large receive buffer.
struct Frames {
    socket: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    parsed: usize,
}

impl Frames {
    fn new(socket: TcpStream) -> Self {
        Self { socket, buffer: vec![0; 256 << 10], filled: 0, parsed: 0 }
    }

    /// The payload ranges of every whole frame in the buffer after at least one more has arrived; `None` at the end.
    fn next(&mut self, ranges: &mut Vec<std::ops::Range<usize>>) -> Result<bool> {
        ranges.clear();
        self.buffer.copy_within(self.parsed..self.filled, 0);
        self.filled -= self.parsed;
        self.parsed = 0;
        loop {
            while let Some(prefix) = self.buffer[self.parsed..self.filled].first_chunk::<4>() {
                let end = self.parsed + 4 + u32::from_be_bytes(*prefix) as usize;
                if end > self.filled {
                    if end - self.parsed > self.buffer.len() {
                        self.buffer.resize(end - self.parsed, 0);
                    }
                    break;
                }
                ranges.push(self.parsed + 4..end);
                self.parsed = end;
            }
            if !ranges.is_empty() {
                return Ok(true);
            }
            let n = self.socket.read(&mut self.buffer[self.filled..])?;
            if n == 0 {
                return Ok(false);
            }
            self.filled += n;
        }
    }
}

/// `count` answers of [`ANSWER_BYTES`] zero bytes each, in one write.
fn answer(mut socket: &TcpStream, count: usize) -> Result<()> {
    let mut frame = [0_u8; 4 + ANSWER_BYTES];
    frame[..4].copy_from_slice(&(ANSWER_BYTES as u32).to_be_bytes());
    socket.write_all(&frame.repeat(count))?;
    Ok(())
}

/// A file in the scratch directory that grows by fallocate'd steps.
struct StepFile {
    file: std::fs::File,
    end: u64,
    allocated: u64,
}

impl StepFile {
    fn create(path: &Path) -> Result<Self> {
        let file = std::fs::File::options().create(true).truncate(true).read(true).write(true).open(path)?;
        Ok(Self { file, end: 0, allocated: 0 })
    }

    fn append(&mut self, slices: &[std::io::IoSlice<'_>]) -> Result<()> {
        let bytes = slices.iter().map(|s| s.len() as u64).sum::<u64>();
        while self.end + bytes > self.allocated {
            rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), self.allocated, PREALLOCATE_BYTES)?;
            self.allocated += PREALLOCATE_BYTES;
        }
        let written = rustix::io::pwritev(&self.file, slices, self.end)? as u64;
        anyhow::ensure!(written == bytes, "short write");
        self.end += bytes;
        Ok(())
    }
}
