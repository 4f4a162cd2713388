//! Offsets of a group: OffsetCommit and OffsetFetch, asked of the coordinator until it answers or time is over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use tokio::time::Instant;

use super::TopicPartition;
use super::assignment::{ConsumerState, Offsets};
use super::group::{Group, Standing};
use crate::config::Isolation;
use crate::error::{ConnectionError, ConsumeError};
use crate::net::{Coordinator, MAIN_CHANNEL};

/// The last version of OffsetFetch and of OffsetCommit that names topics.
const NAMED_TOPICS_VERSION_MAX: i16 = 9;
/// A wait that long is for ever.
pub(super) const LONGEST: Duration = Duration::from_hours(24);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a commit is tried again that the coordinator finds out of date, in case the member just hears of it.
const OUTDATED_TRIES: u32 = 5;

/// Whether the coordinator only moves, loads, or the group is between two generations.
pub(super) fn passes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::RebalanceInProgress
            | ErrorCode::RequestTimedOut
            | ErrorCode::UnstableOffsetCommit
    )
}

/// Whether the coordinator knows a newer generation than the commit said.
pub(super) fn is_outdated(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::IllegalGeneration | ErrorCode::StaleMemberEpoch | ErrorCode::UnknownMemberId)
}

/// Commits these. Those that the coordinator takes are committed, also where others are refused.
pub(super) async fn commit(
    shared: &ConsumerState,
    group: &Group,
    mut offsets: Offsets,
    timeout: Duration,
) -> Result<(), ConsumeError> {
    let deadline = Instant::now() + timeout.min(LONGEST);
    let _turn = group.commit_turn.lock().await;
    let mut outdated = 0;
    while !offsets.is_empty() {
        let standing = group.standing();
        let failure = match try_commit(shared, group, &standing, &offsets).await {
            Ok(answers) => {
                let mut failure: Option<ConsumeError> = None;
                for (it, code) in answers {
                    if code.is_none() {
                        if let Some(offset) = offsets.remove(&it) {
                            shared.note_committed(&it, offset);
                        }
                        continue;
                    }
                    if matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) {
                        group.set_coordinator(None);
                    }
                    let (topic, partition) = (it.topic, it.partition);
                    let refused = ConsumeError::CommitRefused { topic, partition, code };
                    let tries = passes(code) || (is_outdated(code) && outdated < OUTDATED_TRIES);
                    if !tries {
                        return Err(refused);
                    }
                    outdated += u32::from(is_outdated(code) && failure.is_none());
                    failure = Some(refused);
                }
                failure
            }
            Err(error) => {
                group.set_coordinator(None);
                Some(error)
            }
        };
        let Some(failure) = failure else { continue };
        let is_final = matches!(&failure, ConsumeError::GroupRefused { .. });
        if is_final || Instant::now() + PAUSE >= deadline || shared.is_closed() {
            return Err(failure);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// One try: what the coordinator says of each partition. One that it leaves out is tried again.
async fn try_commit(
    shared: &ConsumerState,
    group: &Group,
    standing: &Standing,
    offsets: &Offsets,
) -> Result<Vec<(TopicPartition, ErrorCode)>, ConsumeError> {
    if group.is_subscribed() && standing.identity.generation < 0 {
        // A coordinator whose group is empty would take it for a commit from outside, over the head of the next member.
        return Ok(offsets.keys().map(|it| (it.clone(), ErrorCode::UnknownMemberId)).collect());
    }
    let node = coordinator(shared, group, standing).await?;
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition<'_>>> = BTreeMap::new();
    for (TopicPartition { topic, partition }, offset) in offsets {
        topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *offset,
            committed_metadata: Some("".into()),
            ..OffsetCommitRequestPartition::default()
        });
    }
    let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
        name: name.into(),
        partitions,
        ..OffsetCommitRequestTopic::default()
    });
    let request = OffsetCommitRequest {
        group_id: (&*group.id).into(),
        generation_id_or_member_epoch: standing.identity.generation,
        member_id: (&*standing.identity.member_id).into(),
        group_instance_id: group.config.instance_id.as_deref().map(Into::into),
        topics: topics.collect(),
        ..OffsetCommitRequest::default()
    };
    let connection = shared.cluster.broker(node, MAIN_CHANNEL).await?;
    let answer = connection.ask(&request, NAMED_TOPICS_VERSION_MAX, shared.cluster.request_timeout()).await?;
    let response: OffsetCommitResponse<'_> = answer.decode()?;
    let mut answers = HashMap::new();
    for topic in &response.topics {
        for it in &topic.partitions {
            answers.insert(TopicPartition::new(&*topic.name, it.partition_index), it.error_code);
        }
    }
    let answer =
        |it: &TopicPartition| (it.clone(), answers.get(it).copied().unwrap_or(ErrorCode::CoordinatorNotAvailable));
    Ok(offsets.keys().map(answer).collect())
}

/// What the group has committed of these partitions; nothing for those of which it has not.
pub(super) async fn committed(
    shared: &ConsumerState,
    group: &Group,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<Offsets, ConsumeError> {
    let deadline = Instant::now() + timeout.min(LONGEST);
    let mut outdated = 0;
    loop {
        let standing = group.standing();
        let failure = match try_committed(shared, group, &standing, partitions).await {
            Ok(offsets) => return Ok(offsets),
            Err(ConsumeError::CommittedRefused { code, .. })
                if passes(code) || (is_outdated(code) && outdated < OUTDATED_TRIES) =>
            {
                outdated += u32::from(is_outdated(code));
                if matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) {
                    group.set_coordinator(None);
                }
                ConsumeError::CommittedRefused { group: Arc::clone(&group.id), code }
            }
            Err(error @ ConsumeError::Connection(_)) => {
                group.set_coordinator(None);
                error
            }
            Err(error) => return Err(error),
        };
        if Instant::now() + PAUSE >= deadline || shared.is_closed() {
            return Err(failure);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn try_committed(
    shared: &ConsumerState,
    group: &Group,
    standing: &Standing,
    partitions: &[TopicPartition],
) -> Result<Offsets, ConsumeError> {
    let node = coordinator(shared, group, standing).await?;
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let named = topics.iter().map(|(name, partitions)| OffsetFetchRequestTopics {
        name: (*name).into(),
        partition_indexes: partitions.clone(),
        ..OffsetFetchRequestTopics::default()
    });
    // Only a member of a KIP-848 group says which one it is.
    let member = group.has_epochs().then_some(&standing.identity).filter(|identity| identity.generation >= 0);
    let of_group = OffsetFetchRequestGroup {
        group_id: (&*group.id).into(),
        member_id: member.map(|identity| (&*identity.member_id).into()),
        member_epoch: member.map_or(-1, |identity| identity.generation),
        topics: Some(named.collect()),
    };
    let request = OffsetFetchRequest {
        group_id: (&*group.id).into(),
        topics: Some(
            topics
                .iter()
                .map(|(name, partitions)| OffsetFetchRequestTopic {
                    name: (*name).into(),
                    partition_indexes: partitions.clone(),
                })
                .collect(),
        ),
        groups: vec![of_group],
        require_stable: shared.config.isolation == Isolation::ReadCommitted,
    };
    let connection = shared.cluster.broker(node, MAIN_CHANNEL).await?;
    let answer = connection.ask(&request, NAMED_TOPICS_VERSION_MAX, shared.cluster.request_timeout()).await?;
    let response: OffsetFetchResponse<'_> = answer.decode()?;
    let mut offsets = Offsets::new();
    let refused = |code| ConsumeError::CommittedRefused { group: Arc::clone(&group.id), code };
    let mut take = |topic: &str, partition, offset, code: ErrorCode| {
        if !code.is_none() {
            return Err(refused(code));
        }
        if offset >= 0 {
            offsets.insert(TopicPartition::new(topic, partition), offset);
        }
        Ok(())
    };
    let code = response.groups.first().map_or(response.error_code, |group| group.error_code);
    if !code.is_none() {
        return Err(refused(code));
    }
    for topic in &response.topics {
        for it in &topic.partitions {
            take(&topic.name, it.partition_index, it.committed_offset, it.error_code)?;
        }
    }
    for topic in response.groups.iter().flat_map(|group| &group.topics) {
        for it in &topic.partitions {
            take(&topic.name, it.partition_index, it.committed_offset, it.error_code)?;
        }
    }
    Ok(offsets)
}

/// The coordinator as the member knows it, or found now.
async fn coordinator(shared: &ConsumerState, group: &Group, standing: &Standing) -> Result<i32, ConsumeError> {
    if let Some(node) = standing.coordinator {
        return Ok(node);
    }
    match shared.cluster.find_coordinator(&group.id).await? {
        Coordinator::Node(node) => {
            group.set_coordinator(Some(node));
            Ok(node)
        }
        Coordinator::Refused(code, _) if passes(code) => Err(ConnectionError::UnknownBroker { node: -1 }.into()),
        Coordinator::Refused(code, message) => {
            Err(ConsumeError::GroupRefused { group: Arc::clone(&group.id), code, message })
        }
    }
}
