//! DescribeConfigs, versions 1-4.
//!
//! Behaviour: every setting of a topic, of this broker, of a group or of a client-metrics resource, or those whose keys are named, with value, source, type,
//! synonyms and documentation if asked for. Those of the broker that are read at its start alone are read-only. A broker
//! without a name stands for all: what was set for all of them while they ran. A group need not exist to have settings.
//! The loggers of this broker have their levels for values.

use std::sync::Arc;

use ottla_wire::message::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS,
    RESOURCE_GROUP, RESOURCE_TOPIC, SOURCE_CLIENT_METRICS, SOURCE_DEFAULT, SOURCE_DYNAMIC_BROKER,
    SOURCE_DYNAMIC_DEFAULT_BROKER, SOURCE_GROUP, SOURCE_STATIC_BROKER, SOURCE_TOPIC,
};
use ottla_wire::{ErrorCode, Str};

use super::api_error::ApiError;
use super::distinct::distinct;
use super::logger_levels::describe_loggers;
use super::topic_settings::{broker_settings, broker_value_source, is_shown, shown, topic_value_source};
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::config::topic::{TOPIC_SETTINGS, TopicSetting};
use crate::config::{
    CLIENT_METRICS_SETTINGS, ClientMetricsSetting, Config, GROUP_SETTINGS, GroupSetting, SETTINGS, Setting,
    TopicSettings, ValueKind, is_live,
};
use crate::live::InForce;
use crate::topics::check_topic_name;

/// Serves DescribeConfigs.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: DescribeConfigsRequest<'_> = decoded(head, frame)?;
    let detail = Detail { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let named = distinct(&request.resources, |resource| (resource.resource_type, &*resource.resource_name));
    let results = named.map(|resource| {
        let (configs, refusal) = match describe(broker, resource, detail) {
            Ok(configs) => (configs, None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        };
        DescribeConfigsResult {
            error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.error_code),
            error_message: refusal.map(|refusal| Str::Owned(refusal.message)),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs,
        }
    });
    Ok(Response::of(head, &DescribeConfigsResponse { results: results.collect(), ..Default::default() }))
}

#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

fn describe(
    broker: &Broker,
    resource: &DescribeConfigsResource<'_>,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult<'static>>, ApiError> {
    let wanted = |name: &str| match &resource.configuration_keys {
        None => true,
        Some(keys) => keys.iter().any(|key| key == name),
    };
    match resource.resource_type {
        RESOURCE_TOPIC => {
            let name = &resource.resource_name;
            check_topic_name(name).map_err(|wrong| {
                ApiError::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {wrong}"))
            })?;
            let topic = broker.topics.get(name).ok_or_else(|| {
                let error_code = ErrorCode::UnknownTopicOrPartition;
                ApiError::new(error_code, error_code.message())
            })?;
            let settings = topic.settings();
            let settings = TOPIC_SETTINGS
                .iter()
                .filter(|setting| wanted(setting.name) && is_shown(&settings, setting))
                .map(|setting| topic_value(broker, &settings, setting, detail));
            Ok(settings.collect())
        }
        RESOURCE_BROKER => {
            let name = &*resource.resource_name;
            let in_force = broker.settings();
            if name.is_empty() {
                let given =
                    in_force.all_brokers.keys().filter(|name| wanted(name)).filter_map(|name| Setting::find(name));
                return Ok(given.map(|setting| all_brokers_value(&in_force, setting, detail)).collect());
            }
            if name.parse() != Ok(broker.node_id) {
                let message = format!("Unexpected broker id, expected {} but received {name}", broker.node_id);
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
            let settings = SETTINGS.iter().filter(|setting| wanted(setting.name));
            Ok(settings.map(|setting| broker_value(broker, &in_force, setting, detail)).collect())
        }
        RESOURCE_GROUP => {
            let group = &*resource.resource_name;
            if group.is_empty() {
                return Err(ApiError::new(ErrorCode::InvalidRequest, "Group name must not be empty"));
            }
            let in_force = broker.settings();
            let settings = GROUP_SETTINGS.iter().filter(|setting| wanted(setting.name));
            Ok(settings.map(|setting| group_value(broker, &in_force, group, setting, detail)).collect())
        }
        RESOURCE_CLIENT_METRICS => {
            let name = &*resource.resource_name;
            if name.is_empty() {
                let message = "Client metrics subscription name must not be empty";
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
            let in_force = broker.settings();
            let given = in_force.client_metrics.get(name);
            let settings = CLIENT_METRICS_SETTINGS.iter().filter(|setting| wanted(setting.name));
            let own = |setting: &ClientMetricsSetting| given.and_then(|given| given.get(setting.name)).cloned();
            Ok(settings.map(|setting| client_metrics_value(own(setting), setting, detail)).collect())
        }
        RESOURCE_BROKER_LOGGER => describe_loggers(broker, &resource.resource_name, wanted),
        other => Err(ApiError::new(ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}"))),
    }
}

fn topic_value(
    broker: &Broker,
    settings: &TopicSettings,
    setting: &'static TopicSetting,
    detail: Detail,
) -> DescribeConfigsResourceResult<'static> {
    let mut synonyms = Vec::new();
    if detail.synonyms {
        if settings.overrides.contains_key(setting.name) {
            synonyms.push(synonym(setting.name, shown(setting.optional, (setting.show)(settings)), SOURCE_TOPIC));
        }
        let in_force = broker.settings();
        for default in broker_settings(setting) {
            // A setting that is neither set nor has a default of its own, such as log.retention.ms, gives nothing.
            let given = |synonym: &DescribeConfigsSynonym<'_>| synonym.value.is_some();
            synonyms.extend(broker_synonyms(broker, &in_force, default).into_iter().filter(given));
        }
        if setting.broker_names.is_empty() {
            let default = (setting.show)(&TopicSettings::defaults(&in_force.config));
            synonyms.push(synonym(setting.name, shown(setting.optional, default), SOURCE_DEFAULT));
        }
    }
    DescribeConfigsResourceResult {
        name: Str::Borrowed(setting.name),
        value: shown(setting.optional, (setting.show)(settings)).map(Str::Owned),
        read_only: false,
        config_source: topic_value_source(broker, settings, setting),
        is_sensitive: false,
        synonyms,
        config_type: setting.kind.code(),
        documentation: detail.documentation.then(|| Str::Borrowed(setting.doc.trim())),
    }
}

fn broker_value(
    broker: &Broker,
    in_force: &InForce,
    setting: &'static Setting,
    detail: Detail,
) -> DescribeConfigsResourceResult<'static> {
    DescribeConfigsResourceResult {
        name: Str::Borrowed(setting.name),
        value: shown(setting.optional, (setting.show)(&in_force.config)).map(Str::Owned),
        read_only: !is_live(setting),
        config_source: broker_value_source(broker, in_force, setting),
        is_sensitive: false,
        synonyms: if detail.synonyms { broker_synonyms(broker, in_force, setting) } else { Vec::new() },
        config_type: setting.kind.code(),
        documentation: detail.documentation.then(|| Str::Borrowed(setting.doc.trim())),
    }
}

/// What was set for all brokers.
fn all_brokers_value(
    in_force: &InForce,
    setting: &'static Setting,
    detail: Detail,
) -> DescribeConfigsResourceResult<'static> {
    let value = in_force.all_brokers.get(setting.name).cloned();
    let given = synonym(setting.name, value.clone(), SOURCE_DYNAMIC_DEFAULT_BROKER);
    DescribeConfigsResourceResult {
        name: Str::Borrowed(setting.name),
        value: value.map(Str::Owned),
        read_only: false,
        config_source: SOURCE_DYNAMIC_DEFAULT_BROKER,
        is_sensitive: false,
        synonyms: if detail.synonyms { vec![given] } else { Vec::new() },
        config_type: setting.kind.code(),
        documentation: detail.documentation.then(|| Str::Borrowed(setting.doc.trim())),
    }
}

fn group_value(
    broker: &Broker,
    in_force: &InForce,
    group: &str,
    setting: &'static GroupSetting,
    detail: Detail,
) -> DescribeConfigsResourceResult<'static> {
    let own = in_force.groups.get(group).and_then(|own| own.get(setting.name)).cloned();
    let default = Setting::find(setting.broker_name);
    let source = match (&own, default) {
        (Some(_), _) => SOURCE_GROUP,
        (None, Some(default)) => broker_value_source(broker, in_force, default),
        (None, None) => SOURCE_DEFAULT,
    };
    let mut synonyms = Vec::new();
    if detail.synonyms {
        synonyms.extend(own.clone().map(|value| synonym(setting.name, Some(value), SOURCE_GROUP)));
        synonyms.extend(default.into_iter().flat_map(|default| broker_synonyms(broker, in_force, default)));
    }
    DescribeConfigsResourceResult {
        name: Str::Borrowed(setting.name),
        value: Some(Str::Owned(own.unwrap_or_else(|| (setting.default)(&in_force.config).to_string()))),
        read_only: false,
        config_source: source,
        is_sensitive: false,
        synonyms,
        config_type: ValueKind::Int.code(),
        documentation: detail.documentation.then_some(Str::Borrowed(setting.doc)),
    }
}

fn client_metrics_value(
    own: Option<String>,
    setting: &'static ClientMetricsSetting,
    detail: Detail,
) -> DescribeConfigsResourceResult<'static> {
    let mut synonyms = Vec::new();
    if detail.synonyms {
        synonyms.extend(own.clone().map(|value| synonym(setting.name, Some(value), SOURCE_CLIENT_METRICS)));
        synonyms.push(synonym(setting.name, Some(setting.default.to_owned()), SOURCE_DEFAULT));
    }
    DescribeConfigsResourceResult {
        name: Str::Borrowed(setting.name),
        config_source: if own.is_some() { SOURCE_CLIENT_METRICS } else { SOURCE_DEFAULT },
        value: Some(own.map_or(Str::Borrowed(setting.default), Str::Owned)),
        read_only: false,
        is_sensitive: false,
        synonyms,
        config_type: setting.kind.code(),
        documentation: detail.documentation.then_some(Str::Borrowed(setting.doc)),
    }
}

/// The values a broker setting could have, the one in force first.
fn broker_synonyms(
    broker: &Broker,
    in_force: &InForce,
    setting: &'static Setting,
) -> Vec<DescribeConfigsSynonym<'static>> {
    let given =
        [(&in_force.this_broker, SOURCE_DYNAMIC_BROKER), (&in_force.all_brokers, SOURCE_DYNAMIC_DEFAULT_BROKER)];
    let mut synonyms: Vec<_> = given
        .into_iter()
        .filter_map(|(set, source)| Some(synonym(setting.name, Some(set.get(setting.name)?.clone()), source)))
        .collect();
    let value = |config: &Config| shown(setting.optional, (setting.show)(config));
    let (started, default) = (value(&broker.config), value(&Config::default()));
    if started != default {
        synonyms.push(synonym(setting.name, started, SOURCE_STATIC_BROKER));
    }
    synonyms.push(synonym(setting.name, default, SOURCE_DEFAULT));
    synonyms
}

fn synonym(name: &'static str, value: Option<String>, source: i8) -> DescribeConfigsSynonym<'static> {
    DescribeConfigsSynonym { name: Str::Borrowed(name), value: value.map(Str::Owned), source }
}
