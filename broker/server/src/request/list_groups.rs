//! ListGroups, versions 0-5.
//!
//! Behaviour: all groups, from v4 on those in some states, from v5 on those of some types. While any of them are being
//! loaded the answer is COORDINATOR_LOAD_IN_PROGRESS: a list with holes looks like a whole one.
//! Not supported: nothing is missing.

use std::sync::Arc;

use ottla_wire::message::{ListGroupsRequest, ListGroupsResponse};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves ListGroups.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: ListGroupsRequest<'_> = decoded(head, frame)?;
    let states: Vec<&str> = request.states_filter.iter().map(|state| &**state).collect();
    let types: Vec<&str> = request.types_filter.iter().map(|kind| &**kind).collect();
    Ok(broker.groups.read_all(|shards| {
        let response = if let Some(error_code) = shards.iter().find_map(|shard| shard.unavailable()) {
            ListGroupsResponse { error_code, ..Default::default() }
        } else {
            let groups = shards.iter().flat_map(|shard| shard.list(&states, &types));
            ListGroupsResponse { groups: groups.collect(), ..Default::default() }
        };
        Response::of(head, &response)
    }))
}
