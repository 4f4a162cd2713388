//! Evenly, and with as little change as can be. Where all members read the same topics, each gets the same number, or one
//! more; else see [`general`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::claims::{self, Claims};
use super::general;
use super::{PartitionCounts, Past, Subscription, TopicPartition};

/// What comes of an assignment.
pub(super) struct Assigned {
    /// By member.
    pub(super) shares: Vec<Vec<TopicPartition>>,
    /// Partitions that another member has to give up first, and who gets them; none: to be found by comparing.
    transferring: Option<HashMap<TopicPartition, usize>>,
}

/// Shares out the partitions.
pub(super) fn assign(members: &[Subscription], counts: &PartitionCounts, pasts: &[Past]) -> Assigned {
    let claims = claims::settle(members, counts, pasts);
    if claims.all_equal {
        return Evenly::new(members, counts, claims).run();
    }
    Assigned { shares: general::assign(members, counts, pasts, claims), transferring: None }
}

/// The same, without what another member still has to give up: it gets that in the next rebalance.
pub(super) fn assign_cooperatively(
    members: &[Subscription],
    counts: &PartitionCounts,
    pasts: &[Past],
) -> Vec<Vec<TopicPartition>> {
    let Assigned { mut shares, transferring } = assign(members, counts, pasts);
    let transferring = transferring.unwrap_or_else(|| compare(members, &shares));
    for (partition, member) in transferring {
        if let Some(share) = shares.get_mut(member) {
            share.retain(|it| *it != partition);
        }
    }
    shares
}

/// What one member loses and another one gets.
fn compare(members: &[Subscription], shares: &[Vec<TopicPartition>]) -> HashMap<TopicPartition, usize> {
    let lost: HashSet<&TopicPartition> = members
        .iter()
        .zip(shares)
        .flat_map(|(member, share)| member.owned.iter().filter(|it| !share.contains(it)))
        .collect();
    let mut transferring = HashMap::new();
    for (at, (member, share)) in members.iter().zip(shares).enumerate() {
        let added = share.iter().filter(|it| !member.owned.contains(it) && lost.contains(it));
        transferring.extend(added.map(|it| (it.clone(), at)));
    }
    transferring
}

/// All members read the same: each gets `least` partitions, and `larger` of them one more.
struct Evenly<'a> {
    members: &'a [Subscription],
    counts: &'a PartitionCounts,
    claims: Claims,
    least: usize,
    most: usize,
    larger: usize,
    /// Members that have `most` by now, where that is more than `least`.
    larger_now: usize,
    shares: Vec<Vec<TopicPartition>>,
    kept: HashSet<TopicPartition>,
    /// What a member owned and does not keep.
    given_up: HashMap<TopicPartition, usize>,
    transferring: HashMap<TopicPartition, usize>,
    /// Members with fewer than `least`.
    below: Vec<usize>,
    /// Members with `least` that may get one more.
    at_least: VecDeque<usize>,
}

impl<'a> Evenly<'a> {
    fn new(members: &'a [Subscription], counts: &'a PartitionCounts, claims: Claims) -> Self {
        let total: usize = counts.values().map(|count| *count as usize).sum();
        let readers = members.len().max(1);
        Self {
            members,
            counts,
            claims,
            least: total / readers,
            most: total.div_ceil(readers),
            larger: total % readers,
            larger_now: 0,
            shares: vec![Vec::new(); members.len()],
            kept: HashSet::new(),
            given_up: HashMap::new(),
            transferring: HashMap::new(),
            below: Vec::new(),
            at_least: VecDeque::new(),
        }
    }

    fn run(mut self) -> Assigned {
        self.keep_owned();
        let (members, kept) = (self.members, &self.kept);
        let id_of = |at: &usize| members.get(*at).map(|member| Arc::clone(&member.member_id));
        self.below.sort_by_key(id_of);
        self.at_least.make_contiguous().sort_by_key(id_of);
        let of_topic = |(topic, count): (&Arc<str>, &i32)| {
            let topic = Arc::clone(topic);
            (0..*count).map(move |partition| TopicPartition::new(Arc::clone(&topic), partition))
        };
        let free: Vec<_> =
            self.counts.iter().flat_map(of_topic).filter(|partition| !kept.contains(partition)).collect();
        self.deal(free);
        Assigned { shares: self.shares, transferring: Some(self.transferring) }
    }

    /// Every member keeps what it had, up to its share.
    fn keep_owned(&mut self) {
        for at in self.claims.order.clone() {
            let mut owned = self.claims.owned.get_mut(at).map(std::mem::take).unwrap_or_default();
            owned.retain(|partition| !self.claims.disputed.contains(partition));
            owned.sort_by(|a, b| (a.partition, &a.topic).cmp(&(b.partition, &b.topic)));
            let keeps = if owned.len() < self.least {
                self.below.push(at);
                owned.len()
            } else if owned.len() >= self.most && self.larger_now < self.larger {
                self.larger_now += 1;
                if self.larger_now == self.larger {
                    self.at_least.clear();
                }
                self.most
            } else {
                if self.larger_now < self.larger {
                    self.at_least.push_back(at);
                }
                self.least
            };
            let given_up = owned.split_off(keeps);
            self.given_up.extend(given_up.into_iter().map(|partition| (partition, at)));
            self.kept.extend(owned.iter().cloned());
            if let Some(share) = self.shares.get_mut(at) {
                *share = owned;
            }
        }
    }

    /// The rest goes round: first to members below `least`, then to those that may have one more.
    fn deal(&mut self, free: Vec<TopicPartition>) {
        let mut turn = 0;
        for partition in free {
            if turn >= self.below.len() {
                turn = 0;
            }
            let from_below = self.below.get(turn).copied();
            let Some(member) = from_below.or_else(|| self.at_least.pop_front()) else { break };
            let count = self.give(partition, member);
            if from_below.is_some() && count == self.least {
                self.below.remove(turn);
                self.at_least.push_back(member);
            } else if from_below.is_some() {
                turn += 1;
            }
        }
    }

    fn give(&mut self, partition: TopicPartition, member: usize) -> usize {
        let from_another = self.given_up.get(&partition).is_some_and(|owner| *owner != member);
        if from_another || self.claims.disputed.contains(&partition) {
            self.transferring.insert(partition.clone(), member);
        }
        let Some(share) = self.shares.get_mut(member) else { return 0 };
        share.push(partition);
        share.len()
    }
}
