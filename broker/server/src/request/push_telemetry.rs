//! PushTelemetry, version 0 (KIP-714).
//!
//! Behaviour: the numbers that the client measured replace those of its push before, and stand on the page of metrics
//! (`ottla_client_metric`) until it was silent for three intervals. Packed or unpacked a push has `telemetry.max.bytes` at most.
//! Histograms and sums that are differences are passed over and counted.

use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{PushTelemetryRequest, PushTelemetryResponse};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves PushTelemetry. Unpacks what was pushed.
pub(super) fn respond(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: PushTelemetryRequest<'_> = decoded(head, frame)?;
    let error_code = broker.telemetry.push(peer, &request);
    if error_code != ErrorCode::None {
        broker.metrics.note_error(head.key, error_code);
    }
    Ok(Response::of(head, &PushTelemetryResponse { error_code, ..Default::default() }))
}
