//! ListOffsets, versions 1-11.
//!
//! Behaviour: latest (-1) is the high watermark, earliest (-2) the log start, -3 (v7) the record with the largest
//! timestamp, -4 (v8) the local log start, -5 (v9) and -6 (v11) nothing. A time finds the first *record* at or after it, also inside
//! compressed batches, below the high watermark. The leader epoch of the answer is the one the record was written in.
//! Not supported: tiered storage.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_wire::message::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse, TIMESTAMP_EARLIEST, TIMESTAMP_EARLIEST_LOCAL, TIMESTAMP_EARLIEST_PENDING_UPLOAD,
    TIMESTAMP_LATEST, TIMESTAMP_LATEST_TIERED, TIMESTAMP_MAX,
};
use ottla_wire::{ErrorCode, LeaderEpoch, Offset};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::fetch::check_leader_epoch;
use crate::partition::Partition;

/// Serves ListOffsets where no search is asked for: looking for a time reads the log, maybe from the disk.
pub(super) fn respond_now(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Option<Response>, CloseReason> {
    let request: ListOffsetsRequest<'_> = decoded(head, frame)?;
    let searches = |partition: &ListOffsetsPartition| partition.timestamp >= 0 || partition.timestamp == TIMESTAMP_MAX;
    let any = request.topics.iter().flat_map(|topic| &topic.partitions).any(searches);
    Ok((!any).then(|| answer(broker, head, &request)))
}

/// Serves any ListOffsets.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    Ok(answer(broker, head, &decoded(head, frame)?))
}

fn answer(broker: &Broker, head: RequestHead, request: &ListOffsetsRequest<'_>) -> Response {
    let mut times_named: HashMap<(&str, i32), usize> = HashMap::new();
    for (topic, partition) in request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p))) {
        *times_named.entry((&topic.name, partition.partition_index)).or_default() += 1;
    }
    let topics = request.topics.iter().map(|topic| {
        let found = broker.topics.get(&topic.name);
        let partitions = topic.partitions.iter().map(|wanted| {
            let looked_up = if times_named.get(&(&*topic.name, wanted.partition_index)) == Some(&1) {
                let partition = found.as_ref().and_then(|topic| topic.partition(wanted.partition_index));
                partition
                    .ok_or(ErrorCode::UnknownTopicOrPartition)
                    .and_then(|partition| look_up(partition, wanted, head.version))
            } else {
                Err(ErrorCode::InvalidRequest)
            };
            let partition_index = wanted.partition_index;
            match looked_up {
                Ok(Found { offset, timestamp, leader_epoch }) => ListOffsetsPartitionResponse {
                    partition_index,
                    timestamp,
                    offset,
                    leader_epoch,
                    ..Default::default()
                },
                Err(error_code) => {
                    broker.metrics.note_error(head.key, error_code);
                    ListOffsetsPartitionResponse { partition_index, error_code, ..Default::default() }
                }
            }
        });
        ListOffsetsTopicResponse { name: topic.name.clone(), partitions: partitions.collect() }
    });
    Response::of(head, &ListOffsetsResponse { topics: topics.collect(), ..Default::default() })
}

struct Found {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

const NOTHING: Found = Found { offset: -1, timestamp: -1, leader_epoch: -1 };

fn look_up(partition: &Partition, wanted: &ListOffsetsPartition, version: i16) -> Result<Found, ErrorCode> {
    let log = &partition.log;
    if log.is_offline() {
        return Err(ErrorCode::KafkaStorageError);
    }
    check_leader_epoch(log, wanted.current_leader_epoch)?;
    let high = partition.watermark.high();
    let at = |offset: Offset, timestamp: i64| {
        let leader_epoch = log.epoch_of(offset).map_or(-1, LeaderEpoch::get);
        Found { offset: offset.get(), timestamp, leader_epoch }
    };
    match wanted.timestamp {
        // No record is there yet, so the epoch is the one it would be written in.
        TIMESTAMP_LATEST => Ok(Found { leader_epoch: log.leader_epoch().get(), ..at(high, -1) }),
        TIMESTAMP_EARLIEST => Ok(at(log.log_start_offset(), -1)),
        TIMESTAMP_MAX if version >= 7 => {
            let found = log.max_timestamp(high).map_err(search_failed)?;
            Ok(found.map_or(NOTHING, |(offset, timestamp)| at(offset, timestamp)))
        }
        TIMESTAMP_EARLIEST_LOCAL if version >= 8 => Ok(at(log.log_start_offset(), -1)),
        TIMESTAMP_LATEST_TIERED if version >= 9 => Ok(NOTHING),
        TIMESTAMP_EARLIEST_PENDING_UPLOAD if version >= 11 => Ok(NOTHING),
        timestamp if timestamp >= 0 => {
            let found = log.find_by_timestamp(timestamp, high).map_err(search_failed)?;
            Ok(found.map_or(NOTHING, |(offset, timestamp)| at(offset, timestamp)))
        }
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error is handed over")]
fn search_failed(error: ottla_log::LocateError) -> ErrorCode {
    tracing::warn!("a search by timestamp failed: {error}");
    ErrorCode::KafkaStorageError
}
