//! Batches sent by frames, with acks=all.

use std::io;

use ottla_wire::ErrorCode;
use ottla_wire::message::{InitProducerIdRequest, PartitionProduceData, ProduceRequest, TopicProduceData};

use crate::Broker;
use crate::admin::{Answer, answer};
use crate::batch::Sender;
use crate::connection::Connection;

/// A request with one batch.
pub fn produce_request<'a>(topic: &'a str, partition: i32, batch: &'a [u8]) -> ProduceRequest<'a> {
    let partition = PartitionProduceData { index: partition, records: Some(batch) };
    let topic = TopicProduceData { name: topic.into(), partition_data: vec![partition], ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

impl Connection {
    /// Sends one batch, in version 9.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> io::Result<Answer> {
        self.try_call(9, &produce_request(topic, partition, batch), |response| {
            let partition = &response.responses[0].partition_responses[0];
            answer(partition.error_code, partition.error_message.as_deref())
        })
    }

    /// Asks for a producer id. Its sequence numbers begin at 0.
    pub fn new_producer(&mut self) -> io::Result<Result<Sender, ErrorCode>> {
        let request = InitProducerIdRequest { transaction_timeout_ms: 1000, ..InitProducerIdRequest::default() };
        self.try_call(4, &request, |response| match response.error_code {
            ErrorCode::None => {
                Ok(Sender { producer_id: response.producer_id, epoch: response.producer_epoch, sequence: 0 })
            }
            code => Err(code),
        })
    }
}

impl Broker {
    /// An idempotent producer of its own.
    pub fn new_producer(&self) -> Sender {
        Connection::to(self).new_producer().expect("the broker answers").expect("a producer id")
    }
}
