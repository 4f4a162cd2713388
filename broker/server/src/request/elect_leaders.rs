//! ElectLeaders, versions 0-2.
//!
//! Behaviour: one node has one replica of each partition, which leads it. So no election is needed, and where the log directory
//! of a partition is offline none helps. Where all partitions are meant, only those in trouble are told, as in Kafka.

use std::sync::Arc;

use ottla_wire::message::{
    ELECTION_PREFERRED, ELECTION_UNCLEAN, ElectLeadersPartitionResult, ElectLeadersRequest, ElectLeadersResponse,
    ElectLeadersTopicResult,
};
use ottla_wire::{ErrorCode, Str};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::partition::Partition;

/// Serves ElectLeaders.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: ElectLeadersRequest<'_> = decoded(head, frame)?;
    let not_available = match request.election_type {
        ELECTION_PREFERRED => ErrorCode::PreferredLeaderNotAvailable,
        ELECTION_UNCLEAN => ErrorCode::EligibleLeadersNotAvailable,
        _ => {
            let error_code = ErrorCode::InvalidRequest;
            return Ok(Response::of(head, &ElectLeadersResponse { error_code, ..Default::default() }));
        }
    };
    let elect = |partition: Option<&Arc<Partition>>| match partition {
        None => ErrorCode::UnknownTopicOrPartition,
        Some(partition) if partition.log.is_offline() => not_available,
        Some(_) => ErrorCode::ElectionNotNeeded,
    };
    let result = |partition_id: i32, error_code: ErrorCode| ElectLeadersPartitionResult {
        partition_id,
        error_code,
        error_message: Some(Str::Borrowed(error_code.message())),
    };
    let mut response = ElectLeadersResponse::default();
    let Some(wanted) = &request.topic_partitions else {
        for topic in broker.topics.all() {
            let results = topic.partitions.iter().map(|partition| result(partition.index, elect(Some(partition))));
            let in_trouble = results.filter(|result| result.error_code != ErrorCode::ElectionNotNeeded);
            let partition_result: Vec<_> = in_trouble.collect();
            if !partition_result.is_empty() {
                let topic = Str::Owned(topic.name.to_string());
                response.replica_election_results.push(ElectLeadersTopicResult { topic, partition_result });
            }
        }
        return Ok(Response::of(head, &response));
    };
    response.replica_election_results = wanted
        .iter()
        .map(|wanted| {
            let found = broker.topics.get(&wanted.topic);
            let partition = |index: &i32| found.as_ref().and_then(|topic| topic.partition(*index));
            let results = wanted.partitions.iter().map(|index| result(*index, elect(partition(index))));
            ElectLeadersTopicResult { topic: wanted.topic.clone(), partition_result: results.collect() }
        })
        .collect();
    Ok(Response::of(head, &response))
}
