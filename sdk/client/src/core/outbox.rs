//! Everything a producer has taken over and not yet settled: the lanes of all partitions, the records that wait for
//! their topic to become known, and the memory that all of it takes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::ErrorCode;

use super::backoff::{Backoff, scramble};
use super::batch::{BatchId, Claim, Format, OpenBatch, Parties, Settled, record_bytes};
use super::lane::{Dispatch, Lane, Refusal, Terms};
use super::metadata::Metadata;
use super::murmur2::partition_of_key;
use super::sequence::Identity;
use super::waiting::WaitingRecord;
use crate::error::{ProduceError, SendError};
use crate::producer::{Delivery, Fate, Landing, Outcome, ProducerRecord};

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

/// Names a lane of this outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneId(usize);

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    limits: Limits,
    topics: Vec<TopicBox>,
    topic_index: HashMap<Arc<str>, usize>,
    lanes: Vec<Lane>,
    /// Lanes with something in them; the ones to be looked at.
    active: Vec<LaneId>,
    is_active: Vec<bool>,
    /// None until the broker handed one out; stays none without idempotence.
    identity: Option<Identity>,
    buffered_bytes: usize,
    /// Somebody found the buffer full.
    pressed: bool,
    /// Serial of the next record.
    next_serial: u64,
    /// Records below this serial are wanted out now.
    flush_below: u64,
    next_batch: u64,
    turn: u64,
    settled: Vec<Settled>,
    /// Batches taken out to be told and not yet [`told`](Self::told): they count as unsettled for whoever flushes.
    untold: usize,
}

#[derive(Debug)]
struct TopicBox {
    name: Arc<str>,
    /// Lane of every partition; empty while the topic is unknown.
    lanes: Vec<LaneId>,
    waiting: VecDeque<WaitingRecord>,
    /// Since when somebody waits for this topic.
    wanted_since_ms: u64,
    /// Where keyless records go at the moment.
    sticky: usize,
}

/// What became of a record handed over.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// For [`Claim::Delivery`].
    pub(crate) delivery: Option<Delivery>,
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

/// The broker's word on one batch.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<Arc<str>>,
    pub(crate) landing: Landing,
    pub(crate) append_time_ms: Option<i64>,
    pub(crate) record_errors: Vec<(u32, Arc<str>)>,
}

impl Outbox {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            topics: Vec::new(),
            topic_index: HashMap::new(),
            lanes: Vec::new(),
            active: Vec::new(),
            is_active: Vec::new(),
            identity: None,
            buffered_bytes: 0,
            pressed: false,
            next_serial: 0,
            flush_below: 0,
            next_batch: 0,
            turn: 0,
            settled: Vec::new(),
            untold: 0,
        }
    }

    // ---- records come in ----

    /// Takes over a record, or says why not.
    pub(crate) fn append(
        &mut self,
        now_ms: u64,
        wall_ms: i64,
        record: &ProducerRecord<'_>,
        claim: Claim,
    ) -> Result<Accepted, SendError> {
        let bytes = record_bytes(record);
        if bytes > self.limits.request_bytes_max {
            return Err(SendError::RecordTooLarge { bytes, max: self.limits.request_bytes_max });
        }
        if self.buffered_bytes > 0 && self.buffered_bytes + bytes > self.limits.buffer_bytes {
            self.pressed = true;
            return Err(SendError::BufferFull { buffer_bytes: self.limits.buffer_bytes });
        }
        let topic = self.topic(now_ms, record.topic)?;
        let timestamp_ms = record.timestamp_ms.unwrap_or(wall_ms);
        if self.topics.get(topic).is_none_or(|topic| topic.lanes.is_empty()) {
            return Ok(self.wait_for_topic(topic, now_ms, record, timestamp_ms, bytes, claim));
        }
        let lane = self.choose(topic, record)?;
        let serial = self.next_serial;
        self.next_serial += 1;
        self.buffered_bytes += bytes;
        self.push(lane, now_ms, serial, timestamp_ms, record, bytes, claim).map_err(|_| {
            self.buffered_bytes -= bytes;
            SendError::RecordTooLarge { bytes, max: self.limits.request_bytes_max }
        })
    }

    /// The place of a topic, made when it is first named.
    fn topic(&mut self, now_ms: u64, name: &str) -> Result<usize, SendError> {
        if let Some(at) = self.topic_index.get(name) {
            return Ok(*at);
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 249 || matches!(name, "." | "..") || !name.chars().all(legal) {
            return Err(SendError::InvalidTopic(name.to_owned()));
        }
        let name: Arc<str> = name.into();
        let topic = TopicBox {
            name: Arc::clone(&name),
            lanes: Vec::new(),
            waiting: VecDeque::new(),
            wanted_since_ms: now_ms,
            sticky: 0,
        };
        self.topics.push(topic);
        self.topic_index.insert(name, self.topics.len() - 1);
        Ok(self.topics.len() - 1)
    }

    fn wait_for_topic(
        &mut self,
        topic: usize,
        now_ms: u64,
        record: &ProducerRecord<'_>,
        timestamp_ms: i64,
        bytes: usize,
        claim: Claim,
    ) -> Accepted {
        let mut delivery = None;
        let claim = match claim {
            Claim::Delivery => {
                let fate = Arc::new(Fate::default());
                delivery = Some(Delivery::new(Arc::clone(&fate), 0, timestamp_ms));
                Claim::Guest(fate)
            }
            other => other,
        };
        let serial = self.next_serial;
        self.next_serial += 1;
        self.buffered_bytes += bytes;
        if let Some(topic) = self.topics.get_mut(topic) {
            if topic.waiting.is_empty() {
                topic.wanted_since_ms = now_ms;
            }
            topic.waiting.push_back(WaitingRecord::new(record, timestamp_ms, bytes, serial, now_ms, claim));
        }
        Accepted { delivery, wake: true }
    }

    /// The lane for a record of a known topic.
    fn choose(&mut self, topic: usize, record: &ProducerRecord<'_>) -> Result<LaneId, SendError> {
        let Some(topic) = self.topics.get_mut(topic) else { return Err(SendError::Closed) };
        let count = topic.lanes.len();
        let at = match (record.partition, record.key) {
            (Some(partition), _) => usize::try_from(partition).unwrap_or(usize::MAX),
            (None, Some(key)) => partition_of_key(key, count as i32) as usize,
            (None, None) => {
                let lanes = &mut self.lanes;
                let continues = topic.lanes.get(topic.sticky).and_then(|lane| lanes.get_mut(lane.0));
                // A batch is full or gone: the next one goes elsewhere, preferably where somebody takes it.
                if continues.is_none_or(|lane| lane.open().is_none()) {
                    self.turn = self.turn.wrapping_add(1);
                    let start = scramble(self.turn) as usize % count;
                    let led = |at: &usize| {
                        topic
                            .lanes
                            .get(*at)
                            .and_then(|lane| lanes.get(lane.0))
                            .is_some_and(|lane| lane.leader.is_some())
                    };
                    topic.sticky = (start..count).chain(0..start).find(led).unwrap_or(start);
                }
                topic.sticky
            }
        };
        topic.lanes.get(at).copied().ok_or_else(|| SendError::NoSuchPartition {
            topic: Arc::clone(&topic.name),
            partition: record.partition.unwrap_or(-1),
            count: count as i32,
        })
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
        claim: Claim,
    ) -> Result<Accepted, Claim> {
        let mut wake = self.limits.linger_ms == 0 || self.flush_below > serial;
        let Some(lane) = self.lanes.get_mut(id.0) else { return Err(claim) };
        if lane.open().as_ref().is_some_and(|open| open.bytes() + bytes > self.limits.batch_bytes) {
            self.next_batch += 1;
            if let Some(open) = lane.open().take() {
                lane.enqueue(open.close(BatchId(self.next_batch)));
            }
        }
        wake |= lane.open().is_none();
        let format = self.limits.format;
        let open = lane.open().get_or_insert_with(|| OpenBatch::new(now_ms, serial, format));
        let (index, fate) = open.push(record, timestamp_ms, bytes, claim)?;
        if open.bytes() >= self.limits.batch_bytes {
            wake = true;
            self.next_batch += 1;
            if let Some(open) = lane.open().take() {
                lane.enqueue(open.close(BatchId(self.next_batch)));
            }
        }
        self.activate(id);
        Ok(Accepted { delivery: fate.map(|fate| Delivery::new(fate, index, timestamp_ms)), wake })
    }

    fn activate(&mut self, id: LaneId) {
        if let Some(flag) = self.is_active.get_mut(id.0).filter(|flag| !**flag) {
            *flag = true;
            self.active.push(id);
        }
    }

    // ---- what is known of the cluster ----

    /// Topics whose partitions have to be asked for: unknown, or with a lane that has work and no leader.
    pub(crate) fn wanted_topics(&self) -> Vec<Arc<str>> {
        let unknown = self.topics.iter().filter(|topic| !topic.waiting.is_empty()).map(|topic| &topic.name);
        let homeless = self.active.iter().filter_map(|id| self.lanes.get(id.0)).filter(|lane| lane.leader.is_none());
        let mut wanted: Vec<_> = unknown.chain(homeless.map(|lane| &lane.topic)).cloned().collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// All topics that records were ever sent to, for the periodic look.
    pub(crate) fn known_topics(&self) -> Vec<Arc<str>> {
        self.topics.iter().map(|topic| Arc::clone(&topic.name)).collect()
    }

    /// Takes in news of the cluster: leaders move, topics become known, waiting records move into batches.
    pub(crate) fn learn(&mut self, now_ms: u64, metadata: &Metadata) {
        for at in 0..self.topics.len() {
            let Some(topic) = self.topics.get_mut(at) else { continue };
            let Some(known) = metadata.topics.get(&topic.name) else { continue };
            for index in topic.lanes.len()..known.partitions.len() {
                let id = LaneId(self.lanes.len());
                self.lanes.push(Lane::new(Arc::clone(&topic.name), index as i32, self.limits.idempotent));
                self.is_active.push(false);
                topic.lanes.push(id);
            }
            for (index, id) in topic.lanes.iter().enumerate() {
                if let Some(lane) = self.lanes.get_mut(id.0) {
                    lane.leader = known.partitions.get(index).and_then(|partition| partition.leader);
                }
            }
            if topic.lanes.is_empty() {
                self.give_up_on_topic(now_ms, at, known.error);
            } else {
                self.move_in(now_ms, at);
            }
        }
    }

    /// Records that waited for their topic go into batches, in the order in which they came.
    fn move_in(&mut self, now_ms: u64, at: usize) {
        let Some(topic) = self.topics.get_mut(at) else { return };
        for waiting in std::mem::take(&mut topic.waiting) {
            let timestamp_ms = waiting.timestamp_ms;
            let placed = waiting.with_record(|record| self.choose(at, record));
            match placed {
                Ok(lane) => {
                    let (bytes, serial, created_ms) = (waiting.bytes, waiting.serial, waiting.created_ms);
                    let (owned, claim) = waiting.into_parts();
                    // Its time runs from the moment it was handed over.
                    let pushed = owned.with(timestamp_ms, |record| {
                        self.push(lane, created_ms.min(now_ms), serial, timestamp_ms, record, bytes, claim)
                    });
                    if let Err(claim) = pushed {
                        let (code, message) = (ErrorCode::MessageTooLarge, None);
                        let error = ProduceError::Refused { topic: self.name_of(at), partition: -1, code, message };
                        let outcome = Outcome::failed(self.name_of(at), -1, error);
                        self.settle(bytes, Parties::of_one(claim, timestamp_ms), outcome);
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
                code => ProduceError::Refused { topic: Arc::clone(&name), partition: -1, code, message: None },
            };
            self.fail_waiting(at, waiting, error);
        }
    }

    fn name_of(&self, at: usize) -> Arc<str> {
        self.topics.get(at).map_or_else(|| Arc::from(""), |topic| Arc::clone(&topic.name))
    }

    fn fail_waiting(&mut self, at: usize, waiting: WaitingRecord, error: ProduceError) {
        let outcome = Outcome::failed(self.name_of(at), -1, error);
        let (bytes, timestamp_ms) = (waiting.bytes, waiting.timestamp_ms);
        self.settle(bytes, Parties::of_one(waiting.into_parts().1, timestamp_ms), outcome);
    }

    /// Whether a producer id has to be asked for.
    pub(crate) fn wants_identity(&self) -> bool {
        self.limits.idempotent && self.identity.is_none() && !self.active.is_empty()
    }

    /// The broker handed out a producer id.
    pub(crate) fn identify(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    // ---- batches go out ----

    fn terms(&self, now_ms: u64) -> Terms {
        let hurry = self.pressed || self.flush_below > 0;
        Terms { now_ms, linger_ms: self.limits.linger_ms, hurry }
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
            let Some(Lane { leader: Some(leader), .. }) = self.lanes.get(lane.0) else { continue };
            if *leader != node {
                continue;
            }
            let Some(state) = self.lanes.get_mut(lane.0).filter(|lane| lane.is_due(terms)) else { continue };
            let batch_bytes = state.dispatch_bytes();
            if !parcels.is_empty() && bytes + batch_bytes > self.limits.request_bytes_max {
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
        let (topic, partition) = (Arc::clone(&lane.topic), lane.partition);
        let Verdict { code, message, landing, append_time_ms, record_errors } = verdict;
        if matches!(code, ErrorCode::None | ErrorCode::DuplicateSequenceNumber) {
            let landing = if code == ErrorCode::None { landing } else { Landing::Untold };
            if let Some(batch) = lane.stored(batch) {
                let outcome = Outcome { topic, partition, append_time_ms, result: Ok(landing), record_errors };
                self.settle(batch.charged_bytes, batch.parties, Arc::new(outcome));
            }
            self.after(id);
            return false;
        }
        let refusal = refusal_of(code);
        let stale = matches!(
            code,
            ErrorCode::NotLeaderOrFollower
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::UnknownTopicId
                | ErrorCode::KafkaStorageError
        );
        let retry_at_ms = now_ms + self.limits.retry.pause_ms(lane.failures() + 1, self.turn);
        if stale {
            lane.leader = None;
        }
        if let Some(batch) = lane.refused(batch, refusal, retry_at_ms) {
            let result = Err(ProduceError::Refused { topic: Arc::clone(&topic), partition, code, message });
            let outcome = Outcome { topic, partition, append_time_ms, result, record_errors };
            self.settle(batch.charged_bytes, batch.parties, Arc::new(outcome));
        }
        if refusal == Refusal::Fenced && self.lanes.get(id.0).and_then(Lane::broken_identity) == self.identity {
            // Another epoch of the same id would be refused as well.
            self.identity = None;
        }
        self.after(id);
        stale
    }

    /// Requests to a broker were lost with their connection, or (`left` is false) never left.
    pub(crate) fn lose(&mut self, now_ms: u64, id: LaneId, batch: BatchId, left: bool) {
        let Some(lane) = self.lanes.get_mut(id.0) else { return };
        let retry_at_ms = now_ms + self.limits.retry.pause_ms(lane.failures() + 1, self.turn);
        if left {
            lane.lost(batch, retry_at_ms);
        } else {
            lane.undispatched(batch, retry_at_ms);
        }
        self.after(id);
    }

    /// A batch that nobody acknowledges (acks=0) was written.
    pub(crate) fn written(&mut self, id: LaneId, batch: BatchId) {
        let Some(lane) = self.lanes.get_mut(id.0) else { return };
        let (topic, partition) = (Arc::clone(&lane.topic), lane.partition);
        if let Some(batch) = lane.stored(batch) {
            let result = Ok(Landing::Untold);
            let outcome = Outcome { topic, partition, append_time_ms: None, result, record_errors: Vec::new() };
            self.settle(batch.charged_bytes, batch.parties, Arc::new(outcome));
        }
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

    /// Mends every line that waited for a new producer id.
    pub(crate) fn mend(&mut self) {
        for at in 0..self.active.len() {
            if let Some(id) = self.active.get(at).copied() {
                self.after(id);
            }
        }
    }

    // ---- time passes ----

    /// Gives up what has waited for longer than `delivery_timeout_ms`, and forgets idle lanes.
    pub(crate) fn expire(&mut self, now_ms: u64, why: Option<&Arc<str>>) {
        let timeout_ms = self.limits.delivery_timeout_ms;
        if let Some(created_ms) = now_ms.checked_sub(timeout_ms) {
            let last = why.cloned();
            let error = |in_doubt| ProduceError::TimedOut { timeout_ms, in_doubt, last: last.clone() };
            self.give_up(created_ms, &error);
        }
        let (lanes, is_active) = (&self.lanes, &mut self.is_active);
        self.active.retain(|id| {
            let busy = lanes.get(id.0).is_some_and(|lane| !lane.is_idle());
            if !busy && let Some(flag) = is_active.get_mut(id.0) {
                *flag = false;
            }
            busy
        });
        self.flush_below = if self.is_settled(self.flush_below) { 0 } else { self.flush_below };
    }

    /// Gives up everything.
    pub(crate) fn fail_all(&mut self, error: &dyn Fn(bool) -> ProduceError) {
        self.give_up(u64::MAX, error);
    }

    fn give_up(&mut self, created_ms: u64, error: &dyn Fn(bool) -> ProduceError) {
        for at in 0..self.topics.len() {
            let Some(topic) = self.topics.get_mut(at) else { continue };
            let late = topic.waiting.iter().take_while(|waiting| waiting.created_ms <= created_ms).count();
            for waiting in topic.waiting.drain(..late).collect::<Vec<_>>() {
                self.fail_waiting(at, waiting, error(false));
            }
        }
        for id in self.active.clone() {
            self.next_batch += 1;
            let close_id = BatchId(self.next_batch);
            let Some(lane) = self.lanes.get_mut(id.0) else { continue };
            let (topic, partition) = (Arc::clone(&lane.topic), lane.partition);
            for (batch, in_doubt) in lane.expire(created_ms, close_id) {
                let outcome = Outcome::failed(Arc::clone(&topic), partition, error(in_doubt));
                self.settle(batch.charged_bytes, batch.parties, outcome);
            }
            self.after(id);
        }
    }

    fn settle(&mut self, bytes: usize, parties: Parties, outcome: Arc<Outcome>) {
        self.buffered_bytes = self.buffered_bytes.saturating_sub(bytes);
        if self.buffered_bytes <= self.limits.buffer_bytes / 2 {
            self.pressed = false;
        }
        self.settled.push(Settled { outcome, parties });
    }

    /// What was settled since the last call; to be told outside any lock.
    pub(crate) fn take_settled(&mut self) -> Vec<Settled> {
        self.untold += self.settled.len();
        std::mem::take(&mut self.settled)
    }

    /// As many batches were told what became of them.
    pub(crate) fn told(&mut self, batches: usize) {
        self.untold = self.untold.saturating_sub(batches);
    }

    /// When something is to be done even if nothing happens: a batch has lingered, a pause is over, a record is too old.
    pub(crate) fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let terms = self.terms(now_ms);
        let due = self.active_lanes().filter(|lane| lane.leader.is_some()).filter_map(|lane| lane.due_ms(terms));
        let oldest = self.active_lanes().filter_map(Lane::oldest_ms);
        let waiting = self.topics.iter().filter_map(|topic| topic.waiting.front()).map(|waiting| waiting.created_ms);
        let expiry = oldest.chain(waiting).map(|ms| ms.saturating_add(self.limits.delivery_timeout_ms));
        due.chain(expiry).min()
    }

    /// Asks for everything taken over so far to leave without lingering; returns the mark for [`is_flushed`](Self::is_flushed).
    pub(crate) fn flush(&mut self) -> u64 {
        self.flush_below = self.next_serial;
        self.next_serial
    }

    /// Whether every record below the mark is settled, and everyone concerned knows.
    pub(crate) fn is_flushed(&self, mark: u64) -> bool {
        self.untold == 0 && self.is_settled(mark)
    }

    fn is_settled(&self, mark: u64) -> bool {
        let lanes = self.active_lanes().filter_map(Lane::oldest_serial);
        let waiting = self.topics.iter().filter_map(|topic| topic.waiting.front()).map(|waiting| waiting.serial);
        lanes.chain(waiting).all(|serial| serial >= mark)
    }

    /// Whether nothing is left to be settled.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_settled(u64::MAX)
    }

    /// Bytes of records not yet settled.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }
}

/// What an error code means for a batch. Everything not listed is final or, if Kafka calls it so, to be tried again.
fn refusal_of(code: ErrorCode) -> Refusal {
    match code {
        ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId => Refusal::OutOfOrder,
        ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced | ErrorCode::InvalidProducerIdMapping => {
            Refusal::Fenced
        }
        // The leader appended and then could not say what became of it.
        ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend | ErrorCode::KafkaStorageError => {
            Refusal::Retry { in_doubt: true }
        }
        code if code.is_retriable() => Refusal::Retry { in_doubt: false },
        _ => Refusal::Final,
    }
}
