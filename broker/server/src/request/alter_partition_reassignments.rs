//! AlterPartitionReassignments, versions 0-1.
//!
//! Behaviour: a partition may stay where it is, on this node; no other broker can hold it, and there is no move to cancel.

use std::sync::Arc;

use ottla_wire::message::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use ottla_wire::{ErrorCode, Str};

use super::api_error::ApiError;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves AlterPartitionReassignments.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: AlterPartitionReassignmentsRequest<'_> = decoded(head, frame)?;
    let responses = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let refusal = reassign(broker, &topic.name, wanted).err();
            ReassignablePartitionResponse {
                partition_index: wanted.partition_index,
                error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.error_code),
                error_message: refusal.map(|refusal| Str::Owned(refusal.message)),
            }
        });
        ReassignableTopicResponse { name: topic.name.clone(), partitions: partitions.collect() }
    });
    let response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses: responses.collect(),
        ..Default::default()
    };
    Ok(Response::of(head, &response))
}

fn reassign(broker: &Broker, topic: &str, wanted: &ReassignablePartition) -> Result<(), ApiError> {
    let refuse = |error_code: ErrorCode, message: String| Err(ApiError::new(error_code, message));
    if broker.topics.get(topic).is_none_or(|topic| topic.partition(wanted.partition_index).is_none()) {
        let error_code = ErrorCode::UnknownTopicOrPartition;
        return refuse(error_code, error_code.message().to_owned());
    }
    let Some(replicas) = &wanted.replicas else {
        let error_code = ErrorCode::NoReassignmentInProgress;
        return refuse(error_code, error_code.message().to_owned());
    };
    match replicas.as_slice() {
        [] => {
            let message = "The manual partition assignment includes an empty replica list.";
            refuse(ErrorCode::InvalidReplicaAssignment, message.to_owned())
        }
        [only] if *only == broker.node_id => Ok(()),
        several => {
            let message = match several.iter().find(|replica| **replica != broker.node_id) {
                Some(other) => format!(
                    "The manual partition assignment includes broker {other}, but no such broker is registered: this \
                     broker, {}, is all of the cluster.",
                    broker.node_id
                ),
                None => {
                    format!("The manual partition assignment includes the broker {} more than once.", broker.node_id)
                }
            };
            refuse(ErrorCode::InvalidReplicaAssignment, message)
        }
    }
}
