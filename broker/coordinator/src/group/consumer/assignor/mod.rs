//! Which member gets which partitions. Pure functions of subscriptions, topics and the target before.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use ottla_wire::Uuid;

use super::super::Text;
use super::Partitions;

/// The assignor of a group whose members ask for none.
pub(super) const DEFAULT: &str = uniform::NAME;

/// What an assignor is told.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// The members.
    pub(super) members: BTreeMap<Text, Candidate>,
    /// How many partitions each topic has that some member subscribes to.
    pub(super) partition_counts: BTreeMap<Uuid, i32>,
}

/// A member, as an assignor sees it.
#[derive(Debug, Default)]
pub(super) struct Candidate {
    pub(super) instance_id: Option<Text>,
    /// The topics that it subscribes to.
    pub(super) topics: BTreeSet<Uuid>,
    /// What it was to own so far.
    pub(super) target: Partitions,
}

/// What each member is to own.
pub(super) type Answer = BTreeMap<Text, Partitions>;

/// Whether there is an assignor of that name.
pub(super) fn is_known(name: &str) -> bool {
    matches!(name, uniform::NAME | range::NAME)
}

/// The names of all assignors, for an error.
pub(super) fn names() -> String {
    [uniform::NAME, range::NAME].join(", ")
}

/// Asks the assignor of a name, or the default one.
pub(super) fn assign(name: &str, question: &Question) -> Answer {
    match name {
        range::NAME => range::assign(question),
        _ => uniform::assign(question),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(number: usize) -> Uuid {
        Uuid::from_u128(number as u128 + 1)
    }

    /// Members with the topics they want, and topics with their partitions.
    fn question(wants: &[Vec<usize>], counts: &[i32]) -> Question {
        let members = wants.iter().enumerate().map(|(number, wants)| {
            let topics = wants.iter().filter(|want| **want < counts.len()).map(|want| topic(*want)).collect();
            (Text::from(format!("m{number:03}")), Candidate { topics, ..Candidate::default() })
        });
        let counts = counts.iter().enumerate().map(|(number, count)| (topic(number), *count));
        Question { members: members.collect(), partition_counts: counts.collect() }
    }

    fn total(partitions: &Partitions) -> usize {
        partitions.values().map(BTreeSet::len).sum()
    }

    /// Every partition that some member wants has one owner, which wants it; no other partition has one.
    fn check(question: &Question, answer: &Answer) {
        let mut owners: BTreeMap<(Uuid, i32), &Text> = BTreeMap::new();
        for (member, partitions) in answer {
            for (topic, partitions) in partitions {
                assert!(question.members[member].topics.contains(topic), "{member} does not want {topic}");
                for partition in partitions {
                    assert!((0..question.partition_counts[topic]).contains(partition));
                    assert!(owners.insert((*topic, *partition), member).is_none(), "two own {topic}/{partition}");
                }
            }
        }
        let wanted: BTreeSet<Uuid> =
            question.members.values().flat_map(|member| member.topics.iter().copied()).collect();
        let expected: i32 = wanted.iter().map(|topic| question.partition_counts[topic]).sum();
        assert_eq!(owners.len(), expected as usize, "a partition has no owner");
    }

    /// Takes an answer as what there was, and forgets some members.
    fn after(mut question: Question, answer: &Answer, gone: usize) -> Question {
        for (member, candidate) in &mut question.members {
            candidate.target = answer.get(member).cloned().unwrap_or_default();
        }
        for _ in 0..gone {
            question.members.pop_first();
        }
        question
    }

    proptest! {
        #[test]
        fn every_wanted_partition_has_one_owner(
            wants in prop::collection::vec(prop::collection::vec(0..6_usize, 0..5), 1..12),
            counts in prop::collection::vec(0..9_i32, 6),
            gone in 0..3_usize,
        ) {
            for name in [uniform::NAME, range::NAME] {
                let first = question(&wants, &counts);
                let answer = assign(name, &first);
                check(&first, &answer);
                let second = after(first, &answer, gone);
                check(&second, &assign(name, &second));
            }
        }

        #[test]
        fn uniform_is_even_where_all_want_the_same(members in 1..20_usize, counts in prop::collection::vec(0..30_i32, 1..5), gone in 0..5_usize) {
            let wants = vec![(0..counts.len()).collect::<Vec<_>>(); members];
            let first = question(&wants, &counts);
            let answer = assign(uniform::NAME, &first);
            let second = after(first, &answer, gone.min(members - 1));
            let answer = assign(uniform::NAME, &second);
            let sizes: Vec<usize> = second.members.keys().map(|member| answer.get(member).map_or(0, total)).collect();
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", sizes);
        }

        #[test]
        fn uniform_moves_nothing_that_may_stay(members in 1..20_usize, count in 0..60_i32) {
            let first = question(&vec![vec![0]; members], &[count]);
            let answer = assign(uniform::NAME, &first);
            let again = after(first, &answer, 0);
            prop_assert_eq!(&assign(uniform::NAME, &again), &answer);
        }
    }

    #[test]
    fn a_member_that_leaves_moves_its_own_partitions_alone() {
        let first = question(&vec![vec![0]; 4], &[16]);
        let answer = assign(uniform::NAME, &first);
        let second = after(first, &answer, 1);
        let moved = assign(uniform::NAME, &second);
        for (member, candidate) in &second.members {
            let kept: &BTreeSet<i32> = &moved[member][&topic(0)];
            assert!(candidate.target[&topic(0)].is_subset(kept), "{member}");
        }
    }

    #[test]
    fn range_gives_the_same_member_the_same_partitions_of_topics_of_one_size() {
        let question = question(&vec![vec![0, 1]; 3], &[7, 7]);
        let answer = assign(range::NAME, &question);
        for partitions in answer.values() {
            assert_eq!(partitions[&topic(0)], partitions[&topic(1)]);
        }
        let sizes: Vec<usize> = answer.values().map(|partitions| partitions[&topic(0)].len()).collect();
        assert_eq!(sizes, [3, 2, 2]);
        assert_eq!(answer["m000"][&topic(0)], BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn range_orders_static_members_by_their_instance_ids() {
        let mut question = question(&vec![vec![0]; 2], &[2]);
        for (member, instance) in [("m000", "z"), ("m001", "a")] {
            question.members.get_mut(member).unwrap().instance_id = Some(instance.into());
        }
        let answer = assign(range::NAME, &question);
        assert_eq!(answer["m001"][&topic(0)], BTreeSet::from([0]));
        assert_eq!(answer["m000"][&topic(0)], BTreeSet::from([1]));
    }
}
