//! What is known of the cluster: brokers, topics, leaders. Answers are merged in; an answer from a broker that lags
//! behind never moves a leader back.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_wire::message::MetadataResponse;
use ottla_wire::{ErrorCode, Uuid};

use super::address::Address;

/// What the answers of brokers so far say about the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) cluster_id: Option<Arc<str>>,
    pub(crate) controller: i32,
    pub(crate) brokers: HashMap<i32, Address>,
    pub(crate) topics: HashMap<Arc<str>, Topic>,
}

/// What is known of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) internal: bool,
    /// Why there are no partitions, if there are none.
    pub(crate) error: ErrorCode,
    /// In order: the partition's index is its place.
    pub(crate) partitions: Vec<Partition>,
}

/// What is known of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) error: ErrorCode,
    /// None while there is none.
    pub(crate) leader: Option<i32>,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
}

impl Metadata {
    /// The leader of a partition, if there is one among the known brokers.
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let partition = usize::try_from(partition).ok()?;
        let leader = self.topics.get(topic)?.partitions.get(partition)?.leader?;
        self.brokers.contains_key(&leader).then_some(leader)
    }

    /// Takes in an answer. Topics that it does not mention stay as they are.
    pub(crate) fn merge(&mut self, response: &MetadataResponse<'_>) {
        if let Some(cluster_id) = &response.cluster_id {
            self.cluster_id = Some(Arc::from(&**cluster_id));
        }
        self.controller = response.controller_id;
        if !response.brokers.is_empty() {
            let brokers = response.brokers.iter();
            let usable = brokers.filter_map(|broker| {
                let port = u16::try_from(broker.port).ok().filter(|port| *port != 0)?;
                Some((broker.node_id, Address::new(&broker.host, port)))
            });
            self.brokers = usable.collect();
        }
        for answered in &response.topics {
            let Some(name) = answered.name.as_deref() else { continue };
            let mut topic = Topic::read(answered);
            if let Some(known) = self.topics.get(name) {
                topic.keep_newer_leaders(known);
            }
            self.topics.insert(name.into(), topic);
        }
    }

    /// Forgets topics that the whole list, just asked for, no longer has.
    pub(crate) fn retain_listed(&mut self, response: &MetadataResponse<'_>) {
        let listed: std::collections::HashSet<&str> =
            response.topics.iter().filter_map(|topic| topic.name.as_deref()).collect();
        self.topics.retain(|name, _| listed.contains(&**name));
    }
}

impl Topic {
    fn read(answered: &ottla_wire::message::MetadataResponseTopic<'_>) -> Self {
        let mut partitions: Vec<_> = answered.partitions.iter().collect();
        partitions.sort_by_key(|partition| partition.partition_index);
        partitions.dedup_by_key(|partition| partition.partition_index);
        // A broker that leaves out a partition would shift all that follow, and every key with them.
        let complete = partitions.iter().zip(0..).all(|(partition, index)| partition.partition_index == index);
        let error = match answered.error_code {
            ErrorCode::None if !complete || partitions.is_empty() => ErrorCode::LeaderNotAvailable,
            code => code,
        };
        if !complete {
            partitions.clear();
        }
        Self {
            id: answered.topic_id,
            internal: answered.is_internal,
            error,
            partitions: partitions.into_iter().map(Partition::read).collect(),
        }
    }

    /// Only where an id says that it is the same topic: epochs of one that was made anew start from 0, and a partition
    /// that waited for the old number would wait for ever. Without ids a lagging broker costs a retry.
    fn keep_newer_leaders(&mut self, known: &Self) {
        if self.id != known.id || self.id.is_nil() {
            return;
        }
        for (new, old) in self.partitions.iter_mut().zip(&known.partitions) {
            if new.leader_epoch >= 0 && new.leader_epoch < old.leader_epoch {
                new.clone_from(old);
            }
        }
    }
}

impl Partition {
    fn read(answered: &ottla_wire::message::MetadataResponsePartition) -> Self {
        Self {
            error: answered.error_code,
            leader: (answered.leader_id >= 0).then_some(answered.leader_id),
            leader_epoch: answered.leader_epoch,
            replicas: answered.replica_nodes.clone(),
            in_sync: answered.isr_nodes.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_wire::message::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};

    use super::*;

    fn answer(id: u128, partitions: &[(i32, i32, i32)]) -> MetadataResponse<'static> {
        let partitions = partitions.iter().map(|&(partition_index, leader_id, leader_epoch)| {
            MetadataResponsePartition { partition_index, leader_id, leader_epoch, ..Default::default() }
        });
        let topic = MetadataResponseTopic {
            name: Some("t".into()),
            topic_id: Uuid::from_u128(id),
            partitions: partitions.collect(),
            ..MetadataResponseTopic::default()
        };
        let broker = |node_id| MetadataResponseBroker { node_id, port: 9092, host: "h".into(), ..Default::default() };
        let brokers = (1..=8).map(broker).collect();
        MetadataResponse { brokers, topics: vec![topic], ..MetadataResponse::default() }
    }

    #[test]
    fn a_lagging_broker_does_not_bring_an_old_leader_back() {
        let mut metadata = Metadata::default();
        metadata.merge(&answer(1, &[(1, 7, 3), (0, 5, 4)]));
        assert_eq!((metadata.leader("t", 0), metadata.leader("t", 1)), (Some(5), Some(7)));
        metadata.merge(&answer(1, &[(0, 6, 3), (1, 8, 4)]));
        assert_eq!((metadata.leader("t", 0), metadata.leader("t", 1)), (Some(5), Some(8)));
        assert_eq!(metadata.leader("t", 2), None);
        assert_eq!(metadata.leader("t", -1), None);
    }

    #[test]
    fn the_leaders_of_a_topic_made_anew_count_from_the_start() {
        for (before, after) in [(1, 2), (0, 0)] {
            let mut metadata = Metadata::default();
            metadata.merge(&answer(before, &[(0, 5, 4)]));
            metadata.merge(&answer(after, &[(0, 6, 0)]));
            assert_eq!(metadata.leader("t", 0), Some(6), "ids {before} and {after}");
        }
    }

    #[test]
    fn a_leader_that_is_no_broker_of_the_cluster_is_none() {
        let mut metadata = Metadata::default();
        metadata.merge(&answer(1, &[(0, 9, 1)]));
        assert_eq!(metadata.leader("t", 0), None);
    }

    #[test]
    fn a_topic_with_missing_partitions_is_not_used() {
        let mut metadata = Metadata::default();
        metadata.merge(&answer(1, &[(0, 1, 1), (2, 1, 1)]));
        let topic = &metadata.topics["t"];
        assert!(topic.partitions.is_empty());
        assert_eq!(topic.error, ErrorCode::LeaderNotAvailable);
    }

    #[test]
    fn brokers_with_impossible_ports_are_left_out() {
        let broker = |node_id, port| MetadataResponseBroker { node_id, port, host: "h".into(), ..Default::default() };
        let mut metadata = Metadata::default();
        metadata.merge(&MetadataResponse {
            brokers: vec![broker(1, 9092), broker(2, -5), broker(3, 70_000)],
            ..MetadataResponse::default()
        });
        assert_eq!(metadata.brokers.keys().copied().collect::<Vec<_>>(), [1]);
    }
}
