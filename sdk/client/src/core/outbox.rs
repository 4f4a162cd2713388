//! Everything a producer has taken over and not yet settled. Records come in and find their lane, news of the cluster are
//! learned, batches go out, answers come back, time passes.

use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::{ErrorCode, Uuid};

use super::backoff::Backoff;
use super::batch::{BatchId, ReportTo, Format, OpenBatch, Parties, Settled, record_bytes};
use super::lane::{Dispatch, Lane, LaneId, Consequence, Standing, Terms};
use super::ledger::Ledger;
use super::metadata::Metadata;
use super::outcome::{Fate, Landing, Outcome, Promise};
use super::record::ProducerRecord;
use super::sequence::Identity;
use super::topics::Topics;
use super::trouble::Trouble;
use super::verdict::Verdict;
use super::waiting::WaitingRecord;
use crate::error::{ProduceError, SendError};

/// The bounds that an outbox keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) linger_ms: u64,
    pub(crate) batch_bytes: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) delivery_timeout_ms: u64,
    pub(crate) topic_wait_ms: u64,
    pub(crate) retry: Backoff,
    pub(crate) format: Format,
    /// Batches are numbered.
    pub(crate) idempotent: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    limits: Limits,
    topics: Topics,
    lanes: Vec<Lane>,
    /// Lanes with something in them; the ones to be looked at.
    active: Vec<LaneId>,
    is_active: Vec<bool>,
    /// None until the broker handed one out; stays none without idempotence.
    identity: Option<Identity>,
    ledger: Ledger,
    trouble: Arc<Trouble>,
    /// No more records are taken.
    closed: bool,
    next_batch: u64,
    turn: u64,
}

/// What became of a record handed over.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// For [`ReportTo::Delivery`].
    pub(crate) promise: Option<Promise>,
    /// The sender task has something new to look at.
    pub(crate) wake: bool,
}

/// A batch to be put into a request.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) lane: LaneId,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) dispatch: Dispatch,
}

impl Outbox {
    pub(crate) fn new(limits: Limits, trouble: Arc<Trouble>) -> Self {
        Self {
            topics: Topics::default(),
            lanes: Vec::new(),
            active: Vec::new(),
            is_active: Vec::new(),
            identity: None,
            ledger: Ledger::new(limits.buffer_bytes),
            trouble,
            closed: false,
            next_batch: 0,
            turn: 0,
            limits,
        }
    }

    // ---- records come in ----

    /// Takes over a record, or says why not.
    pub(crate) fn append(
        &mut self,
        now_ms: u64,
        wall_ms: i64,
        record: &ProducerRecord<'_>,
        report_to: ReportTo,
    ) -> Result<Accepted, SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        let bytes = record_bytes(record);
        let too_large = SendError::RecordTooLarge { bytes, max: self.limits.request_bytes_max };
        if bytes > self.limits.request_bytes_max {
            return Err(too_large);
        }
        self.ledger.check_room(bytes)?;
        let topic = self.topics.enter(now_ms, record.topic)?;
        let timestamp_ms = record.timestamp_ms.unwrap_or(wall_ms);
        if self.topics.get(topic).is_none_or(|topic| topic.partition_count == 0) {
            return Ok(self.wait_for_topic(topic, now_ms, record, timestamp_ms, bytes, report_to));
        }
        let lane = self.choose(topic, record, bytes)?;
        let serial = self.ledger.charge(bytes);
        self.push(lane, now_ms, serial, timestamp_ms, record, bytes, report_to).map_err(|_| {
            self.ledger.refund(bytes);
            too_large
        })
    }

    /// Takes no more records.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    fn wait_for_topic(
        &mut self,
        topic: usize,
        now_ms: u64,
        record: &ProducerRecord<'_>,
        timestamp_ms: i64,
        bytes: usize,
        report_to: ReportTo,
    ) -> Accepted {
        let mut promise = None;
        let report_to = match report_to {
            ReportTo::Delivery => {
                let fate = Fate::new(Arc::clone(&self.trouble));
                promise = Some(Promise { fate: Arc::clone(&fate), index: 0, timestamp_ms });
                ReportTo::Guest(fate)
            }
            other => other,
        };
        let serial = self.ledger.charge(bytes);
        if let Some(topic) = self.topics.get_mut(topic) {
            if topic.waiting.is_empty() {
                topic.wanted_since_ms = now_ms;
            }
            topic.waiting.push_back(WaitingRecord::new(record, timestamp_ms, bytes, serial, now_ms, report_to));
        }
        Accepted { promise, wake: true }
    }

    /// The lane for a record of a known topic.
    fn choose(&mut self, topic: usize, record: &ProducerRecord<'_>, bytes: usize) -> Result<LaneId, SendError> {
        let Some(topic) = self.topics.get_mut(topic) else { return Err(SendError::Closed) };
        let chosen = topic.choose(&self.lanes, record, bytes, self.limits.batch_bytes, &mut self.turn)?;
        let left = topic.take_left().and_then(|left| self.lanes.get_mut(left.0));
        if let Some(left) =
            left.filter(|lane| lane.open_bytes().is_some_and(|open| open + bytes > self.limits.batch_bytes))
        {
            // It will not be filled up further: no reason to linger.
            self.next_batch += 1;
            left.close_open(BatchId(self.next_batch));
        }
        Ok(chosen)
    }

    #[allow(clippy::too_many_arguments)] // One record's facts, passed on once.
    fn push(
        &mut self,
        id: LaneId,
        now_ms: u64,
        serial: u64,
        timestamp_ms: i64,
        record: &ProducerRecord<'_>,
        bytes: usize,
        report_to: ReportTo,
    ) -> Result<Accepted, ReportTo> {
        let mut wake = self.limits.linger_ms == 0 || self.ledger.is_flushing(serial);
        let Some(lane) = self.lanes.get_mut(id.0) else { return Err(report_to) };
        let batch_bytes = self.limits.batch_bytes.min(lane.batch_bytes_max);
        if lane.open_bytes().is_some_and(|open| open + bytes > batch_bytes) {
            self.next_batch += 1;
            lane.close_open(BatchId(self.next_batch));
        }
        wake |= lane.open().is_none();
        let format = self.limits.format;
        let open = lane.open().get_or_insert_with(|| OpenBatch::new(now_ms, serial, format));
        let (index, fate) = open.push(record, timestamp_ms, bytes, report_to, &self.trouble)?;
        if open.bytes() >= batch_bytes {
            wake = true;
            self.next_batch += 1;
            lane.close_open(BatchId(self.next_batch));
        }
        self.activate(id);
        Ok(Accepted { promise: fate.map(|fate| Promise { fate, index, timestamp_ms }), wake })
    }

    fn activate(&mut self, id: LaneId) {
        if let Some(flag) = self.is_active.get_mut(id.0).filter(|flag| !**flag) {
            *flag = true;
            self.active.push(id);
        }
    }

    // ---- what is known of the cluster ----

    /// Topics whose partitions have to be asked for: unknown, or with a lane that has work and no (reachable) leader.
    pub(crate) fn wanted_topics(&self) -> Vec<Arc<str>> {
        let unknown = self.topics.iter().filter(|topic| !topic.waiting.is_empty()).map(|topic| &topic.name);
        let homeless = self.active_lanes().filter(|lane| lane.wants_leader());
        let mut wanted: Vec<_> = unknown.chain(homeless.map(|lane| &lane.topic)).cloned().collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// All topics that records were ever sent to, for the periodic look.
    pub(crate) fn known_topics(&self) -> Vec<Arc<str>> {
        self.topics.iter().map(|topic| Arc::clone(&topic.name)).collect()
    }

    /// A broker could not be reached: where its partitions are led has to be asked for again.
    pub(crate) fn doubt_leader(&mut self, node: i32, why: &Arc<str>) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.leader == Some(node) && !lane.is_idle()) {
            lane.doubt(why);
        }
    }

    /// Takes in news of these topics: leaders move, topics become known, waiting records move into batches.
    pub(crate) fn learn(&mut self, now_ms: u64, metadata: &Metadata, asked: &[Arc<str>]) {
        for name in asked {
            let Some(at) = self.topics.place_of(name) else { continue };
            let Some(known) = metadata.topics.get(name) else { continue };
            self.learn_partitions(at, known.id, known.partitions.len());
            let Some(topic) = self.topics.get(at) else { continue };
            for (index, id) in topic.lanes.iter().enumerate() {
                let Some(lane) = self.lanes.get_mut(id.0) else { continue };
                lane.leader = metadata.leader(name, index as i32);
                if lane.standing == Standing::Doubted {
                    lane.standing = Standing::Sound;
                }
                if known.partitions.is_empty() {
                    lane.trouble = Some(format!("topic {name}: {}", known.error.name()).into());
                }
            }
            if topic.partition_count == 0 {
                self.give_up_on_topic(now_ms, at, known.error);
            } else {
                self.move_in(now_ms, at);
            }
        }
    }

    /// A topic has as many partitions now. None are no news: the topic may come back.
    fn learn_partitions(&mut self, at: usize, id: Uuid, count: usize) {
        let Some(topic) = self.topics.get_mut(at).filter(|_| count > 0) else { return };
        let anew = !topic.id.is_nil() && topic.id != id;
        topic.id = id;
        topic.partition_count = count;
        for index in topic.lanes.len()..count {
            topic.lanes.push(LaneId(self.lanes.len()));
            self.lanes.push(Lane::new(Arc::clone(&topic.name), index as i32, self.limits.idempotent));
            self.is_active.push(false);
        }
        for (index, id) in topic.lanes.clone().into_iter().enumerate() {
            let Some(lane) = self.lanes.get_mut(id.0) else { continue };
            match (index < count, lane.standing) {
                (false, _) => lane.standing = Standing::Gone,
                (true, Standing::Gone) => lane.standing = Standing::Sound,
                (true, _) => {}
            }
            if anew {
                lane.start_anew();
            }
            self.clear_out(id);
        }
    }

    /// What waits for a partition that is gone will not be sent.
    fn clear_out(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(id.0).filter(|lane| lane.standing == Standing::Gone) else { return };
        let (topic, partition) = (Arc::clone(&lane.topic), lane.partition);
        self.next_batch += 1;
        for batch in lane.abandon(BatchId(self.next_batch)) {
            let outcome = Outcome::failed(Arc::clone(&topic), partition, self.no_such_partition(&topic, partition));
            self.ledger.settle(batch, outcome);
        }
        self.after(id);
    }

    fn no_such_partition(&self, topic: &Arc<str>, partition: i32) -> ProduceError {
        let known = self.topics.place_of(topic).and_then(|at| self.topics.get(at));
        let count = known.map_or(0, |topic| topic.partition_count) as i32;
        ProduceError::NoSuchPartition { topic: Arc::clone(topic), partition, count }
    }

    /// Records that waited for their topic go into batches, in the order in which they came.
    fn move_in(&mut self, now_ms: u64, at: usize) {
        let Some(topic) = self.topics.get_mut(at) else { return };
        for waiting in std::mem::take(&mut topic.waiting) {
            let (timestamp_ms, bytes) = (waiting.timestamp_ms, waiting.bytes);
            let placed = waiting.with_record(|record| self.choose(at, record, bytes));
            match placed {
                Ok(lane) => {
                    let (serial, created_ms) = (waiting.serial, waiting.created_ms);
                    let (owned, report_to) = waiting.into_parts();
                    // Its time runs from the moment it was handed over.
                    let pushed = owned.with(timestamp_ms, |record| {
                        self.push(lane, created_ms.min(now_ms), serial, timestamp_ms, record, bytes, report_to)
                    });
                    if let Err(report_to) = pushed {
                        let error = ProduceError::refused(self.topics.name_of(at), -1, ErrorCode::MessageTooLarge);
                        let outcome = Outcome::failed(self.topics.name_of(at), -1, error);
                        self.ledger.settle_one(bytes, Parties::of_one(report_to, timestamp_ms), outcome);
                    }
                }
                Err(SendError::NoSuchPartition { topic, partition, count }) => {
                    let error = ProduceError::NoSuchPartition { topic, partition, count };
                    self.fail_waiting(at, waiting, error);
                }
                Err(_) => self.fail_waiting(at, waiting, ProduceError::Closed { in_doubt: false }),
            }
        }
    }

    /// The cluster has nothing to say about a topic: at once for good errors, after a while for a topic not (yet) there.
    fn give_up_on_topic(&mut self, now_ms: u64, at: usize, code: ErrorCode) {
        let Some(topic) = self.topics.get_mut(at) else { return };
        let patience = if code.is_retriable() || code == ErrorCode::None { self.limits.topic_wait_ms } else { 0 };
        if now_ms < topic.wanted_since_ms.saturating_add(patience) {
            return;
        }
        let name = Arc::clone(&topic.name);
        for waiting in std::mem::take(&mut topic.waiting) {
            let error = match code {
                ErrorCode::UnknownTopicOrPartition | ErrorCode::LeaderNotAvailable | ErrorCode::None => {
                    ProduceError::UnknownTopic { topic: Arc::clone(&name), code }
                }
                code => ProduceError::refused(Arc::clone(&name), -1, code),
            };
            self.fail_waiting(at, waiting, error);
        }
    }

    fn fail_waiting(&mut self, at: usize, waiting: WaitingRecord, error: ProduceError) {
        let outcome = Outcome::failed(self.topics.name_of(at), -1, error);
        let (bytes, timestamp_ms) = (waiting.bytes, waiting.timestamp_ms);
        self.ledger.settle_one(bytes, Parties::of_one(waiting.into_parts().1, timestamp_ms), outcome);
    }

    /// Whether a producer id has to be asked for.
    pub(crate) fn wants_identity(&self) -> bool {
        self.limits.idempotent && self.identity.is_none() && !self.active.is_empty()
    }

    /// The broker handed out a producer id. Lines of numbers that waited for one start anew.
    pub(crate) fn identify(&mut self, identity: Identity) {
        self.identity = Some(identity);
        for id in self.active.clone() {
            self.after(id);
        }
    }

    // ---- batches go out ----

    fn terms(&self, now_ms: u64) -> Terms {
        Terms { now_ms, linger_ms: self.limits.linger_ms, hurry: self.ledger.hurries() }
    }

    fn active_lanes(&self) -> impl Iterator<Item = &Lane> {
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

    // ---- answers come back ----

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
    fn after(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(id.0) else { return };
        let Some(broken) = lane.broken_identity() else { return };
        if self.identity == Some(broken) {
            self.identity = broken.next_epoch();
        }
        if let Some(identity) = self.identity {
            lane.renumber(identity);
        }
    }

    // ---- time passes ----

    /// Gives up what has waited for longer than `delivery_timeout_ms`, and forgets idle lanes.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let timeout_ms = self.limits.delivery_timeout_ms;
        if let Some(created_ms) = now_ms.checked_sub(timeout_ms) {
            let trouble = self.trouble.words();
            self.give_up(created_ms, &|in_doubt, last| {
                let last = last.cloned().or_else(|| trouble.clone());
                ProduceError::TimedOut { timeout_ms, in_doubt, last }
            });
        }
        let (lanes, is_active) = (&self.lanes, &mut self.is_active);
        self.active.retain(|id| {
            let busy = lanes.get(id.0).is_some_and(|lane| !lane.is_idle());
            if !busy && let Some(flag) = is_active.get_mut(id.0) {
                *flag = false;
            }
            busy
        });
        if self.is_settled(self.ledger.flush_mark()) {
            self.ledger.flushed();
        }
    }

    /// Takes no more records and gives up those that it has.
    pub(crate) fn fail_all(&mut self, error: &dyn Fn(bool) -> ProduceError) {
        self.closed = true;
        self.give_up(u64::MAX, &|in_doubt, _| error(in_doubt));
    }

    fn give_up(&mut self, created_ms: u64, error: &dyn Fn(bool, Option<&Arc<str>>) -> ProduceError) {
        for at in 0..self.topics.len() {
            let Some(topic) = self.topics.get_mut(at) else { continue };
            let late = topic.waiting.iter().take_while(|waiting| waiting.created_ms <= created_ms).count();
            for waiting in topic.waiting.drain(..late).collect::<Vec<_>>() {
                self.fail_waiting(at, waiting, error(false, None));
            }
        }
        for id in self.active.clone() {
            self.next_batch += 1;
            let close_id = BatchId(self.next_batch);
            let Some(lane) = self.lanes.get_mut(id.0) else { continue };
            let (topic, partition) = (Arc::clone(&lane.topic), lane.partition);
            for (batch, in_doubt) in lane.expire(created_ms, close_id) {
                let error = error(in_doubt, lane.trouble.as_ref());
                let outcome = Outcome::failed(Arc::clone(&topic), partition, error);
                self.ledger.settle(batch, outcome);
            }
            self.after(id);
        }
    }

    /// When something is to be done even if nothing happens: a batch has lingered, a pause is over, a record is too old.
    /// What is due by now and still here waits for something else.
    pub(crate) fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let terms = self.terms(now_ms);
        let due = self.active_lanes().filter(|lane| lane.leader.is_some()).filter_map(|lane| lane.due_ms(terms));
        let oldest = self.active_lanes().filter_map(Lane::oldest_ms);
        let waiting = self.topics.first_waiting().map(|waiting| waiting.created_ms);
        let expiry = oldest.chain(waiting).map(|ms| ms.saturating_add(self.limits.delivery_timeout_ms));
        due.chain(expiry).filter(|at_ms| *at_ms > now_ms).min()
    }

    /// What was settled since the last call; to be told outside any lock.
    pub(crate) fn take_settled(&mut self) -> Vec<Settled> {
        self.ledger.take_settled()
    }

    /// As many batches were told what became of them.
    pub(crate) fn told(&mut self, batches: usize) {
        self.ledger.told(batches);
    }

    /// Asks for everything taken over so far to leave without lingering; returns the mark for [`is_flushed`](Self::is_flushed).
    pub(crate) fn flush(&mut self) -> u64 {
        self.ledger.flush()
    }

    /// Whether every record below the mark is settled, and its sender told.
    pub(crate) fn is_flushed(&self, mark: u64) -> bool {
        self.ledger.is_told() && self.is_settled(mark)
    }

    fn is_settled(&self, mark: u64) -> bool {
        let lanes = self.active_lanes().filter_map(Lane::oldest_serial);
        let waiting = self.topics.first_waiting().map(|waiting| waiting.serial);
        lanes.chain(waiting).all(|serial| serial >= mark)
    }

    /// Whether nothing is left to be settled.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_settled(u64::MAX)
    }

    /// Bytes of records not yet settled.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.ledger.buffered_bytes()
    }
}

#[cfg(test)]
mod tests {
    use ottla_wire::message::{
        MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    use ottla_wire::{ProducerEpoch, ProducerId};

    use super::*;
    use crate::Codec;

    fn limits() -> Limits {
        Limits {
            linger_ms: 0,
            batch_bytes: 100,
            request_bytes_max: 1000,
            buffer_bytes: 1 << 20,
            delivery_timeout_ms: 1000,
            topic_wait_ms: 1000,
            retry: Backoff::new(1, 1),
            format: Format { codec: Codec::None, level: None },
            idempotent: true,
        }
    }

    /// Two partitions of `t`, led by the brokers 1 and 2.
    fn learn_two_partitions(outbox: &mut Outbox) {
        let partition = |partition_index, leader_id| MetadataResponsePartition {
            partition_index,
            leader_id,
            ..MetadataResponsePartition::default()
        };
        let topic = MetadataResponseTopic {
            name: Some("t".into()),
            partitions: vec![partition(0, 1), partition(1, 2)],
            ..MetadataResponseTopic::default()
        };
        let broker = |node_id| MetadataResponseBroker { node_id, host: "h".into(), port: 1, ..Default::default() };
        let brokers = vec![broker(1), broker(2)];
        let mut metadata = Metadata::default();
        metadata.merge(&MetadataResponse { brokers, topics: vec![topic], ..MetadataResponse::default() });
        outbox.learn(0, &metadata, &["t".into()]);
    }

    #[test]
    fn a_partition_whose_broker_takes_nothing_gets_few_keyless_records() {
        let mut outbox = Outbox::new(limits(), Arc::default());
        let record = ProducerRecord::new("t").value(b"twenty bytes of value");
        outbox.append(0, 0, &record, ReportTo::Nothing).unwrap();
        learn_two_partitions(&mut outbox);
        outbox.identify(Identity { id: ProducerId(1), epoch: ProducerEpoch(0) });
        let mut stored = 0;
        for _ in 0..2_000 {
            outbox.append(0, 0, &record, ReportTo::Nothing).unwrap();
            for parcel in outbox.pack_request(0, 1) {
                let verdict = Verdict::stored(Landing::Untold);
                stored += 1;
                outbox.judge(0, parcel.lane, parcel.dispatch.batch, verdict);
            }
        }
        let in_line: Vec<_> = outbox.lanes.iter().map(Lane::in_line).collect();
        assert!(in_line[0] <= 1 && (3..150).contains(&in_line[1]), "{in_line:?} in line, {stored} stored");
    }

    /// `send` on one thread races `close` on another: the record is refused or settled, never neither.
    #[test]
    fn a_record_that_comes_after_the_end_is_refused() {
        let mut outbox = Outbox::new(limits(), Arc::default());
        outbox.append(0, 0, &ProducerRecord::new("t"), ReportTo::Ticket(1)).unwrap();
        outbox.fail_all(&|in_doubt| ProduceError::Closed { in_doubt });
        assert_eq!(outbox.take_settled().len(), 1);
        let late = outbox.append(0, 0, &ProducerRecord::new("t"), ReportTo::Ticket(2));
        assert!(matches!(late, Err(SendError::Closed)));
        assert!(outbox.is_empty());
    }
}
