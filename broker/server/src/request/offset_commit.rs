//! OffsetCommit, versions 2-10.
//!
//! Behaviour: answered once the offsets survive a power cut, with every durability of the topics; many commits share
//! one fsync. Topics by name up to v9, by id from v10. The retention time of v2-4 is kept with the offset.
//! Not supported: nothing is missing.

use std::sync::Arc;

use ottla_coordinator::group::Request;
use ottla_wire::message::OffsetCommitRequest;

use super::coordinated::coordinated;
use super::{Answer, CloseReason, Peer, RequestHead, decoded};
use crate::broker::Broker;

/// Serves OffsetCommit.
pub(super) fn begin(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Answer, CloseReason> {
    let request: OffsetCommitRequest<'_> = decoded(head, frame)?;
    let group_id = request.group_id.clone();
    Ok(coordinated(broker, peer, head, &group_id, Request::OffsetCommit(request)))
}
