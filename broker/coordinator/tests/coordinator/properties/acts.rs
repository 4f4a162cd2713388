//! What clients do.

use std::collections::{BTreeMap, BTreeSet};

use ottla_coordinator::group::Request;
use ottla_wire::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription,
};
use ottla_wire::message::*;

use super::{Act, GROUP, TOPIC, World};
use crate::stage::Disk;

impl World {
    pub(super) fn act(&mut self, index: usize, act: Act) {
        let client = &mut self.clients[index];
        let who = format!("{index}.{}", client.life);
        match act {
            Act::Join | Act::Beat if client.is_consumer => self.beat_consumer(index),
            Act::Join if !client.waits => {
                // An eager consumer lets go of everything before it joins.
                client.owned.clear();
                (client.is_synced, client.waits) = (false, true);
                let mut metadata = Vec::new();
                let subscription = ConsumerProtocolSubscription { topics: vec![TOPIC.into()], ..Default::default() };
                subscription.write(1, &mut metadata);
                let request = JoinGroupRequest {
                    group_id: GROUP.into(),
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 20_000,
                    member_id: client.member_id.clone().into(),
                    group_instance_id: client.instance.clone().map(Into::into),
                    protocol_type: "consumer".into(),
                    protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: &metadata }],
                    reason: None,
                };
                let fresh = self.stage.fresh();
                self.stage.ask(&who, 9, Request::JoinGroup(request, fresh));
            }
            Act::Sync if !client.is_consumer && !client.waits => self.sync(index),
            Act::Beat if client.generation >= 0 => {
                let request = HeartbeatRequest {
                    group_id: GROUP.into(),
                    generation_id: client.generation,
                    member_id: client.member_id.clone().into(),
                    group_instance_id: client.instance.clone().map(Into::into),
                };
                self.stage.ask(&who, 4, Request::Heartbeat(request));
            }
            Act::Revoke => client.owned = client.owned.intersection(&client.told).copied().collect(),
            Act::Leave => self.leave(index),
            Act::Commit => self.commit(index, 0),
            Act::LateCommit => self.commit(index, 1),
            Act::Reborn => client.reset(),
            Act::Switch => {
                self.leave(index);
                let client = &mut self.clients[index];
                client.is_consumer = !client.is_consumer;
                client.reset();
            }
            _ => {}
        }
    }

    pub(super) fn sync(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(joined) = client.joined.clone().filter(|_| !client.is_synced) else { return };
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let mut parts: BTreeMap<String, BTreeSet<i32>> =
            joined.members.iter().map(|member| (member.member_id.to_string(), BTreeSet::new())).collect();
        if leads {
            let members: Vec<String> = parts.keys().cloned().collect();
            for partition in 0..self.partitions {
                let member = &members[partition as usize % members.len()];
                parts.get_mut(member).unwrap().insert(partition);
            }
            self.assignments.entry(joined.generation).or_default().push(parts.clone());
        }
        client.waits = true;
        let who = format!("{index}.{}", client.life);
        let assignments: Vec<(String, Vec<u8>)> = parts
            .iter()
            .filter(|_| leads)
            .map(|(member, partitions)| {
                let partitions = partitions.iter().copied().collect();
                let assigned_partitions = vec![ConsumerProtocolPartitions { topic: TOPIC.into(), partitions }];
                let mut bytes = Vec::new();
                ConsumerProtocolAssignment { assigned_partitions, ..Default::default() }.write(1, &mut bytes);
                (member.clone(), bytes)
            })
            .collect();
        let request = SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: client.generation,
            member_id: client.member_id.clone().into(),
            group_instance_id: client.instance.clone().map(Into::into),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: assignments
                .iter()
                .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id: member_id.into(), assignment })
                .collect(),
        };
        self.stage.ask(&who, 5, Request::SyncGroup(request));
    }

    pub(super) fn beat_consumer(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.waits {
            return;
        }
        let joins = client.generation == 0;
        if client.member_id.is_empty() {
            self.consumers_born += 1;
            client.member_id = format!("c{}", self.consumers_born);
        }
        client.waits = true;
        let who = format!("{index}.{}", client.life);
        let topic_id = self.stage.topics.named(TOPIC).unwrap().id;
        let owned = ConsumerGroupTopicPartitions { topic_id, partitions: client.owned.iter().copied().collect() };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: client.member_id.clone().into(),
            member_epoch: client.generation,
            instance_id: client.instance.clone().map(Into::into),
            rebalance_timeout_ms: if joins { 20_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec![TOPIC.into()]),
            topic_partitions: Some(if owned.partitions.is_empty() { Vec::new() } else { vec![owned] }),
            ..Default::default()
        };
        let fresh = self.stage.fresh();
        self.stage.ask(&who, 1, Request::ConsumerGroupHeartbeat(request, fresh));
    }

    pub(super) fn leave(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.member_id.is_empty() {
            return;
        }
        let (member_id, instance) = (client.member_id.clone(), client.instance.clone());
        let is_consumer = client.is_consumer;
        client.reset();
        if is_consumer {
            let request = ConsumerGroupHeartbeatRequest {
                group_id: GROUP.into(),
                member_id: member_id.into(),
                member_epoch: -1,
                instance_id: instance.map(Into::into),
                ..Default::default()
            };
            let fresh = self.stage.fresh();
            self.stage.ask("leaver", 1, Request::ConsumerGroupHeartbeat(request, fresh));
        } else {
            let member = LeavingMember {
                member_id: member_id.into(),
                group_instance_id: instance.map(Into::into),
                reason: None,
            };
            let request = LeaveGroupRequest { group_id: GROUP.into(), members: vec![member], ..Default::default() };
            self.stage.ask("leaver", 5, Request::LeaveGroup(request));
        }
    }

    pub(super) fn commit(&mut self, index: usize, late: i32) {
        let client = &mut self.clients[index];
        if client.commit.is_some() || client.generation < late || client.member_id.is_empty() {
            return;
        }
        let generation = client.generation - late;
        self.next_offset += 1;
        client.commit = Some((generation, self.next_offset));
        let partition = OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: self.next_offset,
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic { name: TOPIC.into(), partitions: vec![partition], ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: generation,
            member_id: client.member_id.clone().into(),
            group_instance_id: client.instance.clone().map(Into::into),
            topics: vec![topic],
            ..Default::default()
        };
        // Whether the commit may be accepted is decided by what the group is like now.
        let consumer = self.stage.shard.describe_consumer(GROUP);
        let may = if consumer.error_code.is_none() {
            let member = consumer.members.iter().find(|member| *member.member_id == client.member_id);
            member.is_some_and(|member| member.member_epoch == generation)
        } else {
            let classic = self.stage.shard.describe(6, GROUP);
            classic.members.iter().any(|member| *member.member_id == client.member_id) && generation == self.generation
        };
        let writes = self.stage.writes.len();
        let who = format!("commit {index}.{}", client.life);
        let disk = std::mem::replace(&mut self.stage.disk, Disk::Waits);
        self.stage.ask(&who, 9, Request::OffsetCommit(request));
        let is_accepted = self.stage.writes.len() > writes;
        assert!(may || !is_accepted, "a commit at {generation} was accepted");
        self.stage.disk = disk;
        if disk == Disk::Prompt {
            self.stage.let_writes_go();
        }
    }
}
