//! ActivatePlugin, Ottla's own, versions 0 and 1.
//!
//! Behaviour: makes a version the active one. A rollback (version -1, or `is_rollback`) goes to the version that was active before, or
//! to the one named, and marks the version it leaves as bad: no later rollback returns to that unless it is named, and activating it
//! takes the mark away. Batches that are in the plugin finish in the version they entered; the next ones go through the new one.
//! A version that cannot serve one of the topics that follow the active version is refused, and nothing changes.

use std::sync::Arc;

use ottla_wire::Str;
use ottla_wire::message::{ActivatePluginRequest, ActivatePluginResponse, VERSION_PREVIOUS};

use super::describe_plugins::registry_refusal;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves ActivatePlugin.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: ActivatePluginRequest<'_> = decoded(head, frame)?;
    let activated = match request.version {
        VERSION_PREVIOUS => broker.plugins.roll_back(&request.name, None, || broker.topics.plugin_users()),
        version if request.is_rollback => {
            broker.plugins.roll_back(&request.name, Some(version), || broker.topics.plugin_users())
        }
        version => broker.plugins.activate(&request.name, version, || broker.topics.plugin_users()),
    };
    let answer = match activated {
        Ok(active_version) => ActivatePluginResponse { active_version, ..ActivatePluginResponse::default() },
        Err(error) => {
            let (error_code, message) = registry_refusal(&error);
            let active_version = broker.plugins.get(&request.name).map_or(0, |record| record.active_version);
            let error_message = Some(Str::Owned(message));
            ActivatePluginResponse { error_code, error_message, active_version, ..ActivatePluginResponse::default() }
        }
    };
    Ok(Response::of(head, &answer))
}
