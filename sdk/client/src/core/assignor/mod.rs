//! Who reads what: the leader of a classic group shares the partitions out among its members.
//!
//! The four assignors of Apache's Java client, with the same result for the same input, so that a group of both may have
//! either as its leader: `vectors/assignors_java.txt` was made by the Java client, and a test compares. Where Java's result
//! depends on the order of its hash maps, [`java_map`] has that order. Racks are not looked at.

mod claims;
mod general;
mod java_map;
mod range;
mod round_robin;
mod sticky;

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_wire::consumer_protocol::{ConsumerProtocolPartitions, StickyUserData};

use super::topic_partition::TopicPartition;

/// A way to share out partitions (Kafka's `partition.assignment.strategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Assignor {
    /// Every topic by itself: its partitions in order, cut into as many ranges as it has members.
    Range,
    /// All partitions of all topics in turn.
    RoundRobin,
    /// Evenly, and each member keeps as much as it can. A rebalance stops all members.
    Sticky,
    /// The same shares; a rebalance takes from a member only what it loses (KIP-429).
    CooperativeSticky,
}

impl Assignor {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Range, Self::RoundRobin, Self::Sticky, Self::CooperativeSticky];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The one of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Whether members keep what they own while a rebalance is under way.
    pub fn is_cooperative(self) -> bool {
        self == Self::CooperativeSticky
    }

    /// The share of each member, in the order of `members`.
    pub(crate) fn assign(self, members: &[Subscription], counts: &PartitionCounts) -> Vec<Vec<TopicPartition>> {
        let wanted = |topic: &Arc<str>| members.iter().any(|member| member.topics.contains(topic));
        let counts: PartitionCounts = counts
            .iter()
            .filter(|(topic, count)| **count > 0 && wanted(topic))
            .map(|(t, n)| (Arc::clone(t), *n))
            .collect();
        match self {
            Self::Range => range::assign(members, &counts),
            Self::RoundRobin => round_robin::assign(members, &counts),
            Self::Sticky => {
                sticky::assign(members, &counts, &members.iter().map(sticky_past).collect::<Vec<_>>()).shares
            }
            Self::CooperativeSticky => sticky::assign_cooperatively(
                members,
                &counts,
                &members.iter().map(cooperative_past).collect::<Vec<_>>(),
            ),
        }
    }
}

/// Java's generation of a member that does not say it.
const NO_GENERATION: i32 = -1;

/// How many partitions each topic has.
pub(crate) type PartitionCounts = BTreeMap<Arc<str>, i32>;

/// What a member told when it joined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscription {
    pub(crate) member_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) owned: Vec<TopicPartition>,
    /// The generation in which it got what it owns; none where it does not say.
    pub(crate) generation: Option<i32>,
    pub(crate) user_data: Option<Vec<u8>>,
}

/// What a member had, as far as a sticky assignor cares.
#[derive(Clone, Debug, Default)]
struct Past {
    partitions: Vec<TopicPartition>,
    generation: Option<i32>,
}

/// Members in the order of Java's `MemberInfo`: static ones by instance id, then the others by member id.
fn in_member_order(members: &[Subscription]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|at| {
        members
            .get(*at)
            .map(|member| (member.instance_id.is_none(), member.instance_id.clone(), member.member_id.clone()))
    });
    order
}

/// The sticky assignor goes by its user data.
fn sticky_past(member: &Subscription) -> Past {
    let Some(bytes) = member.user_data.as_deref().filter(|bytes| !bytes.is_empty()) else { return Past::default() };
    match StickyUserData::parse(bytes) {
        Ok((says_generation, data)) => Past {
            partitions: partitions_of(&data.previous_assignment),
            generation: says_generation.then_some(data.generation),
        },
        Err(_) => Past { partitions: Vec::new(), generation: Some(NO_GENERATION) },
    }
}

/// The cooperative one goes by what members own, and by the generation in their subscription; older ones have it in their
/// user data.
fn cooperative_past(member: &Subscription) -> Past {
    let in_user_data =
        |bytes: &Vec<u8>| bytes.first_chunk::<4>().map_or(NO_GENERATION, |generation| i32::from_be_bytes(*generation));
    let generation = member.generation.or_else(|| member.user_data.as_ref().map(in_user_data));
    Past { partitions: member.owned.clone(), generation }
}

/// Partitions by topic, one by one.
pub(crate) fn partitions_of(topics: &[ConsumerProtocolPartitions<'_>]) -> Vec<TopicPartition> {
    let of_topic = |topic: &ConsumerProtocolPartitions<'_>| {
        let name: Arc<str> = (&*topic.topic).into();
        topic.partitions.clone().into_iter().map(move |partition| TopicPartition::new(Arc::clone(&name), partition))
    };
    topics.iter().flat_map(of_topic).collect()
}

/// What the assignor adds to the subscription of a member that owns this.
pub(crate) fn user_data(assignor: Assignor, owned: &[TopicPartition], generation: i32) -> Option<Vec<u8>> {
    match assignor {
        Assignor::Range | Assignor::RoundRobin => None,
        Assignor::CooperativeSticky => Some(generation.to_be_bytes().to_vec()),
        Assignor::Sticky if generation < 0 => None,
        Assignor::Sticky => {
            let mut bytes = Vec::new();
            StickyUserData { previous_assignment: by_topic(owned), generation }.write(&mut bytes);
            Some(bytes)
        }
    }
}

/// Partitions as the protocol lists them.
pub(crate) fn by_topic(partitions: &[TopicPartition]) -> Vec<ConsumerProtocolPartitions<'_>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let listed =
        |(topic, partitions): (&'_ str, _)| ConsumerProtocolPartitions { topic: topic.to_owned().into(), partitions };
    topics.into_iter().map(listed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One group of the vectors.
    #[derive(Default)]
    struct Group {
        name: String,
        counts: PartitionCounts,
        members: Vec<Subscription>,
        shares: Vec<(Assignor, Vec<Vec<TopicPartition>>)>,
    }

    fn list(text: &str) -> Vec<TopicPartition> {
        let one = |place: &str| {
            let (topic, partition) = place.rsplit_once('-').unwrap();
            TopicPartition::new(topic, partition.parse().unwrap())
        };
        text.split(',').filter(|place| *place != "-").map(one).collect()
    }

    fn hex(text: &str) -> Option<Vec<u8>> {
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (text != "-").then(|| (0..text.len()).step_by(2).map(byte).collect())
    }

    fn groups(text: &str) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["group", name] = words[..] {
                groups.push(Group { name: name.to_owned(), ..Group::default() });
                continue;
            }
            let group = groups.last_mut().unwrap();
            match words[..] {
                ["topic", name, count] => {
                    group.counts.insert(name.into(), count.parse().unwrap());
                }
                ["member", id, instance, generation, topics, owned, user_data] => group.members.push(Subscription {
                    member_id: id.into(),
                    instance_id: (instance != "-").then(|| instance.into()),
                    topics: topics.split(',').filter(|topic| *topic != "-").map(Arc::from).collect(),
                    owned: list(owned),
                    generation: generation.parse().ok(),
                    user_data: hex(user_data),
                }),
                ["by", name] => group.shares.push((Assignor::of_name(name).unwrap(), Vec::new())),
                ["share", _, partitions] => group.shares.last_mut().unwrap().1.push(list(partitions)),
                _ => panic!("{line}"),
            }
        }
        groups
    }

    /// `ASSIGNOR_VECTORS` names another file of the same kind, as tests/clients/java/Assignors.java prints them.
    #[test]
    fn members_get_the_shares_that_they_get_from_java() {
        let text = std::env::var("ASSIGNOR_VECTORS").map_or_else(
            |_| include_str!("../../../vectors/assignors_java.txt").to_owned(),
            |path| std::fs::read_to_string(path).unwrap(),
        );
        let groups = groups(&text);
        assert!(groups.len() >= 60);
        for group in groups {
            for (assignor, expected) in group.shares {
                let mut members = group.members.clone();
                if assignor == Assignor::CooperativeSticky {
                    for member in &mut members {
                        member.user_data = None;
                    }
                }
                let mut shares = assignor.assign(&members, &group.counts);
                for share in &mut shares {
                    share.sort();
                }
                assert_eq!(shares, expected, "group {} by {}", group.name, assignor.name());
            }
        }
    }
}
