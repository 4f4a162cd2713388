//! The target: what every member is to own.

use std::collections::BTreeMap;

use super::super::effect::Record;
use super::super::{Context, Text};
use super::assignor::{self, Candidate, Question};
use super::{ConsumerGroup, Partitions};

impl ConsumerGroup {
    /// The assignor that most members want; among equals the first by name.
    pub(crate) fn preferred_assignor(&self) -> &str {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor.as_deref()) {
            *votes.entry(assignor).or_default() += 1;
        }
        let most = votes.iter().rev().max_by_key(|(_, votes)| **votes);
        most.map_or(assignor::DEFAULT, |(assignor, _)| assignor)
    }

    /// Makes a new target if the group has changed since the last one was made, though not more often than the settings
    /// allow: what changes meanwhile is one change (KIP-1263).
    pub(super) fn update_target(&mut self, cx: &Context, records: &mut Vec<Record>) {
        let earliest_ms = self.assigned_at_ms.saturating_add(i64::from(cx.config.assignment_interval_ms));
        let is_first = self.assignment_epoch == 0;
        if self.epoch <= self.assignment_epoch || (!is_first && cx.now_ms < earliest_ms) {
            return;
        }
        let mut question = Question::default();
        for (member_id, member) in &self.members {
            let topics = self.subscribed_ids(member, &cx.topics);
            for topic in topics.iter().filter_map(|topic| cx.topics.with_id(*topic)) {
                question.partition_counts.insert(topic.id, topic.partitions);
            }
            let target = self.target.get(member_id).cloned().unwrap_or_default();
            let candidate = Candidate { instance_id: member.instance_id.clone(), topics, target };
            question.members.insert(Text::clone(member_id), candidate);
        }
        let mut answer = assignor::assign(self.preferred_assignor(), &question);
        for member_id in self.members.keys() {
            let new = answer.remove(member_id).unwrap_or_default();
            if self.target.get(member_id) != Some(&new) {
                records.push(self.target_record(member_id, &new));
                self.target.insert(Text::clone(member_id), new);
            }
        }
        self.assignment_epoch = self.epoch;
        self.assigned_at_ms = cx.now_ms;
        records.push(self.assignment_epoch_record());
    }

    /// What a member is to own.
    pub(super) fn target_of(&self, member_id: &str) -> Partitions {
        self.target.get(member_id).cloned().unwrap_or_default()
    }
}
