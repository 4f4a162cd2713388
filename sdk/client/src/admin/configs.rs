//! Settings of topics.

use ottla_wire::message::{
    AlterConfigsResource, AlterableConfig, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResourceResult, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, OPERATION_DELETE, OPERATION_SET, RESOURCE_TOPIC, SOURCE_DEFAULT,
    SOURCE_DYNAMIC_BROKER, SOURCE_DYNAMIC_DEFAULT_BROKER, SOURCE_STATIC_BROKER, SOURCE_TOPIC,
};

use super::{Admin, check, unanswered};
use crate::error::AdminError;

/// A change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Give it this value.
    Set {
        /// The setting.
        name: String,
        /// Its value.
        value: String,
    },
    /// Back to the default.
    Unset {
        /// The setting.
        name: String,
    },
}

/// Where the value of a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on the broker.
    Broker,
    /// It is not set.
    Default,
    /// The broker names a source that this client does not know.
    Other(i8),
}

/// A setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; none if it is secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed.
    pub read_only: bool,
    /// What it means, if the broker tells.
    pub doc: Option<String>,
}

impl Admin {
    /// All settings of a topic, by name.
    pub async fn describe_topic_configs(&self, topic: &str) -> Result<Vec<ConfigEntry>, AdminError> {
        let resource = DescribeConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: topic.into(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_documentation: true,
            ..DescribeConfigsRequest::default()
        };
        let answer = self.ask_controller(&request).await?;
        let response: DescribeConfigsResponse<'_> = answer.decode()?;
        let result = response.results.iter().find(|result| result.resource_name == topic);
        let result = result.ok_or_else(|| unanswered(&answer, topic))?;
        check(topic, result.error_code, result.error_message.as_deref())?;
        let mut entries: Vec<_> = result.configs.iter().map(ConfigEntry::read).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Changes settings of a topic: all of these, or none.
    pub async fn change_topic_configs(&self, topic: &str, changes: &[ConfigChange]) -> Result<(), AdminError> {
        let config = |change: &ConfigChange| match change {
            ConfigChange::Set { name, value } => AlterableConfig {
                name: name.clone().into(),
                config_operation: OPERATION_SET,
                value: Some(value.clone().into()),
            },
            ConfigChange::Unset { name } => {
                AlterableConfig { name: name.clone().into(), config_operation: OPERATION_DELETE, value: None }
            }
        };
        let resource = AlterConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: topic.into(),
            configs: changes.iter().map(config).collect(),
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], ..IncrementalAlterConfigsRequest::default() };
        let answer = self.ask_controller(&request).await?;
        let response: IncrementalAlterConfigsResponse<'_> = answer.decode()?;
        let result = response.responses.iter().find(|result| result.resource_name == topic);
        let result = result.ok_or_else(|| unanswered(&answer, topic))?;
        check(topic, result.error_code, result.error_message.as_deref())
    }
}

impl ConfigEntry {
    fn read(entry: &DescribeConfigsResourceResult<'_>) -> Self {
        Self {
            name: entry.name.to_string(),
            value: entry.value.as_deref().map(str::to_owned),
            source: match entry.config_source {
                SOURCE_TOPIC => ConfigSource::Topic,
                SOURCE_DYNAMIC_BROKER | SOURCE_DYNAMIC_DEFAULT_BROKER | SOURCE_STATIC_BROKER => ConfigSource::Broker,
                SOURCE_DEFAULT => ConfigSource::Default,
                other => ConfigSource::Other(other),
            },
            read_only: entry.read_only,
            doc: entry.documentation.as_deref().map(str::to_owned),
        }
    }
}
