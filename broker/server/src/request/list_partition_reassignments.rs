//! ListPartitionReassignments, version 0.
//!
//! Behaviour: no replica ever moves, so the list is empty.

use std::sync::Arc;

use ottla_wire::message::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves ListPartitionReassignments.
pub(super) fn respond(
    _broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let _request: ListPartitionReassignmentsRequest<'_> = decoded(head, frame)?;
    Ok(Response::of(head, &ListPartitionReassignmentsResponse::default()))
}
