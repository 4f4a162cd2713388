//! The seam between the sockets and the service that answers: the frame.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::peer::Peer;
use crate::reply::{CloseReason, Reply};

/// What frames become. One value serves all connections.
///
/// Both methods run on threads that serve connections: what may block or wait goes into [`Reply::Later`] or
/// [`Reply::Exclusive`].
pub trait Service: Send + Sync + 'static {
    /// The requests of one turn that are handled together when it ends; `()` where each is handled by itself.
    type Joined: Default;

    /// Takes the next frame of a connection, the 4-byte length taken off. Its reply is pushed to `turn`, now or, if it
    /// [joins](Turn::join) others, when the turn is [finished](Self::finish). Replies are pushed in the order of their
    /// requests, so a frame that is not joined finishes those that are first. After a [`Reply::Close`] no further frame
    /// comes.
    fn take(self: &Arc<Self>, peer: &Arc<Peer>, frame: BytesMut, turn: &mut Turn<Self::Joined>);

    /// Handles the joined requests of `turn` and pushes a reply for each.
    fn finish(self: &Arc<Self>, peer: &Arc<Peer>, turn: &mut Turn<Self::Joined>);

    /// The reply to a request of this [kind](Taken::kind) begins to leave, `took` after the request was taken. Called for
    /// each request that has a kind and does not end its connection; it must cost next to nothing.
    fn answered(&self, kind: usize, took: Duration) {
        let _ = (kind, took);
    }
}

/// A request that was taken, on its way to its reply.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// Its bytes.
    pub bytes: usize,
    /// The number by which the service knows its kind; none for what it does not count.
    pub kind: Option<usize>,
    /// When it was taken.
    pub at: Instant,
}

impl Taken {
    /// A request of `bytes` that is taken at this time and has no kind yet.
    pub fn at(at: Instant, bytes: usize) -> Self {
        Self { bytes, kind: None, at }
    }

    /// The same with its kind.
    #[must_use]
    pub fn of_kind(self, kind: Option<usize>) -> Self {
        Self { kind, ..self }
    }
}

/// The requests of one connection that one read brought.
#[derive(Debug)]
pub struct Turn<J> {
    begun: Instant,
    joined: J,
    joined_requests: usize,
    joined_bytes: usize,
    replies: Vec<(Reply, Taken)>,
}

impl<J: Default> Turn<J> {
    /// A turn without requests that begins at this time.
    pub fn begun_at(begun: Instant) -> Self {
        Self { begun, joined: J::default(), joined_requests: 0, joined_bytes: 0, replies: Vec::new() }
    }

    /// When it began. Its requests count as taken then: one look at the clock for all of them.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// The requests that are handled together, to add one of `bytes`.
    pub fn join(&mut self, bytes: usize) -> &mut J {
        self.joined_requests += 1;
        self.joined_bytes += bytes;
        &mut self.joined
    }

    /// Takes the joined requests out, to be handled; `None` where there are none.
    pub fn take_joined(&mut self) -> Option<J> {
        self.joined_bytes = 0;
        (std::mem::take(&mut self.joined_requests) > 0).then(|| std::mem::take(&mut self.joined))
    }

    /// The reply to a request.
    pub fn push(&mut self, reply: Reply, request: Taken) {
        self.replies.push((reply, request));
    }

    /// Ends the connection behind the requests that were taken so far.
    pub(crate) fn close<S: Service<Joined = J>>(&mut self, service: &Arc<S>, peer: &Arc<Peer>, reason: CloseReason) {
        service.finish(peer, self);
        self.push(reason.into(), Taken::at(self.begun, 0));
    }

    /// Requests that have no reply yet.
    pub(crate) fn waiting(&self) -> usize {
        self.joined_requests
    }

    /// The bytes of those requests.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.joined_bytes
    }

    /// Takes the replies that were pushed, each with its request.
    pub(crate) fn replies(&mut self) -> impl Iterator<Item = (Reply, Taken)> {
        self.replies.drain(..)
    }
}
