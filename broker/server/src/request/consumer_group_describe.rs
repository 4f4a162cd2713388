//! ConsumerGroupDescribe, versions 0-1.
//!
//! Behaviour: consumer groups (KIP-848) with their members and what each owns and is to own. A classic group is
//! GROUP_ID_NOT_FOUND.
//! Not supported: authorized operations.

use std::sync::Arc;

use ottla_wire::message::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

use super::distinct::distinct;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves ConsumerGroupDescribe.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: ConsumerGroupDescribeRequest<'_> = decoded(head, frame)?;
    let group_ids: Vec<&str> = distinct(request.group_ids.iter().map(|group_id| &**group_id), |name| name).collect();
    Ok(broker.groups.read(&group_ids, |shards| {
        let described = group_ids.iter().zip(shards).map(|(group_id, shard)| shard.describe_consumer(group_id));
        Response::of(head, &ConsumerGroupDescribeResponse { groups: described.collect(), ..Default::default() })
    }))
}
