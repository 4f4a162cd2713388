//! Fetches of one partition, in version 11.

use std::io;

use ottla_wire::ErrorCode;
use ottla_wire::message::{FetchPartition, FetchRecords, FetchRequest, FetchTopic};

use crate::connection::Connection;

/// What a fetch of one partition brought.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// What the partition answered.
    pub code: ErrorCode,
    /// How far records are visible.
    pub high_watermark: i64,
    /// The first offset there is.
    pub start: i64,
    /// Whole batches, the last one perhaps cut off.
    pub bytes: Vec<u8>,
}

impl Connection {
    /// Fetches from `offset` of a partition on.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> io::Result<Fetched> {
        self.begin_fetch(topic, partition, offset, max_wait_ms)?;
        self.finish_fetch()
    }

    /// Asks for the same and does not wait for the answer.
    pub fn begin_fetch(&mut self, topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> io::Result<()> {
        let partition =
            FetchPartition { partition, fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
        let topic = FetchTopic { topic: topic.into(), partitions: vec![partition], ..FetchTopic::default() };
        let request = FetchRequest { max_wait_ms, min_bytes: 1, topics: vec![topic], ..FetchRequest::default() };
        self.send_request(11, &request)
    }

    /// The answer to the fetch that is next in turn.
    pub fn finish_fetch(&mut self) -> io::Result<Fetched> {
        self.receive_response::<FetchRequest<'_>, _>(11, |response| {
            let found = response.responses.first().and_then(|topic| topic.partitions.first());
            let Some(found) = found else { return Fetched { code: response.error_code, ..Fetched::default() } };
            let bytes = if let FetchRecords::Bytes(bytes) = &found.records { bytes.to_vec() } else { Vec::new() };
            Fetched {
                code: found.error_code,
                high_watermark: found.high_watermark,
                start: found.log_start_offset,
                bytes,
            }
        })
    }
}
