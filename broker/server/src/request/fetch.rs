//! Fetch, versions 4-18.
//!
//! Behaviour: waits until `min_bytes` below the high watermark can be read, `max_wait_ms` is over, something is wrong
//! with a partition, `connections.max.idle.ms` is over, or the broker stops. Partitions are served in the order of the request, which is the client's to
//! rotate, or of its session, which puts those that had records at the end. Names up to v12, ids from v13. Records leave as
//! ranges of the segment files. A client that asks for a session (KIP-227) gets one if there is room, otherwise id 0,
//! "none"; in one it is answered what is new.
//! Not supported: follower fetching.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_coordinator::fetch_session::{Outcome, TopicRef};
use ottla_front::Counted;
use ottla_log::FileRange;
use ottla_wire::message::{
    EpochEndOffset, FetchFrame, FetchRecords, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use ottla_wire::{ErrorCode, Str};
use tokio::time::{Instant, sleep_until};

use super::{Answer, CloseReason, Peer, Piece, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::fetch::plan::{Patience, Planned, WaitsForDisk};
use crate::fetch::{Plan, Wanted};
use crate::partition::watermark::Bell;

const READ_COMMITTED: i8 = 1;

/// Serves Fetch.
pub(super) fn begin(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Answer, CloseReason> {
    let request: FetchRequest<'_> = decoded(head, frame)?;
    let plan = match broker.fetch_sessions.begin(head.version, &request) {
        Ok(plan) => plan,
        Err(error_code) => {
            let response = refuse(broker, head, error_code);
            return Ok(Box::pin(async { response.into() }));
        }
    };
    let asked = Asked {
        head,
        // No longer than a silent connection may be: behind a peer that vanished nothing would ever end the wait.
        deadline: Instant::now()
            + Duration::from_millis((request.max_wait_ms.max(0) as u64).min(broker.config.connection_idle_ms)),
        reads_committed: request.isolation_level == READ_COMMITTED,
        // Nothing of the frame is kept, so that a long poll does not hold the receive buffer.
        wanted: Arc::new(Wanted::of(&request, plan)),
    };
    let broker = Arc::clone(broker);
    Ok(Box::pin(async move { answer(&broker, &asked).await.into() }))
}

/// A fetch that was read.
struct Asked {
    head: RequestHead,
    deadline: Instant,
    reads_committed: bool,
    wanted: Arc<Wanted>,
}

async fn answer(broker: &Arc<Broker>, asked: &Asked) -> Result<Response, CloseReason> {
    let Asked { wanted, deadline, .. } = asked;
    let mut stop = broker.shutdown.watch();
    loop {
        let plan = match Plan::make(broker, wanted, Patience::None) {
            Ok(plan) => plan,
            Err(WaitsForDisk) => plan_patiently(broker, wanted).await?,
        };
        if plan.is_due(wanted) || Instant::now() >= *deadline || stop.has_begun() {
            return Ok(respond(broker, asked, plan));
        }
        let waiting = Counted::by(&broker.metrics.fetches_waiting);
        let bell = Bell::new();
        let registrations = plan.watch(&bell);
        tokio::select! {
            () = bell.rung() => {}
            () = sleep_until(*deadline) => {}
            () = stop.begun() => {}
        }
        drop((registrations, waiting));
    }
}

/// Looks where batches are on a thread that may wait for the disk.
async fn plan_patiently(broker: &Arc<Broker>, wanted: &Arc<Wanted>) -> Result<Plan, CloseReason> {
    let (reads, broker, wanted) = (Arc::clone(&broker.pools.reads), Arc::clone(broker), Arc::clone(wanted));
    let planning = reads.run(move || {
        Plan::make(&broker, &wanted, Patience::Any)
            .map_err(|WaitsForDisk| CloseReason::Internal("a read waits for a disk it has waited for".to_owned()))
    });
    planning.await.map_err(|error| CloseReason::Internal(error.to_string()))?
}

/// An error of the whole request.
fn refuse(broker: &Broker, head: RequestHead, error_code: ErrorCode) -> Response {
    broker.metrics.note_error(head.key, error_code);
    Response::of(head, &FetchResponse { error_code, ..Default::default() })
}

fn respond(broker: &Broker, asked: &Asked, plan: Plan) -> Response {
    let Asked { head, reads_committed, wanted, .. } = asked;
    let outcomes: Vec<Outcome> = plan.partitions.iter().map(outcome).collect();
    let answer = match broker.fetch_sessions.finish(&wanted.plan, &outcomes) {
        Ok(answer) => answer,
        Err(error_code) => return refuse(broker, *head, error_code),
    };
    let aborted_transactions = reads_committed.then(Vec::new);
    let mut ranges = Vec::new();
    let mut responses: Vec<FetchableTopicResponse<'_>> = Vec::new();
    let mut last: Option<&TopicRef> = None;
    let pairs = wanted.partitions().iter().zip(plan.partitions);
    for ((wanted, planned), _) in pairs.zip(answer.included).filter(|(_, included)| *included) {
        let records = match planned.range {
            Some(range) => {
                let bytes = range.bytes;
                if let Some(partition) = &planned.partition {
                    let from = range.base_offset.get().max(wanted.partition.fetch_offset);
                    let records = u64::try_from(range.next_offset.get() - from).unwrap_or(0);
                    partition.fetched.note(records, bytes.into());
                }
                ranges.push(range);
                FetchRecords::Region { bytes }
            }
            None => FetchRecords::default(),
        };
        if planned.error_code != ErrorCode::None {
            broker.metrics.note_error(head.key, planned.error_code);
        }
        if last != Some(&wanted.topic) {
            last = Some(&wanted.topic);
            let (topic, topic_id) = (Str::Borrowed(wanted.topic.name()), wanted.topic.id());
            responses.push(FetchableTopicResponse { topic, topic_id, partitions: Vec::new() });
        }
        let data = PartitionData {
            partition_index: wanted.partition.partition,
            error_code: planned.error_code,
            high_watermark: planned.high_watermark,
            last_stable_offset: planned.high_watermark,
            log_start_offset: planned.log_start_offset,
            diverging_epoch: planned.diverging,
            current_leader: planned.current_leader,
            aborted_transactions: aborted_transactions.clone(),
            records,
            ..Default::default()
        };
        if let Some(topic) = responses.last_mut() {
            topic.partitions.push(data);
        }
    }
    let response = FetchResponse { session_id: answer.session_id, responses, ..Default::default() };
    assemble(FetchFrame::encode(head.correlation_id, head.version, &response), ranges)
}

/// What a session remembers of a partition's answer.
fn outcome(planned: &Planned) -> Outcome {
    Outcome {
        error: planned.error_code,
        high_watermark: planned.high_watermark,
        log_start_offset: planned.log_start_offset,
        has_news: planned.range.is_some() || planned.diverging != EpochEndOffset::default(),
    }
}

/// Puts the ranges into the holes of the frame.
fn assemble(frame: FetchFrame, ranges: Vec<FileRange>) -> Response {
    let FetchFrame { head, holes } = frame;
    let head = Bytes::from(head);
    let mut rest = Vec::with_capacity(2 * holes.len());
    let first = holes.first().map_or(head.len(), |hole| hole.position);
    let ends = holes.iter().skip(1).map(|hole| hole.position).chain(std::iter::once(head.len()));
    for ((hole, end), range) in holes.iter().zip(ends).zip(ranges) {
        rest.push(Piece::File(range));
        if hole.position < end {
            rest.push(Piece::Bytes(head.slice(hole.position..end)));
        }
    }
    Response { head: head.slice(..first), rest }
}
