//! What a client waits for before it is answered: that its batches are in the log, or that they are durable.

use std::sync::Arc;
use std::time::Duration;

use ottla_wire::Offset;
use tokio::time::{Instant, timeout_at};

use super::{Acks, Peer, Produced, ProducedPartition, ProducedTopic, Reply, RequestHead};
use crate::broker::Broker;
use crate::partition::{Landing, Outcome, Partition, PartitionOffline, Place, Refusal};
use crate::topics::{Topic, TopicTable};

/// How long a batch without a waiting client may take to be stored.
const UNACKNOWLEDGED_PATIENCE: Duration = Duration::from_hours(1);

impl Produced {
    pub(super) fn reply(mut self, broker: &Arc<Broker>, peer: &Arc<Peer>, head: RequestHead) -> Reply {
        if self.is_settled(&broker.topics) {
            return self.answer(broker, peer, head);
        }
        let (broker, peer) = (Arc::clone(broker), Arc::clone(peer));
        if self.acks == Acks::Never {
            // The client does not send it again: it goes its way although its timeout passes or its connection ends.
            self.deadline = Instant::now() + UNACKNOWLEDGED_PATIENCE;
            let settled = tokio::spawn(async move {
                self.settle(&broker.topics).await;
                self.answer(&broker, &peer, head)
            });
            return Reply::later(async move { settled.await.unwrap_or(Reply::Silent) });
        }
        Reply::later(async move {
            self.settle(&broker.topics).await;
            self.answer(&broker, &peer, head)
        })
    }

    /// Whether nothing is left to wait for.
    fn is_settled(&self, topics: &TopicTable) -> bool {
        let is_settled = |topic: &ProducedTopic| {
            topic.partitions.iter().all(|produced| is_settled(topics, topic.topic.as_deref(), produced, self.acks))
        };
        self.topics.iter().all(is_settled)
    }

    /// Waits for everything, up to the deadline of the request.
    async fn settle(&mut self, topics: &TopicTable) {
        let (acks, deadline) = (self.acks, self.deadline);
        for ProducedTopic { topic, partitions, .. } in &mut self.topics {
            for produced in partitions {
                if is_settled(topics, topic.as_deref(), produced, acks) {
                    continue;
                }
                let outcome = std::mem::replace(&mut produced.outcome, Err(Refusal::TimedOut));
                let settling = settled(topics, topic.as_deref(), produced.index, outcome, acks);
                if let Ok(landing) = timeout_at(deadline, settling).await {
                    produced.outcome = landing.map(Place::Landed);
                }
            }
        }
    }
}

fn is_settled(topics: &TopicTable, topic: Option<&Topic>, produced: &ProducedPartition, acks: Acks) -> bool {
    match &produced.outcome {
        Ok(Place::Landed(landing)) => acks != Acks::Durable || is_durable(topics, topic, produced.index, landing),
        Ok(Place::Waiting(_)) => false,
        Err(_) => true,
    }
}

fn is_durable(topics: &TopicTable, topic: Option<&Topic>, addressed: i32, landing: &Landing) -> bool {
    match (topic.and_then(|topic| topic.partition(addressed)), landing) {
        (Some(partition), Landing::Here { end_offset, .. }) => partition.watermark.high() >= *end_offset,
        _ => ends(topics, topic, addressed, landing).iter().all(|(partition, end)| partition.watermark.high() >= *end),
    }
}

async fn settled(
    topics: &TopicTable,
    topic: Option<&Topic>,
    addressed: i32,
    outcome: Outcome,
    acks: Acks,
) -> Result<Landing, Refusal> {
    let landing = outcome?.landing().await?;
    if acks == Acks::Durable {
        for (partition, end) in ends(topics, topic, addressed, &landing) {
            let durable = partition.watermark.wait_for(end).await;
            durable.map_err(|PartitionOffline| partition.offline_refusal())?;
        }
    }
    Ok(landing)
}

/// The partitions in which the records of a batch are, each with the offset behind them.
fn ends(
    topics: &TopicTable,
    topic: Option<&Topic>,
    addressed: i32,
    landing: &Landing,
) -> Vec<(Arc<Partition>, Offset)> {
    match landing {
        Landing::Here { end_offset, .. } => {
            let partition = topic.and_then(|topic| topic.partition(addressed));
            partition.map(|partition| (Arc::clone(partition), *end_offset)).into_iter().collect()
        }
        Landing::Moved(moved) => {
            // What went to another topic that is gone went with it.
            let ends = moved.targets.iter().filter_map(|target| {
                let partition = match topic {
                    Some(topic) if topic.id == target.topic_id => topic.partition(target.partition).cloned(),
                    _ => topics.get_by_id(&target.topic_id)?.partition(target.partition).cloned(),
                };
                Some((partition?, target.end_offset()))
            });
            ends.collect()
        }
        // All of it was appended before a producer could ask for it again.
        Landing::Scattered { topics: scattered } => {
            let topics = scattered.iter().filter_map(|id| topics.get_by_id(id));
            let ends = topics.flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(|partition| (Arc::clone(partition), partition.log.end_offset()))
                    .collect::<Vec<_>>()
            });
            ends.collect()
        }
    }
}
