//! One connection: socket bytes to frames, frames to replies, replies to the socket in the order of their requests.
//!
//! One task does all of it. Requests are handled as they arrive, while the replies of earlier ones are still awaited;
//! a bounded queue keeps their order. Once the queue is full nothing more is read, and the client feels it through TCP.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::front::Front;
use crate::inbox::{BufferPool, Inbox};
use crate::peer::Peer;
use crate::pending::PendingReplies;
use crate::reply::{CloseReason, Piece, Reply};
use crate::service::{Service, Turn};

/// Bytes of requests that have arrived together after which no more are waited for.
const TURN_BYTES: usize = 256 << 10;

/// Why a connection ended.
enum End {
    /// The peer closed it.
    ByPeer,
    /// The peer closed it in the middle of a request, of which so many bytes had come.
    HalfSent(usize),
    /// The server stops, and every reply was sent.
    Stopped,
    /// Nothing came for `connections.max.idle.ms`.
    Idle,
    /// The server closed it, and why.
    Closed(CloseReason),
}

/// Serves a connection until it ends.
pub(crate) async fn run<S: Service>(stream: TcpStream, peer: Arc<Peer>, front: Arc<Front<S>>) {
    let addr = peer.addr;
    match Connection::new(stream, peer, front).serve().await {
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

struct Connection<S: Service> {
    stream: TcpStream,
    peer: Arc<Peer>,
    front: Arc<Front<S>>,
    inbox: Inbox,
    pending: PendingReplies,
    idle: IdleTimer,
    /// No request after this point is read: the peer broke the protocol, or the server stops.
    reading_stopped: bool,
}

impl<S: Service> Connection<S> {
    fn new(stream: TcpStream, peer: Arc<Peer>, front: Arc<Front<S>>) -> Self {
        let settings = &front.settings;
        Self {
            inbox: Inbox::new(settings.frame_bytes_max),
            pending: PendingReplies::new(settings.pending_requests_max, settings.pending_bytes_max),
            idle: IdleTimer::new(settings.idle),
            reading_stopped: false,
            stream,
            peer,
            front,
        }
    }

    async fn serve(&mut self) -> io::Result<End> {
        let mut stop = self.front.stop.clone();
        let mut stopping = false;
        loop {
            if let Some(reason) = self.send_ready().await? {
                return Ok(End::Closed(reason));
            }
            if stopping && self.pending.is_empty() {
                return Ok(End::Stopped);
            }
            let may_read = !self.reading_stopped && self.pending.has_room();
            let Self { stream, inbox, pending, idle, front, .. } = self;
            let read = tokio::select! {
                biased;
                () = pending.settle_first() => continue,
                () = stop.begun(), if !stopping => {
                    stopping = true;
                    self.reading_stopped = true;
                    continue;
                }
                read = poll_fn(|context| poll_read(stream, inbox, &front.buffers, context)), if may_read => read?,
                () = idle.expired(), if pending.is_empty() => return Ok(End::Idle),
            };
            if read == 0 {
                let half_sent = self.inbox.waiting_bytes();
                return Ok(if half_sent > 0 { End::HalfSent(half_sent) } else { End::ByPeer });
            }
            self.idle.touch();
            self.take_requests(true);
            self.inbox.rest(&self.front.buffers);
        }
    }

    /// Gives the service every request that has arrived whole and for which the queue has room. When they were just read, what
    /// else is there is read and taken with them.
    fn take_requests(&mut self, just_read: bool) {
        let Self { stream, front, peer, inbox, pending, reading_stopped, .. } = self;
        let service = &front.service;
        let mut turn = Turn::default();
        loop {
            let mut all_taken = false;
            while !*reading_stopped && pending.has_room_beside(turn.waiting(), turn.waiting_bytes()) {
                match inbox.next_frame() {
                    Ok(None) => {
                        all_taken = true;
                        break;
                    }
                    Ok(Some(frame)) => service.take(peer, frame, &mut turn),
                    Err(reason) => turn.close(service, peer, reason),
                }
                *reading_stopped |= pending.add(turn.replies());
            }
            let joinable = all_taken && (1..TURN_BYTES).contains(&turn.waiting_bytes());
            if !(just_read && joinable && read_on(stream, inbox)) {
                break;
            }
        }
        service.finish(peer, &mut turn);
        *reading_stopped |= pending.add(turn.replies());
    }

    /// Sends the replies that are ready and first in line. A reason comes back when the connection must end.
    async fn send_ready(&mut self) -> io::Result<Option<CloseReason>> {
        loop {
            let mut pieces = Vec::new();
            let mut close = None;
            while let Some(reply) = self.pending.pop_settled() {
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
                self.front.delivery.send(&self.stream, pieces).await?;
                self.idle.touch();
            }
            if close.is_some() {
                return Ok(close);
            }
            // The queue was full when more requests had arrived than it takes: they come now.
            self.take_requests(false);
            if !self.pending.first_is_settled() {
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
