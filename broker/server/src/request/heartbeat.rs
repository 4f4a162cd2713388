//! Heartbeat, versions 0-4.
//!
//! Behaviour: keeps a member for another session timeout; REBALANCE_IN_PROGRESS says that it has to join again. While its
//! group is being loaded there is no error: nothing is known against the member.
//! Not supported: nothing is missing.

use std::sync::Arc;

use ottla_coordinator::group::Request;
use ottla_wire::message::HeartbeatRequest;

use super::coordinated::coordinated;
use super::{Answer, CloseReason, Peer, RequestHead, decoded};
use crate::broker::Broker;

/// Serves Heartbeat.
pub(super) fn begin(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Answer, CloseReason> {
    let request: HeartbeatRequest<'_> = decoded(head, frame)?;
    let group_id = request.group_id.clone();
    Ok(coordinated(broker, peer, head, &group_id, Request::Heartbeat(request)))
}
