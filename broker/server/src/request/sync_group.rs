//! SyncGroup, versions 0-5.
//!
//! Behaviour: answered when the leader has handed in the assignment of the generation and it is durable.
//! Not supported: nothing is missing.

use std::sync::Arc;

use ottla_coordinator::group::Request;
use ottla_wire::message::SyncGroupRequest;

use super::coordinated::coordinated;
use super::{Answer, CloseReason, Peer, RequestHead, decoded};
use crate::broker::Broker;

/// Serves SyncGroup.
pub(super) fn begin(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Answer, CloseReason> {
    let request: SyncGroupRequest<'_> = decoded(head, frame)?;
    let group_id = request.group_id.clone();
    Ok(coordinated(broker, peer, head, &group_id, Request::SyncGroup(request)))
}
