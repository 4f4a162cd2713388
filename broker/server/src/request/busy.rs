//! What a request is answered whose work finds no place: an error that clients of its API retry.

use ottla_front::PoolError;
use ottla_wire::message::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse, Coordinator, CreatableTopicResult,
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult, CreateTopicsRequest,
    CreateTopicsResponse, DeletableTopicResult, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult, DeleteTopicsRequest, DeleteTopicsResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, InitProducerIdResponse,
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use ottla_wire::{ApiKey, ErrorCode, Str};

use super::{CloseReason, Reply, RequestHead, Response, decoded};
use crate::broker::Broker;

/// From this version on clients of ListOffsets know OFFSET_NOT_AVAILABLE.
const OFFSET_NOT_AVAILABLE_VERSION_MIN: i16 = 5;

/// The answer; where the API has no place for an error, or the work failed by a defect, the connection ends.
pub(super) fn busy(broker: &Broker, head: RequestHead, frame: &[u8], why: PoolError) -> Reply {
    match why {
        PoolError::Full { .. } | PoolError::OutOfMemory { .. } => answer(broker, head, frame, why).into(),
        PoolError::Panicked { .. } => CloseReason::Internal(why.to_string()).into(),
    }
}

fn answer(broker: &Broker, head: RequestHead, frame: &[u8], error: PoolError) -> Result<Response, CloseReason> {
    let message = || Some(Str::Owned(format!("the broker is busy, try again ({error})")));
    let error_code = ErrorCode::RequestTimedOut;
    broker.metrics.note_error(head.key, error_code);
    Ok(match head.key {
        ApiKey::ListOffsets => {
            let request: ListOffsetsRequest<'_> = decoded(head, frame)?;
            let error_code = if head.version >= OFFSET_NOT_AVAILABLE_VERSION_MIN {
                ErrorCode::OffsetNotAvailable
            } else {
                ErrorCode::LeaderNotAvailable
            };
            let topics = request.topics.into_iter().map(|topic| {
                let refused = topic.partitions.iter().map(|partition| ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    error_code,
                    ..Default::default()
                });
                ListOffsetsTopicResponse { partitions: refused.collect(), name: topic.name }
            });
            Response::of(head, &ListOffsetsResponse { topics: topics.collect(), ..Default::default() })
        }
        ApiKey::CreateTopics => {
            let request: CreateTopicsRequest<'_> = decoded(head, frame)?;
            let topics = request.topics.into_iter().map(|topic| CreatableTopicResult {
                name: topic.name,
                error_code,
                error_message: message(),
                ..Default::default()
            });
            Response::of(head, &CreateTopicsResponse { topics: topics.collect(), ..Default::default() })
        }
        ApiKey::DeleteTopics => {
            let request: DeleteTopicsRequest<'_> = decoded(head, frame)?;
            let by_name = request.topic_names.into_iter().map(|name| (Some(name), ottla_wire::Uuid::nil()));
            let topics = request.topics.into_iter().map(|topic| (topic.name, topic.topic_id)).chain(by_name);
            let responses = topics.map(|(name, topic_id)| DeletableTopicResult {
                name,
                topic_id,
                error_code,
                error_message: message(),
            });
            Response::of(head, &DeleteTopicsResponse { responses: responses.collect(), ..Default::default() })
        }
        ApiKey::DeleteRecords => {
            let request: DeleteRecordsRequest<'_> = decoded(head, frame)?;
            let topics = request.topics.into_iter().map(|topic| {
                let refused = topic.partitions.iter().map(|partition| DeleteRecordsPartitionResult {
                    partition_index: partition.partition_index,
                    low_watermark: -1,
                    error_code,
                });
                DeleteRecordsTopicResult { partitions: refused.collect(), name: topic.name }
            });
            Response::of(head, &DeleteRecordsResponse { topics: topics.collect(), ..Default::default() })
        }
        ApiKey::AlterConfigs | ApiKey::CreatePartitions | ApiKey::IncrementalAlterConfigs => {
            changes(head, frame, error_code, &message)?
        }
        ApiKey::InitProducerId => {
            let error_code = ErrorCode::CoordinatorLoadInProgress;
            Response::of(head, &InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() })
        }
        ApiKey::FindCoordinator => {
            let error_code = ErrorCode::CoordinatorNotAvailable;
            let request: FindCoordinatorRequest<'_> = decoded(head, frame)?;
            let nowhere =
                Coordinator { node_id: -1, port: -1, error_code, error_message: message(), ..Default::default() };
            let response = FindCoordinatorResponse {
                error_code,
                error_message: message(),
                node_id: -1,
                port: -1,
                coordinators: request
                    .coordinator_keys
                    .into_iter()
                    .map(|key| Coordinator { key, ..nowhere.clone() })
                    .collect(),
                ..Default::default()
            };
            Response::of(head, &response)
        }
        _ => return Err(CloseReason::Busy(error)),
    })
}

/// The same for changes of topics and settings: an error for each of them.
fn changes(
    head: RequestHead,
    frame: &[u8],
    error_code: ErrorCode,
    message: &dyn Fn() -> Option<Str<'static>>,
) -> Result<Response, CloseReason> {
    let refused = |resource_type, resource_name| AlterConfigsResourceResponse {
        error_code,
        error_message: message(),
        resource_type,
        resource_name,
    };
    Ok(match head.key {
        ApiKey::CreatePartitions => {
            let request: CreatePartitionsRequest<'_> = decoded(head, frame)?;
            let results = request.topics.into_iter().map(|topic| CreatePartitionsTopicResult {
                name: topic.name,
                error_code,
                error_message: message(),
            });
            Response::of(head, &CreatePartitionsResponse { results: results.collect(), ..Default::default() })
        }
        ApiKey::AlterConfigs => {
            let request: AlterConfigsRequest<'_> = decoded(head, frame)?;
            let responses = request.resources.into_iter().map(|it| refused(it.resource_type, it.resource_name));
            Response::of(head, &AlterConfigsResponse { responses: responses.collect(), ..Default::default() })
        }
        _ => {
            let request: IncrementalAlterConfigsRequest<'_> = decoded(head, frame)?;
            let responses = request.resources.into_iter().map(|it| refused(it.resource_type, it.resource_name));
            Response::of(
                head,
                &IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() },
            )
        }
    })
}
