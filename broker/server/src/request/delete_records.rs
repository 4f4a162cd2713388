//! DeleteRecords, versions 0-2.
//!
//! Behaviour: the first offset of a partition moves up to the one given, -1 meaning the high watermark, and is answered
//! as the low watermark once it survives a crash. An offset below the first one changes nothing; one above the high
//! watermark is OFFSET_OUT_OF_RANGE. Topics that are only compacted refuse with POLICY_VIOLATION, internal ones with
//! INVALID_TOPIC_EXCEPTION, as in Kafka. With one replica there is nobody to wait for, so the timeout is never used.
//! Not supported: nothing is missing.

use std::sync::Arc;

use ottla_log::RetainError;
use ottla_wire::message::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult, OFFSET_HIGH_WATERMARK,
};
use ottla_wire::{ErrorCode, Offset};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::topics::Topic;

/// Serves DeleteRecords.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: DeleteRecordsRequest<'_> = decoded(head, frame)?;
    let topics = request.topics.iter().map(|wanted| {
        let topic = broker.topics.get(&wanted.name);
        let partitions = wanted.partitions.iter().map(|wanted| {
            let (low_watermark, error_code) = match delete(broker, topic.as_deref(), wanted) {
                Ok(start) => (start.get(), ErrorCode::None),
                Err(error_code) => (-1, error_code),
            };
            DeleteRecordsPartitionResult { partition_index: wanted.partition_index, low_watermark, error_code }
        });
        DeleteRecordsTopicResult { name: wanted.name.clone(), partitions: partitions.collect() }
    });
    Ok(Response::of(head, &DeleteRecordsResponse { topics: topics.collect(), ..Default::default() }))
}

fn delete(broker: &Broker, topic: Option<&Topic>, wanted: &DeleteRecordsPartition) -> Result<Offset, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.internal {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = topic.partition(wanted.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !topic.settings().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let before = match wanted.offset {
        OFFSET_HIGH_WATERMARK => partition.watermark.high(),
        offset => Offset(offset),
    };
    if before > partition.log.log_start_offset() && before <= partition.watermark.high() {
        // Their producers have to be recognised when the log has forgotten them.
        broker.router.producers().save(topic).map_err(|error| {
            tracing::error!("records of {}-{} were not deleted: {error}", topic.name, partition.index);
            ErrorCode::KafkaStorageError
        })?;
    }
    let start = partition.log.delete_records(before).map_err(|error| match error {
        RetainError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        error => {
            tracing::error!("records of {}-{} were not deleted: {error}", topic.name, partition.index);
            ErrorCode::KafkaStorageError
        }
    })?;
    tracing::info!("{}-{} begins at offset {} now", topic.name, partition.index, start.get());
    Ok(start)
}
