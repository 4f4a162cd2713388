//! Sticky where members read different topics: what was owned stays, what is free goes to the member with the least, and
//! then partitions move from members with more to members with less until that makes nothing more even.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::claims::Claims;
use super::java_map::PartitionSet;
use super::{NO_GENERATION, PartitionCounts, Past, Subscription, TopicPartition};

pub(super) fn assign(
    members: &[Subscription],
    counts: &PartitionCounts,
    pasts: &[Past],
    claims: Claims,
) -> Vec<Vec<TopicPartition>> {
    let previous = previous_owners(pasts, &claims);
    let mut balance = Balance::new(members, counts, previous);
    balance.keep_owned(claims);
    balance.run();
    balance.shares
}

/// Who had what in an earlier generation than the last one.
fn previous_owners(pasts: &[Past], claims: &Claims) -> HashMap<TopicPartition, usize> {
    let mut previous: HashMap<TopicPartition, (i32, usize)> = HashMap::new();
    for at in &claims.order {
        let Some(past) = pasts.get(*at) else { continue };
        let generation = past.generation.unwrap_or(NO_GENERATION);
        if generation >= claims.generation_max {
            continue;
        }
        for partition in &past.partitions {
            let known = previous.get(partition).is_some_and(|(known, _)| *known >= generation);
            if !known {
                previous.insert(partition.clone(), (generation, *at));
            }
        }
    }
    previous.into_iter().map(|(partition, (_, member))| (partition, member)).collect()
}

struct Balance<'a> {
    counts: &'a PartitionCounts,
    /// By member: the topics that it reads and that there are.
    topics: Vec<Vec<Arc<str>>>,
    /// By topic: how many members read it.
    readers: HashMap<Arc<str>, usize>,
    /// By member: its place among the sorted ids, which breaks ties.
    ranks: Vec<usize>,
    shares: Vec<Vec<TopicPartition>>,
    owner: HashMap<TopicPartition, usize>,
    previous: HashMap<TopicPartition, usize>,
    /// Members that take part, by the size of their shares.
    by_size: BTreeSet<(usize, usize, usize)>,
    movements: Movements,
    /// A member does not read any more what it owned.
    revokes: bool,
}

impl<'a> Balance<'a> {
    fn new(members: &[Subscription], counts: &'a PartitionCounts, previous: HashMap<TopicPartition, usize>) -> Self {
        let existing = |member: &Subscription| -> Vec<Arc<str>> {
            member.topics.iter().filter(|topic| counts.contains_key(*topic)).cloned().collect()
        };
        let topics: Vec<Vec<Arc<str>>> = members.iter().map(existing).collect();
        let mut readers = HashMap::new();
        for topic in topics.iter().flatten() {
            *readers.entry(Arc::clone(topic)).or_insert(0) += 1;
        }
        let mut sorted: Vec<usize> = (0..members.len()).collect();
        sorted.sort_by_key(|at| members.get(*at).map(|member| Arc::clone(&member.member_id)));
        let mut ranks = vec![0; members.len()];
        for (rank, at) in sorted.into_iter().enumerate() {
            if let Some(place) = ranks.get_mut(at) {
                *place = rank;
            }
        }
        Self {
            counts,
            topics,
            readers,
            ranks,
            shares: vec![Vec::new(); members.len()],
            owner: HashMap::new(),
            previous,
            by_size: BTreeSet::new(),
            movements: Movements::default(),
            revokes: false,
        }
    }

    fn keep_owned(&mut self, claims: Claims) {
        for (at, owned) in claims.owned.into_iter().enumerate() {
            for partition in owned {
                self.owner.insert(partition.clone(), at);
                if self.reads(at, &partition.topic) {
                    self.share_mut(at).push(partition);
                } else {
                    self.revokes = true;
                }
            }
        }
    }

    fn reads(&self, member: usize, topic: &Arc<str>) -> bool {
        self.topics.get(member).is_some_and(|topics| topics.contains(topic))
    }

    fn share_mut(&mut self, member: usize) -> &mut Vec<TopicPartition> {
        // Members are numbered by their places in `shares`.
        &mut self.shares[member]
    }

    fn size(&self, member: usize) -> usize {
        self.shares.get(member).map_or(0, Vec::len)
    }

    fn key(&self, member: usize) -> (usize, usize, usize) {
        (self.size(member), self.ranks.get(member).copied().unwrap_or_default(), member)
    }

    fn is_shared(&self, topic: &Arc<str>) -> bool {
        self.readers.get(topic).is_some_and(|readers| *readers >= 2)
    }

    /// As many partitions as a member could have.
    fn size_max(&self, member: usize) -> usize {
        let topics = self.topics.get(member).into_iter().flatten();
        topics.filter_map(|topic| self.counts.get(topic)).map(|count| *count as usize).sum()
    }

    fn run(&mut self) {
        let mut all: Vec<TopicPartition> = Vec::new();
        let mut topics: Vec<(&Arc<str>, &i32)> = self.counts.iter().collect();
        topics.sort_by_key(|(topic, _)| (self.readers.get(*topic).copied().unwrap_or(0), Arc::clone(topic)));
        for (topic, count) in topics {
            all.extend((0..*count).map(|partition| TopicPartition::new(Arc::clone(topic), partition)));
        }
        let kept: HashSet<&TopicPartition> = self.shares.iter().flatten().collect();
        let mut free: Vec<TopicPartition> = all.iter().filter(|it| !kept.contains(it)).cloned().collect();
        self.by_size = (0..self.shares.len()).map(|member| self.key(member)).collect();
        let starts_empty = self.shares.iter().all(Vec::is_empty);
        for partition in &free {
            self.give_to_smallest(partition);
        }
        all.retain(|partition| self.is_shared(&partition.topic));
        free.retain(|partition| self.is_shared(&partition.topic));
        for member in 0..self.shares.len() {
            if !self.takes_part(member) {
                let key = self.key(member);
                self.by_size.remove(&key);
            }
        }
        let before = self.shares.clone();
        if !self.revokes {
            self.reassign(&free);
        }
        let moved = self.reassign(&all);
        if !starts_empty && moved && self.score(&self.shares) >= self.score(&before) {
            self.shares = before;
        }
    }

    fn give_to_smallest(&mut self, partition: &TopicPartition) {
        let reader = self.by_size.iter().copied().find(|(_, _, member)| self.reads(*member, &partition.topic));
        let Some(key) = reader else { return };
        let (_, _, member) = key;
        self.by_size.remove(&key);
        self.share_mut(member).push(partition.clone());
        self.owner.insert(partition.clone(), member);
        let key = self.key(member);
        self.by_size.insert(key);
    }

    /// Whether moving partitions could change what this member has.
    fn takes_part(&self, member: usize) -> bool {
        let share = self.shares.get(member).map_or(&[][..], Vec::as_slice);
        share.len() < self.size_max(member) || share.iter().any(|partition| self.is_shared(&partition.topic))
    }

    /// How uneven the shares of those are that take part.
    fn score(&self, shares: &[Vec<TopicPartition>]) -> usize {
        let members = self.by_size.iter().map(|(_, _, member)| *member);
        let sizes: Vec<usize> = members.filter_map(|member| shares.get(member)).map(Vec::len).collect();
        let of_one =
            |(at, size): (usize, &usize)| sizes.iter().skip(at + 1).map(|other| size.abs_diff(*other)).sum::<usize>();
        sizes.iter().enumerate().map(of_one).sum()
    }

    fn is_balanced(&self) -> bool {
        let (Some((least, ..)), Some((most, ..))) = (self.by_size.first(), self.by_size.last()) else { return true };
        if least + 1 >= *most {
            return true;
        }
        let mut owner: HashMap<&TopicPartition, usize> = HashMap::new();
        for (_, _, member) in &self.by_size {
            owner.extend(self.shares.get(*member).into_iter().flatten().map(|partition| (partition, *member)));
        }
        self.by_size.iter().all(|(size, _, member)| {
            if *size == self.size_max(*member) {
                return true;
            }
            let topics: HashSet<&Arc<str>> = self.topics.get(*member).into_iter().flatten().collect();
            let could_get = owner.iter().filter(|(partition, _)| topics.contains(&partition.topic));
            could_get.filter(|(_, other)| *other != member).all(|(_, other)| size + 1 >= self.size(*other))
        })
    }

    fn reassign(&mut self, partitions: &[TopicPartition]) -> bool {
        let mut moved_any = false;
        loop {
            let mut moved = false;
            for partition in partitions {
                if self.is_balanced() {
                    break;
                }
                let Some(member) = self.owner.get(partition).copied() else { continue };
                let size = self.size(member);
                let had_it = self.previous.get(partition).copied();
                if let Some(previous) = had_it.filter(|previous| size > self.size(*previous) + 1) {
                    self.move_to(partition, previous);
                    moved = true;
                    continue;
                }
                let mut readers = (0..self.topics.len()).filter(|other| self.reads(*other, &partition.topic));
                if readers.any(|other| size > self.size(other) + 1) {
                    let smallest = self.by_size.iter().find(|(_, _, other)| self.reads(*other, &partition.topic));
                    if let Some((_, _, other)) = smallest.copied() {
                        self.move_to(partition, other);
                        moved = true;
                    }
                }
            }
            moved_any |= moved;
            if !moved {
                return moved_any;
            }
        }
    }

    /// Moves this partition, or one of its topic that came the other way before: then it goes back instead.
    fn move_to(&mut self, partition: &TopicPartition, to: usize) {
        let Some(from) = self.owner.get(partition).copied() else { return };
        let partition = self.movements.better_to_move(partition, from, to);
        let from = self.owner.get(&partition).copied().unwrap_or(from);
        let (from_key, to_key) = (self.key(from), self.key(to));
        self.by_size.remove(&from_key);
        self.by_size.remove(&to_key);
        self.movements.record(&partition, from, to);
        let share = self.share_mut(from);
        if let Some(at) = share.iter().position(|it| *it == partition) {
            share.remove(at);
        }
        self.share_mut(to).push(partition.clone());
        self.owner.insert(partition, to);
        let (from_key, to_key) = (self.key(from), self.key(to));
        self.by_size.insert(to_key);
        self.by_size.insert(from_key);
    }
}

/// Which partitions moved between which members, so that none moves against another one of its topic.
#[derive(Debug, Default)]
struct Movements {
    of_partition: HashMap<TopicPartition, (usize, usize)>,
    by_topic: HashMap<Arc<str>, HashMap<(usize, usize), PartitionSet>>,
}

impl Movements {
    fn better_to_move(&self, partition: &TopicPartition, from: usize, to: usize) -> TopicPartition {
        let origin = self.of_partition.get(partition).map_or(from, |(origin, _)| *origin);
        let against = self.by_topic.get(&partition.topic).and_then(|moves| moves.get(&(to, origin)));
        against.and_then(PartitionSet::first).unwrap_or(partition).clone()
    }

    fn record(&mut self, partition: &TopicPartition, from: usize, to: usize) {
        let origin = match self.of_partition.remove(partition) {
            Some((origin, at)) => {
                self.forget(partition, (origin, at));
                origin
            }
            None => from,
        };
        if origin == to {
            return;
        }
        self.of_partition.insert(partition.clone(), (origin, to));
        let moves = self.by_topic.entry(Arc::clone(&partition.topic)).or_default();
        moves.entry((origin, to)).or_default().insert(partition.clone());
    }

    fn forget(&mut self, partition: &TopicPartition, way: (usize, usize)) {
        let Some(moves) = self.by_topic.get_mut(&partition.topic) else { return };
        let Some(set) = moves.get_mut(&way) else { return };
        set.remove(partition);
        if set.is_empty() {
            moves.remove(&way);
        }
        if moves.is_empty() {
            self.by_topic.remove(&partition.topic);
        }
    }
}
