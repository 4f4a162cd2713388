//! IncrementalAlterConfigs, versions 0-1.
//!
//! Behaviour: SET, DELETE, and for lists APPEND and SUBTRACT, on topics, on this broker, on all brokers (without a name), on
//! groups and on client-metrics resources. All changes of one resource hold or none, at once and after a restart; with `validate_only` they are only checked.
//! A plugin that a setting names must be there. Broker settings that are read at the start alone are refused. The level
//! of a logger of this broker holds until the process ends.

use std::collections::HashSet;
use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, OPERATION_APPEND,
    OPERATION_DELETE, OPERATION_SET, OPERATION_SUBTRACT, RESOURCE_BROKER_LOGGER,
};

use super::api_error::ApiError;
use super::config_changes::{Current, Known, Overrides, alter, each};
use super::logger_levels::change_loggers;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::config::ValueKind;
use crate::config::did_you_mean;
use crate::config::topic::list_items;

/// Serves IncrementalAlterConfigs.
pub(super) fn respond(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: IncrementalAlterConfigsRequest<'_> = decoded(head, frame)?;
    let responses = each(
        &request.resources,
        |resource| (resource.resource_type, &resource.resource_name),
        |resource, named| {
            if resource.resource_type == RESOURCE_BROKER_LOGGER {
                return change_loggers(broker, peer, named.1, request.validate_only, &resource.configs);
            }
            alter(broker, peer, named, request.validate_only, |current| changed(current, &resource.configs))
        },
    );
    Ok(Response::of(head, &IncrementalAlterConfigsResponse { responses, ..Default::default() }))
}

/// What the resource sets itself after the changes.
fn changed(current: &Current<'_>, changes: &[AlterableConfig<'_>]) -> Result<Overrides, ApiError> {
    let mut overrides = current.overrides.clone();
    let mut seen = HashSet::new();
    for change in changes {
        let name = &*change.name;
        if !seen.insert(name) {
            let message = format!("Error due to duplicate config keys: {name}");
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        let unknown = || {
            let near = did_you_mean(name, current.names());
            ApiError::new(current.unknown_code, format!("Unknown {} config name: {name}{near}", current.kind))
        };
        let setting = (current.find)(name).ok_or_else(unknown)?;
        if change.config_operation == OPERATION_DELETE {
            overrides.remove(name);
            continue;
        }
        let value = change
            .value
            .as_deref()
            .ok_or_else(|| ApiError::new(ErrorCode::InvalidConfig, format!("Null value not supported for {name}")))?;
        let value = match change.config_operation {
            OPERATION_SET => value.to_owned(),
            OPERATION_APPEND | OPERATION_SUBTRACT => combined(&setting, change.config_operation, value)?,
            other => {
                let message = format!("Unknown config operation: {other}");
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
        };
        overrides.insert(name.to_owned(), value);
    }
    Ok(overrides)
}

/// A list with items added or taken out.
fn combined(setting: &Known, operation: i8, value: &str) -> Result<String, ApiError> {
    let (append, verb) =
        (operation == OPERATION_APPEND, if operation == OPERATION_APPEND { "append to" } else { "subtract from" });
    if setting.kind != ValueKind::List {
        let message = format!("Can't {verb} key {} because its type is not LIST.", setting.name);
        return Err(ApiError::new(ErrorCode::InvalidConfig, message));
    }
    let mut items: Vec<&str> = list_items(&setting.value).collect();
    for item in list_items(value) {
        if append && !items.contains(&item) {
            items.push(item);
        } else if !append {
            items.retain(|kept| *kept != item);
        }
    }
    Ok(items.join(","))
}
