//! A broker in this process that can stop, crash and start again on the same data; a client that speaks whole messages.

use std::sync::Arc;
use std::time::Duration;

use ottla_broker::broker::Broker;
use ottla_broker::config::{Config, HostPort, set_pair};
use ottla_broker::partition::snapshot::TopicSnapshot;
use ottla_broker::serve::{Listeners, serve};
use ottla_plugin_host::Digest;
use ottla_wire::message::{
    ActivatePluginRequest, ActivatePluginResponse, AlterConfigsResource, AlterableConfig, ApiVersionsRequest,
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, InitProducerIdRequest, InitProducerIdResponse, OPERATION_SET,
    PartitionProduceData, Placement, ProduceRequest, ProduceResponse, PushPluginRequest, PushPluginResponse,
    RESOURCE_TOPIC, TopicProduceData,
};
use ottla_wire::record::{BatchBuilder, Codec, Header, batches};
use ottla_wire::{
    ApiVersion, ErrorCode, Message, Offset, ProducerEpoch, ProducerId, RequestHeader, Sequence, decode_response,
    encode_request,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::guest::Guest;

/// Long enough for a slow machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_mins(1);
/// The version that Ottla's own clients speak.
pub(crate) const NEWEST: i16 = 12;

pub(crate) struct Home {
    pub(crate) broker: Arc<Broker>,
    serving: JoinHandle<()>,
    dir: TempDir,
    settings: Vec<String>,
}

impl Home {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With settings written `key=value`.
    pub(crate) async fn with(settings: &[&str]) -> Self {
        Self::open(tempfile::tempdir().unwrap(), settings.iter().map(|&pair| pair.to_owned()).collect()).await
    }

    async fn open(dir: TempDir, settings: Vec<String>) -> Self {
        let mut config = Config {
            data_dir: dir.path().to_owned(),
            listen: HostPort { host: "127.0.0.1".to_owned(), port: 0 },
            plugin_compiler: Some(std::env::current_exe().unwrap()),
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

    /// Stops cleanly and starts again.
    pub(crate) async fn restart(self) -> Self {
        self.end(true).await
    }

    /// Goes away without writing anything down, and starts again.
    pub(crate) async fn crash(self) -> Self {
        self.end(false).await
    }

    async fn end(self, cleanly: bool) -> Self {
        let Self { broker, serving, dir, settings } = self;
        broker.shutdown.begin();
        serving.await.unwrap();
        tokio::task::spawn_blocking(move || {
            if cleanly {
                broker.close().unwrap();
            }
            // Its threads hold the log directory and the metadata until they end.
            let (log, meta) = (Arc::downgrade(&broker.log), Arc::downgrade(&broker.meta));
            drop(broker);
            while log.strong_count() > 0 || meta.strong_count() > 0 {
                std::thread::yield_now();
            }
        })
        .await
        .unwrap();
        Self::open(dir, settings).await
    }

    pub(crate) async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.broker.listening_on()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, next_correlation_id: 1 }
    }

    /// A client that says what it is.
    pub(crate) async fn client_named(&self, name: &str) -> Client {
        let mut client = self.client().await;
        let request = ApiVersionsRequest { client_software_name: name.into(), client_software_version: "1".into() };
        client.ask(3, &request).await;
        client
    }

    pub(crate) async fn ottla(&self) -> Client {
        self.client_named("ottla").await
    }

    pub(crate) async fn create_topic(&self, name: &str, num_partitions: i32, configs: &[(&str, &str)]) -> ErrorCode {
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
        response.topics[0].error_code
    }

    /// Sets one setting of a topic; the error code and its message.
    pub(crate) async fn set_topic(&self, topic: &str, name: &str, value: &str) -> (ErrorCode, String) {
        let config = AlterableConfig { name: name.into(), config_operation: OPERATION_SET, value: Some(value.into()) };
        let resource =
            AlterConfigsResource { resource_type: RESOURCE_TOPIC, resource_name: topic.into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        let answer = self.client().await.ask(1, &request).await;
        let response: IncrementalAlterConfigsResponse<'_> = answer.read();
        let response = &response.responses[0];
        (response.error_code, response.error_message.as_deref().unwrap_or_default().to_owned())
    }

    /// Uploads a component in one go; its version.
    pub(crate) async fn push(&self, name: &str, component: &[u8]) -> i32 {
        let (error_code, message, version) = self.try_push(name, component).await;
        assert_eq!(error_code, ErrorCode::None, "{message}");
        version
    }

    pub(crate) async fn try_push(&self, name: &str, component: &[u8]) -> (ErrorCode, String, i32) {
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
    pub(crate) async fn activate(&self, name: &str, version: i32) -> (ErrorCode, i32) {
        let request = ActivatePluginRequest { name: name.into(), version, ..Default::default() };
        let answer = self.ottla().await.ask(0, &request).await;
        let response: ActivatePluginResponse<'_> = answer.read();
        (response.error_code, response.active_version)
    }

    /// Where the snapshot of a topic's producers lies.
    pub(crate) fn snapshot(&self, topic: &str) -> std::path::PathBuf {
        let topic = self.broker.topics.get(topic).unwrap();
        TopicSnapshot::path(topic.partition(0).unwrap().log.directory(), topic.id)
    }

    /// A topic `t` whose records go to the partition that the digit in their key names.
    pub(crate) async fn routed_topic(&self, partitions: i32) {
        self.push("digit", &digit(0)).await;
        let created = self.create_topic("t", partitions, &[("ottla.partitioner", "digit")]).await;
        assert_eq!(created, ErrorCode::None);
    }

    /// Everything that can be read of a partition, in order: key and value.
    pub(crate) async fn records(&self, topic: &str, partition: i32) -> Vec<(String, String)> {
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
    pub(crate) async fn stored(&self, topic: &str, partition: i32) -> Vec<Vec<u8>> {
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

/// A partitioner that sends a record to the partition that its key, one digit, names, moved on by `shift`; a `t` makes
/// it fail.
pub(crate) fn digit(shift: u32) -> Vec<u8> {
    let guest = Guest::that(
        "(local $at i32) (local $i i32) (local $bytes i32) (local $digit i32)
         (local.set $bytes (i32.load offset=4 (local.get $columns)))
         (local.set $at (call $alloc (i32.mul (local.get $records) (i32.const 4))))
         (block $done (loop $more
           (br_if $done (i32.ge_u (local.get $i) (local.get $records)))
           (local.set $digit
             (i32.sub (i32.load8_u (i32.add (local.get $bytes) (local.get $i))) (i32.const 48)))
           (if (i32.eq (local.get $digit) (i32.const 68)) (then unreachable))
           (if (i32.lt_u (local.get $digit) (local.get $partitions)) (then
             (local.set $digit
               (i32.rem_u (i32.add (local.get $digit) (call $shift)) (local.get $partitions)))))
           (i32.store (i32.add (local.get $at) (i32.mul (local.get $i) (i32.const 4))) (local.get $digit))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br $more)))
         (call $ok (local.get $at) (local.get $records))",
    );
    let shift = match shift {
        0 => "(func $shift (result i32) (i32.const 0))",
        1 => "(func $shift (result i32) (i32.const 1))",
        _ => "(func $shift (result i32) (i32.const 2))",
    };
    Guest { fields: shift, ..guest }.component()
}

/// A batch being put together.
#[derive(Clone)]
pub(crate) struct Said {
    codec: Codec,
    producer: Option<(i64, i16, i32)>,
    timestamp: i64,
    records: Vec<(Option<String>, String)>,
}

/// A batch of records with these keys; each value says its key and its place in the batch.
pub(crate) fn said(keys: &str) -> Said {
    let records = keys.chars().enumerate().map(|(at, key)| (Some(key.to_string()), format!("{keys}#{at}")));
    Said { codec: Codec::None, producer: None, timestamp: 1_700_000_000_000, records: records.collect() }
}

impl Said {
    pub(crate) fn codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// From an idempotent producer: id, epoch, first sequence.
    pub(crate) fn by(self, id: i64, epoch: i16, sequence: i32) -> Self {
        Self { producer: Some((id, epoch, sequence)), ..self }
    }

    /// Without keys.
    pub(crate) fn keyless(mut self) -> Self {
        self.records.iter_mut().for_each(|(key, _)| *key = None);
        self
    }

    /// With this value in front of each.
    pub(crate) fn tagged(mut self, tag: &str) -> Self {
        self.records.iter_mut().for_each(|(_, value)| *value = format!("{tag}{value}"));
        self
    }

    pub(crate) fn values(&self) -> Vec<String> {
        self.records.iter().map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn builder(&self) -> BatchBuilder {
        let mut builder = BatchBuilder::new(self.codec);
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
        }
        for ((key, value), timestamp) in self.records.iter().zip(self.timestamp..) {
            let headers = [Header { key: b"h", value: Some(value.as_bytes()) }];
            let key = key.as_ref().map(String::as_bytes);
            builder.append(timestamp, key, Some(value.as_bytes()), headers.into_iter()).unwrap();
        }
        builder
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.builder().finish(&mut bytes).unwrap();
        bytes
    }
}

/// What a partition answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) error_code: ErrorCode,
    pub(crate) base_offset: i64,
    pub(crate) log_append_time_ms: i64,
    pub(crate) log_start_offset: i64,
    pub(crate) record_errors: Vec<i32>,
    pub(crate) message: String,
    pub(crate) placements: Vec<(i32, i32, i32, i64)>,
}

impl Answered {
    pub(crate) fn offset(&self) -> i64 {
        assert_eq!(self.error_code, ErrorCode::None, "{}", self.message);
        self.base_offset
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    next_correlation_id: i32,
}

impl Client {
    /// Produces one batch with acks=all.
    pub(crate) async fn produce(&mut self, topic: &str, partition: i32, batch: &Said) -> Answered {
        self.produce_as(NEWEST, -1, topic, partition, &batch.bytes()).await
    }

    pub(crate) async fn produce_as(
        &mut self,
        version: i16,
        acks: i16,
        topic: &str,
        partition: i32,
        batch: &[u8],
    ) -> Answered {
        self.send(version, &produce_request(acks, topic, &[(partition, batch)])).await;
        self.receive_produced(version).await.remove(0)
    }

    /// The answer to a produce request, partition by partition.
    pub(crate) async fn receive_produced(&mut self, version: i16) -> Vec<Answered> {
        let answer = self.receive(version).await;
        let response: ProduceResponse<'_> = answer.read();
        let answered = |partition: &ottla_wire::message::PartitionProduceResponse<'_>| Answered {
            error_code: partition.error_code,
            base_offset: partition.base_offset,
            log_append_time_ms: partition.log_append_time_ms,
            log_start_offset: partition.log_start_offset,
            record_errors: partition.record_errors.iter().map(|error| error.batch_index).collect(),
            message: partition.error_message.as_deref().unwrap_or_default().to_owned(),
            placements: partition
                .placements
                .iter()
                .map(|it: &Placement| (it.first_index, it.count, it.partition, it.base_offset))
                .collect(),
        };
        response.responses.iter().flat_map(|topic| topic.partition_responses.iter().map(answered)).collect()
    }

    pub(crate) async fn producer_id(&mut self) -> i64 {
        let answer = self.ask(4, &InitProducerIdRequest::default()).await;
        let response: InitProducerIdResponse = answer.read();
        assert_eq!((response.error_code, response.producer_epoch), (ErrorCode::None, 0));
        response.producer_id
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask<'a, M: Message<'a>>(&mut self, version: i16, request: &M) -> Answer {
        self.send(version, request).await;
        self.receive(version).await
    }

    pub(crate) async fn send<'a, M: Message<'a>>(&mut self, version: i16, request: &M) {
        self.send_together(version, std::slice::from_ref(request)).await;
    }

    /// Sends requests in one write, so that the broker reads them together.
    pub(crate) async fn send_together<'a, M: Message<'a>>(&mut self, version: i16, requests: &[M]) {
        let mut bytes = Vec::new();
        for request in requests {
            let header = RequestHeader::of::<M>(ApiVersion(version), self.next_correlation_id, Some("test".into()));
            self.next_correlation_id += 1;
            encode_request(&header, request, &mut bytes);
        }
        self.stream.write_all(&bytes).await.unwrap();
    }

    pub(crate) async fn receive(&mut self, version: i16) -> Answer {
        let receive = async {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).await.unwrap();
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            self.stream.read_exact(&mut frame).await.unwrap();
            Answer { frame, version }
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

pub(crate) fn produce_request<'a>(acks: i16, topic: &'a str, batches: &[(i32, &'a [u8])]) -> ProduceRequest<'a> {
    let partition_data = batches.iter().map(|&(index, records)| PartitionProduceData { index, records: Some(records) });
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: partition_data.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) struct Answer {
    frame: Vec<u8>,
    version: i16,
}

impl Answer {
    pub(crate) fn read<'a, M: Message<'a>>(&'a self) -> M {
        decode_response(ApiVersion(self.version), &self.frame).unwrap().1
    }
}
