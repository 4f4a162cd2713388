//! From a frame to a reply: ONE table says which function serves which API; the versions are those of
//! [`ottla_wire::api`]. One file per API beside this one.

mod peer;
mod reply;

use std::sync::Arc;

use bytes::BytesMut;
use ottla_wire::ApiKey;

use crate::broker::Broker;

pub use peer::{OTTLA_SOFTWARE_NAME, Peer, Software};
pub use reply::{CloseReason, Piece, Reply, Response};

/// The part of a request header that handlers need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// Which API.
    pub key: ApiKey,
    /// In which version: always one that is served.
    pub version: i16,
    /// The client's number for the request, which its answer carries.
    pub correlation_id: i32,
}

/// The body of a request, without its header. Handlers own it: produce assigns offsets in place.
pub type Frame = BytesMut;

/// Serves one API. Runs in the order of arrival on a thread that serves connections: what may block or wait goes into
/// [`Reply::Later`].
pub type Handler = fn(&Arc<Broker>, &Arc<Peer>, RequestHead, Frame) -> Reply;
