//! One connection: a task that writes requests, a task that reads responses, and the list of what is still unanswered.
//!
//! Responses come in the order of requests, so the list is a queue and a response that does not match its head ends the
//! connection. The caller that submits a request gives a closure to be called with the answer or with the reason why
//! there is none: exactly once, in every case. Callers bound how much they submit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ottla_wire::{ApiKey, ApiVersion, Message, RequestHeader, encode_request};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::frames::{FrameEnd, FrameReader};
use super::handshake::Offer;
use super::{Answer, Outlet};
use crate::error::ConnectionError;

/// Where a request frame has its correlation id: behind length, key and version.
const CORRELATION_ID: std::ops::Range<usize> = 8..12;

/// The handshake uses up 0 and 1.
const FIRST_CORRELATION_ID: i32 = 2;

/// An answer, or why there is none.
pub(crate) type Reply = Result<Answer, ConnectionError>;

/// Called exactly once with the reply, on a runtime thread: hand over and return.
pub(crate) type OnReply = Box<dyn FnOnce(Reply) + Send>;

/// How a request is to be treated.
pub(crate) struct SendOptions {
    /// How long the broker may take.
    pub(crate) timeout: Duration,
    /// The reply; for a request without response, an empty answer once it is written.
    pub(crate) on_reply: OnReply,
    /// Whether the broker answers this request at all (not for acks=0).
    pub(crate) answered: bool,
    /// About how large the frame will be, so that its memory is taken once.
    pub(crate) frame_bytes: usize,
}

/// A live connection. Clones share it; it closes when the last one is dropped or its peer goes away.
#[derive(Clone)]
pub(crate) struct Connection {
    link: Arc<Link>,
    to_writer: mpsc::UnboundedSender<Outgoing>,
}

struct Link {
    address: Arc<str>,
    client_id: Arc<str>,
    offer: Offer,
    pending: Mutex<Pending>,
    /// Rings when there is something to wait for again.
    armed: Notify,
    /// True once the connection is to be torn down: both tasks let go of the socket at once.
    severed: watch::Sender<bool>,
}

#[derive(Default)]
struct Pending {
    next_correlation_id: i32,
    unanswered: VecDeque<Unanswered>,
    ended: Option<ConnectionError>,
    /// Requests were given up when it ended: what of them was not sent yet must not reach the broker.
    abandoned: bool,
    /// The broker asks for no more requests before this moment (KIP-219).
    held_back_until: Option<Instant>,
}

struct Unanswered {
    correlation_id: i32,
    key: ApiKey,
    version: ApiVersion,
    deadline: Instant,
    timeout: Duration,
    on_reply: OnReply,
}

struct Outgoing {
    frame: Vec<u8>,
    /// For requests without response: called once written.
    on_written: Option<(ApiVersion, OnReply)>,
}

impl Connection {
    /// Takes over a stream whose handshake is done and starts its two tasks.
    pub(super) fn start(
        runtime: &Handle,
        frames: FrameReader<Box<dyn AsyncRead + Send + Unpin>>,
        writer: Box<dyn Outlet>,
        offer: Offer,
        address: Arc<str>,
        client_id: Arc<str>,
    ) -> Self {
        let (to_writer, requests) = mpsc::unbounded_channel();
        let pending = Mutex::new(Pending { next_correlation_id: FIRST_CORRELATION_ID, ..Pending::default() });
        let (severed, _) = watch::channel(false);
        let link = Arc::new(Link { address, client_id, offer, pending, armed: Notify::new(), severed });
        runtime.spawn(write_requests(Arc::clone(&link), writer, requests));
        runtime.spawn(read_responses(Arc::clone(&link), frames));
        Self { link, to_writer }
    }

    /// Whether it can still be used.
    pub(crate) fn is_open(&self) -> bool {
        self.link.lock().ended.is_none()
    }

    /// Whether it was used before: then its end may only mean that it was idle for too long.
    pub(crate) fn was_used(&self) -> bool {
        self.link.lock().next_correlation_id > FIRST_CORRELATION_ID
    }

    /// Requests that await their answers.
    pub(crate) fn in_flight(&self) -> usize {
        self.link.lock().unanswered.len()
    }

    /// The version of `M` to be used here, at most `ceiling`.
    pub(crate) fn version_of(&self, key: ApiKey, ceiling: i16) -> Result<ApiVersion, ConnectionError> {
        self.link.offer.agree(key, ceiling).ok_or_else(|| ConnectionError::Unsupported {
            address: Arc::clone(&self.link.address),
            api: key.name(),
            low: key.api().versions.min,
            high: key.api().versions.max.min(ceiling),
        })
    }

    /// Sends a request. The reply goes to the submission's closure.
    pub(crate) fn submit<'a, M: Message<'a>>(&self, version: ApiVersion, message: &M, how: SendOptions) {
        let SendOptions { timeout, on_reply, answered, frame_bytes } = how;
        let client_id = Some((&*self.link.client_id).into());
        let mut frame = Vec::with_capacity(frame_bytes + 64);
        encode_request(&RequestHeader::of::<M>(version, 0, client_id), message, &mut frame);
        let mut pending = self.link.lock();
        if let Some(error) = pending.ended.clone() {
            drop(pending);
            return on_reply(Err(error));
        }
        let correlation_id = pending.next_correlation_id;
        pending.next_correlation_id = correlation_id.wrapping_add(1);
        // Encoding a large request takes a while; only its number is filled in under the lock.
        if let Some(place) = frame.get_mut(CORRELATION_ID) {
            place.copy_from_slice(&correlation_id.to_be_bytes());
        }
        let mut outgoing = Outgoing { frame, on_written: None };
        if answered {
            let deadline = Instant::now() + timeout;
            let key = M::KEY;
            pending.unanswered.push_back(Unanswered { correlation_id, key, version, deadline, timeout, on_reply });
        } else {
            outgoing.on_written = Some((version, on_reply));
        }
        // Still under the lock: frames leave in the order of their correlation ids.
        let sent = self.to_writer.send(outgoing);
        drop(pending);
        if let Err(mpsc::error::SendError(Outgoing { on_written: Some((_, on_reply)), .. })) = sent {
            on_reply(Err(self.link.ended()));
        }
        self.link.armed.notify_one();
    }

    /// Sends a request and waits for the answer.
    pub(crate) async fn call<'a, M: Message<'a>>(&self, version: ApiVersion, message: &M, timeout: Duration) -> Reply {
        let (tell, told) = oneshot::channel();
        let on_reply: OnReply = Box::new(move |reply| {
            // The caller gave up: the answer has no receiver.
            let _ = tell.send(reply);
        });
        self.submit(version, message, SendOptions { timeout, on_reply, answered: true, frame_bytes: 256 });
        told.await.unwrap_or_else(|_| Err(self.link.ended()))
    }

    /// Ends the connection; every unanswered request gets the reason.
    pub(crate) fn sever(&self, reason: &str) {
        self.link.end(self.link.lost(reason));
    }

    /// Nothing should be sent for this long.
    pub(crate) fn hold_back(&self, pause: Duration) {
        self.link.lock().held_back_until = Some(Instant::now() + pause);
    }

    /// How long nothing should be sent yet.
    pub(crate) fn held_back(&self) -> Option<Duration> {
        let until = self.link.lock().held_back_until?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, reason: &str) -> ConnectionError {
        ConnectionError::Lost { address: Arc::clone(&self.address), reason: reason.into() }
    }

    fn ended(&self) -> ConnectionError {
        self.lock().ended.clone().unwrap_or_else(|| self.lost("closed"))
    }

    /// Marks the end, tells all that wait, and lets both tasks end. The first reason stands.
    fn end(&self, reason: ConnectionError) {
        let (reason, unanswered) = {
            let mut pending = self.lock();
            let reason = pending.ended.get_or_insert(reason).clone();
            pending.abandoned |= !pending.unanswered.is_empty();
            (reason, std::mem::take(&mut pending.unanswered))
        };
        self.severed.send_replace(true);
        for request in unanswered {
            (request.on_reply)(Err(reason.clone()));
        }
    }

    /// Hands a frame to the request that it answers.
    fn settle(&self, frame: Bytes) -> Result<(), ConnectionError> {
        let malformed = |api, reason: &str| ConnectionError::Malformed {
            address: Arc::clone(&self.address),
            api,
            reason: reason.into(),
        };
        let head = self.lock().unanswered.pop_front();
        let Some(request) = head else { return Err(malformed("unasked", "it answers no request")) };
        let api = request.key.name();
        let answer = match ottla_wire::header::correlation_id(&frame) {
            Ok(id) if id == request.correlation_id => {
                Ok(Answer { frame, version: request.version, address: Arc::clone(&self.address) })
            }
            Ok(_) => Err(malformed(api, "its correlation id belongs to another request")),
            Err(error) => Err(malformed(api, &error.to_string())),
        };
        let result = answer.as_ref().map(|_| ()).map_err(Clone::clone);
        (request.on_reply)(answer);
        result
    }

    /// When the oldest request has waited too long.
    fn deadline(&self) -> Option<Instant> {
        self.lock().unanswered.front().map(|request| request.deadline)
    }

    fn time_out(&self) -> Option<ConnectionError> {
        let pending = self.lock();
        let late = pending.unanswered.front().filter(|request| request.deadline <= Instant::now())?;
        Some(ConnectionError::TimedOut {
            address: Arc::clone(&self.address),
            api: late.key.name(),
            timeout_ms: late.timeout.as_millis() as u64,
        })
    }
}

async fn read_responses<R: AsyncRead + Unpin>(link: Arc<Link>, mut frames: FrameReader<R>) {
    let mut severed = link.severed.subscribe();
    let reason = loop {
        let deadline = link.deadline();
        let overdue = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = severed.wait_for(|severed| *severed) => break link.ended(),
            frame = frames.next() => match frame {
                Ok(frame) => match link.settle(frame) {
                    Ok(()) => {}
                    Err(error) => break error,
                },
                Err(FrameEnd::Closed) => break link.lost("the broker closed it"),
                Err(end) => break link.lost(&end.to_string()),
            },
            () = link.armed.notified(), if deadline.is_none() => {}
            () = overdue => if let Some(error) = link.time_out() { break error },
        }
    };
    if matches!(reason, ConnectionError::TimedOut { .. }) {
        tracing::warn!("{reason}; trying on");
    } else {
        tracing::debug!(address = %link.address, %reason, "connection ended");
    }
    link.end(reason);
}

async fn write_requests(link: Arc<Link>, mut writer: Box<dyn Outlet>, mut requests: mpsc::UnboundedReceiver<Outgoing>) {
    let mut severed = link.severed.subscribe();
    let mut halfway = false;
    loop {
        let outgoing = tokio::select! {
            biased;
            _ = severed.wait_for(|severed| *severed) => break,
            outgoing = requests.recv() => outgoing,
        };
        let Some(Outgoing { frame, on_written }) = outgoing else { break };
        // A peer that reads no more must not keep the socket and the frame for ever.
        let written = tokio::select! {
            written = writer.write_all(&frame) => written.map_err(|error| link.lost(&error.to_string())),
            _ = severed.wait_for(|severed| *severed) => Err(link.ended()),
        };
        let failed = written.err();
        if let Some((version, on_reply)) = on_written {
            let address = Arc::clone(&link.address);
            on_reply(match &failed {
                None => Ok(Answer { frame: Bytes::new(), version, address }),
                Some(error) => Err(error.clone()),
            });
        }
        if let Some(error) = failed {
            halfway = true;
            link.end(error);
            break;
        }
    }
    // The last handle is gone, writing failed, or the connection was severed: the reader must not keep the socket open.
    requests.close();
    while let Ok(outgoing) = requests.try_recv() {
        if let Some((_, on_reply)) = outgoing.on_written {
            on_reply(Err(link.ended()));
        }
    }
    if halfway || link.lock().abandoned {
        // Bytes that wait in the system's buffer belong to requests that were given up: the system drops them.
        writer.discard();
    } else {
        let _ = writer.shutdown().await;
    }
    link.end(link.lost("closed by this client"));
}
