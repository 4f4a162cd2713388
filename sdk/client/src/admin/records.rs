//! What is in partitions: how much it is, and taking the oldest records out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic, DescribeLogDirsRequest,
    DescribeLogDirsResponse, OFFSET_HIGH_WATERMARK,
};

use super::{Admin, check};
use crate::consumer::TopicPartition;
use crate::error::AdminError;
use crate::net::{MAIN_CHANNEL, Topics};

/// What is deleted of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    /// The records before this offset.
    Offset(i64),
    /// All that consumers can read now.
    End,
}

impl Admin {
    /// Bytes of the log of each topic on all brokers, replicas included.
    pub async fn topic_sizes(&self) -> Result<BTreeMap<Arc<str>, u64>, AdminError> {
        let metadata = self.cluster.refresh(Topics::All, false).await?;
        let mut sizes: BTreeMap<Arc<str>, u64> = metadata.topics.keys().map(|name| (Arc::clone(name), 0)).collect();
        for node in metadata.brokers.keys() {
            let connection = self.cluster.broker(*node, MAIN_CHANNEL).await?;
            let request = DescribeLogDirsRequest { topics: None };
            let answer = connection.ask(&request, i16::MAX, self.cluster.request_timeout()).await?;
            let response: DescribeLogDirsResponse<'_> = answer.decode()?;
            check(&answer.address, response.error_code, None)?;
            // A directory that is offline has no sizes to tell.
            let online = response.results.iter().filter(|directory| directory.error_code == ErrorCode::None);
            for topic in online.flat_map(|directory| &directory.topics) {
                let bytes =
                    topic.partitions.iter().map(|partition| u64::try_from(partition.partition_size).unwrap_or(0));
                *sizes.entry(Arc::from(&*topic.name)).or_default() += bytes.sum::<u64>();
            }
        }
        Ok(sizes)
    }

    /// Deletes the oldest records of partitions, each up to its own bound. The offsets of the first records that are left
    /// come back.
    pub async fn delete_records(
        &self,
        bounds: &BTreeMap<TopicPartition, TrimTo>,
    ) -> Result<BTreeMap<TopicPartition, i64>, AdminError> {
        let topics: Vec<Arc<str>> = bounds.keys().map(|it| Arc::clone(&it.topic)).collect();
        let metadata = self.cluster.refresh(Topics::Named(&topics), false).await?;
        let mut by_leader: HashMap<i32, BTreeMap<&str, Vec<DeleteRecordsPartition>>> = HashMap::new();
        for (TopicPartition { topic, partition }, bound) in bounds {
            let Some(leader) = metadata.leader(topic, *partition) else {
                return Err(AdminError::Refused {
                    subject: format!("{topic}-{partition}").into(),
                    code: ErrorCode::LeaderNotAvailable,
                    message: None,
                });
            };
            let offset = match bound {
                TrimTo::Offset(offset) => *offset,
                TrimTo::End => OFFSET_HIGH_WATERMARK,
            };
            let partitions = by_leader.entry(leader).or_default().entry(topic).or_default();
            partitions.push(DeleteRecordsPartition { partition_index: *partition, offset });
        }
        let mut left = BTreeMap::new();
        for (leader, topics) in by_leader {
            let topics =
                topics.into_iter().map(|(name, partitions)| DeleteRecordsTopic { name: name.into(), partitions });
            let timeout_ms = i32::try_from(self.cluster.config().request_timeout_ms).unwrap_or(i32::MAX);
            let request = DeleteRecordsRequest { topics: topics.collect(), timeout_ms };
            let connection = self.cluster.broker(leader, MAIN_CHANNEL).await?;
            let answer = connection.ask(&request, i16::MAX, self.cluster.request_timeout()).await?;
            let response: DeleteRecordsResponse<'_> = answer.decode()?;
            for topic in &response.topics {
                for partition in &topic.partitions {
                    let index = partition.partition_index;
                    check(&format!("{}-{index}", topic.name), partition.error_code, None)?;
                    let place = TopicPartition { topic: Arc::from(&*topic.name), partition: index };
                    left.insert(place, partition.low_watermark);
                }
            }
        }
        Ok(left)
    }
}
