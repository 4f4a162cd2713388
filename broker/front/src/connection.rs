//! One connection: socket bytes to frames, frames to replies, replies to the socket in the order of their requests.
//!
//! One task does all of it. Requests are handled as they arrive, while the replies of earlier ones are still awaited;
//! a bounded queue keeps their order. Once the queue is full, or the memory of all connections is, nothing more is read, and
//! the client feels it through TCP. A turn gives way after a millisecond, and no answers are made behind others that have
//! not left.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ottla_log::canary::{Canary, broken};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::front::Front;
use crate::inbox::{BufferPool, Inbox};
use crate::memory::{Charge, Use};
use crate::peer::Peer;
use crate::pending::PendingReplies;
use crate::reply::{CloseReason, Piece, Reply};
use crate::service::{Service, Turn};

/// Bytes of requests that have arrived together after which no more are waited for.
const TURN_BYTES: usize = 256 << 10;
/// Time after which a turn gives way to other connections, although more requests have arrived.
const TURN_TIME: Duration = Duration::from_millis(1);
/// Bytes that a connection may hold without being charged for them, so that small requests cost no more than they did.
const UNCHARGED_BYTES: usize = 4 << 10;
/// Room for which memory is asked before a read; a request that is not long may bring more at once.
const READ_BYTES: usize = 256 << 10;
/// From how many bytes on a request is long. One with a batch of the usual greatest size (`message.max.bytes`) is not.
const LONG_REQUEST_BYTES: usize = (1 << 20) + (64 << 10);
/// What one read brings of a long request; then the connection gives way to others. Into fresh memory that takes an eighth of a
/// millisecond: with forty such connections on two threads, others wait three.
const LONG_READ_BYTES: usize = 128 << 10;
/// Bytes of requests that a connection may hold although there is no memory left.
const FLOOR_BYTES: usize = 16 << 10;

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
    let ended = Connection::new(stream, peer, Arc::clone(&front)).serve().await;
    let allow = |kind| front.complaints.allow(kind, addr.ip().to_canonical());
    match ended {
        Ok(End::ByPeer) => tracing::debug!("{addr} closed its connection"),
        Ok(End::HalfSent(bytes)) if allow("half-sent requests") => {
            tracing::info!("closed the connection of {addr}: it ended {bytes} bytes into a request");
        }
        Ok(End::Stopped) => tracing::debug!("closed the connection of {addr}: the broker stops"),
        Ok(End::Idle) if allow("idle connections") => {
            tracing::info!("closed the connection of {addr}: nothing came for too long");
        }
        Ok(End::Closed(reason)) if allow(reason.kind()) => {
            tracing::warn!("closed the connection of {addr}: {reason}");
        }
        Err(error) if is_departure(&error) => tracing::debug!("{addr} went away: {error}"),
        Err(error) if allow("lost connections") => tracing::warn!("lost the connection of {addr}: {error}"),
        Ok(End::HalfSent(_) | End::Idle | End::Closed(_)) | Err(_) => {}
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
    /// What its requests hold of the memory of all.
    requests: Charge,
    /// What its answers hold.
    answers: Charge,
    idle: IdleTimer,
    /// When it is closed unless memory comes free.
    memory_deadline: Option<Instant>,
    /// No request after this point is read: the peer broke the protocol, or the server stops.
    reading_stopped: bool,
}

impl<S: Service> Connection<S> {
    fn new(stream: TcpStream, peer: Arc<Peer>, front: Arc<Front<S>>) -> Self {
        let settings = &front.settings;
        Self {
            inbox: Inbox::new(settings.frame_bytes_max),
            pending: PendingReplies::new(settings.pending_requests_max, settings.pending_bytes_max),
            requests: front.memory.charge(Use::Requests),
            answers: front.memory.charge(Use::Answers),
            idle: IdleTimer::new(settings.idle),
            memory_deadline: None,
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
            let may_take = !self.reading_stopped && self.pending.has_room();
            if may_take && self.inbox.has_frame() {
                // The turn gave way, or more requests had arrived than may be pending.
                tokio::task::yield_now().await;
                self.take_requests(false, Instant::now());
                continue;
            }
            self.account(0);
            let read_bytes_max = if may_take { self.read_bytes_max() } else { 0 };
            let may_read = read_bytes_max > 0;
            let memory_deadline = self.memory_deadline;
            let Self { stream, inbox, pending, idle, front, requests, .. } = self;
            let read = tokio::select! {
                biased;
                () = pending.settle(), if !pending.is_empty() => continue,
                () = stop.begun(), if !stopping => {
                    stopping = true;
                    self.reading_stopped = true;
                    continue;
                }
                read = poll_fn(|context| poll_read(stream, inbox, &front.buffers, read_bytes_max, context)), if may_read => read?,
                () = front.memory.room(requests.bytes(), READ_BYTES), if may_take && !may_read => continue,
                () = reached(memory_deadline), if may_take && !may_read && pending.is_empty() => {
                    return Ok(End::Closed(CloseReason::OutOfMemory {
                        bytes: requests.bytes(),
                        bytes_max: front.memory.bytes_max(),
                        patience: front.settings.memory_patience,
                    }));
                }
                () = idle.expired(), if pending.is_empty() => return Ok(End::Idle),
            };
            if read == 0 {
                let half_sent = self.inbox.waiting_bytes();
                return Ok(if half_sent > 0 { End::HalfSent(half_sent) } else { End::ByPeer });
            }
            let now = Instant::now();
            self.idle.touch(now);
            self.take_requests(true, now);
            self.inbox.rest(&self.front.buffers);
            if self.is_long() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether a long request is arriving.
    fn is_long(&self) -> bool {
        self.inbox.frame_bytes() >= LONG_REQUEST_BYTES && !broken(Canary::TurnWithoutEnd)
    }

    /// Charges what the connection holds, `sending` bytes of answers among it.
    fn account(&mut self, sending: usize) {
        let charged = |bytes: usize| if bytes > UNCHARGED_BYTES { bytes } else { 0 };
        self.requests.set(charged(self.inbox.waiting_bytes() + self.pending.request_bytes()));
        self.answers.set(charged(self.pending.ready_bytes() + sending));
    }

    /// How many bytes the next read may bring: as many as a turn may, what every connection may hold, or none for now.
    fn read_bytes_max(&mut self) -> usize {
        let own = self.requests.bytes();
        if self.front.memory.has_room(own, READ_BYTES) || broken(Canary::NoMemoryBound) {
            self.memory_deadline = None;
            return if self.is_long() { LONG_READ_BYTES } else { usize::MAX };
        }
        let left = FLOOR_BYTES.saturating_sub(own);
        let patience = self.front.settings.memory_patience;
        self.memory_deadline = (left == 0).then(|| self.memory_deadline.unwrap_or_else(|| Instant::now() + patience));
        left
    }

    /// Gives the service the requests that have arrived whole by `now` and for which the queue has room, until the turn
    /// gives way. When they were just read, what else is there is read and taken with them.
    fn take_requests(&mut self, just_read: bool, now: Instant) {
        let Self { stream, front, peer, inbox, pending, reading_stopped, .. } = self;
        let service = &front.service;
        let begun = now.into_std();
        let mut turn = Turn::begun_at(begun);
        loop {
            let (mut all_taken, mut gives_way) = (false, false);
            while !*reading_stopped && !gives_way && pending.has_room_beside(turn.waiting(), turn.waiting_bytes()) {
                match inbox.next_frame() {
                    Ok(None) => {
                        all_taken = true;
                        break;
                    }
                    Ok(Some(frame)) => service.take(peer, frame, &mut turn),
                    Err(reason) => turn.close(service, peer, reason),
                }
                *reading_stopped |= pending.add(turn.replies());
                // Where no other request waits, the turn ends by itself and the clock can be left alone.
                gives_way = inbox.has_frame() && begun.elapsed() >= TURN_TIME && !broken(Canary::TurnWithoutEnd);
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
        let mut pieces = Vec::new();
        let mut close = None;
        // One look at the clock for all of them.
        let mut now = None;
        while let Some((reply, request)) = self.pending.pop_settled() {
            if let (Some(kind), false) = (request.kind, matches!(reply, Reply::Close(_))) {
                let now = *now.get_or_insert_with(std::time::Instant::now);
                self.front.service.answered(kind, now.saturating_duration_since(request.at));
            }
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
            self.account(pieces.iter().map(Piece::memory_bytes).sum());
            self.front.delivery.send(&self.stream, pieces).await?;
            self.idle.touch(Instant::now());
        }
        if let Some(farewell) = close.as_ref().and_then(CloseReason::farewell) {
            // It is the first thing that this peer is sent, so there is room; the end comes either way.
            let _ = self.stream.try_write(farewell);
        }
        Ok(close)
    }
}

/// Waits for a moment; for ever where there is none.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Reads once, when there is something to read. The buffer is there only while it is needed.
fn poll_read(
    stream: &mut TcpStream,
    inbox: &mut Inbox,
    pool: &BufferPool,
    bytes_max: usize,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    ready!(stream.poll_read_ready(context))?;
    let mut room = inbox.room(pool);
    room.set_limit(room.limit().min(bytes_max));
    let polled = pin!(stream.read_buf(&mut room)).poll(context);
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

    fn touch(&mut self, now: Instant) {
        self.touched = now;
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
