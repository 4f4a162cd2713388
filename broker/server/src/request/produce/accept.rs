//! A request as it comes in: read, and its batches checked where they lie in the frame.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use ottla_wire::message::ProduceRequest;
use ottla_wire::record::BatchHeader;
use tokio::time::Instant;

use super::{Acks, CloseReason, Frame, Peer, Produced, ProducedPartition, ProducedTopic, Reply, RequestHead};
use crate::broker::Broker;
use crate::clock;
use crate::config::TopicSettings;
use crate::partition::Refusal;
use crate::partition::check::{Rules, check_batch, unpacks};
use crate::partition::door::{Submission, submit_all};
use crate::request::{Use, WORK_PATIENCE, decoded};
use crate::topics::Topic;

/// The first version that names topics by id (KIP-516).
const TOPIC_IDS_VERSION_MIN: i16 = 13;

/// A request that was read, its batches untouched.
pub(super) struct Surveyed {
    produced: Produced,
    /// What concerns all of its batches.
    refusal: Option<Refusal>,
    frame: Frame,
    arrived_ms: i64,
}

impl Surveyed {
    /// Whether a batch has to be unpacked to be checked.
    pub(super) fn unpacks(&self, broker: &Broker, head: RequestHead) -> bool {
        let unpacks = |ProducedTopic { topic, partitions, .. }: &ProducedTopic| {
            let Some(topic) = topic else { return false };
            let rules = self.rules(broker, head, &topic.settings());
            let mut batches = partitions.iter().filter_map(|produced| self.frame.get(produced.records.clone()?));
            batches.any(|batch| unpacks(batch, &rules))
        };
        self.refusal.is_none() && self.produced.topics.iter().any(unpacks)
    }

    fn rules(&self, broker: &Broker, head: RequestHead, settings: &TopicSettings) -> Rules {
        Rules::new(head.version, settings, broker.config.stage_unpacked_bytes_max, self.arrived_ms)
    }

    /// Checks the batches: those that pass are added to `batches`.
    pub(super) fn check(mut self, broker: &Broker, head: RequestHead, batches: &mut Vec<Submission>) -> Produced {
        let mut topics = std::mem::take(&mut self.produced.topics);
        let mut taken = 0;
        for ProducedTopic { topic, partitions, .. } in &mut topics {
            let settings = topic.as_ref().map(|topic| topic.settings());
            for produced in partitions {
                // The pieces come in the order of the frame: each is cut off its front.
                let batch = produced.records.take().map(|range| {
                    self.frame.advance(range.start - taken);
                    taken = range.end;
                    self.frame.split_to(range.len())
                });
                let checked = match (&self.refusal, topic.as_ref(), &settings) {
                    (Some(refusal), ..) => Err(refusal.clone()),
                    (None, Some(topic), Some(settings)) => {
                        let rules = self.rules(broker, head, settings);
                        produced.append_time_ms = rules.append_time_ms.unwrap_or(-1);
                        check(topic, settings, &rules, produced, batch)
                    }
                    _ if head.version >= TOPIC_IDS_VERSION_MIN => Err(Refusal::UnknownTopicId),
                    _ => Err(Refusal::UnknownPartition),
                };
                match checked {
                    Ok(submission) => {
                        produced.is_submitted = true;
                        batches.push(submission);
                    }
                    Err(refusal) => produced.outcome = Err(refusal),
                }
            }
        }
        Produced { topics, ..self.produced }
    }

    /// Checks the batches on a thread for that and sends them on their way. No further request of the connection is
    /// handled before that, so that the order of batches holds; their answers may still be waited for then.
    pub(super) fn reply(self, broker: &Arc<Broker>, peer: &Arc<Peer>, head: RequestHead) -> Reply {
        let (broker, peer) = (Arc::clone(broker), Arc::clone(peer));
        Reply::Exclusive(Box::pin(async move {
            let checking = Arc::clone(&broker);
            let check = move || {
                let bytes = checking.config.stage_unpacked_bytes_max;
                let charge = checking.memory.take_patiently(Use::Work, bytes, WORK_PATIENCE);
                let refusal = charge.is_none().then_some(Refusal::OutOfMemory);
                let mut batches = Vec::new();
                let surveyed = Self { refusal: self.refusal.or(refusal), ..self };
                (surveyed.check(&checking, head, &mut batches), batches)
            };
            match broker.pools.unpacking.run(check).await {
                Ok((mut produced, batches)) => {
                    let outcomes = submit_all(batches, &broker.memory, |lane| broker.router.work_on(lane));
                    produced.take_outcomes(&mut outcomes.into_iter());
                    produced.reply(&broker, &peer, head)
                }
                Err(error) => CloseReason::Internal(error.to_string()).into(),
            }
        }))
    }
}

/// Reads a request without touching its batches.
pub(super) fn survey(broker: &Broker, head: RequestHead, frame: Frame) -> Result<Surveyed, CloseReason> {
    let request: ProduceRequest<'_> = decoded(head, &frame)?;
    let (acks, refusal) = match request.acks {
        0 => (Acks::Never, None),
        1 => (Acks::Appended, None),
        -1 => (Acks::Durable, None),
        other => (Acks::Appended, Some(Refusal::UnknownAcks(other))),
    };
    let refusal = refusal.or(request.transactional_id.is_some().then_some(Refusal::Transactional));
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let start = frame.as_ptr() as usize;
    let by_id = head.version >= TOPIC_IDS_VERSION_MIN;
    let topics: Vec<ProducedTopic> = request
        .topic_data
        .into_iter()
        .map(|topic| ProducedTopic {
            topic: if by_id { broker.topics.get_by_id(&topic.topic_id) } else { broker.topics.get(&topic.name) },
            name: topic.name.into_owned(),
            id: topic.topic_id,
            partitions: topic
                .partition_data
                .into_iter()
                .map(|partition| ProducedPartition {
                    index: partition.index,
                    records: partition.records.map(|records| {
                        let from = records.as_ptr() as usize - start;
                        from..from + records.len()
                    }),
                    record_count: 0,
                    append_time_ms: -1,
                    is_submitted: false,
                    outcome: Err(Refusal::NoBatch),
                })
                .collect(),
        })
        .collect();
    let produced = Produced { acks, deadline: Instant::now() + timeout, topics };
    Ok(Surveyed { produced, refusal, frame, arrived_ms: clock::now_ms() })
}

/// Checks one batch.
fn check(
    topic: &Topic,
    settings: &TopicSettings,
    rules: &Rules,
    produced: &mut ProducedPartition,
    batch: Option<BytesMut>,
) -> Result<Submission, Refusal> {
    let partition = topic.partition(produced.index).ok_or(Refusal::UnknownPartition)?;
    if topic.internal {
        return Err(Refusal::InternalTopic);
    }
    let mut batch = batch.ok_or(Refusal::NoBatch)?;
    let header: BatchHeader = check_batch(&mut batch, rules)?;
    produced.record_count = header.record_count;
    Ok(Submission {
        partition: Arc::clone(partition),
        staged: topic.is_staged(settings),
        segment_bytes: settings.segment_bytes_in_force(),
        batch,
        header,
    })
}
