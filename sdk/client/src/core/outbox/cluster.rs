//! What is known of the cluster: topics, partitions, leaders, the producer id.

use std::sync::Arc;

use ottla_wire::{ErrorCode, Uuid};

use super::Outbox;
use crate::core::batch::{BatchId, Parties};
use crate::core::lane::{Lane, LaneId, Standing};
use crate::core::metadata::Metadata;
use crate::core::outcome::Outcome;
use crate::core::sequence::Identity;
use crate::core::waiting::WaitingRecord;
use crate::error::{ProduceError, SendError};

impl Outbox {
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
    pub(super) fn clear_out(&mut self, id: LaneId) {
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

    pub(super) fn fail_waiting(&mut self, at: usize, waiting: WaitingRecord, error: ProduceError) {
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
}
