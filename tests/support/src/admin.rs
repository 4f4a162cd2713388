//! Topics, settings and plugins, asked for by frames: neither our client nor our command line is between test and broker.

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    ActivatePluginRequest, AlterConfigsResource, AlterableConfig, CreatableTopic, CreatableTopicConfig,
    CreateTopicsRequest, DeleteTopicsRequest, IncrementalAlterConfigsRequest, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsTopic, OPERATION_SET, PLUGIN_CHUNK_BYTES_MAX, PushPluginRequest,
};
use sha2::{Digest, Sha256};

use crate::connection::Connection;
use crate::record::hex;
use crate::{Broker, artifact};

const RESOURCE_TOPIC: i8 = 2;
const LATEST: i64 = -1;

/// What an own API answered when it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub code: ErrorCode,
    /// The message for people.
    pub message: String,
}

impl Broker {
    /// Creates a topic with `settings`.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let configs = settings
            .iter()
            .map(|&(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) })
            .collect();
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        Connection::to(self).call(7, &request, |response| {
            let result = &response.topics[0];
            assert_eq!(result.error_code, ErrorCode::None, "{name}: {:?}", result.error_message);
        });
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) {
        let request = DeleteTopicsRequest { topics: Vec::new(), topic_names: vec![name.into()], timeout_ms: 30_000 };
        Connection::to(self).call(5, &request, |response| {
            let result = &response.responses[0];
            assert_eq!(result.error_code, ErrorCode::None, "{name}: {:?}", result.error_message);
        });
    }

    /// Changes one setting of a topic.
    pub fn set_topic(&self, name: &str, key: &str, value: &str) {
        let config = AlterableConfig { name: key.into(), config_operation: OPERATION_SET, value: Some(value.into()) };
        let resource =
            AlterConfigsResource { resource_type: RESOURCE_TOPIC, resource_name: name.into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        Connection::to(self).call(1, &request, |response| {
            let result = &response.responses[0];
            assert_eq!(result.error_code, ErrorCode::None, "{name} {key}={value}: {:?}", result.error_message);
        });
    }

    /// Uploads a ready-made plugin under its own name and returns its version.
    pub fn push_ready_made(&self, name: &str) -> i32 {
        let path = artifact::plugin(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        self.push_plugin(name, &bytes).unwrap_or_else(|refused| panic!("{name} was refused: {refused:?}"))
    }

    /// Uploads a plugin in chunks and returns its version.
    pub fn push_plugin(&self, name: &str, bytes: &[u8]) -> Result<i32, Refused> {
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
        let request = ActivatePluginRequest { name: name.into(), version };
        Connection::as_ottla(self).call(0, &request, |response| {
            assert_eq!(response.error_code, ErrorCode::None, "{name} {version}: {:?}", response.error_message);
        });
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
) -> Result<i32, Refused> {
    let request = PushPluginRequest { name: name.into(), digest: digest.into(), total_bytes, offset, chunk };
    connection.call(0, &request, |response| match response.error_code {
        ErrorCode::None => Ok(response.version),
        code => Err(Refused { code, message: response.error_message.unwrap_or_default().into_owned() }),
    })
}
