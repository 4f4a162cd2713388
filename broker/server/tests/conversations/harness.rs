//! A broker in this process, and a socket that speaks whole messages or raw bytes to it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_broker::broker::Broker;
use ottla_broker::config::{Config, HostPort, set_pair};
use ottla_broker::serve::{Listeners, serve};
use ottla_wire::message::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse, FetchPartition, FetchRequest,
    FetchTopic,
};
use ottla_wire::record::{BatchBuilder, Codec};
use ottla_wire::{ApiVersion, ErrorCode, Message, RequestHeader, Uuid, decode_response, encode_request};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Long enough for a slow machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct TestBroker {
    pub(crate) broker: Arc<Broker>,
    serving: JoinHandle<()>,
    dir: TempDir,
    settings: Vec<String>,
}

impl TestBroker {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with settings written `key=value`.
    pub(crate) async fn start_with(settings: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings.iter().map(|&pair| pair.to_owned()).collect()).await
    }

    async fn start_in(dir: TempDir, settings: Vec<String>) -> Self {
        let mut config = Config {
            data_dir: dir.path().to_owned(),
            listen: HostPort { host: "127.0.0.1".to_owned(), port: 0 },
            ..Config::default()
        };
        for pair in &settings {
            set_pair(&mut config, pair).unwrap();
        }
        let listeners = Listeners::bind(&config, false).unwrap();
        let listening_on = listeners.clients_on();
        let (broker, _report) =
            tokio::task::spawn_blocking(move || Broker::open(config, listening_on).unwrap()).await.unwrap();
        let serving = tokio::spawn(serve(Arc::clone(&broker), listeners));
        Self { broker, serving, dir, settings }
    }

    /// Stops cleanly and starts again on the same data.
    pub(crate) async fn restart(self) -> Self {
        self.restart_after(|_| ()).await
    }

    /// The same, with something done to the data directory in between.
    pub(crate) async fn restart_after(self, change: impl FnOnce(&Path)) -> Self {
        let Self { broker, serving, dir, settings } = self;
        broker.shutdown.begin();
        serving.await.unwrap();
        tokio::task::spawn_blocking(move || {
            broker.close().unwrap();
            assert_eq!(Arc::strong_count(&broker), 1, "somebody still holds the broker");
        })
        .await
        .unwrap();
        change(dir.path());
        Self::start_in(dir, settings).await
    }

    /// Ends without a word to the disk, as a crash does, and starts again on the same data.
    pub(crate) async fn crash(self) -> Self {
        let Self { broker, serving, dir, settings } = self;
        broker.shutdown.begin();
        serving.await.unwrap();
        assert_eq!(Arc::strong_count(&broker), 1, "somebody still holds the broker");
        tokio::task::spawn_blocking(move || drop(broker)).await.unwrap();
        Self::start_in(dir, settings).await
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops.
    pub(crate) async fn stop(self) {
        self.broker.shutdown.begin();
        self.serving.await.unwrap();
    }

    pub(crate) async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.broker.listening_on()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, next_correlation_id: 1 }
    }

    /// Creates a topic through the front door.
    pub(crate) async fn create_topic(&self, name: &str, num_partitions: i32, configs: &[(&str, &str)]) -> Uuid {
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
        assert_eq!(response.topics[0].error_code, ErrorCode::None, "{response:?}");
        response.topics[0].topic_id
    }

    /// Waits until so many fetches wait for records.
    pub(crate) async fn wait_for_polls(&self, polls: u64) {
        let polling = async {
            while self.broker.metrics.fetches_waiting.get() != polls {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, polling).await.expect("another number of fetches waits");
    }

    /// Appends a batch to a partition behind the back of the protocol and waits until it can be read.
    pub(crate) async fn append(&self, topic: &str, partition: i32, mut batch: Vec<u8>) -> i64 {
        let topic = self.broker.topics.get(topic).unwrap();
        let partition = Arc::clone(topic.partition(partition).unwrap());
        let appended = partition.log.append(&mut batch).unwrap();
        partition.watermark.wait_for(appended.end_offset).await.unwrap();
        appended.base_offset.get()
    }
}

/// A batch of records with these values, one millisecond apart from `timestamp` on.
pub(crate) fn batch(codec: Codec, timestamp: i64, values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for (value, timestamp) in values.iter().zip(timestamp..) {
        builder.append(timestamp, None, Some(value), std::iter::empty()).unwrap();
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    bytes
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    next_correlation_id: i32,
}

impl Client {
    /// Sends a request and waits for its answer.
    pub(crate) async fn ask<'a, M: Message<'a>>(&mut self, version: i16, request: &M) -> Answer {
        let correlation_id = self.send(version, request).await;
        let answer = self.receive(version).await;
        assert_eq!(answer.correlation_id(), correlation_id);
        answer
    }

    /// Sends a request; returns its correlation id.
    pub(crate) async fn send<'a, M: Message<'a>>(&mut self, version: i16, request: &M) -> i32 {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        self.send_bytes(&frame(version, correlation_id, request)).await;
        correlation_id
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next answer, whose request had `version`.
    pub(crate) async fn receive(&mut self, version: i16) -> Answer {
        self.try_receive(version).await.expect("the broker closed the connection")
    }

    /// The next answer, or nothing if the broker closes the connection.
    pub(crate) async fn try_receive(&mut self, version: i16) -> Option<Answer> {
        let receive = async {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).await.ok()?;
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Answer { frame, version })
        };
        tokio::time::timeout(PATIENCE, receive).await.expect("no answer")
    }

    /// Whether the broker closes the connection without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut rest = [0; 1];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut rest)).await.expect("still open");
        matches!(read, Ok(0) | Err(_))
    }
}

/// A whole request frame.
pub(crate) fn frame<'a, M: Message<'a>>(version: i16, correlation_id: i32, request: &M) -> Vec<u8> {
    let header = RequestHeader::of::<M>(ApiVersion(version), correlation_id, Some("test".into()));
    let mut bytes = Vec::new();
    encode_request(&header, request, &mut bytes);
    bytes
}

pub(crate) struct Answer {
    pub(crate) frame: Vec<u8>,
    version: i16,
}

impl Answer {
    pub(crate) fn correlation_id(&self) -> i32 {
        i32::from_be_bytes(*self.frame.first_chunk().unwrap())
    }

    pub(crate) fn read<'a, M: Message<'a>>(&'a self) -> M {
        self.read_at(self.version)
    }

    pub(crate) fn read_at<'a, M: Message<'a>>(&'a self, version: i16) -> M {
        decode_response(ApiVersion(version), &self.frame).unwrap().1
    }
}

/// A fetch of some partitions of one topic by name, from the given offsets on.
pub(crate) fn fetch<'a>(topic: &'a str, offsets: &[(i32, i64)]) -> FetchRequest<'a> {
    let partitions = offsets.iter().map(|&(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic { topic: topic.into(), partitions: partitions.collect(), ..Default::default() }],
        ..Default::default()
    }
}
