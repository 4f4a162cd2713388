//! Plugins: pushed in chunks, versioned by the broker, activated and rolled back by name.

use std::sync::Arc;
use std::time::Duration;

use ottla_wire::message::{
    ActivatePluginRequest, ActivatePluginResponse, DeletePluginRequest, DeletePluginResponse, DescribePluginsRequest,
    DescribePluginsResponse, DescribedPlugin, PLUGIN_CHUNK_BYTES_MAX, PushPluginRequest, PushPluginResponse,
    VERSION_ALL, VERSION_PREVIOUS,
};
use sha2::{Digest, Sha256};

use super::{Admin, check};
use crate::error::{AdminError, Classify, ConnectionError};

/// Lost connections that one upload survives.
const LOSSES_MAX: u32 = 5;

/// Answers without progress that one upload survives: the first one may merely say where to resume.
const STALLS_MAX: u32 = 3;

/// The broker compiles what was pushed before it answers the last chunk.
const PUSH_TIMEOUT: Duration = Duration::from_mins(3);

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushProgress {
    /// Bytes that the broker has.
    pub sent_bytes: u64,
    /// Bytes in total.
    pub total_bytes: u64,
}

/// A plugin that the broker took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedPlugin {
    /// Its name.
    pub name: Arc<str>,
    /// The version it got; the one it had if the broker knew these bytes.
    pub version: i32,
    /// The SHA-256 of its bytes, in hex.
    pub digest: String,
}

/// A plugin on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginDescription {
    /// Its name.
    pub name: String,
    /// The version that runs, if one does.
    pub active: Option<i32>,
    /// The version that a rollback would activate, if there is one.
    pub previous: Option<i32>,
    /// Its versions, oldest first.
    pub versions: Vec<PluginVersion>,
    /// The topics that name it in their settings.
    pub topics: Vec<String>,
}

/// A version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginVersion {
    /// Its number.
    pub version: i32,
    /// The SHA-256 of its bytes, in hex.
    pub digest: String,
    /// What it is: `partitioner`, `serializer` or `dead-letter-policy`.
    pub kind: String,
    /// Its size.
    pub bytes: i64,
    /// When it was pushed, in milliseconds since 1970.
    pub created_ms: i64,
    /// What it reads of a record.
    pub reads: Vec<String>,
    /// Whether a rollback left it. No rollback returns to it unless it is named; activating it takes the mark away.
    pub marked_bad: bool,
}

impl Admin {
    /// Uploads a plugin. An upload that broke off goes on where it stood, also after a restart of this program.
    pub async fn push_plugin(
        &self,
        name: &str,
        component: &[u8],
        mut on_progress: impl FnMut(PushProgress),
    ) -> Result<PushedPlugin, AdminError> {
        let digest = format!("{:x}", Sha256::digest(component));
        let total_bytes = component.len() as u64;
        let (mut offset, mut losses, mut stalls) = (0_usize, 0, 0);
        loop {
            on_progress(PushProgress { sent_bytes: offset as u64, total_bytes });
            let end = offset.saturating_add(PLUGIN_CHUNK_BYTES_MAX).min(component.len());
            let request = PushPluginRequest {
                name: name.into(),
                digest: digest.as_str().into(),
                total_bytes: total_bytes as i64,
                offset: offset as i64,
                chunk: component.get(offset..end).unwrap_or_default(),
            };
            let answer = match self.cluster.controller().await?.ask(&request, i16::MAX, PUSH_TIMEOUT).await {
                Err(error @ ConnectionError::Lost { .. }) if error.is_retriable() && losses < LOSSES_MAX => {
                    tracing::debug!(%error, offset, "the upload goes on");
                    losses += 1;
                    continue;
                }
                other => other?,
            };
            let response: PushPluginResponse<'_> = answer.decode()?;
            check(name, response.error_code, response.error_message.as_deref())?;
            if response.version > 0 {
                on_progress(PushProgress { sent_bytes: total_bytes, total_bytes });
                return Ok(PushedPlugin { name: name.into(), version: response.version, digest });
            }
            // The broker knows best where it stands: after a resumed upload, further than we thought.
            let next = usize::try_from(response.next_offset).ok().filter(|next| *next <= component.len());
            stalls = if next.is_some_and(|next| next > offset) { 0 } else { stalls + 1 };
            match next {
                Some(next) if stalls <= STALLS_MAX => offset = next,
                _ => return Err(AdminError::UploadStuck { subject: name.into(), offset: response.next_offset }),
            }
        }
    }

    /// All plugins, by name.
    pub async fn list_plugins(&self) -> Result<Vec<PluginDescription>, AdminError> {
        self.describe_plugins("plugins", None).await
    }

    /// One plugin.
    pub async fn describe_plugin(&self, name: &str) -> Result<PluginDescription, AdminError> {
        let plugins = self.describe_plugins(name, Some(name)).await?;
        let missing = || AdminError::Refused {
            subject: name.into(),
            code: ottla_wire::ErrorCode::ResourceNotFound,
            message: Some("there is no plugin of this name".into()),
        };
        plugins.into_iter().find(|plugin| plugin.name == name).ok_or_else(missing)
    }

    async fn describe_plugins(&self, subject: &str, name: Option<&str>) -> Result<Vec<PluginDescription>, AdminError> {
        let request = DescribePluginsRequest { names: name.map(|name| vec![name.into()]) };
        let answer = self.ask_controller(&request).await?;
        let response: DescribePluginsResponse<'_> = answer.decode()?;
        check(subject, response.error_code, response.error_message.as_deref())?;
        let mut plugins: Vec<_> = response.plugins.iter().map(PluginDescription::read).collect();
        plugins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(plugins)
    }

    /// Makes a version the one that runs; returns its number.
    pub async fn activate_plugin(&self, name: &str, version: i32) -> Result<i32, AdminError> {
        self.change_active_version(name, version, false).await
    }

    /// Goes back to an earlier version, the one that was active before or `to`, and marks the version that it leaves as bad; returns the
    /// number of the one that runs. Called again it goes back further, never forward. [`AdminError::Refused`] if no earlier one is left.
    pub async fn roll_back_plugin(&self, name: &str, to: Option<i32>) -> Result<i32, AdminError> {
        self.change_active_version(name, to.unwrap_or(VERSION_PREVIOUS), true).await
    }

    async fn change_active_version(&self, name: &str, version: i32, is_rollback: bool) -> Result<i32, AdminError> {
        let request = ActivatePluginRequest { name: name.into(), version, is_rollback };
        let answer = self.ask_controller(&request).await?;
        let response: ActivatePluginResponse<'_> = answer.decode()?;
        check(name, response.error_code, response.error_message.as_deref())?;
        Ok(response.active_version)
    }

    /// Removes one version, or with none the whole plugin.
    pub async fn remove_plugin(&self, name: &str, version: Option<i32>) -> Result<(), AdminError> {
        let request = DeletePluginRequest { name: name.into(), version: version.unwrap_or(VERSION_ALL) };
        let answer = self.ask_controller(&request).await?;
        let response: DeletePluginResponse<'_> = answer.decode()?;
        check(name, response.error_code, response.error_message.as_deref())
    }
}

impl PluginDescription {
    fn read(plugin: &DescribedPlugin<'_>) -> Self {
        let mut versions: Vec<_> = plugin
            .versions
            .iter()
            .map(|version| PluginVersion {
                version: version.version,
                digest: version.digest.to_string(),
                kind: version.kind.to_string(),
                bytes: version.bytes,
                created_ms: version.created_ms,
                reads: version.reads.iter().map(ToString::to_string).collect(),
                marked_bad: version.marked_bad,
            })
            .collect();
        versions.sort_by_key(|version| version.version);
        Self {
            name: plugin.name.to_string(),
            active: Some(plugin.active_version).filter(|version| *version > 0),
            previous: Some(plugin.previous_version).filter(|version| *version > 0),
            versions,
            topics: plugin.topics.iter().map(ToString::to_string).collect(),
        }
    }
}
