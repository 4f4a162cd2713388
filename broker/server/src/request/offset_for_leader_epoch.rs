//! OffsetForLeaderEpoch, versions 2-4.
//!
//! Behaviour: the greatest epoch known that is not above the one asked for, and the offset after its last record. An
//! epoch above all known ones, and -1, are answered with -1 and -1; one before all known ones ends where the first known
//! one begins. A client that believes in another current leader epoch is told so.
//! Not supported: nothing is missing.

use std::sync::Arc;

use ottla_wire::message::{
    LeaderEpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};
use ottla_wire::{ErrorCode, LeaderEpoch};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::fetch::check_leader_epoch;
use crate::topics::Topic;

/// Serves OffsetForLeaderEpoch.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: OffsetForLeaderEpochRequest<'_> = decoded(head, frame)?;
    let topics = request.topics.iter().map(|wanted| {
        let topic = broker.topics.get(&wanted.topic);
        let partitions = wanted.partitions.iter().map(|wanted| {
            let partition = wanted.partition;
            end_of_epoch(topic.as_deref(), wanted).map_or_else(
                |error_code| LeaderEpochEndOffset { partition, error_code, ..Default::default() },
                |(leader_epoch, end_offset)| LeaderEpochEndOffset {
                    partition,
                    leader_epoch,
                    end_offset,
                    error_code: ErrorCode::None,
                },
            )
        });
        OffsetForLeaderTopicResult { topic: wanted.topic.clone(), partitions: partitions.collect() }
    });
    Ok(Response::of(head, &OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() }))
}

fn end_of_epoch(topic: Option<&Topic>, wanted: &OffsetForLeaderPartition) -> Result<(i32, i64), ErrorCode> {
    let partition =
        topic.and_then(|topic| topic.partition(wanted.partition)).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    check_leader_epoch(&partition.log, wanted.current_leader_epoch)?;
    if wanted.leader_epoch < 0 {
        return Ok((-1, -1));
    }
    let found = partition.log.epoch_end_offset(LeaderEpoch(wanted.leader_epoch));
    Ok(found.map_or((-1, -1), |(epoch, end_offset)| (epoch.get(), end_offset.get())))
}
