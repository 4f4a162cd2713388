//! Changes of the settings of a resource: what AlterConfigs and IncrementalAlterConfigs have in common.

use std::collections::HashMap;

use ottla_wire::message::{
    AlterConfigsResourceResponse, RESOURCE_BROKER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP, RESOURCE_TOPIC,
};
use ottla_wire::{ErrorCode, Str};

use super::Peer;
use super::api_error::ApiError;
use super::topic_settings::check_settings;
use crate::broker::Broker;
use crate::config::topic::{TOPIC_SETTINGS, TopicSetting};
use crate::config::{
    CLIENT_METRICS_SETTINGS, ClientMetricsSetting, GROUP_SETTINGS, GroupSetting, SETTINGS, Setting, TopicSettings,
    ValueKind,
};
use crate::live::LiveConfigError;
pub(super) use crate::live::Overrides;
use crate::meta::ConfigResource;

/// Changes each resource of a request, given as type, name and change, and answers for each. One that is named more than once
/// is refused.
pub(super) fn each<'r, R>(
    resources: &'r [R],
    named: impl Fn(&'r R) -> (i8, &'r str),
    change: impl Fn(&'r R, (i8, &str)) -> Result<(), ApiError>,
) -> Vec<AlterConfigsResourceResponse<'r>> {
    let mut times_named: HashMap<(i8, &str), usize> = HashMap::new();
    for resource in resources {
        *times_named.entry(named(resource)).or_default() += 1;
    }
    let answer = |resource: &'r R| {
        let (resource_type, resource_name) = named(resource);
        let changed = if times_named.get(&(resource_type, resource_name)).is_some_and(|times| *times > 1) {
            Err(ApiError::new(ErrorCode::InvalidRequest, "Each resource must appear at most once."))
        } else {
            change(resource, (resource_type, resource_name))
        };
        let refusal = changed.err();
        AlterConfigsResourceResponse {
            error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.error_code),
            error_message: refusal.map(|refusal| Str::Owned(refusal.message)),
            resource_type,
            resource_name: Str::Borrowed(resource_name),
        }
    };
    resources.iter().map(answer).collect()
}

/// A setting as a change needs to know it.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) kind: ValueKind,
    /// Its value in force, as text: what is added to a list is added to that.
    pub(super) value: String,
}

/// What a resource sets itself, and what can be set on it.
pub(super) struct Current<'c> {
    pub(super) overrides: &'c Overrides,
    pub(super) find: &'c dyn Fn(&str) -> Option<Known>,
    /// `topic`, `broker`, `group` or `client metrics`.
    pub(super) kind: &'static str,
    /// What a setting that does not exist is answered with.
    pub(super) unknown_code: ErrorCode,
}

impl Current<'_> {
    /// The names of what can be set on such a resource.
    pub(super) fn names(&self) -> Vec<&'static str> {
        match self.kind {
            "topic" => TOPIC_SETTINGS.iter().filter(|it| !it.is_internal()).map(|it| it.name).collect(),
            "group" => GROUP_SETTINGS.iter().map(|it| it.name).collect(),
            "client metrics" => CLIENT_METRICS_SETTINGS.iter().map(|it| it.name).collect(),
            _ => SETTINGS.iter().map(|it| it.name).collect(),
        }
    }
}

/// Gives a resource the settings that `after` makes of those it has; with `validate_only` they are only checked.
pub(super) fn alter(
    broker: &Broker,
    peer: &Peer,
    (resource_type, name): (i8, &str),
    validate_only: bool,
    after: impl Fn(&Current<'_>) -> Result<Overrides, ApiError>,
) -> Result<(), ApiError> {
    let unknown_code = ErrorCode::InvalidConfig;
    match resource_type {
        RESOURCE_TOPIC => alter_topic(broker, peer, name, validate_only, after),
        RESOURCE_BROKER => {
            if !name.is_empty() && name.parse() != Ok(broker.node_id) {
                let message = format!("Unexpected broker id, expected {} but received {name}", broker.node_id);
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
            let in_force = broker.settings();
            let find = |name: &str| {
                let setting = Setting::find(name)?;
                Some(Known { name: setting.name, kind: setting.kind, value: (setting.show)(&in_force.config) })
            };
            let change =
                |overrides: &Overrides| after(&Current { overrides, find: &find, kind: "broker", unknown_code });
            broker.alter_settings(ConfigResource::Broker, name, validate_only, change)?;
            if !validate_only {
                tracing::info!(broker = name, client = %peer, "changed settings of the broker");
            }
            Ok(())
        }
        RESOURCE_GROUP => {
            if name.is_empty() {
                return Err(ApiError::new(ErrorCode::InvalidRequest, "Group name must not be empty"));
            }
            let find = |name: &str| {
                let setting = GroupSetting::find(name)?;
                Some(Known { name: setting.name, kind: ValueKind::Int, value: String::new() })
            };
            let change =
                |overrides: &Overrides| after(&Current { overrides, find: &find, kind: "group", unknown_code });
            broker.alter_settings(ConfigResource::Group, name, validate_only, change)?;
            if !validate_only {
                tracing::info!(group = name, client = %peer, "changed settings of the group");
            }
            Ok(())
        }
        RESOURCE_CLIENT_METRICS => {
            if name.is_empty() {
                return Err(ApiError::new(ErrorCode::InvalidRequest, "Subscription name can't be empty"));
            }
            let in_force = broker.settings();
            let given = in_force.client_metrics.get(name);
            let find = |name: &str| {
                let setting = ClientMetricsSetting::find(name)?;
                let value = given.and_then(|given| given.get(setting.name)).map_or(setting.default, String::as_str);
                Some(Known { name: setting.name, kind: setting.kind, value: value.to_owned() })
            };
            // Kafka has another code here than for everything else.
            let unknown_code = ErrorCode::InvalidRequest;
            let change = |overrides: &Overrides| {
                after(&Current { overrides, find: &find, kind: "client metrics", unknown_code })
            };
            broker.alter_settings(ConfigResource::ClientMetrics, name, validate_only, change)?;
            if !validate_only {
                tracing::info!(subscription = name, client = %peer, "changed what clients push of their metrics");
            }
            Ok(())
        }
        other => Err(ApiError::new(ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}"))),
    }
}

fn alter_topic(
    broker: &Broker,
    peer: &Peer,
    name: &str,
    validate_only: bool,
    after: impl Fn(&Current<'_>) -> Result<Overrides, ApiError>,
) -> Result<(), ApiError> {
    let topic = broker.topics.get(name).ok_or_else(|| {
        let error_code = ErrorCode::UnknownTopicOrPartition;
        ApiError::new(error_code, error_code.message())
    })?;
    // Plugins that are named from now on stay until the topic has its settings.
    let mut reservations = Vec::new();
    let mut replaced = None;
    let mut change = |settings: &TopicSettings| {
        let find = |name: &str| {
            let setting = TopicSetting::find(name)?;
            Some(Known { name: setting.name, kind: setting.kind, value: (setting.show)(settings) })
        };
        let overrides = after(&Current {
            overrides: &settings.overrides,
            find: &find,
            kind: "topic",
            unknown_code: ErrorCode::InvalidConfig,
        })?;
        let (after, reserved) = check_settings(broker, &topic.name, Some(settings), overrides)?;
        reservations = reserved;
        replaced = Some((settings.clone(), after.clone()));
        Ok(after)
    };
    if validate_only {
        return change(&topic.settings()).map(drop);
    }
    broker.topics.alter(&topic, change)?;
    drop(reservations);
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

impl From<LiveConfigError> for ApiError {
    fn from(error: LiveConfigError) -> Self {
        let error_code = match &error {
            LiveConfigError::Unknown { .. } | LiveConfigError::BadValue { .. } | LiveConfigError::Conflict(_) => {
                ErrorCode::InvalidConfig
            }
            LiveConfigError::ReadOnly { .. } | LiveConfigError::TooManyClientMetrics => ErrorCode::InvalidRequest,
            LiveConfigError::Meta(error) => {
                tracing::error!("settings were not changed: {error}");
                ErrorCode::KafkaStorageError
            }
        };
        Self::new(error_code, error.to_string())
    }
}
