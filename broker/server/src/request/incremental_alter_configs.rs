//! IncrementalAlterConfigs, versions 0-1.
//!
//! Behaviour: SET, DELETE, and for lists APPEND and SUBTRACT, on topics. All changes of one topic hold or none; with
//! `validate_only` they are only checked. A plugin that a setting names must be there.
//! Not supported: broker settings (they are those of the start), other resources.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ottla_wire::message::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, OPERATION_APPEND, OPERATION_DELETE, OPERATION_SET, OPERATION_SUBTRACT,
    RESOURCE_BROKER, RESOURCE_TOPIC,
};
use ottla_wire::{ErrorCode, Str};

use super::api_error::ApiError;
use super::topic_settings::check_settings;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::config::topic::{TOPIC_SETTINGS, TopicSetting, list_items};
use crate::config::{TopicSettings, ValueKind};

/// Serves IncrementalAlterConfigs.
pub(super) fn respond(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: IncrementalAlterConfigsRequest<'_> = decoded(head, frame)?;
    let mut times_named: HashMap<(i8, &str), usize> = HashMap::new();
    for resource in &request.resources {
        *times_named.entry((resource.resource_type, &resource.resource_name)).or_default() += 1;
    }
    let alter = |resource: &AlterConfigsResource<'_>| {
        if times_named.get(&(resource.resource_type, &*resource.resource_name)).is_some_and(|times| *times > 1) {
            return Err(ApiError::new(ErrorCode::InvalidRequest, "Each resource must appear at most once."));
        }
        alter_one(broker, peer, resource, request.validate_only)
    };
    let responses = request.resources.iter().map(|resource| {
        let refusal = alter(resource).err();
        AlterConfigsResourceResponse {
            error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.error_code),
            error_message: refusal.map(|refusal| Str::Owned(refusal.message)),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
        }
    });
    Ok(Response::of(head, &IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() }))
}

fn alter_one(
    broker: &Broker,
    peer: &Peer,
    resource: &AlterConfigsResource<'_>,
    validate_only: bool,
) -> Result<(), ApiError> {
    match resource.resource_type {
        RESOURCE_TOPIC => {}
        RESOURCE_BROKER => {
            let message = "Broker settings cannot be changed while the broker runs: set them at its start.";
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        other => {
            return Err(ApiError::new(ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}")));
        }
    }
    let topic = broker.topics.get(&resource.resource_name).ok_or_else(|| {
        let error_code = ErrorCode::UnknownTopicOrPartition;
        ApiError::new(error_code, error_code.message())
    })?;
    // A plugin that is named from now on stays until the topic has its settings.
    let mut reservation = None;
    let mut replaced = None;
    let mut change = |settings: &TopicSettings| {
        let (after, reserved) =
            check_settings(broker, &topic.name, Some(settings), changed(settings, &resource.configs)?)?;
        reservation = reserved;
        replaced = Some((settings.clone(), after.clone()));
        Ok(after)
    };
    if validate_only {
        return change(&topic.settings()).map(drop);
    }
    broker.topics.alter(&topic, change)?;
    drop(reservation);
    if let Some((before, after)) = replaced {
        tell(&topic.name, &before, &after, peer);
    }
    Ok(())
}

/// A log line for each setting that has another value now.
fn tell(topic: &str, before: &TopicSettings, after: &TopicSettings, peer: &Peer) {
    for setting in TOPIC_SETTINGS {
        let (from, to) = ((setting.show)(before), (setting.show)(after));
        if from != to {
            tracing::info!(topic, setting = setting.name, from, to, client = %peer, "setting changed");
        }
    }
}

/// What the topic sets itself after the changes.
fn changed(
    settings: &TopicSettings,
    changes: &[AlterableConfig<'_>],
) -> Result<std::collections::BTreeMap<String, String>, ApiError> {
    let mut overrides = settings.overrides.clone();
    let mut seen = HashSet::new();
    for change in changes {
        let name = &*change.name;
        if !seen.insert(name) {
            let message = format!("Error due to duplicate config keys: {name}");
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        let setting = TopicSetting::find(name)
            .ok_or_else(|| ApiError::new(ErrorCode::InvalidConfig, format!("Unknown topic config name: {name}")))?;
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
            OPERATION_APPEND | OPERATION_SUBTRACT => combined(settings, setting, change.config_operation, value)?,
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
fn combined(settings: &TopicSettings, setting: &TopicSetting, operation: i8, value: &str) -> Result<String, ApiError> {
    let (append, verb) =
        (operation == OPERATION_APPEND, if operation == OPERATION_APPEND { "append to" } else { "subtract from" });
    if setting.kind != ValueKind::List {
        let message = format!("Can't {verb} key {} because its type is not LIST.", setting.name);
        return Err(ApiError::new(ErrorCode::InvalidConfig, message));
    }
    let current = (setting.show)(settings);
    let mut items: Vec<&str> = list_items(&current).collect();
    for item in list_items(value) {
        if append && !items.contains(&item) {
            items.push(item);
        } else if !append {
            items.retain(|kept| *kept != item);
        }
    }
    Ok(items.join(","))
}
