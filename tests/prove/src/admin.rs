//! Topics, settings, records and plugins, changed over a connection that may end: the answer is a code.

use std::io;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    ActivatePluginRequest, AlterConfigsResource, AlterableConfig, CreatableTopic, CreatableTopicConfig,
    CreateTopicsRequest, DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic, DeleteTopicState,
    DeleteTopicsRequest, IncrementalAlterConfigsRequest, OPERATION_SET, RESOURCE_TOPIC,
};
use uuid::Uuid;

use crate::workload::Socket;

pub(crate) fn create(
    socket: &mut Socket,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> io::Result<ErrorCode> {
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
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..CreateTopicsRequest::default() };
    socket.call(7, &request, |response| response.topics[0].error_code)
}

pub(crate) fn delete(socket: &mut Socket, name: &str) -> io::Result<ErrorCode> {
    let topic = DeleteTopicState { name: Some(name.into()), topic_id: Uuid::nil() };
    let request = DeleteTopicsRequest { topics: vec![topic], topic_names: Vec::new(), timeout_ms: 30_000 };
    socket.call(6, &request, |response| response.responses[0].error_code)
}

/// Changes one setting of a topic.
pub(crate) fn configure(socket: &mut Socket, topic: &str, name: &str, value: &str) -> io::Result<ErrorCode> {
    let config = AlterableConfig { name: name.into(), config_operation: OPERATION_SET, value: Some(value.into()) };
    let resource =
        AlterConfigsResource { resource_type: RESOURCE_TOPIC, resource_name: topic.into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    socket.call(1, &request, |response| response.responses[0].error_code)
}

/// Deletes the records of a partition before `offset`.
pub(crate) fn delete_records(
    socket: &mut Socket,
    topic: &str,
    partition_index: i32,
    offset: i64,
) -> io::Result<ErrorCode> {
    let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
    let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
    socket.call(2, &DeleteRecordsRequest { topics, timeout_ms: 30_000 }, |response| {
        response.topics[0].partitions[0].error_code
    })
}

/// Makes a version of a plugin the one that runs. The connection has to be named as ours.
pub(crate) fn activate(socket: &mut Socket, name: &str, version: i32) -> io::Result<ErrorCode> {
    let request = ActivatePluginRequest { name: name.into(), version, ..Default::default() };
    socket.call(0, &request, |response| response.error_code)
}
