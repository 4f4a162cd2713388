//! What members had, and have a right to keep.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::java_map;
use super::{NO_GENERATION, PartitionCounts, Past, Subscription, TopicPartition};

/// What members have a right to keep.
pub(super) struct Claims {
    /// By member.
    pub(super) owned: Vec<Vec<TopicPartition>>,
    /// Claimed by several members of one generation.
    pub(super) disputed: HashSet<TopicPartition>,
    pub(super) generation_max: i32,
    /// The members in the order in which Java's maps hand them out.
    pub(super) order: Vec<usize>,
    /// All members read the same topics.
    pub(super) all_equal: bool,
}

/// Which member may keep which partition: one of a newer generation before one of an older, and no member where two of one
/// generation claim the same.
pub(super) fn settle(members: &[Subscription], counts: &PartitionCounts, pasts: &[Past]) -> Claims {
    let order = java_map::order_of(members.iter().map(|member| &*member.member_id));
    let mut claims = Claims {
        owned: vec![Vec::new(); members.len()],
        disputed: HashSet::new(),
        generation_max: NO_GENERATION,
        order: order.clone(),
        all_equal: true,
    };
    let mut topics: HashSet<&Arc<str>> = HashSet::new();
    let generation_of = |at: usize| members.get(at).and_then(|member| member.generation).unwrap_or(NO_GENERATION);
    let mut owner_of: HashMap<TopicPartition, usize> = HashMap::new();
    for at in order {
        let reads: HashSet<&Arc<str>> = members.get(at).into_iter().flat_map(|member| &member.topics).collect();
        if topics.is_empty() {
            topics = reads;
        } else {
            claims.all_equal &= reads == topics;
        }
        let Some(past) = pasts.get(at) else { continue };
        let generation = past.generation.unwrap_or(NO_GENERATION);
        claims.generation_max = claims.generation_max.max(generation);
        for partition in &past.partitions {
            let exists = counts.get(&partition.topic).is_some_and(|count| (0..*count).contains(&partition.partition));
            if !exists {
                continue;
            }
            let rival = owner_of.get(partition).copied();
            let wins = match rival {
                None => true,
                Some(rival) if generation_of(rival) == generation => {
                    claims.disputed.insert(partition.clone());
                    owner_of.insert(partition.clone(), at);
                    claims.withdraw(rival, partition);
                    false
                }
                Some(rival) => generation > generation_of(rival),
            };
            if !wins {
                continue;
            }
            if let Some(rival) = rival {
                claims.withdraw(rival, partition);
            }
            owner_of.insert(partition.clone(), at);
            if let Some(owned) = claims.owned.get_mut(at) {
                owned.push(partition.clone());
            }
        }
    }
    claims
}

impl Claims {
    fn withdraw(&mut self, member: usize, partition: &TopicPartition) {
        if let Some(owned) = self.owned.get_mut(member) {
            owned.retain(|it| it != partition);
        }
    }
}
