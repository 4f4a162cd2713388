//! A client over one socket: whole messages, or bytes as they are.

use std::net::SocketAddr;

use ottla_tests::connection::request_frame;
use ottla_wire::message::{
    FetchPartition, FetchRequest, FetchTopic, InitProducerIdRequest, InitProducerIdResponse, PartitionProduceData,
    PartitionProduceResponse, Placement, ProduceRequest, ProduceResponse, TopicProduceData,
};
use ottla_wire::{ApiVersion, ErrorCode, Message, decode_response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::PATIENCE;
use crate::batches::Said;

/// The version of Produce that Ottla's own clients speak.
pub const NEWEST: i16 = 12;

/// One connection.
pub struct Client {
    /// The socket.
    pub stream: TcpStream,
    next_correlation_id: i32,
}

impl Client {
    /// Connects to a server there.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, next_correlation_id: 1 }
    }

    /// Sends a request and waits for its answer.
    pub async fn ask<'a, M: Message<'a>>(&mut self, version: i16, request: &M) -> Answer {
        let correlation_id = self.send(version, request).await;
        let answer = self.receive(version).await;
        assert_eq!(answer.correlation_id(), correlation_id);
        answer
    }

    /// Sends a request; returns its correlation id.
    pub async fn send<'a, M: Message<'a>>(&mut self, version: i16, request: &M) -> i32 {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        self.send_bytes(&request_frame(version, correlation_id, request)).await;
        correlation_id
    }

    /// Sends bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next answer, whose request had `version`.
    pub async fn receive(&mut self, version: i16) -> Answer {
        self.try_receive(version).await.expect("the broker closed the connection")
    }

    /// The next answer, or nothing if the broker closes the connection.
    pub async fn try_receive(&mut self, version: i16) -> Option<Answer> {
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
    pub async fn is_closed(&mut self) -> bool {
        let mut rest = [0; 1];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut rest)).await.expect("still open");
        matches!(read, Ok(0) | Err(_))
    }

    /// Sends requests in one write, so that the broker reads them together.
    pub async fn send_together<'a, M: Message<'a>>(&mut self, version: i16, requests: &[M]) {
        let mut bytes = Vec::new();
        for request in requests {
            bytes.extend(request_frame(version, self.next_correlation_id, request));
            self.next_correlation_id += 1;
        }
        self.send_bytes(&bytes).await;
    }

    /// Produces one batch with acks=all.
    pub async fn produce(&mut self, topic: &str, partition: i32, batch: &Said) -> Answered {
        self.produce_as(NEWEST, -1, topic, partition, &batch.bytes()).await
    }

    /// Produces one batch.
    pub async fn produce_as(&mut self, version: i16, acks: i16, topic: &str, partition: i32, batch: &[u8]) -> Answered {
        self.send(version, &produce_request(acks, topic, &[(partition, batch)])).await;
        self.receive_produced(version).await.remove(0)
    }

    /// The answer to a produce request, partition by partition.
    pub async fn receive_produced(&mut self, version: i16) -> Vec<Answered> {
        let answer = self.receive(version).await;
        let response: ProduceResponse<'_> = answer.read();
        let answered = |partition: &PartitionProduceResponse<'_>| Answered {
            error_code: partition.error_code,
            base_offset: partition.base_offset,
            log_append_time_ms: partition.log_append_time_ms,
            log_start_offset: partition.log_start_offset,
            record_errors: partition.record_errors.iter().map(|error| error.batch_index).collect(),
            record_reasons: partition
                .record_errors
                .iter()
                .filter_map(|error| error.batch_index_error_message.as_deref().map(str::to_owned))
                .collect(),
            message: partition.error_message.as_deref().unwrap_or_default().to_owned(),
            placements: partition
                .placements
                .iter()
                .map(|it: &Placement| (it.first_index, it.count, it.partition, it.base_offset))
                .collect(),
        };
        response.responses.iter().flat_map(|topic| topic.partition_responses.iter().map(answered)).collect()
    }

    /// A new producer id, whose epoch is 0.
    pub async fn producer_id(&mut self) -> i64 {
        let answer = self.ask(4, &InitProducerIdRequest::default()).await;
        let response: InitProducerIdResponse = answer.read();
        assert_eq!((response.error_code, response.producer_epoch), (ErrorCode::None, 0));
        response.producer_id
    }
}

/// What a partition answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The error, or none.
    pub error_code: ErrorCode,
    /// The offset of the first record.
    pub base_offset: i64,
    /// When the broker stamped the records, or -1.
    pub log_append_time_ms: i64,
    /// The first offset of the partition.
    pub log_start_offset: i64,
    /// The places of refused records in the batch.
    pub record_errors: Vec<i32>,
    /// What is wrong with each of them, where the answer says it.
    pub record_reasons: Vec<String>,
    /// The error message.
    pub message: String,
    /// First index, count, partition, base offset.
    pub placements: Vec<(i32, i32, i32, i64)>,
}

impl Answered {
    /// The base offset of a batch that was taken.
    pub fn offset(&self) -> i64 {
        assert_eq!(self.error_code, ErrorCode::None, "{}", self.message);
        self.base_offset
    }
}

/// A produce request of batches for partitions of one topic.
pub fn produce_request<'a>(acks: i16, topic: &'a str, batches: &[(i32, &'a [u8])]) -> ProduceRequest<'a> {
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

/// An answer as it came.
pub struct Answer {
    /// The frame, without its length.
    pub frame: Vec<u8>,
    version: i16,
}

impl Answer {
    /// The correlation id of its request.
    pub fn correlation_id(&self) -> i32 {
        i32::from_be_bytes(*self.frame.first_chunk().unwrap())
    }

    /// Decodes it in the version of its request.
    pub fn read<'a, M: Message<'a>>(&'a self) -> M {
        self.read_at(self.version)
    }

    /// Decodes it in another version.
    pub fn read_at<'a, M: Message<'a>>(&'a self, version: i16) -> M {
        decode_response(ApiVersion(version), &self.frame).unwrap().1
    }
}

/// A fetch of some partitions of one topic by name, from the given offsets on.
pub fn fetch<'a>(topic: &'a str, offsets: &[(i32, i64)]) -> FetchRequest<'a> {
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
