//! DeleteTopics, versions 1-6.
//!
//! Behaviour: by name, from v6 on also by id. A topic is gone for every client when the answer leaves, open fetches are
//! told, and a topic of the same name can be created at once, with a new id.
//! Not supported: nothing is missing.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_wire::message::{DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_wire::{ErrorCode, Str, Uuid};

use super::api_error::ApiError;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::told::TopicEvent;
use crate::topics::Topic;

/// Serves DeleteTopics.
pub(super) fn respond(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: DeleteTopicsRequest<'_> = decoded(head, frame)?;
    let by_name =
        request.topic_names.iter().map(|name| DeleteTopicState { name: Some(name.clone()), topic_id: Uuid::nil() });
    let wanted: Vec<_> = request.topics.iter().cloned().chain(by_name).collect();
    let found: Vec<_> = wanted.iter().map(|wanted| find(broker, head, wanted)).collect();
    let mut times_named: HashMap<Uuid, usize> = HashMap::new();
    for topic in found.iter().flatten() {
        *times_named.entry(topic.id).or_default() += 1;
    }
    let responses = wanted.iter().zip(found).map(|(wanted, found)| {
        let named = found.as_ref().ok().cloned();
        let deleted = found.and_then(|topic| {
            if times_named.get(&topic.id).is_some_and(|times| *times > 1) {
                return Err(ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic name or id."));
            }
            broker.topics.delete(&topic)?;
            broker.told.topic(TopicEvent::Deleted, &topic.name, topic.partitions.len() as i32, peer);
            Ok(())
        });
        let ApiError { error_code, message } =
            deleted.err().unwrap_or_else(|| ApiError::new(ErrorCode::None, String::new()));
        DeletableTopicResult {
            name: match &named {
                Some(topic) => Some(Str::Owned(topic.name.to_string())),
                None => wanted.name.clone(),
            },
            topic_id: named.as_ref().map_or(wanted.topic_id, |topic| topic.id),
            error_code,
            error_message: (error_code != ErrorCode::None).then_some(Str::Owned(message)),
        }
    });
    Ok(Response::of(head, &DeleteTopicsResponse { responses: responses.collect(), ..Default::default() }))
}

fn find(broker: &Broker, head: RequestHead, wanted: &DeleteTopicState<'_>) -> Result<Arc<Topic>, ApiError> {
    let found = match &wanted.name {
        Some(_) if !wanted.topic_id.is_nil() => {
            return Err(ApiError::new(ErrorCode::InvalidRequest, "Topic name and topic id can not both be specified."));
        }
        Some(name) => broker.topics.get(name).ok_or(ErrorCode::UnknownTopicOrPartition),
        None if wanted.topic_id.is_nil() => {
            return Err(ApiError::new(ErrorCode::InvalidRequest, "Neither topic name nor id were specified."));
        }
        None => broker.topics.get_by_id(&wanted.topic_id).ok_or(ErrorCode::UnknownTopicId),
    };
    if !broker.settings().config.delete_topics {
        let error_code = if head.version < 3 { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
        return Err(ApiError::new(error_code, "Topic deletion is disabled: delete.topic.enable is false."));
    }
    found.map_err(|error_code| ApiError::new(error_code, error_code.message()))
}
