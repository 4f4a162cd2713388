//! Topics and the cluster they live in.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_wire::message::{
    CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use ottla_wire::{ErrorCode, Uuid};

use super::{Admin, check, unanswered};
use crate::config::Isolation;
use crate::consumer::StartFrom;
use crate::core::metadata::{Metadata, Topic};
use crate::error::AdminError;
use crate::net::{OffsetAnswer, OffsetQuestion, Topics, timestamp_of};

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; none leaves it to the broker.
    pub partitions: Option<i32>,
    /// How many replicas; none leaves it to the broker.
    pub replicas: Option<i16>,
    /// Settings that differ from the broker's defaults.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: None, replicas: None, configs: Vec::new() }
    }

    /// Sets the number of partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Sets the number of replicas.
    #[must_use]
    pub fn replicas(mut self, replicas: i16) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// Adds a setting.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }
}

/// A topic that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; zero from brokers before Kafka 2.8.
    pub id: Uuid,
    /// How many partitions it got, if the broker tells.
    pub partitions: Option<i32>,
}

/// A topic in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicListing {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: Uuid,
    /// Whether it belongs to the broker itself.
    pub internal: bool,
    /// How many partitions it has.
    pub partitions: usize,
}

/// A topic in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: Uuid,
    /// Whether it belongs to the broker itself.
    pub internal: bool,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its index.
    pub index: i32,
    /// The broker that leads it, if one does.
    pub leader: Option<i32>,
    /// Counts its leaders.
    pub leader_epoch: i32,
    /// The brokers that hold it.
    pub replicas: Vec<i32>,
    /// Those of them that keep up.
    pub in_sync: Vec<i32>,
    /// The first offset, if the leader told.
    pub start_offset: Option<i64>,
    /// The offset behind the last readable record, if the leader told.
    pub end_offset: Option<i64>,
}

/// The cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id, if it has one.
    pub id: Option<Arc<str>>,
    /// The node id of the controller.
    pub controller: i32,
    /// Its brokers by node id.
    pub brokers: Vec<Broker>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its node id.
    pub node: i32,
    /// Where it listens.
    pub address: String,
}

impl Admin {
    /// Creates a topic.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<CreatedTopic, AdminError> {
        let configs = topic.configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: name.as_str().into(),
            value: Some(value.as_str().into()),
        });
        let creatable = CreatableTopic {
            name: topic.name.as_str().into(),
            num_partitions: topic.partitions.unwrap_or(-1),
            replication_factor: topic.replicas.unwrap_or(-1),
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![creatable], ..CreateTopicsRequest::default() };
        let answer = self.ask_controller(&request).await?;
        let response: CreateTopicsResponse<'_> = answer.decode()?;
        let result = response.topics.iter().find(|result| result.name == topic.name);
        let result = result.ok_or_else(|| unanswered(&answer, &topic.name))?;
        check(&topic.name, result.error_code, result.error_message.as_deref())?;
        Ok(CreatedTopic {
            name: topic.name.as_str().into(),
            id: result.topic_id,
            partitions: Some(result.num_partitions).filter(|partitions| *partitions > 0),
        })
    }

    /// Gives a topic more partitions, so that it has `count`.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<(), AdminError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: topic.into(), count, assignments: None }],
            timeout_ms: i32::try_from(self.cluster.config().request_timeout_ms).unwrap_or(i32::MAX),
            validate_only: false,
        };
        let answer = self.ask_controller(&request).await?;
        let response: CreatePartitionsResponse<'_> = answer.decode()?;
        let result = response.results.iter().find(|result| result.name == topic);
        let result = result.ok_or_else(|| unanswered(&answer, topic))?;
        check(topic, result.error_code, result.error_message.as_deref())
    }

    /// All topics by name.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>, AdminError> {
        let metadata = self.cluster.refresh(Topics::All, false).await?;
        let sorted: BTreeMap<&Arc<str>, &Topic> = metadata.topics.iter().collect();
        let listing = |(name, topic): (&Arc<str>, &Topic)| TopicListing {
            name: Arc::clone(name),
            id: topic.id,
            internal: topic.internal,
            partitions: topic.partitions.len(),
        };
        Ok(sorted.into_iter().map(listing).collect())
    }

    /// A topic with its partitions and their offsets.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, AdminError> {
        let name: Arc<str> = name.into();
        let metadata = self.cluster.refresh(Topics::Named(std::slice::from_ref(&name)), false).await?;
        let topic = find_topic(&metadata, &name)?;
        let starts = self.partition_offsets(&name, topic, StartFrom::Earliest).await?;
        let ends = self.partition_offsets(&name, topic, StartFrom::Latest).await?;
        let describe = |((partition, index), (start, end))| {
            let partition: &crate::core::metadata::Partition = partition;
            PartitionDescription {
                index,
                leader: partition.leader,
                leader_epoch: partition.leader_epoch,
                replicas: partition.replicas.clone(),
                in_sync: partition.in_sync.clone(),
                start_offset: start,
                end_offset: end,
            }
        };
        let partitions = topic.partitions.iter().zip(0..).zip(starts.into_iter().zip(ends)).map(describe).collect();
        Ok(TopicDescription { id: topic.id, internal: topic.internal, partitions, name })
    }

    async fn partition_offsets(
        &self,
        name: &Arc<str>,
        topic: &Topic,
        start: StartFrom,
    ) -> Result<Vec<Option<i64>>, AdminError> {
        let indexes = 0..topic.partitions.len() as i32;
        let question = |partition| {
            let timestamp = timestamp_of(start);
            OffsetQuestion { topic: Arc::clone(name), partition, timestamp }
        };
        let questions = indexes.clone().map(question).collect();
        let answers = self.cluster.list_offsets(questions, Isolation::ReadUncommitted).await;
        let read = |partition| match answers.get(&(Arc::clone(name), partition)) {
            Some(OffsetAnswer::Found(offset)) => *offset,
            Some(OffsetAnswer::Refused(_) | OffsetAnswer::Unanswered(_)) | None => None,
        };
        Ok(indexes.map(read).collect())
    }

    /// Deletes a topic and every record in it.
    pub async fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        // Versions up to 5 name the topic in one field, later ones in another; the other one is left out on the wire.
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(name.into()), ..DeleteTopicState::default() }],
            topic_names: vec![name.into()],
            timeout_ms: i32::try_from(self.cluster.config().request_timeout_ms).unwrap_or(i32::MAX),
        };
        let answer = self.ask_controller(&request).await?;
        let response: DeleteTopicsResponse<'_> = answer.decode()?;
        let result = response.responses.iter().find(|result| result.name.as_deref() == Some(name));
        let result = result.ok_or_else(|| unanswered(&answer, name))?;
        check(name, result.error_code, result.error_message.as_deref())
    }

    /// The cluster and its brokers.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, AdminError> {
        let metadata = self.cluster.refresh(Topics::Named(&[]), false).await?;
        let brokers: BTreeMap<_, _> = metadata.brokers.iter().collect();
        Ok(ClusterDescription {
            id: metadata.cluster_id.clone(),
            controller: metadata.controller,
            brokers: brokers
                .into_iter()
                .map(|(node, address)| Broker { node: *node, address: address.to_string() })
                .collect(),
        })
    }
}

fn find_topic<'m>(metadata: &'m Metadata, name: &Arc<str>) -> Result<&'m Topic, AdminError> {
    let topic = metadata.topics.get(name);
    let code = topic.map_or(ErrorCode::UnknownTopicOrPartition, |topic| topic.error);
    check(name, code, None)?;
    topic.ok_or_else(|| AdminError::Refused { subject: Arc::clone(name), code, message: None })
}
