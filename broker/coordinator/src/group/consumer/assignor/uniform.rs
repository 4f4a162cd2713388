//! `uniform`: as even as the subscriptions allow, and every partition stays where it is unless that makes it uneven.

use std::collections::{BTreeMap, BTreeSet};

use ottla_wire::Uuid;

use super::super::super::Text;
use super::{Answer, Question};

pub(super) const NAME: &str = "uniform";

/// How often all partitions are looked at to even things out where subscriptions differ. Each time the difference that is
/// left shrinks; what is left after that is left.
const PASSES_MAX: usize = 16;

struct Board<'a> {
    members: Vec<&'a Text>,
    /// How many partitions each member has.
    loads: Vec<usize>,
    owners: BTreeMap<(Uuid, i32), usize>,
    /// The members that subscribe to a topic, by index.
    subscribers: BTreeMap<Uuid, Vec<usize>>,
}

pub(super) fn assign(question: &Question) -> Answer {
    let mut board = Board::of(question);
    board.keep(question);
    board.trim();
    board.hand_out(question);
    board.even_out();
    board.answer()
}

impl<'a> Board<'a> {
    fn of(question: &'a Question) -> Self {
        let members: Vec<&Text> = question.members.keys().collect();
        let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (index, member) in question.members.values().enumerate() {
            for topic in &member.topics {
                subscribers.entry(*topic).or_default().push(index);
            }
        }
        Self { loads: vec![0; members.len()], members, owners: BTreeMap::new(), subscribers }
    }

    fn give(&mut self, place: (Uuid, i32), member: usize) {
        if let Some(before) = self.owners.insert(place, member) {
            self.loads[before] -= 1;
        }
        self.loads[member] += 1;
    }

    /// Everything stays where it was, as far as it is still wanted there.
    fn keep(&mut self, question: &Question) {
        for (index, member) in question.members.values().enumerate() {
            for (topic, partitions) in &member.target {
                let count = question.partition_counts.get(topic).copied().unwrap_or(0);
                if !member.topics.contains(topic) {
                    continue;
                }
                for partition in partitions.range(..count) {
                    if !self.owners.contains_key(&(*topic, *partition)) {
                        self.give((*topic, *partition), index);
                    }
                }
            }
        }
    }

    /// Where all members subscribe to the same topics, none keeps more than its share: the rest is handed out anew.
    fn trim(&mut self) {
        let members = self.members.len();
        let all_want_the_same = self.subscribers.values().all(|subscribers| subscribers.len() == members);
        if !all_want_the_same || members == 0 {
            return;
        }
        let total: usize = self.owners.len();
        let share = total.div_ceil(members).max(1);
        let surplus: Vec<((Uuid, i32), usize)> =
            self.owners.iter().rev().map(|(place, member)| (*place, *member)).collect();
        for (place, member) in surplus {
            if self.loads[member] > share {
                self.owners.remove(&place);
                self.loads[member] -= 1;
            }
        }
    }

    /// Every partition without an owner goes to the subscriber that has least, those with few subscribers first.
    fn hand_out(&mut self, question: &Question) {
        let mut topics: Vec<(usize, Uuid)> =
            self.subscribers.iter().map(|(topic, subscribers)| (subscribers.len(), *topic)).collect();
        topics.sort_unstable();
        for (_, topic) in topics {
            let count = question.partition_counts.get(&topic).copied().unwrap_or(0);
            let mut by_load: BTreeSet<(usize, usize)> =
                self.subscribers[&topic].iter().map(|member| (self.loads[*member], *member)).collect();
            for partition in 0..count {
                if self.owners.contains_key(&(topic, partition)) {
                    continue;
                }
                let Some((load, member)) = by_load.pop_first() else { break };
                self.give((topic, partition), member);
                by_load.insert((load + 1, member));
            }
        }
    }

    /// Moves partitions from members that have more to subscribers that have at least two less.
    fn even_out(&mut self) {
        for _ in 0..PASSES_MAX {
            let mut moved = false;
            let places: Vec<(Uuid, i32)> = self.owners.keys().copied().collect();
            for place in places {
                let owner = self.owners[&place];
                let subscribers = &self.subscribers[&place.0];
                let Some(least) = subscribers.iter().copied().min_by_key(|member| self.loads[*member]) else {
                    continue;
                };
                if self.loads[owner] > self.loads[least] + 1 {
                    self.give(place, least);
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
    }

    fn answer(self) -> Answer {
        let mut answer = Answer::new();
        for ((topic, partition), member) in self.owners {
            let partitions = answer.entry(Text::clone(self.members[member])).or_default();
            partitions.entry(topic).or_default().insert(partition);
        }
        answer
    }
}
