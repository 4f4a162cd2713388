//! OffsetDelete, versions 0.
//!
//! Behaviour: offsets of topics to which the group is subscribed stay (GROUP_SUBSCRIBED_TO_TOPIC).
//! Not supported: nothing is missing.

use std::sync::Arc;

use ottla_coordinator::group::Request;
use ottla_wire::message::OffsetDeleteRequest;

use super::coordinated::coordinated;
use super::{Answer, CloseReason, Peer, RequestHead, decoded};
use crate::broker::Broker;

/// Serves OffsetDelete.
pub(super) fn begin(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Answer, CloseReason> {
    let request: OffsetDeleteRequest<'_> = decoded(head, frame)?;
    let group_id = request.group_id.clone();
    Ok(coordinated(broker, peer, head, &group_id, Request::OffsetDelete(request)))
}
