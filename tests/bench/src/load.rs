//! The load generator: the same for both sides of a row.
//!
//! Blocking sockets, one thread per connection, a fixed window of requests in flight, a bounded number of requests and a
//! bounded time: a run always ends. Answers are received into a buffer, as a client would copy them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::pairs::Latency;

/// How long a socket may stay silent before the run is called broken.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Time that a run may take where no other is given: far more than any run needs.
pub(crate) const SECONDS_MAX: f64 = 60.0;

/// One connection's work.
pub(crate) struct Script {
    /// The request frames, sent round and round.
    pub(crate) requests: Vec<Vec<u8>>,
    /// Requests to send in all.
    pub(crate) count: usize,
    /// Time after which no more are sent, however many are left.
    pub(crate) seconds_max: f64,
    /// Time between two requests, where they come at a fixed rate: a late answer counts from when its request was due.
    pub(crate) every_s: Option<f64>,
    /// Requests in flight.
    pub(crate) window: usize,
    /// Where in an answer, after its length, a big-endian error code stands that must be zero.
    pub(crate) error_at: Option<usize>,
}

/// What a run did.
pub(crate) struct Done {
    pub(crate) wall_s: f64,
    pub(crate) requests: usize,
    pub(crate) received_bytes: u64,
    /// Latency of each answer in microseconds, unsorted.
    pub(crate) latencies_us: Vec<f64>,
}

impl Done {
    /// The latencies in short.
    pub(crate) fn latency(&self) -> Latency {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let at = (sorted.len() as f64 * quantile) as usize;
            sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
        };
        Latency { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999) }
    }
}

/// Runs one script per connection at once and waits for all.
pub(crate) fn drive(addr: SocketAddr, scripts: &[Script]) -> Result<Done> {
    let sockets = scripts.iter().map(|_| connect(addr)).collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = sockets
            .into_iter()
            .zip(scripts)
            .map(|(socket, script)| scope.spawn(move || connection(socket, script)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| bail!("a connection panicked"))).collect::<Vec<_>>()
    });
    let wall_s = begin.elapsed().as_secs_f64();
    let mut done = Done { wall_s, requests: 0, received_bytes: 0, latencies_us: Vec::new() };
    for part in parts {
        let (bytes, latencies) = part?;
        done.requests += latencies.len();
        done.received_bytes += bytes;
        done.latencies_us.extend(latencies);
    }
    Ok(done)
}

pub(crate) fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(addr).with_context(|| format!("connecting to {addr}"))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    socket.set_write_timeout(Some(SILENCE_MAX))?;
    Ok(socket)
}

/// Sends and receives on one connection; gives the bytes received and each answer's latency.
fn connection(mut socket: TcpStream, script: &Script) -> Result<(u64, Vec<f64>)> {
    let mut sent_at = std::collections::VecDeque::with_capacity(script.window);
    let mut latencies = Vec::with_capacity(script.count);
    let mut answers = Answers { buffer: vec![0; 256 << 10], filled: 0, parsed: 0, bytes: 0 };
    let begin = Instant::now();
    let mut sent = 0.0;
    let mut requests = script
        .requests
        .iter()
        .cycle()
        .take(script.count)
        .take_while(|_| begin.elapsed().as_secs_f64() < script.seconds_max);
    loop {
        while sent_at.len() < script.window {
            let Some(request) = requests.next() else { break };
            let due = script.every_s.map(|every_s| begin + Duration::from_secs_f64(every_s * sent));
            sent += 1.0;
            if let Some(early) = due.and_then(|due| due.checked_duration_since(Instant::now())) {
                std::thread::sleep(early);
            }
            socket.write_all(request)?;
            sent_at.push_back(due.unwrap_or_else(Instant::now));
        }
        let Some(since) = sent_at.pop_front() else { break };
        answers.take(&mut socket, script.error_at)?;
        latencies.push(since.elapsed().as_secs_f64() * 1e6);
    }
    Ok((answers.bytes, latencies))
}

/// The receiving half: frames out of a buffer, bodies copied and forgotten.
struct Answers {
    buffer: Vec<u8>,
    filled: usize,
    parsed: usize,
    bytes: u64,
}

impl Answers {
    fn take(&mut self, socket: &mut TcpStream, error_at: Option<usize>) -> Result<()> {
        let head = error_at.map_or(4, |at| 4 + at + 2);
        while self.filled - self.parsed < head {
            self.receive(socket)?;
        }
        let frame = &self.buffer[self.parsed..self.filled];
        let length = frame.first_chunk::<4>().map_or(0, |n| u32::from_be_bytes(*n) as usize);
        if let Some(at) = error_at {
            let code = frame.get(4 + at..).and_then(|f| f.first_chunk::<2>()).map_or(-1, |c| i16::from_be_bytes(*c));
            ensure!(code == 0, "the server answered error code {code}");
        }
        self.bytes += length as u64;
        let mut left = 4 + length;
        loop {
            let here = left.min(self.filled - self.parsed);
            self.parsed += here;
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.receive(socket)?;
        }
    }

    fn receive(&mut self, socket: &mut TcpStream) -> Result<()> {
        if self.parsed == self.filled {
            (self.parsed, self.filled) = (0, 0);
        } else if self.filled == self.buffer.len() {
            self.buffer.copy_within(self.parsed..self.filled, 0);
            self.filled -= self.parsed;
            self.parsed = 0;
        }
        let n = socket.read(&mut self.buffer[self.filled..])?;
        ensure!(n > 0, "the server closed the connection");
        self.filled += n;
        Ok(())
    }
}
