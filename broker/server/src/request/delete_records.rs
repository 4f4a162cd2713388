//! DeleteRecords, versions 0-2.
//!
//! Behaviour: the first offset of a partition moves up to the one given, -1 meaning the high watermark, and is answered
//! as the low watermark once it survives a crash. An offset below the first one changes nothing; one above the high
//! watermark is OFFSET_OUT_OF_RANGE. Topics that are only compacted refuse with POLICY_VIOLATION, internal ones with
//! INVALID_TOPIC_EXCEPTION, as in Kafka. With one replica there is no other to wait for, so the timeout is never used.
//! Nothing goes before the producers of the topic are written down: while that cannot be done, and for records of a batch
//! that a plugin spread and that has not arrived everywhere yet, the answer is KAFKA_STORAGE_ERROR, which clients retry;
//! -1 stops short of those records.
//! Not supported: nothing is missing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_log::RetainError;
use ottla_wire::message::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult, OFFSET_HIGH_WATERMARK,
};
use ottla_wire::{ErrorCode, Offset};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::partition::Partition;
use crate::topics::Topic;

/// How long records wait that belong to a batch which is not entered where it was addressed. It takes milliseconds, or
/// until a disk has room.
const ENTERED_PATIENCE: Duration = Duration::from_millis(500);
const ENTERED_POLL: Duration = Duration::from_millis(5);

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
    let refused = |why: &dyn fmt::Display| {
        tracing::error!("records of {}-{} were not deleted: {why}", topic.name, partition.index);
        ErrorCode::KafkaStorageError
    };
    let high_watermark = partition.watermark.high();
    let mut before = match wanted.offset {
        OFFSET_HIGH_WATERMARK => high_watermark,
        offset => Offset(offset),
    };
    if before > partition.log.log_start_offset() && before <= high_watermark {
        wait_until_entered(partition, before);
        // Their producers have to be recognised when the log has forgotten them.
        let saved = broker.topics.save(topic).or_else(|error| {
            let last = topic.partitions.last_saved();
            if before <= last.upto(partition.index) { Ok(last) } else { Err(refused(&error)) }
        })?;
        let upto = saved.upto(partition.index);
        if wanted.offset == OFFSET_HIGH_WATERMARK {
            before = before.min(upto);
        } else if before > upto {
            return Err(refused(&"a batch that a plugin spread over partitions is not in all of them yet"));
        }
    }
    let start = partition.log.delete_records(before).map_err(|error| match error {
        RetainError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        error => refused(&error),
    })?;
    tracing::info!("{}-{} begins at offset {} now", topic.name, partition.index, start.get());
    Ok(start)
}

/// Gives batches that a plugin spread over partitions the moment that they take to be entered where they were addressed.
fn wait_until_entered(partition: &Partition, before: Offset) {
    let deadline = Instant::now() + ENTERED_PATIENCE;
    while partition.entered_upto() < before && Instant::now() < deadline {
        std::thread::sleep(ENTERED_POLL);
    }
}
