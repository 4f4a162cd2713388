//! DescribeGroups, versions 0-6.
//!
//! Behaviour: classic groups with their members. One that does not exist is `Dead`, from v6 on GROUP_ID_NOT_FOUND.
//! Not supported: authorized operations.

use std::sync::Arc;

use ottla_wire::message::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::distinct::distinct;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves DescribeGroups.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: DescribeGroupsRequest<'_> = decoded(head, frame)?;
    let group_ids: Vec<&str> = distinct(request.groups.iter().map(|group_id| &**group_id), |name| name).collect();
    Ok(broker.groups.read(&group_ids, |shards| {
        let described = group_ids.iter().zip(shards).map(|(group_id, shard)| shard.describe(head.version, group_id));
        Response::of(head, &DescribeGroupsResponse { groups: described.collect(), ..Default::default() })
    }))
}
