//! What clients and the model learn from what comes out.

use ottla_coordinator::group::{EventKind, Reply};
use ottla_wire::ErrorCode;
use ottla_wire::offsets_topic::GroupRecord;

use super::checks::partitions;
use super::{GROUP, World};
use crate::stage::Seen;

impl World {
    /// What the clients learn, and what the model does.
    pub(super) fn learn(&mut self) {
        for seen in self.stage.seen() {
            match seen {
                Seen::Event(event) => match event.kind {
                    EventKind::Generation(generation) => self.generation = generation,
                    EventKind::Upgraded => self.assignments.clear(),
                    _ => {}
                },
                Seen::Append(_, records) => {
                    for record in records {
                        let decoded = GroupRecord::decode(&record.key, record.value.as_deref()).unwrap().unwrap();
                        if let GroupRecord::GroupMetadata { value: Some(value), .. } = decoded {
                            self.generation = self.generation.max(value.generation);
                        }
                    }
                }
                Seen::Reply(who, reply) => self.answered(&who, reply),
            }
        }
    }

    pub(super) fn answered(&mut self, who: &str, reply: Reply) {
        let Some((name, life)) = who.split_once('.') else { return };
        if let Some(index) = name.strip_prefix("commit ") {
            return self.commit_answered(index.parse().unwrap(), life, &reply);
        }
        let index: usize = name.parse().unwrap();
        let client = &mut self.clients[index];
        if client.life.to_string() != life {
            return;
        }
        match reply {
            Reply::JoinGroup(reply) if !client.is_consumer => {
                client.waits = false;
                match reply.error {
                    ErrorCode::None => {
                        client.member_id = reply.member_id.to_string();
                        client.generation = reply.generation;
                        client.is_synced = false;
                        client.joined = Some(reply);
                    }
                    ErrorCode::MemberIdRequired => client.member_id = reply.member_id.to_string(),
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => client.reset(),
                    _ => {}
                }
            }
            Reply::SyncGroup(reply) if !client.is_consumer => {
                client.waits = false;
                match reply.error {
                    ErrorCode::None => {
                        client.is_synced = true;
                        client.owned = partitions(&reply.assignment);
                        // A leader that handed it in is held to its word. After a migration the coordinator was the leader.
                        if let Some(candidates) = self.assignments.get(&client.generation)
                            && self.stage.shard.describe_consumer(GROUP).error_code == ErrorCode::GroupIdNotFound
                        {
                            let is_as_said = candidates
                                .iter()
                                .any(|parts| parts.get(&client.member_id).is_some_and(|part| *part == client.owned));
                            // A static member that came back has another id than the one it was assigned to.
                            assert!(is_as_said || client.instance.is_some(), "another assignment than the leader's");
                        }
                    }
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => client.reset(),
                    _ => client.joined = None,
                }
            }
            Reply::Heartbeat(error) if !client.is_consumer => match error {
                ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => client.reset(),
                ErrorCode::IllegalGeneration => {
                    let waits = client.waits;
                    client.start_over();
                    client.waits = waits;
                }
                _ => {}
            },
            Reply::ConsumerGroupHeartbeat(response) if client.is_consumer => {
                client.waits = false;
                match response.error_code {
                    ErrorCode::None => {
                        client.generation = response.member_epoch;
                        if let Some(assignment) = response.assignment {
                            let told = assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone());
                            client.told = told.collect();
                            client.owned.extend(&client.told);
                        }
                    }
                    ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => {
                        client.start_over();
                    }
                    ErrorCode::FencedInstanceId => client.reset(),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    pub(super) fn commit_answered(&mut self, index: usize, life: &str, reply: &Reply) {
        let Reply::OffsetCommit(response) = reply else { panic!("{reply:?}") };
        let client = &mut self.clients[index];
        if client.life.to_string() != life {
            return;
        }
        let Some((_, offset)) = client.commit.take() else { return };
        if response.topics[0].partitions[0].error_code.is_none() {
            // Answers come in the order of the log.
            assert!(self.acked.is_none_or(|acked| acked < offset));
            self.acked = Some(offset);
        }
    }
}
