//! DescribeConfigs, versions 1-4.
//!
//! Behaviour: every setting of a topic or of this broker, or those whose keys are named, with value, source, type,
//! synonyms and documentation if asked for. Broker settings are read-only: they are those of the start.
//! Not supported: resources other than topics and brokers.

use std::sync::Arc;

use ottla_wire::message::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym, RESOURCE_BROKER, RESOURCE_TOPIC, SOURCE_DEFAULT,
    SOURCE_STATIC_BROKER, SOURCE_TOPIC,
};
use ottla_wire::{ErrorCode, Str};

use super::api_error::ApiError;
use super::topic_settings::{broker_settings, broker_value_source, is_shown, shown, topic_value_source};
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::config::topic::{TOPIC_SETTINGS, TopicSetting};
use crate::config::{Config, SETTINGS, Setting, TopicSettings};
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
    let results = request.resources.iter().map(|resource| {
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
            // The empty name asks for what was set for all brokers while they ran, of which there is nothing.
            if name.is_empty() {
                return Ok(Vec::new());
            }
            if name.parse() != Ok(broker.node_id) {
                let message = format!("Unexpected broker id, expected {} but received {name}", broker.node_id);
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
            let settings = SETTINGS.iter().filter(|setting| wanted(setting.name));
            Ok(settings.map(|setting| broker_value(broker, setting, detail)).collect())
        }
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
        for default in broker_settings(setting) {
            // A setting that is neither set nor has a default of its own, such as log.retention.ms, gives nothing.
            let given = |synonym: &DescribeConfigsSynonym<'_>| synonym.value.is_some();
            synonyms.extend(broker_synonyms(broker, default).into_iter().filter(given));
        }
        if setting.broker_names.is_empty() {
            let default = (setting.show)(&TopicSettings::defaults(&broker.config));
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

fn broker_value(broker: &Broker, setting: &'static Setting, detail: Detail) -> DescribeConfigsResourceResult<'static> {
    DescribeConfigsResourceResult {
        name: Str::Borrowed(setting.name),
        value: shown(setting.optional, (setting.show)(&broker.config)).map(Str::Owned),
        read_only: true,
        config_source: broker_value_source(broker, setting),
        is_sensitive: false,
        synonyms: if detail.synonyms { broker_synonyms(broker, setting) } else { Vec::new() },
        config_type: setting.kind.code(),
        documentation: detail.documentation.then(|| Str::Borrowed(setting.doc.trim())),
    }
}

/// The values a broker setting could have, the one in force first.
fn broker_synonyms(broker: &Broker, setting: &'static Setting) -> Vec<DescribeConfigsSynonym<'static>> {
    let mut synonyms = Vec::new();
    let value = |config: &Config| shown(setting.optional, (setting.show)(config));
    if broker_value_source(broker, setting) == SOURCE_STATIC_BROKER {
        synonyms.push(synonym(setting.name, value(&broker.config), SOURCE_STATIC_BROKER));
    }
    synonyms.push(synonym(setting.name, value(&Config::default()), SOURCE_DEFAULT));
    synonyms
}

fn synonym(name: &'static str, value: Option<String>, source: i8) -> DescribeConfigsSynonym<'static> {
    DescribeConfigsSynonym { name: Str::Borrowed(name), value: value.map(Str::Owned), source }
}
