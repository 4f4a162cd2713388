//! Settings of topics as requests give them and as answers show them.

use std::collections::BTreeMap;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    SOURCE_DEFAULT, SOURCE_DYNAMIC_BROKER, SOURCE_DYNAMIC_DEFAULT_BROKER, SOURCE_STATIC_BROKER, SOURCE_TOPIC,
};

use super::api_error::ApiError;
use crate::broker::Broker;
use crate::config::topic::TopicSetting;
use crate::config::{Config, Durability, Setting, TopicSettings};
use crate::groups::OFFSETS_TOPIC;
use crate::live::InForce;
use crate::plugins::{Binding, Reservation};
use crate::topics::is_internal;

/// Reads the settings of a topic and checks what only the broker can: that the plugins they name can serve it. Where
/// nothing about a plugin changes it is not looked at, so that other settings can be changed even if it is gone. The
/// reservations are to be kept until the topic has the settings.
pub(super) fn check_settings(
    broker: &Broker,
    topic: &str,
    before: Option<&TopicSettings>,
    overrides: BTreeMap<String, String>,
) -> Result<(TopicSettings, Vec<Reservation>), ApiError> {
    let settings = TopicSettings::with_overrides(&broker.settings().config, overrides)
        .map_err(|error| ApiError::new(ErrorCode::InvalidConfig, error.to_string()))?;
    if topic == OFFSETS_TOPIC {
        keeps_offsets(&settings)?;
    }
    let modes = |settings: &TopicSettings| (settings.partitioner_mode, settings.serializer_mode);
    let same_modes = before.is_none_or(|before| modes(before) == modes(&settings));
    let known = before.map(Binding::all).unwrap_or_default();
    let new = Binding::all(&settings).into_iter().filter(|binding| !same_modes || !known.contains(binding));
    let reservations = new.map(|binding| reserve(broker, topic, binding)).collect::<Result<_, _>>()?;
    Ok((settings, reservations))
}

/// Counts the topic as a user of a plugin that can serve it.
fn reserve(broker: &Broker, topic: &str, binding: Binding<'_>) -> Result<Reservation, ApiError> {
    if is_internal(topic) {
        let message = format!("Topic {topic} is internal: plugins do not see its records.");
        return Err(ApiError::new(ErrorCode::InvalidConfig, message));
    }
    let setting = binding.setting();
    broker.plugins.reserve(topic, binding).map_err(|error| {
        if error.is_refusal() {
            return ApiError::new(ErrorCode::InvalidConfig, format!("{setting}: {error}"));
        }
        tracing::error!("cannot check a plugin: {error}");
        ApiError::new(ErrorCode::KafkaStorageError, error.to_string())
    })
}

/// Refuses what would take committed offsets back: an answer to a commit says that it survives a power cut, and that it stays.
fn keeps_offsets(settings: &TopicSettings) -> Result<(), ApiError> {
    let wrong = if settings.durability == Durability::Fsync {
        (settings.cleanup_policy.delete || !settings.cleanup_policy.compact).then_some("cleanup.policy=compact")
    } else {
        Some("ottla.durability=fsync")
    };
    match wrong {
        None => Ok(()),
        Some(wanted) => {
            let message =
                format!("Topic {OFFSETS_TOPIC} keeps the committed offsets of all groups: it needs {wanted}.");
            Err(ApiError::new(ErrorCode::InvalidConfig, message))
        }
    }
}

/// Where the value of a topic setting comes from.
pub(super) fn topic_value_source(broker: &Broker, settings: &TopicSettings, setting: &TopicSetting) -> i8 {
    if settings.overrides.contains_key(setting.name) {
        return SOURCE_TOPIC;
    }
    let in_force = broker.settings();
    let sources = broker_settings(setting).map(|setting| broker_value_source(broker, &in_force, setting));
    let mut sources = sources;
    sources.find(|source| *source != SOURCE_DEFAULT).unwrap_or(SOURCE_DEFAULT)
}

/// Whether a topic shows this setting: those for tests only where they are set.
pub(super) fn is_shown(settings: &TopicSettings, setting: &TopicSetting) -> bool {
    !setting.is_internal() || settings.overrides.contains_key(setting.name)
}

/// The broker settings that give a topic setting its default, the one that counts most first.
pub(super) fn broker_settings(setting: &TopicSetting) -> impl Iterator<Item = &'static Setting> {
    setting.broker_names.iter().filter_map(|name| Setting::find(name))
}

/// Where the value of a broker setting comes from.
pub(super) fn broker_value_source(broker: &Broker, in_force: &InForce, setting: &Setting) -> i8 {
    if in_force.this_broker.contains_key(setting.name) {
        SOURCE_DYNAMIC_BROKER
    } else if in_force.all_brokers.contains_key(setting.name) {
        SOURCE_DYNAMIC_DEFAULT_BROKER
    } else if (setting.show)(&broker.config) == (setting.show)(&Config::default()) {
        SOURCE_DEFAULT
    } else {
        SOURCE_STATIC_BROKER
    }
}

/// A value on the wire: what may be unset and is, is null there.
pub(super) fn shown(optional: bool, text: String) -> Option<String> {
    (!optional || !text.is_empty()).then_some(text)
}
