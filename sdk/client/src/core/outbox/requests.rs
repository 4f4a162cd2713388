//! Batches go out, answers come back.

use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::ErrorCode;

use super::{Outbox, Parcel};
use crate::core::batch::BatchId;
use crate::core::lane::{Consequence, Lane, LaneId, Terms};
use crate::core::outcome::{Landing, Outcome};
use crate::core::sequence::Identity;
use crate::core::verdict::Verdict;
use crate::error::ProduceError;

impl Outbox {
    pub(super) fn terms(&self, now_ms: u64) -> Terms {
        Terms { now_ms, linger_ms: self.limits.linger_ms, hurry: self.ledger.hurries() }
    }

    pub(super) fn active_lanes(&self) -> impl Iterator<Item = &Lane> {
        self.active.iter().filter_map(|id| self.lanes.get(id.0))
    }

    /// Brokers for which a batch is due.
    pub(crate) fn due_brokers(&self, now_ms: u64) -> Vec<i32> {
        if self.limits.idempotent && self.identity.is_none() {
            return Vec::new();
        }
        let terms = self.terms(now_ms);
        let mut nodes: Vec<i32> =
            self.active_lanes().filter(|lane| lane.is_due(terms)).filter_map(|lane| lane.leader).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The batches for one request to this broker: at most one per partition, at most `request_bytes_max` together.
    pub(crate) fn pack_request(&mut self, now_ms: u64, node: i32) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        if !self.due_brokers(now_ms).contains(&node) {
            return parcels;
        }
        let identity = self.identity.unwrap_or(Identity::NONE);
        // Batches that still linger come along when a request leaves anyway.
        let terms = Terms { hurry: true, ..self.terms(now_ms) };
        self.turn = self.turn.wrapping_add(1);
        let start = (self.turn as usize).checked_rem(self.active.len()).unwrap_or(0);
        let mut bytes = 0;
        for at in (start..self.active.len()).chain(0..start) {
            let Some(lane) = self.active.get(at).copied() else { continue };
            let Some(state) = self.lanes.get_mut(lane.0).filter(|lane| lane.leader == Some(node)) else { continue };
            let batch_bytes = state.dispatch_bytes();
            let full = !parcels.is_empty() && bytes + batch_bytes > self.limits.request_bytes_max;
            if full || !state.is_due(terms) {
                continue;
            }
            self.next_batch += 1;
            if let Some(dispatch) = state.dispatch(now_ms, identity, BatchId(self.next_batch)) {
                bytes += batch_bytes;
                let topic = Arc::clone(&state.topic);
                parcels.push(Parcel { lane, topic, partition: state.partition, dispatch });
            }
        }
        parcels
    }

    /// Keeps what compression made of a batch.
    pub(crate) fn keep_sealed(&mut self, lane: LaneId, batch: BatchId, sealed: Bytes) {
        if let Some(lane) = self.lanes.get_mut(lane.0) {
            lane.keep_sealed(batch, sealed);
        }
    }

    /// The broker's word on a batch. Returns whether the topic's leaders have to be asked for anew.
    pub(crate) fn judge(&mut self, now_ms: u64, id: LaneId, batch: BatchId, verdict: Verdict) -> bool {
        let Some(lane) = self.lanes.get_mut(id.0) else { return false };
        if let Some(landing) = verdict.landing() {
            self.stored(id, batch, landing, verdict.append_time_ms);
            return false;
        }
        let (topic, partition) = (Arc::clone(&lane.topic), lane.partition);
        let (consequence, stale) = (verdict.consequence(), verdict.is_stale());
        if verdict.code == ErrorCode::MessageTooLarge {
            self.next_batch += 1;
            if lane.split(batch, BatchId(self.next_batch), self.limits.format) {
                return false;
            }
        }
        let Verdict { code, message, append_time_ms, record_errors, .. } = verdict;
        let retry_at_ms = now_ms + self.limits.retry.pause_ms(lane.failures() + 1, self.turn);
        if stale {
            lane.leader = None;
        }
        lane.trouble = Some(format!("{topic}-{partition}: {}", code.name()).into());
        if let Some((batch, in_doubt)) = lane.refused(batch, consequence, retry_at_ms) {
            let result = Err(ProduceError::Refused {
                topic: Arc::clone(&topic),
                partition,
                code,
                message,
                record_errors,
                in_doubt,
            });
            let outcome = Outcome { topic, partition, append_time_ms, result };
            self.ledger.settle(batch, Arc::new(outcome));
        }
        if consequence == Consequence::Fenced && self.lanes.get(id.0).and_then(Lane::broken_identity) == self.identity {
            // Another epoch of the same id would be refused as well.
            self.identity = None;
        }
        self.clear_out(id);
        self.after(id);
        stale
    }

    /// A batch that is never acknowledged (acks=0) was written.
    pub(crate) fn written(&mut self, id: LaneId, batch: BatchId) {
        self.stored(id, batch, Landing::Untold, None);
    }

    fn stored(&mut self, id: LaneId, batch: BatchId, landing: Landing, append_time_ms: Option<i64>) {
        let Some(lane) = self.lanes.get_mut(id.0) else { return };
        let (topic, partition) = (Arc::clone(&lane.topic), lane.partition);
        if let Some(batch) = lane.stored(batch) {
            self.trouble.clear();
            let outcome = Outcome { topic, partition, append_time_ms, result: Ok(landing) };
            self.ledger.settle(batch, Arc::new(outcome));
        }
        self.after(id);
    }

    /// A request was lost with its connection: its batch may be stored.
    pub(crate) fn lose(&mut self, now_ms: u64, id: LaneId, batch: BatchId, why: &Arc<str>) {
        let Some(lane) = self.lanes.get_mut(id.0) else { return };
        let retry_at_ms = now_ms + self.limits.retry.pause_ms(lane.failures() + 1, self.turn);
        lane.doubt(why);
        lane.lost(batch, retry_at_ms);
        self.clear_out(id);
        self.after(id);
    }

    /// Mends a broken line of numbers as soon as that is safe.
    pub(super) fn after(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(id.0) else { return };
        let Some(broken) = lane.broken_identity() else { return };
        if self.identity == Some(broken) {
            self.identity = broken.next_epoch();
        }
        if let Some(identity) = self.identity {
            lane.renumber(identity);
        }
    }
}
