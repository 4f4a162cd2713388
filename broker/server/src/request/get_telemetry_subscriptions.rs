//! GetTelemetrySubscriptions, version 0 (KIP-714).
//!
//! Behaviour: what the client-metrics resources that match the client want of it, with an id for a client that has none. A
//! client that no resource matches is told to push nothing, and to ask again after five minutes. It may ask once an interval.
//! Counters are wanted whole, not as differences.

use std::sync::Arc;

use ottla_wire::message::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves GetTelemetrySubscriptions.
pub(super) fn respond(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: GetTelemetrySubscriptionsRequest = decoded(head, frame)?;
    let response = broker.telemetry.ask(peer, request.client_instance_id).unwrap_or_else(|error_code| {
        broker.metrics.note_error(head.key, error_code);
        GetTelemetrySubscriptionsResponse { error_code, ..Default::default() }
    });
    Ok(Response::of(head, &response))
}
