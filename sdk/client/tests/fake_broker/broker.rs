//! A broker that says what a test wants it to say, true or not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_client::{ClientConfig, ConsumerConfig, ProducerConfig};
use ottla_wire::api::APIS;
use ottla_wire::message::{
    ApiVersionsResponse, ApiVersionsResponseKey, InitProducerIdResponse, Message, MetadataResponse,
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_wire::{ApiKey, ErrorCode, decode_request, encode_response, split_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// A request as it arrived.
pub(crate) struct Request {
    /// Which API.
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    body: Vec<u8>,
    /// Where the broker listens.
    pub(crate) address: SocketAddr,
}

impl Request {
    /// Reads a frame without its length.
    pub(crate) fn parse(frame: &[u8], address: SocketAddr) -> Self {
        let (header, body) = split_request(frame).unwrap();
        Self {
            key: header.key().unwrap(),
            version: header.api_version,
            correlation_id: header.correlation_id,
            body: body.to_vec(),
            address,
        }
    }

    pub(crate) fn read<'a, M: Message<'a>>(&'a self) -> M {
        decode_request(self.version, &self.body).unwrap()
    }

    /// An honest answer.
    pub(crate) fn answer<'a, M: Message<'a>>(&self, message: &M) -> Reply {
        let mut frame = Vec::new();
        encode_response(self.correlation_id, self.version, message, &mut frame);
        Reply::Bytes(frame)
    }
}

/// What the broker does about a request.
pub(crate) enum Reply {
    /// These bytes go out as they are.
    Bytes(Vec<u8>),
    /// Nothing, ever.
    Silence,
    /// The connection ends.
    Close,
    /// These bytes, once the gate is opened.
    After(Arc<Notify>, Vec<u8>),
}

impl Reply {
    /// The same, once the gate is opened.
    pub(crate) fn after(self, gate: &Arc<Notify>) -> Self {
        match self {
            Self::Bytes(bytes) => Self::After(Arc::clone(gate), bytes),
            other => other,
        }
    }
}

type Script = dyn Fn(&Request) -> Option<Reply> + Send + Sync;

/// See the module.
pub(crate) struct FakeBroker {
    pub(crate) address: SocketAddr,
    seen: watch::Receiver<Vec<ApiKey>>,
    task: tokio::task::JoinHandle<()>,
}

impl FakeBroker {
    /// Listens and plays the script. What the script leaves to it, it answers like an honest broker with one topic `t` of
    /// `partitions` partitions.
    pub(crate) async fn start(
        partitions: i32,
        script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, seen) = watch::channel(Vec::new());
        let tell = Arc::new(Mutex::new(tell));
        let script: Arc<Script> = Arc::new(script);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, tell) = (Arc::clone(&script), Arc::clone(&tell));
                tokio::spawn(async move {
                    let _ = serve(stream, address, partitions, &*script, &tell).await;
                });
            }
        });
        Self { address, seen, task }
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn client(&self) -> ClientConfig {
        client(&self.bootstrap())
    }

    pub(crate) fn producer(&self) -> ProducerConfig {
        let mut config = ProducerConfig::default();
        config.client = self.client();
        config.linger_ms = 0;
        config
    }

    pub(crate) fn consumer(&self) -> ConsumerConfig {
        let mut config = ConsumerConfig::default();
        config.client = self.client();
        config
    }

    /// How many requests of this kind have arrived.
    pub(crate) fn count(&self, key: ApiKey) -> usize {
        self.seen.borrow().iter().filter(|seen| **seen == key).count()
    }

    /// Waits until a request of this kind has arrived `count` times.
    pub(crate) async fn saw(&self, key: ApiKey, count: usize) {
        let mut seen = self.seen.clone();
        let enough = |seen: &Vec<ApiKey>| seen.iter().filter(|seen| **seen == key).count() >= count;
        tokio::time::timeout(Duration::from_secs(20), seen.wait_for(enough)).await.unwrap().unwrap();
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Settings that lose no time.
pub(crate) fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new(bootstrap);
    config.retry_backoff_ms = 1;
    config.retry_backoff_ms_max = 5;
    config.reconnect_backoff_ms = 1;
    config.reconnect_backoff_ms_max = 5;
    config
}

async fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    partitions: i32,
    script: &Script,
    tell: &Mutex<watch::Sender<Vec<ApiKey>>>,
) -> std::io::Result<()> {
    loop {
        let length = stream.read_i32().await?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut frame).await?;
        let request = Request::parse(&frame, address);
        let reply = script(&request).unwrap_or_else(|| honest(&request, partitions));
        tell.lock().unwrap().send_modify(|seen| seen.push(request.key));
        match reply {
            Reply::Bytes(bytes) => stream.write_all(&bytes).await?,
            Reply::Silence => {}
            Reply::Close => return Ok(()),
            Reply::After(gate, bytes) => {
                gate.notified().await;
                stream.write_all(&bytes).await?;
            }
        }
    }
}

/// What an honest broker answers to everything that is asked before records flow.
pub(crate) fn honest(request: &Request, partitions: i32) -> Reply {
    match request.key {
        ApiKey::ApiVersions => request.answer(&versions()),
        ApiKey::Metadata => request.answer(&metadata(request.address, partitions)),
        ApiKey::InitProducerId => request.answer(&InitProducerIdResponse { producer_id: 7, ..Default::default() }),
        _ => Reply::Silence,
    }
}

pub(crate) fn versions() -> ApiVersionsResponse<'static> {
    let key = |api: &&ottla_wire::Api| ApiVersionsResponseKey {
        api_key: api.key.code(),
        min_version: api.versions.min,
        max_version: api.versions.max,
    };
    ApiVersionsResponse { api_keys: APIS.iter().map(key).collect(), ..Default::default() }
}

pub(crate) fn metadata(address: SocketAddr, partitions: i32) -> MetadataResponse<'static> {
    metadata_of(&[(1, address)], &vec![1; partitions as usize])
}

/// What brokers of a cluster say: node ids with addresses, and the leader of each partition of `t`.
pub(crate) fn metadata_of(nodes: &[(i32, SocketAddr)], leaders: &[i32]) -> MetadataResponse<'static> {
    let partition = |(partition_index, leader_id): (i32, &i32)| MetadataResponsePartition {
        partition_index,
        leader_id: *leader_id,
        leader_epoch: 0,
        ..Default::default()
    };
    let partitions = leaders.len();
    let topic = MetadataResponseTopic {
        error_code: if partitions == 0 { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::None },
        name: Some("t".into()),
        partitions: (0..).zip(leaders).map(partition).collect(),
        ..Default::default()
    };
    let broker = |(node_id, address): &(i32, SocketAddr)| MetadataResponseBroker {
        node_id: *node_id,
        host: address.ip().to_string().into(),
        port: i32::from(address.port()),
        ..Default::default()
    };
    let brokers = nodes.iter().map(broker).collect();
    MetadataResponse { brokers, controller_id: 1, topics: vec![topic], ..Default::default() }
}
