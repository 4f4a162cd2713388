//! One connection: socket bytes to frames, frames to replies, replies to the socket in the order of their requests.
//!
//! One task does all of it. Requests are handled as they arrive, while the replies of earlier ones are still awaited;
//! a bounded queue keeps their order. Once the queue is full nothing more is read, and the client feels it through TCP.

mod inbox;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::broker::Broker;
use crate::fetch::deliver::Delivery;
use crate::request::{CloseReason, Peer, Piece, Reply, Turn};

pub use inbox::BufferPool;
use inbox::Inbox;

/// Bytes of requests that have arrived together after which no more are waited for.
const TURN_BYTES: usize = 256 << 10;

/// Why a connection ended.
enum End {
    /// The peer closed it.
    ByPeer,
    /// The peer closed it in the middle of a request, of which so many bytes had come.
    HalfSent(usize),
    /// The broker stops, and everything owed was sent.
    Stopped,
    /// Nothing came for `connections.max.idle.ms`.
    Idle,
    /// The broker closed it, and why.
    Closed(CloseReason),
}

/// Serves a connection until it ends.
pub async fn run(stream: TcpStream, peer: Arc<Peer>, broker: Arc<Broker>) {
    let addr = peer.addr;
    match Connection::new(stream, peer, broker).serve().await {
        Ok(End::ByPeer) => tracing::debug!("{addr} closed its connection"),
        Ok(End::HalfSent(bytes)) => {
            tracing::info!("closed the connection of {addr}: it ended {bytes} bytes into a request");
        }
        Ok(End::Stopped) => tracing::debug!("closed the connection of {addr}: the broker stops"),
        Ok(End::Idle) => tracing::info!("closed the connection of {addr}: nothing came for too long"),
        Ok(End::Closed(reason)) => tracing::warn!("closed the connection of {addr}: {reason}"),
        Err(error) if is_departure(&error) => tracing::debug!("{addr} went away: {error}"),
        Err(error) => tracing::warn!("lost the connection of {addr}: {error}"),
    }
}

/// Clients leave without ceremony all the time; that is no news.
fn is_departure(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected)
}

struct Connection {
    stream: TcpStream,
    peer: Arc<Peer>,
    broker: Arc<Broker>,
    delivery: Delivery,
    inbox: Inbox,
    owed: Owed,
    idle: IdleTimer,
    /// No request after this point is read: the peer broke the protocol, or the broker stops.
    deaf: bool,
}

impl Connection {
    fn new(stream: TcpStream, peer: Arc<Peer>, broker: Arc<Broker>) -> Self {
        let config = &broker.config;
        Self {
            delivery: Delivery::new(config, &broker.metrics),
            inbox: Inbox::new(config.request_max_bytes),
            owed: Owed::new(config.connection_requests_max, config.connection_request_bytes_max),
            idle: IdleTimer::new(Duration::from_millis(config.connection_idle_ms)),
            deaf: false,
            stream,
            peer,
            broker,
        }
    }

    async fn serve(&mut self) -> io::Result<End> {
        let mut stop = self.broker.shutdown.watch();
        let mut stopping = false;
        loop {
            if let Some(reason) = self.pay().await? {
                return Ok(End::Closed(reason));
            }
            if stopping && self.owed.is_empty() {
                return Ok(End::Stopped);
            }
            let may_read = !self.deaf && self.owed.has_room();
            let Self { stream, inbox, owed, idle, broker, .. } = self;
            let read = tokio::select! {
                biased;
                () = owed.settle_first() => continue,
                () = stop.begun(), if !stopping => {
                    stopping = true;
                    self.deaf = true;
                    continue;
                }
                read = poll_fn(|context| poll_read(stream, inbox, &broker.buffers, context)), if may_read => read?,
                () = idle.expired(), if owed.is_empty() => return Ok(End::Idle),
            };
            if read == 0 {
                let half_sent = self.inbox.waiting_bytes();
                return Ok(if half_sent > 0 { End::HalfSent(half_sent) } else { End::ByPeer });
            }
            self.idle.touch();
            self.take_requests(true);
            self.inbox.rest(&self.broker.buffers);
        }
    }

    /// Handles every request that has arrived whole and for which the queue has room. When they were just read, what
    /// else is there is read and handled with them.
    fn take_requests(&mut self, just_read: bool) {
        let Self { stream, broker, peer, inbox, owed, deaf, .. } = self;
        let mut turn = Turn::new(broker, peer);
        loop {
            let mut all_handled = false;
            while !*deaf && owed.has_room_beside(turn.waiting(), turn.waiting_bytes()) {
                match inbox.next_frame() {
                    Ok(None) => {
                        all_handled = true;
                        break;
                    }
                    Ok(Some(frame)) => turn.handle(frame),
                    Err(reason) => turn.close(reason),
                }
                *deaf |= owed.add(turn.replies());
            }
            let joinable = all_handled && (1..TURN_BYTES).contains(&turn.waiting_bytes());
            if !(just_read && joinable && read_on(stream, inbox)) {
                break;
            }
        }
        turn.finish();
        *deaf |= owed.add(turn.replies());
    }

    /// Sends the replies that are ready and first in line. A reason comes back when the connection must end.
    async fn pay(&mut self) -> io::Result<Option<CloseReason>> {
        loop {
            let mut pieces = Vec::new();
            let mut close = None;
            while let Some(reply) = self.owed.pop_settled() {
                match reply {
                    Reply::Ready(response) => {
                        pieces.push(Piece::Bytes(response.head));
                        pieces.extend(response.rest);
                    }
                    Reply::Silent | Reply::Later(_) | Reply::Exclusive(_) => {}
                    Reply::Close(reason) => {
                        close = Some(reason);
                        break;
                    }
                }
            }
            if !pieces.is_empty() {
                self.delivery.send(&self.stream, pieces).await?;
                self.idle.touch();
            }
            if close.is_some() {
                return Ok(close);
            }
            // The queue was full when more requests had arrived than it takes: they come now.
            self.take_requests(false);
            if !self.owed.first_is_settled() {
                return Ok(None);
            }
        }
    }
}

/// Reads once, when there is something to read. The buffer is there only while it is needed.
fn poll_read(
    stream: &mut TcpStream,
    inbox: &mut Inbox,
    pool: &BufferPool,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    ready!(stream.poll_read_ready(context))?;
    let polled = pin!(stream.read_buf(&mut inbox.room(pool))).poll(context);
    if polled.is_pending() {
        inbox.rest(pool);
    }
    polled
}

/// Reads what is there of a frame that has begun behind others that are about to be handled; true when all of it came.
/// An end or an error comes again with the next read.
fn read_on(stream: &TcpStream, inbox: &mut Inbox) -> bool {
    let Some(mut room) = inbox.more_room() else { return false };
    let wanted = room.limit();
    stream.try_read_buf(&mut room).is_ok_and(|read| read == wanted)
}

/// Replies owed to the client, first asked first.
struct Owed {
    queue: VecDeque<(Reply, usize)>,
    bytes: usize,
    requests_max: usize,
    bytes_max: usize,
}

impl Owed {
    fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, requests_max, bytes_max }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn has_room(&self) -> bool {
        self.has_room_beside(0, 0)
    }

    /// Whether there is room beside requests that are about to be added.
    fn has_room_beside(&self, requests: usize, bytes: usize) -> bool {
        self.queue.len() + requests < self.requests_max
            && self.bytes + bytes < self.bytes_max
            && !matches!(self.queue.back(), Some((Reply::Exclusive(_), _)))
    }

    /// Adds a reply. It counts with the bytes of its request and, if it is there already, its own.
    fn push(&mut self, reply: Reply, request_bytes: usize) {
        let bytes = request_bytes
            + match &reply {
                Reply::Ready(response) => response.head.len(),
                _ => 0,
            };
        self.queue.push_back((reply, bytes));
        self.bytes += bytes;
    }

    /// Adds replies. True: one of them ends the connection.
    fn add(&mut self, replies: impl Iterator<Item = (Reply, usize)>) -> bool {
        let mut closes = false;
        for (reply, request_bytes) in replies {
            closes |= matches!(reply, Reply::Close(_));
            self.push(reply, request_bytes);
        }
        closes
    }

    fn first_is_settled(&self) -> bool {
        self.queue.front().is_some_and(|(reply, _)| !reply.is_pending())
    }

    fn pop_settled(&mut self) -> Option<Reply> {
        if !self.first_is_settled() {
            return None;
        }
        let (reply, bytes) = self.queue.pop_front()?;
        self.bytes -= bytes;
        Some(reply)
    }

    /// Waits until the first reply is no longer to come; for ever when none is owed.
    async fn settle_first(&mut self) {
        match self.queue.front_mut() {
            Some((reply, _)) => {
                while let Reply::Later(future) | Reply::Exclusive(future) = reply {
                    let settled = future.await;
                    *reply = settled;
                }
            }
            None => std::future::pending().await,
        }
    }
}

/// Expires when nothing was read or sent for a while. Touching it sets no timer, so that it costs a request nothing.
struct IdleTimer {
    after: Duration,
    touched: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl IdleTimer {
    fn new(after: Duration) -> Self {
        Self { after, touched: Instant::now(), alarm: Box::pin(sleep(after)) }
    }

    fn touch(&mut self) {
        self.touched = Instant::now();
    }

    async fn expired(&mut self) {
        loop {
            self.alarm.as_mut().await;
            let due = self.touched + self.after;
            if due <= Instant::now() {
                return;
            }
            self.alarm.as_mut().reset(due);
        }
    }
}
