//! Replies that are not sent yet, in the order of their requests.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::reply::Reply;
use crate::service::Taken;

/// Bytes of answers that are made before those in front of them have left. A client that does not read its answers is not
/// worth making more.
const READY_BYTES_MAX: usize = 64 << 10;

/// The replies that one connection waits for or has not sent, first asked first. Bounded: see
/// [`has_room`](Self::has_room).
pub(crate) struct PendingReplies {
    queue: VecDeque<Pending>,
    /// Of the requests that wait.
    bytes: usize,
    /// Of the answers that are there.
    ready_bytes: usize,
    requests_max: usize,
    bytes_max: usize,
}

/// One of them.
struct Pending {
    reply: Reply,
    request: Taken,
}

impl PendingReplies {
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, ready_bytes: 0, requests_max, bytes_max }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether another request may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_beside(0, 0)
    }

    /// Whether there is room beside requests that are about to be added.
    pub(crate) fn has_room_beside(&self, requests: usize, bytes: usize) -> bool {
        self.queue.len() + requests < self.requests_max
            && self.bytes + bytes < self.bytes_max
            && self.ready_bytes < READY_BYTES_MAX
            && !matches!(self.queue.back(), Some(Pending { reply: Reply::Exclusive(_), .. }))
    }

    /// Bytes of the requests that wait for their answers.
    pub(crate) fn request_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the answers that wait for those before them.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    fn push(&mut self, reply: Reply, request: Taken) {
        self.ready_bytes += reply.ready_bytes();
        self.bytes += request.bytes;
        self.queue.push_back(Pending { reply, request });
    }

    /// Adds replies. True: one of them ends the connection.
    pub(crate) fn add(&mut self, replies: impl Iterator<Item = (Reply, Taken)>) -> bool {
        let mut closes = false;
        for (reply, request) in replies {
            closes |= matches!(reply, Reply::Close(_));
            self.push(reply, request);
        }
        closes
    }

    pub(crate) fn first_is_settled(&self) -> bool {
        self.queue.front().is_some_and(|first| !first.reply.is_pending())
    }

    /// Takes the first reply out, with its request, if it is there.
    pub(crate) fn pop_settled(&mut self) -> Option<(Reply, Taken)> {
        if !self.first_is_settled() {
            return None;
        }
        let Pending { reply, request } = self.queue.pop_front()?;
        self.bytes -= request.bytes;
        self.ready_bytes -= reply.ready_bytes();
        Some((reply, request))
    }

    /// Waits until the first reply, or one that holds back further requests, is there or waits for something else; for
    /// ever when there is none.
    pub(crate) async fn settle(&mut self) {
        poll_fn(|context| self.poll_settle(context)).await;
    }

    fn poll_settle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Self { queue, ready_bytes, .. } = self;
        let mut settle = |reply: &mut Reply| match reply {
            Reply::Later(future) | Reply::Exclusive(future) => match future.as_mut().poll(context) {
                Poll::Ready(settled) => {
                    *ready_bytes += settled.ready_bytes();
                    *reply = settled;
                    true
                }
                Poll::Pending => false,
            },
            Reply::Ready(_) | Reply::Silent | Reply::Close(_) => false,
        };
        let mut changed = queue.front_mut().is_some_and(|first| settle(&mut first.reply));
        if queue.len() > 1
            && let Some(Pending { reply: reply @ Reply::Exclusive(_), .. }) = queue.back_mut()
        {
            changed |= settle(reply);
        }
        if changed { Poll::Ready(()) } else { Poll::Pending }
    }
}
