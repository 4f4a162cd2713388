//! What must always hold.

use std::collections::{BTreeMap, BTreeSet};

use ottla_wire::consumer_protocol::ConsumerProtocolAssignment;
use ottla_wire::message::*;
use ottla_wire::offsets_topic::GroupRecord;

use super::{Client, GROUP, TOPIC, World};

impl World {
    pub(super) fn check(&mut self) {
        self.check_owners();
        self.check_complete();
        let group = OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            member_epoch: -1,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: TOPIC.into(),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        };
        let fetched = self.stage.shard.fetch_offsets(9, &group).topics[0].partitions[0].committed_offset;
        // What is durable, and nothing else.
        let durable = self.stage.log.iter().rev().find_map(|record| {
            let decoded = GroupRecord::decode(&record.key, record.value.as_deref()).unwrap();
            match decoded {
                Some(GroupRecord::OffsetCommit { value: Some(value), .. }) => Some(value.offset),
                _ => None,
            }
        });
        assert_eq!(fetched, durable.unwrap_or(-1), "what is fetched is not what is durable");
        let acked = self.acked.unwrap_or(-1);
        assert!(fetched >= acked, "{fetched} is fetched, {acked} was answered");
    }

    pub(super) fn check_owners(&self) {
        let consumer = self.stage.shard.describe_consumer(GROUP);
        let classic = self.stage.shard.describe(6, GROUP);
        let is_member = |client: &Client| {
            if consumer.error_code.is_none() {
                consumer.members.iter().any(|member| *member.member_id == client.member_id)
            } else {
                // In a classic group, owners are those that have synced in its generation.
                client.is_synced
                    && client.generation == self.generation
                    && classic.members.iter().any(|member| *member.member_id == client.member_id)
            }
        };
        let mut owners: BTreeMap<i32, usize> = BTreeMap::new();
        for (index, client) in self.clients.iter().enumerate().filter(|(_, client)| is_member(client)) {
            for partition in &client.owned {
                let other = owners.insert(*partition, index);
                assert!(other.is_none(), "{other:?} and {index} own {partition}: {:?}", self.clients);
            }
        }
    }

    pub(super) fn check_complete(&self) {
        let consumer = self.stage.shard.describe_consumer(GROUP);
        let classic = self.stage.shard.describe(6, GROUP);
        let parts: Vec<BTreeSet<i32>> = if consumer.error_code.is_none() && consumer.group_state == "Stable" {
            let owned = consumer.members.iter().map(|member| &member.assignment.topic_partitions);
            owned.map(|topics| topics.iter().flat_map(|topic| topic.partitions.clone()).collect()).collect()
        } else if classic.error_code.is_none() && classic.group_state == "Stable" {
            classic.members.iter().map(|member| partitions(member.member_assignment)).collect()
        } else {
            return;
        };
        let all: BTreeSet<i32> = parts.iter().flatten().copied().collect();
        assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), all.len(), "two own one partition: {parts:?}");
        // All that there were when it was assigned: the topic grows, and the group notices later.
        assert!(all.len() >= 3 && all.iter().copied().eq(0..all.len() as i32), "incomplete: {parts:?}");
    }
}

pub(super) fn partitions(assignment: &[u8]) -> BTreeSet<i32> {
    if assignment.is_empty() {
        return BTreeSet::new();
    }
    let (_, assignment) = ConsumerProtocolAssignment::parse(assignment).unwrap();
    assignment.assigned_partitions.into_iter().flat_map(|topic| topic.partitions).collect()
}
