//! ConsumerGroupHeartbeat, versions 0-1.
//!
//! Behaviour: joins a group (epoch 0), stays in it, leaves it (-1, static members -2); the answer has what the member is
//! to own when that changed. Assignors `uniform` and `range`. Member ids are the client's from v1 on.
//! Not supported: nothing is missing.

use std::sync::Arc;

use ottla_coordinator::group::Request;
use ottla_wire::Uuid;
use ottla_wire::message::ConsumerGroupHeartbeatRequest;

use super::coordinated::coordinated;
use super::{Answer, CloseReason, Peer, RequestHead, decoded};
use crate::broker::Broker;

/// Serves ConsumerGroupHeartbeat.
pub(super) fn begin(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Answer, CloseReason> {
    let request: ConsumerGroupHeartbeatRequest<'_> = decoded(head, frame)?;
    let group_id = request.group_id.clone();
    Ok(coordinated(broker, peer, head, &group_id, Request::ConsumerGroupHeartbeat(request, Uuid::new_v4())))
}
