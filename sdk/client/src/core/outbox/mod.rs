//! Everything a producer has taken over and not yet settled. Records come in and find their lane, news of the cluster are
//! learned (`cluster`), batches go out and answers come back (`requests`), time passes (`expiry`).

mod cluster;
mod expiry;
mod requests;

use std::sync::Arc;

use super::backoff::Backoff;
use super::batch::{BatchId, Format, OpenBatch, ReportTo, Settled, record_bytes};
use super::lane::{Dispatch, Lane, LaneId};
use super::ledger::Ledger;
use super::outcome::{Fate, Promise};
use super::record::ProducerRecord;
use super::sequence::Identity;
use super::topics::Topics;
use super::trouble::Trouble;
use super::waiting::WaitingRecord;
use crate::error::SendError;

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
    use crate::core::metadata::Metadata;
    use crate::core::outcome::Landing;
    use crate::core::verdict::Verdict;
    use crate::error::ProduceError;

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
