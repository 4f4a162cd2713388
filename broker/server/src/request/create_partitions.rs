//! CreatePartitions, versions 0-3.
//!
//! Behaviour: a topic gets more partitions, which can be used when the answer comes; with `validate_only` it is only
//! checked. Assignments are taken if they name this node alone. Internal topics are refused: a group belongs to the
//! partition that the number of partitions gives.
//! Not supported: more than one replica.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_wire::message::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use ottla_wire::{ErrorCode, Str};

use super::api_error::ApiError;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves CreatePartitions.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: CreatePartitionsRequest<'_> = decoded(head, frame)?;
    let mut times_named: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *times_named.entry(&topic.name).or_default() += 1;
    }
    let results = request.topics.iter().map(|topic| {
        let grown = if times_named.get(&*topic.name).is_some_and(|times| *times > 1) {
            Err(ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic in request."))
        } else {
            grow(broker, topic, request.validate_only)
        };
        let refusal = grown.err();
        CreatePartitionsTopicResult {
            name: topic.name.clone(),
            error_code: refusal.as_ref().map_or(ErrorCode::None, |refusal| refusal.error_code),
            error_message: refusal.map(|refusal| Str::Owned(refusal.message)),
        }
    });
    Ok(Response::of(head, &CreatePartitionsResponse { results: results.collect(), ..Default::default() }))
}

fn grow(broker: &Broker, wanted: &CreatePartitionsTopic<'_>, validate_only: bool) -> Result<(), ApiError> {
    let topic = broker.topics.get(&wanted.name).ok_or_else(|| {
        let error_code = ErrorCode::UnknownTopicOrPartition;
        ApiError::new(error_code, error_code.message())
    })?;
    if topic.internal {
        let message = format!(
            "Topic {} is internal: the number of its partitions says which of them a group belongs to, so it stays.",
            topic.name
        );
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let (before, after) = (topic.partitions.len(), wanted.count);
    let refused = |message: String| Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    let after_count = usize::try_from(after).unwrap_or(0);
    if after_count == before {
        return refused(format!("Topic already has {before} partition(s)."));
    }
    if after_count < before {
        let name = &topic.name;
        return refused(format!(
            "The topic {name} currently has {before} partition(s); {after} would not be an increase."
        ));
    }
    let count_max = broker.settings().config.topic_partitions_max;
    if after > count_max {
        return refused(format!("{after} partitions are more than ottla.topic.partitions.max = {count_max}."));
    }
    if let Some(assignments) = &wanted.assignments {
        let (added, assigned) = (after_count - before, assignments.len());
        if added != assigned {
            let message = format!(
                "Attempted to add {added} additional partition(s), but only {assigned} assignment(s) were specified."
            );
            return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        if assignments.iter().any(|assignment| assignment.broker_ids != [broker.node_id]) {
            let message = "Every partition must be assigned to this broker alone: there is no other.";
            return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    if !validate_only {
        broker.topics.add_partitions(&topic, after)?;
        tracing::info!("topic {} has {after} partitions now, {before} before", topic.name);
    }
    Ok(())
}
