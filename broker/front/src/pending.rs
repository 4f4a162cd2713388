//! Replies that are not sent yet, in the order of their requests.

use std::collections::VecDeque;

use crate::reply::Reply;

/// The replies that one connection waits for or has not sent, first asked first. Bounded: see
/// [`has_room`](Self::has_room).
pub(crate) struct PendingReplies {
    queue: VecDeque<(Reply, usize)>,
    bytes: usize,
    requests_max: usize,
    bytes_max: usize,
}

impl PendingReplies {
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, requests_max, bytes_max }
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
    pub(crate) fn add(&mut self, replies: impl Iterator<Item = (Reply, usize)>) -> bool {
        let mut closes = false;
        for (reply, request_bytes) in replies {
            closes |= matches!(reply, Reply::Close(_));
            self.push(reply, request_bytes);
        }
        closes
    }

    pub(crate) fn first_is_settled(&self) -> bool {
        self.queue.front().is_some_and(|(reply, _)| !reply.is_pending())
    }

    pub(crate) fn pop_settled(&mut self) -> Option<Reply> {
        if !self.first_is_settled() {
            return None;
        }
        let (reply, bytes) = self.queue.pop_front()?;
        self.bytes -= bytes;
        Some(reply)
    }

    /// Waits until the first reply is no longer to come; for ever when there is none.
    pub(crate) async fn settle_first(&mut self) {
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
