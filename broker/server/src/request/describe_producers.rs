//! DescribeProducers, version 0.
//!
//! Behaviour: the idempotent producers that a partition remembers, by id. On a topic with a partitioner plugin these are the
//! producers that addressed the partition. Producers of transactions are none: there are no transactions.

use std::sync::Arc;

use ottla_wire::message::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeProducersResponsePartition,
    DescribeProducersResponseTopic, ProducerState,
};
use ottla_wire::{ErrorCode, Str};

use super::distinct::distinct;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::partition::Partition;

/// What is told where there is no transaction.
const NONE: i32 = -1;

/// Serves DescribeProducers.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: DescribeProducersRequest<'_> = decoded(head, frame)?;
    let topics = distinct(&request.topics, |wanted| &*wanted.name).map(|wanted| {
        let topic = broker.topics.get(&wanted.name);
        let partitions = distinct(wanted.partition_indexes.iter().copied(), |index| index).map(|index| {
            let described = match topic.as_ref().and_then(|topic| topic.partition(index)) {
                None => Err(ErrorCode::UnknownTopicOrPartition),
                Some(partition) if partition.log.is_offline() => Err(ErrorCode::KafkaStorageError),
                Some(partition) => Ok(producers(partition)),
            };
            let error_code = described.as_ref().err().copied().unwrap_or_default();
            DescribeProducersResponsePartition {
                partition_index: index,
                error_code,
                error_message: described.as_ref().err().map(|code| Str::Borrowed(code.message())),
                active_producers: described.unwrap_or_default(),
            }
        });
        DescribeProducersResponseTopic { name: wanted.name.clone(), partitions: partitions.collect() }
    });
    Ok(Response::of(head, &DescribeProducersResponse { topics: topics.collect(), ..Default::default() }))
}

fn producers(partition: &Partition) -> Vec<ProducerState> {
    let intake = partition.intake();
    let mut producers: Vec<_> = intake
        .sequences
        .iter()
        .map(|(id, producer)| ProducerState {
            producer_id: id.get(),
            producer_epoch: i32::from(producer.tail.epoch.get()),
            last_sequence: producer.tail.last.get(),
            last_timestamp: producer.used_ms,
            coordinator_epoch: NONE,
            current_txn_start_offset: i64::from(NONE),
        })
        .collect();
    drop(intake);
    producers.sort_by_key(|producer| producer.producer_id);
    producers
}
