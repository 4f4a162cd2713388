//! Topics, settings and plugins, asked for by frames: neither our client nor our command line is between test and broker.

use std::io;

use ottla_wire::message::{
    ActivatePluginRequest, AlterConfigsResource, AlterableConfig, CreatableTopic, CreatableTopicConfig,
    CreateTopicsRequest, DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, DeleteTopicState,
    DeleteTopicsRequest, IncrementalAlterConfigsRequest, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
    OPERATION_SET, PLUGIN_CHUNK_BYTES_MAX, PushPluginRequest, RESOURCE_TOPIC,
};
use ottla_wire::{ErrorCode, Uuid};
use sha2::{Digest, Sha256};

use crate::connection::Connection;
use crate::record::hex;
use crate::{Broker, artifact};

const LATEST: i64 = -1;

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The code.
    pub code: ErrorCode,
    /// The message for people.
    pub message: String,
}

/// Over a connection that may end: the code and the message of the answer.
impl Connection {
    /// Creates a topic with `settings`.
    pub fn create_topic(&mut self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> io::Result<Answer> {
        let configs =
            settings.iter().map(|&(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..CreateTopicsRequest::default() };
        self.try_call(7, &request, |response| {
            answer(response.topics[0].error_code, response.topics[0].error_message.as_deref())
        })
    }

    /// Deletes a topic.
    pub fn delete_topic(&mut self, name: &str) -> io::Result<Answer> {
        let topic = DeleteTopicState { name: Some(name.into()), topic_id: Uuid::nil() };
        let request = DeleteTopicsRequest { topics: vec![topic], topic_names: Vec::new(), timeout_ms: 30_000 };
        self.try_call(6, &request, |response| {
            let topic = &response.responses[0];
            answer(topic.error_code, topic.error_message.as_deref())
        })
    }

    /// Changes one setting of a topic.
    pub fn set_topic(&mut self, topic: &str, name: &str, value: &str) -> io::Result<Answer> {
        let config = AlterableConfig { name: name.into(), config_operation: OPERATION_SET, value: Some(value.into()) };
        let resource =
            AlterConfigsResource { resource_type: RESOURCE_TOPIC, resource_name: topic.into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        self.try_call(1, &request, |response| {
            let topic = &response.responses[0];
            answer(topic.error_code, topic.error_message.as_deref())
        })
    }

    /// Deletes the records of a partition before `offset`.
    pub fn delete_records(&mut self, topic: &str, partition_index: i32, offset: i64) -> io::Result<ErrorCode> {
        let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
        let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
        self.try_call(2, &DeleteRecordsRequest { topics, timeout_ms: 30_000 }, |response| {
            response.topics[0].partitions[0].error_code
        })
    }

    /// Makes `version` of a plugin the one that runs. The connection has to be named as ours.
    pub fn activate_plugin(&mut self, name: &str, version: i32) -> io::Result<Answer> {
        let request = ActivatePluginRequest { name: name.into(), version, ..Default::default() };
        self.try_call(0, &request, |response| answer(response.error_code, response.error_message.as_deref()))
    }
}

pub(crate) fn answer(code: ErrorCode, message: Option<&str>) -> Answer {
    Answer { code, message: message.unwrap_or_default().to_owned() }
}

fn done(what: &str, answered: io::Result<Answer>) {
    let Answer { code, message } = answered.expect("the broker answers");
    assert_eq!(code, ErrorCode::None, "{what}: {message}");
}

impl Broker {
    /// Creates a topic with `settings`.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        done(name, Connection::to(self).create_topic(name, partitions, settings));
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) {
        done(name, Connection::to(self).delete_topic(name));
    }

    /// Changes one setting of a topic.
    pub fn set_topic(&self, name: &str, key: &str, value: &str) {
        done(&format!("{name} {key}={value}"), Connection::to(self).set_topic(name, key, value));
    }

    /// Uploads a ready-made plugin under its own name and returns its version.
    pub fn push_ready_made(&self, name: &str) -> i32 {
        let path = artifact::plugin(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        self.push_plugin(name, &bytes).unwrap_or_else(|refused| panic!("{name} was refused: {refused:?}"))
    }

    /// Uploads a plugin in chunks and returns its version.
    pub fn push_plugin(&self, name: &str, bytes: &[u8]) -> Result<i32, Answer> {
        let mut connection = Connection::as_ottla(self);
        let digest = hex(&Sha256::digest(bytes));
        let mut version = 0;
        let chunks = bytes.chunks(PLUGIN_CHUNK_BYTES_MAX).enumerate();
        for (index, chunk) in chunks {
            let offset = (index * PLUGIN_CHUNK_BYTES_MAX) as i64;
            version = push_chunk(&mut connection, name, &digest, bytes.len() as i64, offset, chunk)?;
        }
        Ok(version)
    }

    /// Makes `version` of a plugin the one that runs; −1 is the one before.
    pub fn activate_plugin(&self, name: &str, version: i32) {
        done(&format!("{name} {version}"), Connection::as_ottla(self).activate_plugin(name, version));
    }

    /// The offset after the last visible record of each partition.
    pub fn end_offsets(&self, topic: &str, partitions: i32) -> Vec<i64> {
        let partition = |partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: LATEST,
            ..ListOffsetsPartition::default()
        };
        let topic = ListOffsetsTopic { name: topic.into(), partitions: (0..partitions).map(partition).collect() };
        let request = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
        Connection::to(self).call(7, &request, |response| {
            let mut partitions = response.topics[0].partitions.clone();
            partitions.sort_by_key(|partition| partition.partition_index);
            let offset_of = |partition: &ottla_wire::message::ListOffsetsPartitionResponse| {
                assert_eq!(partition.error_code, ErrorCode::None);
                partition.offset
            };
            partitions.iter().map(offset_of).collect()
        })
    }
}

/// One chunk of an upload, as it is: `total` and `digest` may lie.
pub fn push_chunk(
    connection: &mut Connection,
    name: &str,
    digest: &str,
    total_bytes: i64,
    offset: i64,
    chunk: &[u8],
) -> Result<i32, Answer> {
    let request = PushPluginRequest { name: name.into(), digest: digest.into(), total_bytes, offset, chunk };
    connection.call(0, &request, |response| match response.error_code {
        ErrorCode::None => Ok(response.version),
        code => Err(Answer { code, message: response.error_message.unwrap_or_default().into_owned() }),
    })
}
