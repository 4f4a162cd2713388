//! Groups and the offsets that they committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::consumer_protocol::ConsumerProtocolAssignment;
use ottla_wire::message::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedConsumerGroup, DescribedGroup, ListGroupsRequest,
    ListGroupsResponse, OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, Request,
};
use ottla_wire::{ApiKey, ErrorCode, Message};
use tokio::time::{Instant, sleep};

use super::{Admin, check, unanswered};
use crate::config::Isolation;
use crate::consumer::{StartFrom, TopicPartition};
use crate::error::AdminError;
use crate::net::{Answer, Coordinator, MAIN_CHANNEL, OffsetAnswer, OffsetQuestion, Topics, timestamp_of};

/// Between two tries while a coordinator is moving or loading.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(50);
/// The last version of OffsetFetch and of OffsetCommit that names topics.
const NAMED_TOPICS_VERSION_MAX: i16 = 9;

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub id: Arc<str>,
    /// Kafka's name of its state, such as `Stable`; empty where the broker does not say.
    pub state: Arc<str>,
    /// `Classic` or `Consumer`; empty where the broker does not say.
    pub kind: Arc<str>,
    /// The protocol type, `consumer` for consumers.
    pub protocol_type: Arc<str>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub id: Arc<str>,
    /// Kafka's name of its state, such as `Stable`.
    pub state: Arc<str>,
    /// `Classic` or `Consumer`.
    pub kind: &'static str,
    /// The assignor or, of a classic group, the protocol that its members agreed on.
    pub assignor: Arc<str>,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: Arc<str>,
    /// The instance id of a static member.
    pub instance_id: Option<Arc<str>>,
    /// What its client calls itself.
    pub client_id: Arc<str>,
    /// Where it connects from.
    pub host: Arc<str>,
    /// The partitions that it owns; none known where the members do not speak the protocol of consumers.
    pub partitions: Vec<TopicPartition>,
}

impl Admin {
    /// All groups of all brokers, by id.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, AdminError> {
        let metadata = self.cluster.refresh(Topics::Named(&[]), false).await?;
        let (request, mut groups) = (ListGroupsRequest::default(), BTreeMap::new());
        for node in metadata.brokers.keys() {
            let answer = self.patiently(
                || self.ask_node(*node, &request, i16::MAX),
                |answer| Ok(answer.decode::<ListGroupsResponse<'_>>()?.error_code),
            );
            let answer = answer.await?;
            let response: ListGroupsResponse<'_> = answer.decode()?;
            check("groups", response.error_code, None)?;
            for group in &response.groups {
                let listing = GroupListing {
                    id: (&*group.group_id).into(),
                    state: (&*group.group_state).into(),
                    kind: (&*group.group_type).into(),
                    protocol_type: (&*group.protocol_type).into(),
                };
                groups.insert(Arc::clone(&listing.id), listing);
            }
        }
        Ok(groups.into_values().collect())
    }

    /// A group and its members. One that does not exist is refused with `GroupIdNotFound`.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, AdminError> {
        let node = self.coordinator(group).await?;
        let connection = self.cluster.broker(node, MAIN_CHANNEL).await.map_err(AdminError::from)?;
        if connection.version_of(ApiKey::ConsumerGroupDescribe, i16::MAX).is_ok() {
            let request = ConsumerGroupDescribeRequest { group_ids: vec![group.into()], ..Default::default() };
            let answer = self.ask_coordinator(group, &request, i16::MAX, |answer| {
                let response: ConsumerGroupDescribeResponse<'_> = answer.decode()?;
                Ok(response.groups.first().map_or(ErrorCode::None, |group| group.error_code))
            });
            let answer = answer.await?;
            let response: ConsumerGroupDescribeResponse<'_> = answer.decode()?;
            let described = response.groups.first().ok_or_else(|| unanswered(&answer, group))?;
            if described.error_code != ErrorCode::GroupIdNotFound {
                check(group, described.error_code, described.error_message.as_deref())?;
                return Ok(consumer_group(described));
            }
        }
        let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
        let answer = self.ask_coordinator(group, &request, i16::MAX, |answer| {
            let response: DescribeGroupsResponse<'_> = answer.decode()?;
            Ok(response.groups.first().map_or(ErrorCode::None, |group| group.error_code))
        });
        let answer = answer.await?;
        let response: DescribeGroupsResponse<'_> = answer.decode()?;
        let described = response.groups.first().ok_or_else(|| unanswered(&answer, group))?;
        check(group, described.error_code, described.error_message.as_deref())?;
        // Before version 6 one that does not exist is dead.
        let dead = if described.group_state == "Dead" { ErrorCode::GroupIdNotFound } else { ErrorCode::None };
        check(group, dead, None)?;
        Ok(classic_group(described))
    }

    /// The offsets that a group committed.
    pub async fn committed_offsets(&self, group: &str) -> Result<BTreeMap<TopicPartition, i64>, AdminError> {
        let request = OffsetFetchRequest {
            group_id: group.into(),
            groups: vec![OffsetFetchRequestGroup { group_id: group.into(), member_epoch: -1, ..Default::default() }],
            ..Default::default()
        };
        let answer = self.ask_coordinator(group, &request, NAMED_TOPICS_VERSION_MAX, |answer| {
            let response: OffsetFetchResponse<'_> = answer.decode()?;
            Ok(response.groups.first().map_or(response.error_code, |group| group.error_code))
        });
        let answer = answer.await?;
        let response: OffsetFetchResponse<'_> = answer.decode()?;
        let mut committed = BTreeMap::new();
        let mut take = |topic: &str, partition, offset, code| {
            check(topic, code, None)?;
            if offset >= 0 {
                committed.insert(TopicPartition { topic: topic.into(), partition }, offset);
            }
            Ok::<_, AdminError>(())
        };
        check(group, response.error_code, None)?;
        for topic in &response.topics {
            for it in &topic.partitions {
                take(&topic.name, it.partition_index, it.committed_offset, it.error_code)?;
            }
        }
        for of_group in &response.groups {
            check(group, of_group.error_code, None)?;
            for topic in &of_group.topics {
                for it in &topic.partitions {
                    take(&topic.name, it.partition_index, it.committed_offset, it.error_code)?;
                }
            }
        }
        Ok(committed)
    }

    /// Commits offsets in the name of a group that has no members.
    pub async fn commit_offsets(&self, group: &str, offsets: &BTreeMap<TopicPartition, i64>) -> Result<(), AdminError> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition<'_>>> = BTreeMap::new();
        for (TopicPartition { topic, partition }, offset) in offsets {
            topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_metadata: Some("".into()),
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name: name.into(),
            partitions,
            ..Default::default()
        });
        let request = OffsetCommitRequest { group_id: group.into(), topics: topics.collect(), ..Default::default() };
        let answer = self.ask_coordinator(group, &request, NAMED_TOPICS_VERSION_MAX, |answer| {
            let response: OffsetCommitResponse<'_> = answer.decode()?;
            let mut codes = response.topics.iter().flat_map(|topic| &topic.partitions).map(|it| it.error_code);
            Ok(codes.find(|code| !code.is_none()).unwrap_or_default())
        });
        let answer = answer.await?;
        let response: OffsetCommitResponse<'_> = answer.decode()?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                check(&format!("{}-{}", topic.name, partition.partition_index), partition.error_code, None)?;
            }
        }
        Ok(())
    }

    /// Deletes a group that has no members, with all its offsets.
    pub async fn delete_group(&self, group: &str) -> Result<(), AdminError> {
        let request = DeleteGroupsRequest { groups_names: vec![group.into()] };
        let answer = self.ask_coordinator(group, &request, i16::MAX, |answer| {
            let response: DeleteGroupsResponse<'_> = answer.decode()?;
            Ok(response.results.first().map_or(ErrorCode::None, |result| result.error_code))
        });
        let answer = answer.await?;
        let response: DeleteGroupsResponse<'_> = answer.decode()?;
        let result = response.results.first().ok_or_else(|| unanswered(&answer, group))?;
        check(group, result.error_code, None)
    }

    /// Where these partitions begin, end, or were at a time; no offset where none is that young.
    pub async fn find_offsets(
        &self,
        partitions: &BTreeSet<TopicPartition>,
        start: StartFrom,
    ) -> Result<BTreeMap<TopicPartition, Option<i64>>, AdminError> {
        let topics: BTreeSet<Arc<str>> = partitions.iter().map(|it| Arc::clone(&it.topic)).collect();
        let topics: Vec<Arc<str>> = topics.into_iter().collect();
        self.cluster.refresh(Topics::Named(&topics), false).await?;
        let question = |it: &TopicPartition| OffsetQuestion {
            topic: Arc::clone(&it.topic),
            partition: it.partition,
            timestamp: timestamp_of(start),
        };
        let questions = partitions.iter().map(question).collect();
        let answers = self.cluster.list_offsets(questions, Isolation::ReadUncommitted).await;
        let mut found = BTreeMap::new();
        for ((topic, partition), answer) in answers {
            let offset = match answer {
                OffsetAnswer::Found(offset) => offset,
                OffsetAnswer::Unanswered(error) => return Err(error.into()),
                OffsetAnswer::Refused(code) => {
                    check(&format!("{topic}-{partition}"), code, None)?;
                    None
                }
            };
            found.insert(TopicPartition { topic, partition }, offset);
        }
        Ok(found)
    }

    /// The node of the coordinator of a group.
    async fn coordinator(&self, group: &str) -> Result<i32, AdminError> {
        let deadline = Instant::now() + self.cluster.request_timeout();
        loop {
            match self.cluster.find_coordinator(group).await? {
                Coordinator::Node(node) => return Ok(node),
                Coordinator::Refused(code, _) if moves(code) && Instant::now() < deadline => {
                    sleep(COORDINATOR_PAUSE).await;
                }
                Coordinator::Refused(code, message) => check(group, code, message.as_deref())?,
            }
        }
    }

    /// Asks the coordinator of a group; again while it is moving or loading, which `code_of` an answer says.
    async fn ask_coordinator<'a, M: Message<'a> + Request<'a>>(
        &self,
        group: &str,
        message: &M,
        version_max: i16,
        code_of: impl Fn(&Answer) -> Result<ErrorCode, AdminError>,
    ) -> Result<Answer, AdminError> {
        let ask = || async {
            let node = self.coordinator(group).await?;
            self.ask_node(node, message, version_max).await
        };
        self.patiently(ask, code_of).await
    }

    async fn ask_node<'a, M: Message<'a> + Request<'a>>(
        &self,
        node: i32,
        message: &M,
        version_max: i16,
    ) -> Result<Answer, AdminError> {
        let connection = self.cluster.broker(node, MAIN_CHANNEL).await?;
        Ok(connection.ask(message, version_max, self.cluster.request_timeout()).await?)
    }

    async fn patiently<F: Future<Output = Result<Answer, AdminError>>>(
        &self,
        ask: impl Fn() -> F,
        code_of: impl Fn(&Answer) -> Result<ErrorCode, AdminError>,
    ) -> Result<Answer, AdminError> {
        let deadline = Instant::now() + self.cluster.request_timeout();
        loop {
            let answer = ask().await?;
            let passes = moves(code_of(&answer)?);
            if !passes || Instant::now() >= deadline {
                return Ok(answer);
            }
            sleep(COORDINATOR_PAUSE).await;
        }
    }
}

/// Whether a coordinator is on its way to somewhere else, or not ready yet.
fn moves(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator
    )
}

fn consumer_group(described: &DescribedConsumerGroup<'_>) -> GroupDescription {
    let members = described.members.iter().map(|member| GroupMember {
        id: (&*member.member_id).into(),
        instance_id: member.instance_id.as_deref().map(Arc::from),
        client_id: (&*member.client_id).into(),
        host: (&*member.client_host).into(),
        partitions: member
            .assignment
            .topic_partitions
            .iter()
            .flat_map(|topic| partitions_of(&topic.topic_name, &topic.partitions))
            .collect(),
    });
    GroupDescription {
        id: (&*described.group_id).into(),
        state: (&*described.group_state).into(),
        kind: "Consumer",
        assignor: (&*described.assignor_name).into(),
        members: members.collect(),
    }
}

fn classic_group(described: &DescribedGroup<'_>) -> GroupDescription {
    let members = described.members.iter().map(|member| GroupMember {
        id: (&*member.member_id).into(),
        instance_id: member.group_instance_id.as_deref().map(Arc::from),
        client_id: (&*member.client_id).into(),
        host: (&*member.client_host).into(),
        partitions: ConsumerProtocolAssignment::parse(member.member_assignment)
            .map(|(_, assignment)| {
                let topics = assignment.assigned_partitions.iter();
                topics.flat_map(|topic| partitions_of(&topic.topic, &topic.partitions)).collect()
            })
            .unwrap_or_default(),
    });
    GroupDescription {
        id: (&*described.group_id).into(),
        state: (&*described.group_state).into(),
        kind: "Classic",
        assignor: (&*described.protocol_data).into(),
        members: members.collect(),
    }
}

fn partitions_of(topic: &str, partitions: &[i32]) -> Vec<TopicPartition> {
    let topic: Arc<str> = topic.into();
    partitions.iter().map(|partition| TopicPartition { topic: Arc::clone(&topic), partition: *partition }).collect()
}
