//! Requests for one group, which its shard answers: now, once what it says is durable, or when the group has come together.

use std::sync::Arc;

use bytes::Bytes;
use ottla_coordinator::group::{Client, Request};
use ottla_wire::ApiVersion;

use super::{Answer, CloseReason, Peer, RequestHead, Response};
use crate::broker::Broker;

/// Hands a request to the shard of its group, at once, and answers what comes back.
pub(super) fn coordinated(
    broker: &Arc<Broker>,
    peer: &Peer,
    head: RequestHead,
    group_id: &str,
    request: Request<'_>,
) -> Answer {
    let host = host(peer);
    let client = Client { id: peer.client_id(), host: &host };
    let reply = broker.groups.submit(group_id, head.version, client, request);
    let broker = Arc::clone(broker);
    Box::pin(async move {
        let reply = match reply.await {
            Ok(reply) => reply,
            Err(stopped) => return CloseReason::Internal(stopped.to_string()).into(),
        };
        for error in reply.errors() {
            broker.metrics.note_error(head.key, error);
        }
        let mut frame = Vec::with_capacity(128);
        reply.encode(head.correlation_id, ApiVersion(head.version), &mut frame);
        Response { head: Bytes::from(frame), rest: Vec::new() }.into()
    })
}

/// Where a client comes from, as Kafka writes it.
pub(super) fn host(peer: &Peer) -> String {
    format!("/{}", peer.addr.ip().to_canonical())
}
