//! Administration as Python sees it. Everything comes back as tuples; `ottla/_admin.py` gives them names.

use ottla_client as core;
use ottla_client::{
    AdminError, ConfigChange, ConfigSource, NewTopic, PartitionDescription, PluginDescription, PluginVersion,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::runtime::Handle;

use crate::events;
use crate::failure::Failure;
use crate::fork::AtHome;
use crate::runtime::{self, Patience, block_on};
use crate::settings;

type Listing = (String, usize, bool);
type Partition = (i32, Option<i32>, i32, Vec<i32>, Vec<i32>, Option<i64>, Option<i64>);
type Config = (String, Option<String>, &'static str, bool, Option<String>);
type Version = (i32, String, String, i64, i64, Vec<String>, bool);
type Plugin = (String, Option<i32>, Option<i32>, Vec<Version>, Vec<String>);
type Cluster = (Option<String>, i32, Vec<(i32, String)>);

/// Creates, changes and describes topics and plugins.
#[pyclass(frozen, subclass, module = "ottla._core")]
#[derive(Debug)]
pub(crate) struct Admin {
    core: AtHome<core::Admin>,
    runtime: Handle,
}

impl Admin {
    fn ask<F, T>(&self, py: Python<'_>, timeout: Option<f64>, future: F) -> PyResult<T>
    where
        F: Future<Output = Result<T, AdminError>> + Send,
        T: Send,
    {
        let answer = block_on(py, &self.runtime, Patience::of_seconds(timeout)?, future)?;
        Ok(answer.ok_or_else(|| Failure::timed_out("no broker answered in time"))?.map_err(Failure::from)?)
    }
}

#[pymethods]
impl Admin {
    #[new]
    fn new(py: Python<'_>, settings: &Bound<'_, PyDict>) -> PyResult<Self> {
        let runtime = runtime::handle(py)?;
        events::start(py)?;
        let config = settings::client(settings, runtime.clone())?;
        Ok(Self { core: AtHome::new(core::Admin::new(config).map_err(Failure::from)?), runtime })
    }

    #[pyo3(signature = (name, partitions, replicas, configs, timeout = None))]
    fn _create_topic(
        &self,
        py: Python<'_>,
        name: &str,
        partitions: Option<i32>,
        replicas: Option<i16>,
        configs: Vec<(String, String)>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let mut topic = NewTopic::new(name);
        (topic.partitions, topic.replicas, topic.configs) = (partitions, replicas, configs);
        self.ask(py, timeout, self.core.get()?.create_topic(&topic)).map(drop)
    }

    #[pyo3(signature = (timeout = None))]
    fn _list_topics(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Vec<Listing>> {
        let topics = self.ask(py, timeout, self.core.get()?.list_topics())?;
        Ok(topics.into_iter().map(|topic| (topic.name.to_string(), topic.partitions, topic.internal)).collect())
    }

    #[pyo3(signature = (name, timeout = None))]
    fn _describe_topic(&self, py: Python<'_>, name: &str, timeout: Option<f64>) -> PyResult<(bool, Vec<Partition>)> {
        let topic = self.ask(py, timeout, self.core.get()?.describe_topic(name))?;
        Ok((topic.internal, topic.partitions.into_iter().map(partition).collect()))
    }

    #[pyo3(signature = (name, timeout = None))]
    fn _delete_topic(&self, py: Python<'_>, name: &str, timeout: Option<f64>) -> PyResult<()> {
        self.ask(py, timeout, self.core.get()?.delete_topic(name))
    }

    #[pyo3(signature = (name, timeout = None))]
    fn _describe_config(&self, py: Python<'_>, name: &str, timeout: Option<f64>) -> PyResult<Vec<Config>> {
        let entries = self.ask(py, timeout, self.core.get()?.describe_topic_configs(name))?;
        Ok(entries
            .into_iter()
            .map(|entry| (entry.name, entry.value, source_name(entry.source), entry.read_only, entry.doc))
            .collect())
    }

    #[pyo3(signature = (name, changes, timeout = None))]
    fn _set_config(
        &self,
        py: Python<'_>,
        name: &str,
        changes: Vec<(String, Option<String>)>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let change = |(name, value)| match value {
            Some(value) => ConfigChange::Set { name, value },
            None => ConfigChange::Unset { name },
        };
        let changes: Vec<ConfigChange> = changes.into_iter().map(change).collect();
        self.ask(py, timeout, self.core.get()?.change_topic_configs(name, &changes))
    }

    #[pyo3(signature = (timeout = None))]
    fn _describe_cluster(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Cluster> {
        let cluster = self.ask(py, timeout, self.core.get()?.describe_cluster())?;
        let brokers = cluster.brokers.into_iter().map(|broker| (broker.node, broker.address));
        Ok((cluster.id.map(|id| id.to_string()), cluster.controller, brokers.collect()))
    }

    #[pyo3(signature = (name, component, timeout = None))]
    fn _push_plugin(
        &self,
        py: Python<'_>,
        name: &str,
        component: &[u8],
        timeout: Option<f64>,
    ) -> PyResult<(i32, String)> {
        let pushed = self.ask(py, timeout, self.core.get()?.push_plugin(name, component, |_| {}))?;
        Ok((pushed.version, pushed.digest))
    }

    #[pyo3(signature = (timeout = None))]
    fn _list_plugins(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Vec<Plugin>> {
        let plugins = self.ask(py, timeout, self.core.get()?.list_plugins())?;
        Ok(plugins.into_iter().map(plugin).collect())
    }

    #[pyo3(signature = (name, timeout = None))]
    fn _describe_plugin(&self, py: Python<'_>, name: &str, timeout: Option<f64>) -> PyResult<Plugin> {
        self.ask(py, timeout, self.core.get()?.describe_plugin(name)).map(plugin)
    }

    #[pyo3(signature = (name, version, timeout = None))]
    fn _activate_plugin(&self, py: Python<'_>, name: &str, version: i32, timeout: Option<f64>) -> PyResult<i32> {
        self.ask(py, timeout, self.core.get()?.activate_plugin(name, version))
    }

    #[pyo3(signature = (name, to, timeout = None))]
    fn _roll_back_plugin(&self, py: Python<'_>, name: &str, to: Option<i32>, timeout: Option<f64>) -> PyResult<i32> {
        self.ask(py, timeout, self.core.get()?.roll_back_plugin(name, to))
    }

    #[pyo3(signature = (name, version, timeout = None))]
    fn _remove_plugin(&self, py: Python<'_>, name: &str, version: Option<i32>, timeout: Option<f64>) -> PyResult<()> {
        self.ask(py, timeout, self.core.get()?.remove_plugin(name, version))
    }
}

fn partition(part: PartitionDescription) -> Partition {
    let PartitionDescription { index, leader, leader_epoch, replicas, in_sync, start_offset, end_offset } = part;
    (index, leader, leader_epoch, replicas, in_sync, start_offset, end_offset)
}

fn plugin(plugin: PluginDescription) -> Plugin {
    let PluginDescription { name, active, previous, versions, topics } = plugin;
    let version = |version| {
        let PluginVersion { version, digest, kind, bytes, created_ms, reads, marked_bad } = version;
        (version, digest, kind, bytes, created_ms, reads, marked_bad)
    };
    (name, active, previous, versions.into_iter().map(version).collect(), topics)
}

fn source_name(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Topic => "topic",
        ConfigSource::Group => "group",
        ConfigSource::ClientMetrics => "client metrics",
        ConfigSource::Logger => "logger",
        ConfigSource::RunningBroker | ConfigSource::AllBrokers | ConfigSource::Broker => "broker",
        ConfigSource::Default => "default",
        ConfigSource::Other(_) => "other",
    }
}
