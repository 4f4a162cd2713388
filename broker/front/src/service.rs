//! The seam between the sockets and the service that answers: the frame.

use std::sync::Arc;

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
}

/// The requests of one connection that one read brought.
#[derive(Debug, Default)]
pub struct Turn<J> {
    joined: J,
    joined_requests: usize,
    joined_bytes: usize,
    replies: Vec<(Reply, usize)>,
}

impl<J: Default> Turn<J> {
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

    /// The reply to a request of `bytes`.
    pub fn push(&mut self, reply: Reply, bytes: usize) {
        self.replies.push((reply, bytes));
    }

    /// Ends the connection behind the requests that were taken so far.
    pub(crate) fn close<S: Service<Joined = J>>(&mut self, service: &Arc<S>, peer: &Arc<Peer>, reason: CloseReason) {
        service.finish(peer, self);
        self.push(reason.into(), 0);
    }

    /// Requests that have no reply yet.
    pub(crate) fn waiting(&self) -> usize {
        self.joined_requests
    }

    /// The bytes of those requests.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.joined_bytes
    }

    /// Takes the replies that were pushed, each with the bytes of its request.
    pub(crate) fn replies(&mut self) -> impl Iterator<Item = (Reply, usize)> {
        self.replies.drain(..)
    }
}
