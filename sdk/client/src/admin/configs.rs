//! Settings of topics, brokers and groups.

use ottla_wire::Message;
use ottla_wire::message::{
    AlterConfigsResource, AlterableConfig, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResourceResult, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, OPERATION_DELETE, OPERATION_SET, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER,
    RESOURCE_CLIENT_METRICS, RESOURCE_GROUP, RESOURCE_TOPIC, Request, SOURCE_CLIENT_METRICS, SOURCE_DEFAULT,
    SOURCE_DYNAMIC_BROKER, SOURCE_DYNAMIC_BROKER_LOGGER, SOURCE_DYNAMIC_DEFAULT_BROKER, SOURCE_GROUP,
    SOURCE_STATIC_BROKER, SOURCE_TOPIC,
};

use super::{Admin, check, unanswered};
use crate::error::AdminError;
use crate::net::{Answer, MAIN_CHANNEL};

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

/// What has settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigTarget<'a> {
    /// A topic by name.
    Topic(&'a str),
    /// A broker by node id.
    Broker(i32),
    /// All brokers: what is set for all of them while they run.
    AllBrokers,
    /// A group by id.
    Group(&'a str),
    /// A subscription to the metrics of clients (KIP-714), by name.
    ClientMetrics(&'a str),
    /// The loggers of a broker by node id: their levels. They hold until the broker ends.
    Loggers(i32),
}

/// Where the value of a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on the group.
    Group,
    /// Set on the subscription to client metrics.
    ClientMetrics,
    /// The level of a logger.
    Logger,
    /// Set on the broker while it runs.
    RunningBroker,
    /// Set on all brokers while they run.
    AllBrokers,
    /// Set where the broker was started.
    Broker,
    /// It is not set.
    Default,
    /// The broker names a source that this client does not know.
    Other(i8),
}

/// A setting of a topic, a broker or a group.
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
        self.describe_configs(ConfigTarget::Topic(topic)).await
    }

    /// Changes settings of a topic: all of these, or none.
    pub async fn change_topic_configs(&self, topic: &str, changes: &[ConfigChange]) -> Result<(), AdminError> {
        self.change_configs(ConfigTarget::Topic(topic), changes).await
    }

    /// All settings of a topic, a broker or a group, by name.
    pub async fn describe_configs(&self, target: ConfigTarget<'_>) -> Result<Vec<ConfigEntry>, AdminError> {
        let name = target.name();
        let resource = DescribeConfigsResource {
            resource_type: target.resource_type(),
            resource_name: name.as_str().into(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_documentation: true,
            ..DescribeConfigsRequest::default()
        };
        let answer = self.ask_owner(target, &request).await?;
        let response: DescribeConfigsResponse<'_> = answer.decode()?;
        let result = response.results.iter().find(|result| result.resource_name == name);
        let result = result.ok_or_else(|| unanswered(&answer, &name))?;
        check(&name, result.error_code, result.error_message.as_deref())?;
        let mut entries: Vec<_> = result.configs.iter().map(ConfigEntry::read).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Changes settings of a topic, a broker or a group: all of these, or none.
    pub async fn change_configs(&self, target: ConfigTarget<'_>, changes: &[ConfigChange]) -> Result<(), AdminError> {
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
        let name = target.name();
        let resource = AlterConfigsResource {
            resource_type: target.resource_type(),
            resource_name: name.as_str().into(),
            configs: changes.iter().map(config).collect(),
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], ..IncrementalAlterConfigsRequest::default() };
        let answer = self.ask_owner(target, &request).await?;
        let response: IncrementalAlterConfigsResponse<'_> = answer.decode()?;
        let result = response.responses.iter().find(|result| result.resource_name == name);
        let result = result.ok_or_else(|| unanswered(&answer, &name))?;
        check(&name, result.error_code, result.error_message.as_deref())
    }

    /// Asks the broker that is meant, the controller about everything else.
    async fn ask_owner<'a, M: Message<'a> + Request<'a>>(
        &self,
        target: ConfigTarget<'_>,
        message: &M,
    ) -> Result<Answer, AdminError> {
        match target {
            ConfigTarget::Broker(node) | ConfigTarget::Loggers(node) => {
                let connection = self.cluster.broker(node, MAIN_CHANNEL).await?;
                Ok(connection.ask(message, i16::MAX, self.cluster.request_timeout()).await?)
            }
            ConfigTarget::Topic(_)
            | ConfigTarget::AllBrokers
            | ConfigTarget::Group(_)
            | ConfigTarget::ClientMetrics(_) => Ok(self.ask_controller(message).await?),
        }
    }
}

impl ConfigTarget<'_> {
    fn resource_type(self) -> i8 {
        match self {
            Self::Topic(_) => RESOURCE_TOPIC,
            Self::Broker(_) | Self::AllBrokers => RESOURCE_BROKER,
            Self::Group(_) => RESOURCE_GROUP,
            Self::ClientMetrics(_) => RESOURCE_CLIENT_METRICS,
            Self::Loggers(_) => RESOURCE_BROKER_LOGGER,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Topic(name) | Self::Group(name) | Self::ClientMetrics(name) => name.to_owned(),
            Self::Broker(node) | Self::Loggers(node) => node.to_string(),
            Self::AllBrokers => String::new(),
        }
    }
}

impl ConfigEntry {
    fn read(entry: &DescribeConfigsResourceResult<'_>) -> Self {
        Self {
            name: entry.name.to_string(),
            value: entry.value.as_deref().map(str::to_owned),
            source: match entry.config_source {
                SOURCE_TOPIC => ConfigSource::Topic,
                SOURCE_GROUP => ConfigSource::Group,
                SOURCE_CLIENT_METRICS => ConfigSource::ClientMetrics,
                SOURCE_DYNAMIC_BROKER_LOGGER => ConfigSource::Logger,
                SOURCE_DYNAMIC_BROKER => ConfigSource::RunningBroker,
                SOURCE_DYNAMIC_DEFAULT_BROKER => ConfigSource::AllBrokers,
                SOURCE_STATIC_BROKER => ConfigSource::Broker,
                SOURCE_DEFAULT => ConfigSource::Default,
                other => ConfigSource::Other(other),
            },
            read_only: entry.read_only,
            doc: entry.documentation.as_deref().map(str::to_owned),
        }
    }
}
