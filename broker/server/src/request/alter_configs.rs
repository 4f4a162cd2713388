//! AlterConfigs, versions 0-2.
//!
//! Behaviour: the settings of a topic, of this broker, of all brokers (without a name), of a group or of a
//! client-metrics resource become those that are
//! given, and all others go back to their defaults. All of one resource hold or none; with `validate_only` they are only checked.
//! IncrementalAlterConfigs changes single ones.
//! The levels of loggers are changed one by one alone, as in Kafka.

use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{AlterConfigsRequest, AlterConfigsResponse, ReplaceConfigsResource};

use super::api_error::ApiError;
use super::config_changes::{Overrides, alter, each};
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves AlterConfigs.
pub(super) fn respond(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: AlterConfigsRequest<'_> = decoded(head, frame)?;
    let responses = each(
        &request.resources,
        |resource| (resource.resource_type, &resource.resource_name),
        |resource, named| alter(broker, peer, named, request.validate_only, |_| given(resource)),
    );
    Ok(Response::of(head, &AlterConfigsResponse { responses, ..Default::default() }))
}

fn given(resource: &ReplaceConfigsResource<'_>) -> Result<Overrides, ApiError> {
    let mut overrides = Overrides::new();
    for config in &resource.configs {
        let Some(value) = &config.value else {
            let message = format!("Null value not supported for : {}", config.name);
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        };
        if overrides.insert(config.name.to_string(), value.to_string()).is_some() {
            let message = format!("Error due to duplicate config keys: {}", config.name);
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
    }
    Ok(overrides)
}
