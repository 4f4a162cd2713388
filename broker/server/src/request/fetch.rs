//! Fetch, versions 4-17.
//!
//! Behaviour: waits until `min_bytes` below the high watermark can be read, `max_wait_ms` is over, something is wrong
//! with a partition, or the broker stops. Partitions are served in the order of the request, which is the client's to
//! rotate. Names up to v12, ids from v13. Records leave as ranges of the segment files.
//! Not supported: fetch sessions (a client that asks for one gets session id 0, "none", and asks in full each time; one
//! that goes on with a session it was never given gets FETCH_SESSION_ID_NOT_FOUND), follower fetching.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_front::Counted;
use ottla_log::FileRange;
use ottla_wire::message::{
    FetchFrame, FetchRecords, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use ottla_wire::{ErrorCode, Str};
use tokio::time::{Instant, sleep_until};

use super::{Answer, CloseReason, Peer, Piece, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::fetch::plan::{Patience, WaitsForDisk};
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
    if request.session_epoch > 0 {
        // No session was ever given out, so whatever this one is, it is not ours.
        let refusal = FetchResponse { error_code: ErrorCode::FetchSessionIdNotFound, ..Default::default() };
        let response = Response::of(head, &refusal);
        return Ok(Box::pin(async { response.into() }));
    }
    let asked = Asked {
        head,
        deadline: Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64),
        reads_committed: request.isolation_level == READ_COMMITTED,
        // Nothing of the frame is kept, so that a long poll does not hold the receive buffer.
        wanted: Arc::new(Wanted::of(head.version, request)),
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
    let internal = |what: &dyn std::fmt::Display| CloseReason::Internal(what.to_string());
    let _one_of_few = broker.cold_reads.acquire().await.map_err(|closed| internal(&closed))?;
    let (broker, wanted) = (Arc::clone(broker), Arc::clone(wanted));
    let planning = tokio::task::spawn_blocking(move || {
        Plan::make(&broker, &wanted, Patience::Any)
            .map_err(|WaitsForDisk| CloseReason::Internal("a read waits for a disk it has waited for".to_owned()))
    });
    planning.await.map_err(|error| internal(&error))?
}

fn respond(broker: &Broker, asked: &Asked, plan: Plan) -> Response {
    let Asked { head, reads_committed, wanted, .. } = asked;
    let aborted_transactions = reads_committed.then(Vec::new);
    let mut ranges = Vec::new();
    let topics = wanted.topics.iter().zip(plan.topics).map(|(wanted, planned)| {
        let partitions = wanted.partitions.iter().zip(planned).map(|(wanted, planned)| {
            let records = match planned.range {
                Some(range) => {
                    let bytes = range.bytes;
                    ranges.push(range);
                    FetchRecords::Region { bytes }
                }
                None => FetchRecords::default(),
            };
            if planned.error_code != ErrorCode::None {
                broker.metrics.note_error(head.key, planned.error_code);
            }
            PartitionData {
                partition_index: wanted.partition,
                error_code: planned.error_code,
                high_watermark: planned.high_watermark,
                last_stable_offset: planned.high_watermark,
                log_start_offset: planned.log_start_offset,
                diverging_epoch: planned.diverging,
                current_leader: planned.current_leader,
                aborted_transactions: aborted_transactions.clone(),
                records,
                ..Default::default()
            }
        });
        FetchableTopicResponse {
            topic: Str::Borrowed(wanted.topic.name()),
            topic_id: wanted.topic.id(),
            partitions: partitions.collect(),
        }
    });
    let response = FetchResponse { responses: topics.collect(), ..Default::default() };
    assemble(FetchFrame::encode(head.correlation_id, head.version, &response), ranges)
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
