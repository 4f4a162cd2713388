//! ListConfigResources, versions 0-1.
//!
//! Behaviour: version 0 lists the client-metrics resources, version 1 those of the kinds that are named, or of all kinds:
//! topics, this broker, its loggers, client metrics, and groups that have settings of their own. A kind that does not exist
//! makes the whole answer UNSUPPORTED_VERSION.

use std::sync::Arc;

use ottla_wire::message::{
    ConfigResourceName, ListConfigResourcesRequest, ListConfigResourcesResponse, RESOURCE_BROKER,
    RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP, RESOURCE_TOPIC,
};
use ottla_wire::{ErrorCode, Str};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

const KINDS: [i8; 5] =
    [RESOURCE_TOPIC, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP];

/// Serves ListConfigResources.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: ListConfigResourcesRequest = decoded(head, frame)?;
    let kinds: &[i8] = match head.version {
        0 => &[RESOURCE_CLIENT_METRICS],
        _ if request.resource_types.is_empty() => &KINDS,
        _ => &request.resource_types,
    };
    let response = if kinds.iter().all(|kind| KINDS.contains(kind)) {
        let wanted = KINDS.into_iter().filter(|kind| kinds.contains(kind));
        let config_resources = wanted.flat_map(|kind| {
            let name = move |name| ConfigResourceName { resource_name: Str::Owned(name), resource_type: kind };
            names(broker, kind).into_iter().map(name)
        });
        ListConfigResourcesResponse { config_resources: config_resources.collect(), ..Default::default() }
    } else {
        ListConfigResourcesResponse { error_code: ErrorCode::UnsupportedVersion, ..Default::default() }
    };
    Ok(Response::of(head, &response))
}

/// The names of the resources of a kind.
fn names(broker: &Broker, kind: i8) -> Vec<String> {
    let in_force = broker.settings();
    match kind {
        RESOURCE_TOPIC => broker.topics.all().iter().map(|topic| topic.name.to_string()).collect(),
        RESOURCE_CLIENT_METRICS => in_force.client_metrics.keys().cloned().collect(),
        RESOURCE_GROUP => in_force.groups.keys().cloned().collect(),
        _ => vec![broker.node_id.to_string()],
    }
}
