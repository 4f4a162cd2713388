//! JoinGroup, versions 0-9.
//!
//! Behaviour: answered when all members of the group have joined, or the rebalance timeout of those that are known is over;
//! the leader gets all members. An empty group waits `group.initial.rebalance.delay.ms` for more. From v4 on a new member
//! gets its id first (KIP-394); static members (v5) keep theirs.
//! Not supported: nothing is missing.

use std::sync::Arc;

use ottla_coordinator::group::Request;
use ottla_wire::Uuid;
use ottla_wire::message::JoinGroupRequest;

use super::coordinated::coordinated;
use super::{Answer, CloseReason, Peer, RequestHead, decoded};
use crate::broker::Broker;

/// Serves JoinGroup.
pub(super) fn begin(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Answer, CloseReason> {
    let request: JoinGroupRequest<'_> = decoded(head, frame)?;
    let group_id = request.group_id.clone();
    Ok(coordinated(broker, peer, head, &group_id, Request::JoinGroup(request, Uuid::new_v4())))
}
