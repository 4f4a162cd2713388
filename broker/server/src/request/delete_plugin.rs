//! DeletePlugin, Ottla's own, version 0.
//!
//! Behaviour: removes a version, or (version -1) all of them. Refused while a topic uses what would go.

use std::sync::Arc;

use ottla_wire::Str;
use ottla_wire::message::{DeletePluginRequest, DeletePluginResponse, VERSION_ALL};

use super::describe_plugins::registry_refusal;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves DeletePlugin.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: DeletePluginRequest<'_> = decoded(head, frame)?;
    let version = (request.version != VERSION_ALL).then_some(request.version);
    let answer = match broker.plugins.delete(&request.name, version, || broker.topics.plugin_users()) {
        Ok(()) => DeletePluginResponse::default(),
        Err(error) => {
            let (error_code, message) = registry_refusal(&error);
            DeletePluginResponse { error_code, error_message: Some(Str::Owned(message)), ..Default::default() }
        }
    };
    Ok(Response::of(head, &answer))
}
