//! DescribePlugins, Ottla's own, versions 0 and 1.
//!
//! Behaviour: the plugins asked for, or all, with their versions and the topics that name them. A name that is not there
//! is RESOURCE_NOT_FOUND for the whole request, the others are answered all the same.

use std::sync::Arc;

use ottla_wire::message::{DescribePluginsRequest, DescribePluginsResponse, DescribedPlugin, DescribedPluginVersion};
use ottla_wire::{ErrorCode, Str};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::meta::PluginRecord;
use crate::plugins::{PluginUser, RegistryError};

/// Serves DescribePlugins.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: DescribePluginsRequest<'_> = decoded(head, frame)?;
    let users = broker.topics.plugin_users();
    let mut missing = None;
    let records: Vec<Arc<PluginRecord>> = match &request.names {
        None => broker.plugins.all(),
        Some(names) => {
            let known = names.iter().filter_map(|name| {
                let record = broker.plugins.get(name);
                if record.is_none() {
                    missing.get_or_insert_with(|| RegistryError::UnknownName(name.to_string()).to_string());
                }
                record
            });
            known.collect()
        }
    };
    let plugins = records.iter().map(|record| described(record, &users)).collect();
    let error_code = if missing.is_some() { ErrorCode::ResourceNotFound } else { ErrorCode::None };
    let answer =
        DescribePluginsResponse { plugins, error_code, error_message: missing.map(Str::Owned), ..Default::default() };
    Ok(Response::of(head, &answer))
}

fn described<'a>(record: &'a PluginRecord, users: &'a [PluginUser]) -> DescribedPlugin<'a> {
    let versions = record.versions.iter().map(|version| DescribedPluginVersion {
        version: version.version,
        digest: Str::Borrowed(&version.digest),
        kind: Str::Borrowed(&version.kind),
        bytes: version.bytes,
        created_ms: version.created_ms,
        reads: version.reads.iter().map(|part| Str::Borrowed(part.as_str())).collect(),
        marked_bad: record.bad_versions.contains(&version.version),
    });
    let topics = users.iter().filter(|user| user.plugin.name == record.name);
    DescribedPlugin {
        name: Str::Borrowed(&record.name),
        active_version: record.active_version,
        previous_version: record.previous_version,
        versions: versions.collect(),
        topics: topics.map(|user| Str::Borrowed(user.topic.as_str())).collect(),
    }
}

/// What the registry says, as a client gets to hear it.
pub(super) fn registry_refusal(error: &RegistryError) -> (ErrorCode, String) {
    let error_code = match error {
        RegistryError::UnknownName(_) | RegistryError::UnknownVersion { .. } => ErrorCode::ResourceNotFound,
        RegistryError::NoPrevious { .. } | RegistryError::NoneActive(_) => ErrorCode::InvalidRequest,
        RegistryError::InUse { .. } | RegistryError::Active { .. } => ErrorCode::PolicyViolation,
        RegistryError::WrongKind { .. } | RegistryError::Load { .. } => ErrorCode::InvalidConfig,
        RegistryError::Meta(_) | RegistryError::BadDigest(_) => {
            tracing::error!(%error, "the plugin registry failed");
            ErrorCode::KafkaStorageError
        }
    };
    (error_code, error.to_string())
}
