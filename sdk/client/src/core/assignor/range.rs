//! Ranges: every topic by itself is cut into as many pieces as it has members, the first ones larger by one.

use std::sync::Arc;

use super::{PartitionCounts, Subscription, TopicPartition, in_member_order};

pub(super) fn assign(members: &[Subscription], counts: &PartitionCounts) -> Vec<Vec<TopicPartition>> {
    let mut shares = vec![Vec::new(); members.len()];
    let order = in_member_order(members);
    for (topic, count) in counts {
        let subscribed = |at: &&usize| members.get(**at).is_some_and(|member| member.topics.contains(topic));
        let readers: Vec<usize> = order.iter().filter(subscribed).copied().collect();
        let (count, readers_count) = (*count as usize, readers.len().max(1));
        let (least, larger) = (count / readers_count, count % readers_count);
        let mut next = 0;
        for (at, member) in readers.into_iter().enumerate() {
            let end = next + least + usize::from(at < larger);
            if let Some(share) = shares.get_mut(member) {
                share.extend((next..end).map(|partition| TopicPartition::new(Arc::clone(topic), partition as i32)));
            }
            next = end;
        }
    }
    shares
}
