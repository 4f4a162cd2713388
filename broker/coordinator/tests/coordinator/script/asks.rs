//! The requests that clients send.

use std::collections::BTreeMap;

use ottla_coordinator::group::Request;
use ottla_wire::Uuid;
use ottla_wire::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription,
};
use ottla_wire::message::*;

use super::{Script, Words, by_topic};
use crate::print;

impl Script {
    pub(super) fn join(&mut self, who: &str, group: &str, words: &Words<'_>) {
        let topics: Vec<&str> = words.get("topics").unwrap_or("packages").split(',').collect();
        let protocol_type = words.get("type").unwrap_or("consumer");
        let mut metadata = Vec::new();
        if protocol_type == "consumer" {
            let topics = topics.iter().map(|topic| (*topic).into()).collect();
            ConsumerProtocolSubscription { topics, ..Default::default() }.write(3, &mut metadata);
        } else {
            metadata.extend_from_slice(topics.join(",").as_bytes());
        }
        let protocols = words.get("protocols").unwrap_or("range").split(',').filter(|name| !name.is_empty());
        let version = words.number("v").unwrap_or(9) as i16;
        let request = JoinGroupRequest {
            group_id: if group == "nameless" { "".into() } else { group.into() },
            session_timeout_ms: words.ms("session").unwrap_or(10_000),
            rebalance_timeout_ms: if version == 0 { -1 } else { words.ms("rebalance").unwrap_or(60_000) },
            member_id: self.member_id(who, words).into(),
            group_instance_id: words.instance().map(Into::into),
            protocol_type: protocol_type.into(),
            protocols: protocols
                .map(|name| JoinGroupRequestProtocol { name: name.into(), metadata: &metadata })
                .collect(),
            reason: words.get("because").map(Into::into),
        };
        let fresh = self.stage.fresh();
        self.stage.ask(who, version, Request::JoinGroup(request, fresh));
    }

    /// The first heartbeat of a member, or one that says everything.
    pub(super) fn enter(&mut self, who: &str, group: &str, words: &Words<'_>) {
        let version = words.number("v").unwrap_or(1) as i16;
        let chosen = if version == 0 { "" } else { who };
        let member_id = words.get("id").map_or(chosen, |id| if id == "none" { "" } else { id });
        let request = ConsumerGroupHeartbeatRequest {
            group_id: if group == "nameless" { "".into() } else { group.into() },
            member_id: member_id.into(),
            member_epoch: words.number("epoch").unwrap_or(0) as i32,
            instance_id: words.instance().map(Into::into),
            rack_id: words.get("rack").map(Into::into),
            rebalance_timeout_ms: words.ms("rebalance").unwrap_or(60_000),
            subscribed_topic_names: names(words),
            subscribed_topic_regex: words.get("regex").map(Into::into),
            server_assignor: words.get("assignor").map(Into::into),
            topic_partitions: Some(self.owned(words.get("owns").unwrap_or("nothing"))),
        };
        let fresh = self.stage.fresh();
        self.stage.ask(who, version, Request::ConsumerGroupHeartbeat(request, fresh));
    }

    /// A heartbeat that says what changed, and nothing else.
    pub(super) fn poll(&mut self, who: &str, group: &str, words: &Words<'_>) {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: self.member_id(who, words).into(),
            member_epoch: words.number("epoch").map_or(self.known(who).generation, |epoch| epoch as i32),
            instance_id: words.instance().map(Into::into),
            subscribed_topic_names: names(words),
            subscribed_topic_regex: words.get("regex").map(Into::into),
            server_assignor: words.get("assignor").map(Into::into),
            topic_partitions: words.get("owns").map(|owns| self.owned(owns)),
            ..Default::default()
        };
        let fresh = self.stage.fresh();
        self.stage.ask(who, 1, Request::ConsumerGroupHeartbeat(request, fresh));
    }

    pub(super) fn quit(&mut self, who: &str, group: &str, words: &Words<'_>) {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: self.member_id(who, words).into(),
            member_epoch: words.number("epoch").unwrap_or(-1) as i32,
            instance_id: words.instance().map(Into::into),
            ..Default::default()
        };
        let fresh = self.stage.fresh();
        self.stage.ask(who, 1, Request::ConsumerGroupHeartbeat(request, fresh));
    }

    pub(super) fn owned(&self, text: &str) -> Vec<ConsumerGroupTopicPartitions> {
        let topics = print::partitions(text).into_iter();
        topics
            .map(|(name, partitions)| ConsumerGroupTopicPartitions {
                topic_id: self.stage.topics.named(name).map_or(Uuid::max(), |topic| topic.id),
                partitions,
            })
            .collect()
    }

    pub(super) fn sync(&mut self, who: &str, group: &str, words: &Words<'_>) {
        let known = self.known(who);
        let assignments: Vec<(String, Vec<u8>)> = words
            .rest()
            .map(|(member, partitions)| {
                let mut assignment = Vec::new();
                let assigned_partitions = print::partitions(partitions)
                    .into_iter()
                    .map(|(topic, partitions)| ConsumerProtocolPartitions { topic: topic.into(), partitions })
                    .collect();
                ConsumerProtocolAssignment { assigned_partitions, ..Default::default() }.write(3, &mut assignment);
                (self.known(member).member_id, assignment)
            })
            .collect();
        let request = SyncGroupRequest {
            group_id: group.into(),
            generation_id: words.number("gen").map_or(known.generation, |epoch| epoch as i32),
            member_id: self.member_id(who, words).into(),
            group_instance_id: words.instance().map(Into::into),
            protocol_type: Some(words.get("type").unwrap_or("consumer").into()),
            protocol_name: words.get("name").map(str::to_owned).or(known.protocol).map(Into::into),
            assignments: assignments
                .iter()
                .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id: member_id.into(), assignment })
                .collect(),
        };
        self.stage.ask(who, 5, Request::SyncGroup(request));
    }

    pub(super) fn beat(&mut self, who: &str, group: &str, words: &Words<'_>) {
        let request = HeartbeatRequest {
            group_id: group.into(),
            generation_id: words.number("gen").map_or(self.known(who).generation, |epoch| epoch as i32),
            member_id: self.member_id(who, words).into(),
            group_instance_id: words.instance().map(Into::into),
        };
        self.stage.ask(who, 4, Request::Heartbeat(request));
    }

    pub(super) fn leave(&mut self, who: &str, group: &str, words: &Words<'_>) {
        let version = words.number("v").unwrap_or(5) as i16;
        let member_id = self.member_id(who, words);
        let member = LeavingMember {
            member_id: member_id.clone().into(),
            group_instance_id: words.instance().map(Into::into),
            reason: words.get("because").map(Into::into),
        };
        let request = if version < 3 {
            LeaveGroupRequest { group_id: group.into(), member_id: member_id.into(), ..Default::default() }
        } else {
            LeaveGroupRequest { group_id: group.into(), members: vec![member], ..Default::default() }
        };
        self.stage.ask(who, version, Request::LeaveGroup(request));
    }

    /// `@i` is a static member by its instance id, any other word a client by its name.
    pub(super) fn remove(&mut self, who: &str, group: &str, members: &[&str], words: &Words<'_>) {
        let members = members.iter().map(|member| match member.strip_prefix('@') {
            Some(instance) => LeavingMember { group_instance_id: Some(instance.into()), ..Default::default() },
            None => LeavingMember { member_id: self.known(member).member_id.into(), ..Default::default() },
        });
        let request = LeaveGroupRequest { group_id: group.into(), members: members.collect(), ..Default::default() };
        self.stage.ask(who, words.number("v").unwrap_or(5) as i16, Request::LeaveGroup(request));
    }

    pub(super) fn commit(&mut self, who: &str, group: &str, words: &Words<'_>) {
        let known = self.known(who);
        let version = words.number("v").unwrap_or(9) as i16;
        let is_outside = words.get("outside").is_some();
        let offsets = words.rest().filter(|(key, _)| key.contains('/'));
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition<'_>>> = BTreeMap::new();
        for (partition, offset) in offsets {
            let (topic, partition_index) = print::partition(partition);
            topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
                partition_index,
                committed_offset: offset.parse().unwrap(),
                committed_metadata: words.get("note").map(Into::into),
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name: if version >= 10 { "".into() } else { name.into() },
            topic_id: self.stage.topics.named(name).map_or(Uuid::max(), |topic| topic.id),
            partitions,
        });
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: match words.number("gen") {
                Some(generation) => generation as i32,
                None if is_outside => -1,
                None => known.generation,
            },
            member_id: if is_outside { "".into() } else { self.member_id(who, words).into() },
            group_instance_id: words.instance().map(Into::into),
            retention_time_ms: words.ms("keep").map_or(-1, i64::from),
            topics: topics.collect(),
        };
        self.stage.ask(who, version, Request::OffsetCommit(request));
    }

    pub(super) fn fetch(&mut self, group: &str, partitions: &[&str], words: &Words<'_>) {
        let version = words.number("v").unwrap_or(9) as i16;
        let topics = by_topic(partitions.iter().map(|partition| print::partition(partition)));
        let topics: Vec<OffsetFetchRequestTopics<'_>> = topics
            .into_iter()
            .map(|(name, partition_indexes)| OffsetFetchRequestTopics {
                name: name.into(),
                topic_id: self.stage.topics.named(name).map_or(Uuid::max(), |topic| topic.id),
                partition_indexes,
            })
            .collect();
        let member = words.get("member").map(|who| self.known(who));
        let request = OffsetFetchRequestGroup {
            group_id: group.into(),
            member_id: member.as_ref().map(|member| member.member_id.clone().into()),
            member_epoch: words
                .number("gen")
                .map_or(member.map_or(-1, |member| member.generation), |epoch| epoch as i32),
            topics: (!topics.is_empty()).then_some(topics),
        };
        let fetched = print::fetched(&self.stage.shard.fetch_offsets(version, &request));
        self.say(fetched);
    }
}

fn names<'a>(words: &Words<'a>) -> Option<Vec<std::borrow::Cow<'a, str>>> {
    let names = words.get("topics")?.split(',').filter(|name| !name.is_empty());
    Some(names.map(Into::into).collect())
}
