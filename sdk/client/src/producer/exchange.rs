//! One produce request: parcels in, a frame out; the answer in, verdicts out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_wire::message::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
};
use ottla_wire::{ApiKey, ErrorCode};

use super::ProducerState;
use super::seal::{renumber, seal};
use crate::config::Acks;
use crate::core::batch::{BatchId, Payload};
use crate::core::lane::{Dispatch, LaneId};
use crate::core::outbox::Parcel;
use crate::core::outcome::{Landing, Run};
use crate::core::verdict::Verdict;
use crate::error::{ConnectionError, RecordError};
use crate::net::{Answer, Connection, Reply, SendOptions};

/// The last version that names topics; the next one wants their ids.
const CEILING: i16 = 12;

/// What remains of a parcel while its request is under way.
struct Sent {
    lane: LaneId,
    batch: BatchId,
    topic: Arc<str>,
    partition: i32,
}

/// Seals the parcels and puts them into one request. Answers arrive in the outbox by themselves.
pub(super) fn send(shared: &Arc<ProducerState>, connection: &Connection, parcels: Vec<Parcel>) {
    let version = match connection.version_of(ApiKey::Produce, CEILING) {
        Ok(version) => version,
        Err(error) => return refuse_all(shared, &parcels, &error),
    };
    let mut sent: Vec<(Sent, Bytes)> = Vec::with_capacity(parcels.len());
    for parcel in parcels {
        let Parcel { lane, topic, partition, dispatch } = parcel;
        let batch = dispatch.batch;
        if let Some(bytes) = wrap(shared, lane, dispatch) {
            sent.push((Sent { lane, batch, topic, partition }, bytes));
        } else {
            let message = Some("the batch could not be compressed".into());
            judge(shared, lane, batch, Verdict::refused(ErrorCode::UnknownServerError, message));
        }
    }
    sent.sort_by(|(a, _), (b, _)| a.topic.cmp(&b.topic));
    let frame_bytes = sent.iter().map(|(sent, bytes)| bytes.len() + sent.topic.len() + 32).sum();
    let topic_data = sent.chunk_by(|(a, _), (b, _)| a.topic == b.topic).map(|parts| TopicProduceData {
        name: parts.first().map(|(sent, _)| (&*sent.topic).into()).unwrap_or_default(),
        partition_data: parts
            .iter()
            .map(|(sent, bytes)| PartitionProduceData { index: sent.partition, records: Some(bytes) })
            .collect(),
        ..TopicProduceData::default()
    });
    let acks = shared.config.acks;
    let request = ProduceRequest {
        acks: acks.code(),
        timeout_ms: i32::try_from(shared.config.client.request_timeout_ms).unwrap_or(i32::MAX),
        topic_data: topic_data.collect(),
        ..ProduceRequest::default()
    };
    let handles: Vec<Sent> = sent.iter().map(|(sent, _)| sent.handle()).collect();
    let home = Arc::clone(shared);
    let link = connection.clone();
    let how = SendOptions {
        timeout: Duration::from_millis(shared.config.client.request_timeout_ms),
        on_reply: Box::new(move |reply| receive(&home, &link, &handles, &reply)),
        answered: acks != Acks::None,
        frame_bytes,
    };
    connection.submit(version, &request, how);
}

/// The bytes of one batch for this attempt; kept in the outbox for the next.
fn wrap(shared: &ProducerState, lane: LaneId, mut dispatch: Dispatch) -> Option<Bytes> {
    let bytes = match std::mem::replace(&mut dispatch.payload, Payload::Away) {
        Payload::Open(builder) => {
            seal(builder, &dispatch).inspect_err(|error| tracing::warn!(%error, "a batch could not be built")).ok()?
        }
        Payload::Sealed(sealed) => renumber(sealed, &dispatch),
        Payload::Away => return None,
    };
    shared.outbox().keep_sealed(lane, dispatch.batch, bytes.clone());
    Some(bytes)
}

/// The answer, or the news that there will be none. Runs on the connection's task.
fn receive(shared: &Arc<ProducerState>, connection: &Connection, sent: &[Sent], reply: &Reply) {
    let result = match (reply, shared.config.acks) {
        (Ok(_), Acks::None) => {
            let mut outbox = shared.outbox();
            for sent in sent {
                outbox.written(sent.lane, sent.batch);
            }
            Ok(())
        }
        (Ok(answer), _) => judge_all(shared, connection, sent, answer),
        (Err(error), _) => Err(error.clone()),
    };
    if let Err(error) = result {
        let words: Arc<str> = error.to_string().into();
        shared.trouble.note(&words);
        if matches!(error, ConnectionError::Malformed { .. }) {
            connection.sever("it sent a malformed answer");
        }
        let now_ms = shared.now_ms();
        let mut outbox = shared.outbox();
        for sent in sent {
            outbox.lose(now_ms, sent.lane, sent.batch, &words);
        }
    }
    let settled = shared.outbox().take_settled();
    shared.tell(settled);
    shared.wake.notify_one();
}

fn judge_all(
    shared: &ProducerState,
    connection: &Connection,
    sent: &[Sent],
    answer: &Answer,
) -> Result<(), ConnectionError> {
    let response: ProduceResponse<'_> = answer.decode()?;
    if response.throttle_time_ms > 0 {
        connection.hold_back(Duration::from_millis(response.throttle_time_ms.unsigned_abs().into()));
    }
    let topics = response.responses.iter();
    let parts: HashMap<(&str, i32), &PartitionProduceResponse<'_>> = topics
        .flat_map(|topic| topic.partition_responses.iter().map(|part| ((&*topic.name, part.index), part)))
        .collect();
    let now_ms = shared.now_ms();
    let mut trouble: Option<Arc<str>> = None;
    let mut outbox = shared.outbox();
    for sent in sent {
        if let Some(part) = parts.get(&(&*sent.topic, sent.partition)) {
            let verdict = Verdict::read(part);
            if verdict.landing().is_none() {
                trouble = Some(format!("{}-{}: {}", sent.topic, sent.partition, verdict.code.name()).into());
            }
            outbox.judge(now_ms, sent.lane, sent.batch, verdict);
        } else {
            let words = format!("{} left {}-{} out of its answer", answer.address, sent.topic, sent.partition).into();
            outbox.lose(now_ms, sent.lane, sent.batch, &words);
            trouble = Some(words);
        }
    }
    drop(outbox);
    if let Some(words) = trouble {
        tracing::debug!(trouble = %words, "batches come back");
        shared.trouble.note(&words);
    }
    Ok(())
}

fn judge(shared: &ProducerState, lane: LaneId, batch: BatchId, verdict: Verdict) {
    let settled = {
        let mut outbox = shared.outbox();
        outbox.judge(shared.now_ms(), lane, batch, verdict);
        outbox.take_settled()
    };
    shared.tell(settled);
}

/// The broker has no version of Produce that we speak: no retry will change that.
fn refuse_all(shared: &ProducerState, parcels: &[Parcel], error: &ConnectionError) {
    for parcel in parcels {
        let verdict = Verdict::refused(ErrorCode::UnsupportedVersion, Some(error.to_string().into()));
        judge(shared, parcel.lane, parcel.dispatch.batch, verdict);
    }
}

impl Sent {
    fn handle(&self) -> Self {
        Self { lane: self.lane, batch: self.batch, topic: Arc::clone(&self.topic), partition: self.partition }
    }
}

impl Verdict {
    fn read(part: &PartitionProduceResponse<'_>) -> Self {
        let record_errors = part.record_errors.iter().filter_map(|error| {
            let index = u32::try_from(error.batch_index).ok()?;
            // Words about the record, else those about the batch, else those of the code.
            let words = error.batch_index_error_message.as_deref().or(part.error_message.as_deref());
            Some(RecordError { index, message: words.unwrap_or(part.error_code.message()).into() })
        });
        Self {
            code: part.error_code,
            message: part.error_message.as_deref().map(Arc::from),
            landing: read_landing(part),
            append_time_ms: Some(part.log_append_time_ms).filter(|time| *time >= 0),
            record_errors: record_errors.collect(),
        }
    }
}

/// Where the batch went. Placements that do not start at the first record or go backwards are no evidence.
fn read_landing(part: &PartitionProduceResponse<'_>) -> Landing {
    let ordered = part.placements.is_sorted_by(|a, b| a.first_index < b.first_index);
    match part.placements.first() {
        Some(first) if first.first_index == 0 && ordered => {
            let runs = part.placements.iter().map(|run| Run {
                first_index: run.first_index as u32,
                partition: run.partition,
                base_offset: run.base_offset,
            });
            Landing::Spread(runs.collect())
        }
        None if part.base_offset >= 0 => Landing::Whole { base_offset: part.base_offset },
        _ => Landing::Untold,
    }
}
