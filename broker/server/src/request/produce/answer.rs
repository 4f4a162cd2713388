//! What a client is told: the offsets of its records, or which of them were not taken and why.

use ottla_wire::message::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, Placement, ProduceResponse, TopicProduceResponse,
};
use ottla_wire::{ErrorCode, Str};

use super::{Acks, CloseReason, Peer, Produced, ProducedPartition, Reply, RequestHead};
use crate::broker::Broker;
use crate::partition::{Landing, Moved, Place, Refusal, Target};
use crate::request::Response;
use crate::topics::Topic;

/// Clients that report an offset below zero as "unknown" only if it is this one.
const CLIENTS_OF_MINUS_ONE: [&str; 2] = ["apache-kafka-java", "kafka-python"];
/// The first version whose answers have tagged fields, and with them room for placements.
const TAGS_VERSION_MIN: i16 = 9;

impl Produced {
    pub(super) fn answer(&self, broker: &Broker, peer: &Peer, head: RequestHead) -> Reply {
        for refusal in self.topics.iter().flat_map(|it| &it.partitions).filter_map(ProducedPartition::refusal) {
            broker.metrics.note_error(head.key, refusal.error_code());
            if matches!(refusal, Refusal::DiskFull) {
                broker.metrics.disk_full.inc();
            }
        }
        if self.acks == Acks::Never {
            let failed = self.topics.iter().find_map(|topic| {
                let refusal = topic.partitions.iter().find_map(ProducedPartition::refusal)?;
                let name = topic.topic.as_ref().map_or(topic.name.as_str(), |found| &found.name);
                Some(CloseReason::UnacknowledgedFailure(format!("topic {name}: {refusal}")))
            });
            return failed.map_or(Reply::Silent, Reply::Close);
        }
        let responses = self.topics.iter().map(|topic| TopicProduceResponse {
            name: Str::Borrowed(&topic.name),
            topic_id: topic.id,
            partition_responses: topic
                .partitions
                .iter()
                .map(|produced| partition_response(topic.topic.as_deref(), produced, peer, head))
                .collect(),
        });
        Response::of(head, &ProduceResponse { responses: responses.collect(), ..ProduceResponse::default() }).into()
    }
}

fn partition_response<'a>(
    topic: Option<&Topic>,
    produced: &ProducedPartition,
    peer: &Peer,
    head: RequestHead,
) -> PartitionProduceResponse<'a> {
    let log_start_offset =
        topic.and_then(|topic| topic.partition(produced.index)).map_or(-1, |it| it.log.log_start_offset().get());
    let answer = PartitionProduceResponse { index: produced.index, log_start_offset, ..Default::default() };
    match &produced.outcome {
        Ok(Place::Landed(landing)) => {
            let placements = match landing {
                Landing::Moved(moved) if peer.is_ottla() && head.version >= TAGS_VERSION_MIN => {
                    placements(topic, moved)
                }
                _ => Vec::new(),
            };
            PartitionProduceResponse {
                base_offset: match landing {
                    Landing::Here { base_offset, .. } => base_offset.get(),
                    Landing::Moved(_) | Landing::Scattered { .. } => base_offset_of_moved(peer, produced.record_count),
                },
                log_append_time_ms: produced.append_time_ms,
                placements,
                ..answer
            }
        }
        Err(refusal) => refused(refusal, answer),
        // Everything is settled before an answer is made.
        Ok(Place::Waiting(_)) => refused(&Refusal::TimedOut, answer),
    }
}

fn refused<'a>(refusal: &Refusal, answer: PartitionProduceResponse<'a>) -> PartitionProduceResponse<'a> {
    let error_code = refusal.error_code();
    debug_assert_ne!(error_code, ErrorCode::None);
    let record_errors = refusal.record_reasons().into_iter().map(|(batch_index, reason)| BatchIndexAndErrorMessage {
        batch_index,
        // Without one the message of the batch speaks for it.
        batch_index_error_message: reason.map(|reason| Str::Owned(reason.to_owned())),
    });
    PartitionProduceResponse {
        error_code,
        base_offset: -1,
        record_errors: record_errors.collect(),
        error_message: Some(Str::Owned(refusal.to_string())),
        ..answer
    }
}

/// The base offset that a client is told when records left the partition it chose. Clients compute the offset of each
/// record from it, so it is low enough for all of those to be negative; two clients know -1 alone to mean "unknown".
fn base_offset_of_moved(peer: &Peer, record_count: i32) -> i64 {
    if peer.is_ottla() || CLIENTS_OF_MINUS_ONE.contains(&peer.software_name()) { -1 } else { -i64::from(record_count) }
}

/// Where each record is. A placement names no topic, so there are none where a record left its own.
fn placements(topic: Option<&Topic>, moved: &Moved) -> Vec<Placement> {
    let is_abroad = |target: &Target| topic.is_none_or(|topic| topic.id != target.topic_id);
    if moved.targets.iter().any(is_abroad) {
        return Vec::new();
    }
    let placed = moved.placed_runs().into_iter().map(|run| Placement {
        first_index: run.first_index,
        count: run.records,
        partition: run.partition,
        base_offset: run.base_offset.get(),
    });
    placed.collect()
}
