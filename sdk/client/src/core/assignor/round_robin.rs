//! In turn: all partitions of all topics, each to the next member that reads its topic.

use std::sync::Arc;

use super::{PartitionCounts, Subscription, TopicPartition, in_member_order};

pub(super) fn assign(members: &[Subscription], counts: &PartitionCounts) -> Vec<Vec<TopicPartition>> {
    let mut shares = vec![Vec::new(); members.len()];
    let order = in_member_order(members);
    let mut turn = order.iter().cycle().copied();
    for (topic, count) in counts {
        for partition in 0..*count {
            // Every topic in `counts` has a member that reads it.
            let reads = |at: &usize| members.get(*at).is_some_and(|member| member.topics.contains(topic));
            let reader = turn.by_ref().take(members.len()).find(reads);
            if let Some(share) = reader.and_then(|at| shares.get_mut(at)) {
                share.push(TopicPartition::new(Arc::clone(topic), partition));
            }
        }
    }
    shares
}
