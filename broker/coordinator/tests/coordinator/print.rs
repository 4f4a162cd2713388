//! What comes out, in words.

use std::fmt::Write as _;

use ottla_coordinator::group::{EventKind, Record, Reply, Topics};
use ottla_wire::consumer_protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use ottla_wire::message::{
    DescribedConsumerGroup, DescribedConsumerGroupAssignment, DescribedGroup, ListedGroup, OffsetFetchResponseGroup,
};
use ottla_wire::offsets_topic::GroupRecord;
use ottla_wire::{ErrorCode, Uuid};

use crate::stage::Seen;

const ZEROS: &str = "00000000-0000-0000-0000-";

/// Member ids end with a number that was never used before: `a-00000000-0000-0000-0000-000000000003` is `a-3`.
pub(crate) fn short(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(ZEROS) {
        out.push_str(&rest[..at]);
        let digits = &rest[at + ZEROS.len()..at + ZEROS.len() + 12];
        let _ = write!(out, "{}", u64::from_str_radix(digits, 16).unwrap());
        rest = &rest[at + ZEROS.len() + 12..];
    }
    out + rest
}

/// The other way round: `a-3` is a member id. What has no number is taken as it is.
pub(crate) fn long(text: &str) -> String {
    match text.rsplit_once('-').and_then(|(name, number)| Some((name, number.parse::<u64>().ok()?))) {
        Some((name, number)) => format!("{name}-{ZEROS}{number:012x}"),
        None => text.to_owned(),
    }
}

pub(crate) fn time(ms: i64) -> String {
    match (ms % 1_000, ms % 60_000, ms % 3_600_000) {
        (_, _, 0) if ms > 0 => format!("{}h", ms / 3_600_000),
        (_, 0, _) if ms > 0 => format!("{}m", ms / 60_000),
        (0, _, _) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

/// `packages/3`.
pub(crate) fn partition(text: &str) -> (&str, i32) {
    let (topic, partition) = text.split_once('/').unwrap_or_else(|| panic!("{text}: not topic/partition"));
    (topic, partition.parse().unwrap())
}

/// `packages:0,1;returns:2`, or `nothing`.
pub(crate) fn partitions(text: &str) -> Vec<(&str, Vec<i32>)> {
    let topics = text.split(';').filter(|topic| *topic != "nothing");
    topics
        .map(|topic| {
            let (name, partitions) = topic.split_once(':').unwrap();
            (name, partitions.split(',').map(|partition| partition.parse().unwrap()).collect())
        })
        .collect()
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(separator)
}

/// What a member joined with.
fn metadata(bytes: &[u8]) -> String {
    match ConsumerProtocolSubscription::parse(bytes) {
        Ok((_, subscription)) => list(subscription.topics, ","),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn assignment(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    match ConsumerProtocolAssignment::parse(bytes) {
        Ok((_, assignment)) if assignment.assigned_partitions.is_empty() => "nothing".to_owned(),
        Ok((_, assignment)) => list(
            assignment
                .assigned_partitions
                .iter()
                .map(|topic| format!("{}:{}", topic.topic, list(&topic.partitions, ","))),
            ";",
        ),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

pub(crate) fn seen(seen: &Seen, topics: &Topics) -> Vec<String> {
    match seen {
        Seen::Append(write, records) => {
            records.iter().map(|record| format!("write {write}: {}", self::record(record, topics))).collect()
        }
        Seen::Reply(who, reply) => vec![format!("{who}: {}", self::reply(reply))],
        Seen::Event(event) => {
            let (group, reason) = (&event.group, &event.reason);
            vec![match event.kind {
                EventKind::Rebalance => format!("{group} rebalances: {reason}"),
                EventKind::Generation(generation) => format!("{group} has generation {generation}: {reason}"),
                EventKind::MemberRemoved => format!("{group}: {reason}"),
                EventKind::Upgraded => format!("{group} is a consumer group now: {reason}"),
                EventKind::Downgraded => format!("{group} is a classic group now: {reason}"),
                EventKind::OffsetsExpired(count) => format!("{group}: {count} offsets expired: {reason}"),
            }]
        }
    }
}

pub(crate) fn record(record: &Record, _topics: &Topics) -> String {
    let decoded = GroupRecord::decode(&record.key, record.value.as_deref()).unwrap().unwrap();
    match decoded {
        GroupRecord::OffsetCommit { key, value } => {
            let place = format!("offset of {} {}/{}", key.group, key.topic, key.partition);
            match value {
                None => format!("{place} is gone"),
                Some(value) => {
                    let note = if value.metadata.is_empty() { String::new() } else { format!(" ({})", value.metadata) };
                    let expiry = match value.expire_timestamp {
                        -1 => String::new(),
                        ms => format!(" until {}", time(ms)),
                    };
                    format!("{place} = {}{note}{expiry}", value.offset)
                }
            }
        }
        GroupRecord::GroupMetadata { key, value: None } => format!("group {} is gone", key.group),
        GroupRecord::GroupMetadata { key, value: Some(value) } if value.members.is_empty() => {
            format!("group {} is empty, generation {}", key.group, value.generation)
        }
        GroupRecord::GroupMetadata { key, value: Some(value) } => {
            let members = value.members.iter().map(|member| {
                let instance = member.group_instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
                format!("{}{instance} has {}", member.member_id, assignment(member.assignment))
            });
            format!(
                "group {} generation {} {} led by {}: {}",
                key.group,
                value.generation,
                value.protocol.unwrap_or_default(),
                value.leader.unwrap_or_default(),
                list(members, ", ")
            )
        }
        other => consumer_record(&other),
    }
}

/// A record of a consumer group.
fn consumer_record(record: &GroupRecord<'_>) -> String {
    match record {
        GroupRecord::ConsumerGroupMetadata { key, value } => match value {
            Some(value) => format!("{} is at epoch {}", key.group_id, value.epoch),
            None => format!("consumer group {} is gone", key.group_id),
        },
        GroupRecord::ConsumerGroupMemberMetadata { key, value } => {
            let place = format!("{} member {}", key.group_id, key.member_id);
            let Some(value) = value else { return format!("{place} is gone") };
            let instance = value.instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
            let regex = value.subscribed_topic_regex.as_ref().map(|regex| format!(" /{regex}/")).unwrap_or_default();
            let classic = if value.classic_member_metadata.is_some() { " (classic)" } else { "" };
            let assignor = value.server_assignor.as_ref().map(|name| format!(" by {name}")).unwrap_or_default();
            let names = list(&value.subscribed_topic_names, ",");
            format!("{place}{instance}{classic} wants {names}{regex}{assignor}")
        }
        GroupRecord::ConsumerGroupTargetAssignmentMetadata { key, value } => match value {
            Some(value) => format!("{} is assigned for epoch {}", key.group_id, value.assignment_epoch),
            None => format!("{} is not assigned", key.group_id),
        },
        GroupRecord::ConsumerGroupTargetAssignmentMember { key, value } => {
            let place = format!("{} target of {}", key.group_id, key.member_id);
            match value {
                Some(value) => {
                    let topics = value.topic_partitions.iter().map(|topic| (topic.topic_id, &topic.partitions));
                    format!("{place}: {}", by_id(topics))
                }
                None => format!("{place} is gone"),
            }
        }
        GroupRecord::ConsumerGroupCurrentMemberAssignment { key, value } => {
            let place = format!("{} member {}", key.group_id, key.member_id);
            let Some(value) = value else { return format!("{place} owns nothing any more") };
            let has = by_id(value.assigned_partitions.iter().map(|topic| (topic.topic_id, &topic.partitions)));
            let revokes =
                by_id(value.partitions_pending_revocation.iter().map(|topic| (topic.topic_id, &topic.partitions)));
            let revokes = if revokes == "nothing" { String::new() } else { format!(", revokes {revokes}") };
            let state = match value.state {
                0 => "",
                1 => ", has to revoke",
                2 => ", waits for others",
                _ => ", in an unknown state",
            };
            format!("{place} is at epoch {} and owns {has}{revokes}{state}", value.member_epoch)
        }
        GroupRecord::ConsumerGroupRegularExpression { key, value } => {
            let place = format!("{} /{}/", key.group_id, key.regular_expression);
            match value {
                Some(value) if value.topics.is_empty() => format!("{place} matches nothing"),
                Some(value) => format!("{place} matches {}", list(&value.topics, ",")),
                None => format!("{place} is gone"),
            }
        }
        other => panic!("this broker does not write {other:?}"),
    }
}

/// Ids of topics say their names in this test.
pub(crate) fn by_id<'a>(topics: impl Iterator<Item = (Uuid, &'a Vec<i32>)>) -> String {
    let topics = topics.map(|(id, partitions)| {
        let name: Vec<u8> = id.as_u128().to_be_bytes().into_iter().filter(|byte| *byte != 0).collect();
        format!("{}:{}", String::from_utf8_lossy(&name), list(partitions, ","))
    });
    let topics = list(topics, ";");
    if topics.is_empty() { "nothing".to_owned() } else { topics }
}

pub(crate) fn described_consumer(group: &DescribedConsumerGroup<'_>) -> String {
    if !group.error_code.is_none() {
        let message = group.error_message.as_deref().unwrap_or_default();
        return format!("{}: {} {message}", group.group_id, error(group.error_code));
    }
    let members = group.members.iter().map(|member| {
        let instance = member.instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
        let partitions = |assignment: &DescribedConsumerGroupAssignment<'_>| {
            by_id(assignment.topic_partitions.iter().map(|topic| (topic.topic_id, &topic.partitions)))
        };
        let kind = if member.member_type == 0 { " (classic)" } else { "" };
        format!(
            "{}{instance}{kind} at epoch {} has {} of {}",
            member.member_id,
            member.member_epoch,
            partitions(&member.assignment),
            partitions(&member.target_assignment)
        )
    });
    let members = list(members, "; ");
    format!(
        "{} is {} at epoch {}, assigned for {} by {}{}{members}",
        group.group_id,
        group.group_state,
        group.group_epoch,
        group.assignment_epoch,
        group.assignor_name,
        if members.is_empty() { "" } else { ": " }
    )
}

fn error(error: ErrorCode) -> String {
    error.to_string()
}

fn reply(reply: &Reply) -> String {
    match reply {
        Reply::JoinGroup(reply) if reply.error == ErrorCode::MemberIdRequired => {
            format!("{} as {}", error(reply.error), reply.member_id)
        }
        Reply::JoinGroup(reply) if !reply.error.is_none() => match &*reply.member_id {
            "" => error(reply.error),
            id => format!("{}, said to {id}", error(reply.error)),
        },
        Reply::JoinGroup(reply) => {
            let role =
                if reply.leader == reply.member_id { "leads".to_owned() } else { format!("follows {}", reply.leader) };
            let skip = if reply.skip_assignment { ", keeps the assignment" } else { "" };
            let members = reply.members.iter().map(|member| {
                let instance = member.instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
                format!("{}{instance} wants {}", member.member_id, metadata(&member.metadata))
            });
            let members = list(members, ", ");
            let members = if members.is_empty() { members } else { format!(": {members}") };
            let protocol = reply.protocol.as_deref().unwrap_or("no protocol");
            format!("joined generation {} as {}, {protocol}, {role}{skip}{members}", reply.generation, reply.member_id)
        }
        Reply::SyncGroup(reply) if !reply.error.is_none() => error(reply.error),
        Reply::SyncGroup(reply) => format!("synced, has {}", assignment(&reply.assignment)),
        Reply::Heartbeat(ErrorCode::None) => "alive".to_owned(),
        Reply::Heartbeat(code) => error(*code),
        Reply::LeaveGroup(reply) if !reply.error.is_none() => error(reply.error),
        Reply::LeaveGroup(reply) => list(
            reply.members.iter().map(|member| {
                let instance = member.instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
                let what = if member.error.is_none() { "left".to_owned() } else { error(member.error) };
                format!("{}{instance} {what}", member.member_id)
            }),
            ", ",
        ),
        Reply::ConsumerGroupHeartbeat(response) if !response.error_code.is_none() => {
            let message = response.error_message.as_deref().unwrap_or_default();
            format!("{} {message}", error(response.error_code)).trim_end().to_owned()
        }
        Reply::ConsumerGroupHeartbeat(response) => {
            let id = response.member_id.as_deref().unwrap_or_default();
            let assignment = response.assignment.as_ref().map(|assignment| {
                by_id(assignment.topic_partitions.iter().map(|topic| (topic.topic_id, &topic.partitions)))
            });
            let assignment = assignment.map(|assignment| format!(", may own {assignment}")).unwrap_or_default();
            format!("{id} is at epoch {}{assignment}", response.member_epoch)
        }
        Reply::OffsetCommit(response) => list(
            response.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|partition| {
                    let what = if partition.error_code.is_none() {
                        "committed".to_owned()
                    } else {
                        error(partition.error_code)
                    };
                    let name = if topic.name.is_empty() { "(by id)" } else { &*topic.name };
                    format!("{name}/{} {what}", partition.partition_index)
                })
            }),
            ", ",
        ),
        Reply::OffsetDelete(response) if !response.error_code.is_none() => error(response.error_code),
        Reply::OffsetDelete(response) => list(
            response.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|partition| {
                    let what =
                        if partition.error_code.is_none() { "deleted".to_owned() } else { error(partition.error_code) };
                    format!("{}/{} {what}", topic.name, partition.partition_index)
                })
            }),
            ", ",
        ),
        Reply::DeleteGroups(results) => list(
            results.iter().map(|result| {
                let what = if result.error_code.is_none() { "deleted".to_owned() } else { error(result.error_code) };
                format!("{} {what}", result.group_id)
            }),
            ", ",
        ),
    }
}

pub(crate) fn described(group: &DescribedGroup<'_>) -> String {
    let members = group.members.iter().map(|member| {
        let instance = member.group_instance_id.as_ref().map(|id| format!("@{id}")).unwrap_or_default();
        let detail = if member.member_metadata.is_empty() {
            String::new()
        } else {
            format!(" wants {} has {}", metadata(member.member_metadata), assignment(member.member_assignment))
        };
        format!("{}{instance} of {} at {}{detail}", member.member_id, member.client_id, member.client_host)
    });
    let error = if group.error_code.is_none() { String::new() } else { format!(" {}", error(group.error_code)) };
    let members = list(members, ", ");
    format!(
        "{}{error} is {}, type {:?}, protocol {:?}{}{members}",
        group.group_id,
        group.group_state,
        group.protocol_type,
        group.protocol_data,
        if members.is_empty() { "" } else { ": " }
    )
}

pub(crate) fn listed(groups: &[ListedGroup<'_>]) -> String {
    let groups = groups.iter().map(|group| {
        format!("{} {} {} {:?}", group.group_id, group.group_state, group.group_type, group.protocol_type)
    });
    let groups = list(groups, ", ");
    if groups.is_empty() { "no groups".to_owned() } else { groups }
}

pub(crate) fn fetched(group: &OffsetFetchResponseGroup<'_>) -> String {
    if !group.error_code.is_none() {
        return format!("{}: {}", group.group_id, error(group.error_code));
    }
    let offsets = group.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            let note = partition.metadata.as_deref().filter(|note| !note.is_empty());
            let note = note.map(|note| format!(" ({note})")).unwrap_or_default();
            let what = if partition.error_code.is_none() {
                partition.committed_offset.to_string()
            } else {
                error(partition.error_code)
            };
            format!("{}/{} = {what}{note}", topic.name, partition.partition_index)
        })
    });
    let offsets = list(offsets, ", ");
    format!("{}: {}", group.group_id, if offsets.is_empty() { "no offsets" } else { &offsets })
}
