//! The broker: start, stop, crash, and what a test asks of it from outside and inside.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ottla_broker::broker::{Broker, StartError};
use ottla_broker::config::listeners::ListenerList;
use ottla_broker::config::{Config, set_pair};
use ottla_broker::log_dirs::LogDirsError;
use ottla_broker::meta::MetaError;
use ottla_broker::partition::snapshot::TopicSnapshot;
use ottla_broker::serve::{Listeners, serve};
use ottla_log::OpenError;
use ottla_plugin_host::Digest;
use ottla_wire::message::{
    ActivatePluginRequest, ActivatePluginResponse, AlterConfigsResource, AlterableConfig, ApiVersionsRequest,
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, OPERATION_SET, PushPluginRequest, PushPluginResponse, RESOURCE_TOPIC,
};
use ottla_wire::record::batches;
use ottla_wire::{ErrorCode, Offset, Uuid};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::PATIENCE;
use crate::client::Client;
use crate::guest::digit;

/// A broker on a free port and a data directory of its own.
pub struct TestBroker {
    /// The broker.
    pub broker: Arc<Broker>,
    serving: JoinHandle<()>,
    dir: TempDir,
    settings: Vec<String>,
}

impl TestBroker {
    /// Starts with the defaults.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with settings written `key=value`.
    pub async fn start_with(settings: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings.iter().map(|&pair| pair.to_owned()).collect()).await
    }

    async fn start_in(dir: TempDir, settings: Vec<String>) -> Self {
        let mut config = Config {
            data_dir: dir.path().to_owned(),
            listeners: ListenerList::on("127.0.0.1", 0),
            plugin_compiler: Some(std::env::current_exe().unwrap()),
            ..Config::default()
        };
        for pair in &settings {
            set_pair(&mut config, pair).unwrap();
        }
        let listeners = Listeners::bind(&config, false).unwrap();
        let endpoints = listeners.endpoints();
        let broker = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            loop {
                match Broker::open(config.clone(), endpoints.clone()) {
                    Ok((broker, _report)) => return broker,
                    // Threads of the broker before this one hold the locks until they end.
                    Err(
                        StartError::Log(LogDirsError::Open(OpenError::Locked { .. }))
                        | StartError::Meta(MetaError::Locked { .. }),
                    ) if begun.elapsed() < PATIENCE => std::thread::yield_now(),
                    Err(error) => panic!("the broker does not start: {error}"),
                }
            }
        });
        let broker = broker.await.unwrap();
        let serving = tokio::spawn(serve(Arc::clone(&broker), listeners));
        Self { broker, serving, dir, settings }
    }

    /// Stops cleanly and starts again on the same data.
    pub async fn restart(self) -> Self {
        self.restart_after(|_| ()).await
    }

    /// The same, with a change of the data directory in between.
    pub async fn restart_after(self, change: impl FnOnce(&Path)) -> Self {
        let (dir, settings) = self.end(true).await;
        change(dir.path());
        Self::start_in(dir, settings).await
    }

    /// Ends without a word to the disk, as a crash does, and starts again on the same data.
    pub async fn crash(self) -> Self {
        let (dir, settings) = self.end(false).await;
        Self::start_in(dir, settings).await
    }

    /// Stops.
    pub async fn stop(self) {
        self.broker.shutdown.begin();
        self.serving.await.unwrap();
    }

    async fn end(self, cleanly: bool) -> (TempDir, Vec<String>) {
        let Self { broker, serving, dir, settings } = self;
        broker.shutdown.begin();
        serving.await.unwrap();
        tokio::task::spawn_blocking(move || {
            if cleanly {
                broker.close().unwrap();
            }
            drop(broker);
        })
        .await
        .unwrap();
        (dir, settings)
    }

    /// Where its data is.
    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where it listens first.
    pub fn addr(&self) -> SocketAddr {
        self.broker.endpoints[0].addr
    }

    /// A client that has said nothing yet.
    pub async fn client(&self) -> Client {
        Client::connect(self.addr()).await
    }

    /// A client that has given its name.
    pub async fn client_named(&self, name: &str) -> Client {
        let mut client = self.client().await;
        let request = ApiVersionsRequest { client_software_name: name.into(), client_software_version: "1".into() };
        client.ask(3, &request).await;
        client
    }

    /// One of Ottla's own clients: it sees placements and may use Ottla's own APIs.
    pub async fn ottla(&self) -> Client {
        self.client_named("ottla").await
    }

    /// Creates a topic and returns its id.
    pub async fn create_topic(&self, name: &str, num_partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        self.try_create_topic(name, num_partitions, configs).await.unwrap_or_else(|code| panic!("{name}: {code}"))
    }

    /// Creates a topic; its id, or the error.
    pub async fn try_create_topic(
        &self,
        name: &str,
        num_partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<Uuid, ErrorCode> {
        let configs =
            configs.iter().map(|&(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let answer = self.client().await.ask(7, &request).await;
        let response: CreateTopicsResponse<'_> = answer.read();
        match response.topics[0].error_code {
            ErrorCode::None => Ok(response.topics[0].topic_id),
            code => Err(code),
        }
    }

    /// Sets one setting of a topic; the error code and its message.
    pub async fn set_topic(&self, topic: &str, name: &str, value: &str) -> (ErrorCode, String) {
        let config = AlterableConfig { name: name.into(), config_operation: OPERATION_SET, value: Some(value.into()) };
        let resource =
            AlterConfigsResource { resource_type: RESOURCE_TOPIC, resource_name: topic.into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        let answer = self.client().await.ask(1, &request).await;
        let response: IncrementalAlterConfigsResponse<'_> = answer.read();
        let response = &response.responses[0];
        (response.error_code, response.error_message.as_deref().unwrap_or_default().to_owned())
    }

    /// Uploads a component and returns its version.
    pub async fn push(&self, name: &str, component: &[u8]) -> i32 {
        let (error_code, message, version) = self.try_push(name, component).await;
        assert_eq!(error_code, ErrorCode::None, "{message}");
        version
    }

    /// Uploads a component; the error code, its message and the version.
    pub async fn try_push(&self, name: &str, component: &[u8]) -> (ErrorCode, String, i32) {
        let mut client = self.ottla().await;
        let digest = Digest::of(component).to_string();
        let mut offset = 0;
        loop {
            let rest = component.get(offset..).unwrap_or_default();
            let request = PushPluginRequest {
                name: name.into(),
                digest: digest.as_str().into(),
                total_bytes: component.len() as i64,
                offset: offset as i64,
                chunk: &rest[..rest.len().min(1 << 20)],
            };
            let answer = client.ask(0, &request).await;
            let response: PushPluginResponse<'_> = answer.read();
            if response.error_code != ErrorCode::None || response.version > 0 {
                let message = response.error_message.as_deref().unwrap_or_default().to_owned();
                return (response.error_code, message, response.version);
            }
            offset = response.next_offset as usize;
        }
    }

    /// Makes a version active; -1 rolls back.
    pub async fn activate(&self, name: &str, version: i32) -> (ErrorCode, i32) {
        let request = ActivatePluginRequest { name: name.into(), version, ..Default::default() };
        let answer = self.ottla().await.ask(0, &request).await;
        let response: ActivatePluginResponse<'_> = answer.read();
        (response.error_code, response.active_version)
    }

    /// A topic `t` whose records go to the partition that the digit in their key names.
    pub async fn routed_topic(&self, partitions: i32) {
        self.push("digit", &digit(0)).await;
        self.create_topic("t", partitions, &[("ottla.partitioner", "digit")]).await;
    }

    /// The path of the snapshot of a topic's producers.
    pub fn snapshot(&self, topic: &str) -> PathBuf {
        let topic = self.broker.topics.get(topic).unwrap();
        TopicSnapshot::path(topic.partition(0).unwrap().log.directory(), topic.id)
    }

    /// Waits until so many fetches wait for records.
    pub async fn wait_for_polls(&self, polls: u64) {
        let polling = async {
            while self.broker.metrics.fetches_waiting.get() != polls {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, polling).await.expect("another number of fetches waits");
    }

    /// Appends a batch to a partition behind the back of the protocol and waits until it can be read. Returns its base
    /// offset.
    pub async fn append(&self, topic: &str, partition: i32, mut batch: Vec<u8>) -> i64 {
        let topic = self.broker.topics.get(topic).unwrap();
        let partition = Arc::clone(topic.partition(partition).unwrap());
        let appended = partition.log.append(&mut batch).unwrap();
        partition.watermark.wait_for(appended.end_offset).await.unwrap();
        appended.base_offset.get()
    }

    /// Everything that can be read of a partition, in order: key and value.
    pub async fn records(&self, topic: &str, partition: i32) -> Vec<(String, String)> {
        let mut records = Vec::new();
        for bytes in self.stored(topic, partition).await {
            let batch = batches(&bytes).next().unwrap().unwrap();
            let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
            for record in &batch.records(1 << 24).unwrap() {
                let record = record.unwrap();
                records.push((text(record.key), text(record.value)));
            }
        }
        records
    }

    /// The batches of a partition as they are stored, once all of them can be read.
    pub async fn stored(&self, topic: &str, partition: i32) -> Vec<Vec<u8>> {
        let topic = self.broker.topics.get(topic).unwrap();
        let partition = topic.partition(partition).unwrap();
        let end = partition.log.end_offset();
        partition.watermark.wait_for(end).await.unwrap();
        let (mut offset, mut stored) = (Offset(0), Vec::new());
        while let Some((bytes, range)) = partition.log.read_batches(offset, 1, end).unwrap() {
            offset = range.next_offset;
            stored.push(bytes);
        }
        stored
    }
}
