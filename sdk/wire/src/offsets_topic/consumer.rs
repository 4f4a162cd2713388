//! Consumer groups (KIP-848): keys 3 to 8 and 16.

use crate::{Str, Uuid, Wire};

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupKey<'a> {
    /// The group.
    pub group_id: Str<'a>,
}

/// A member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupMemberKey<'a> {
    /// The group.
    pub group_id: Str<'a>,
    /// The member.
    pub member_id: Str<'a>,
}

/// A regular expression that a consumer group subscribes to.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupRegularExpressionKey<'a> {
    /// The group.
    pub group_id: Str<'a>,
    /// The expression.
    pub regular_expression: Str<'a>,
}

/// The epoch of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupMetadataValue {
    /// Counts the changes of members, subscriptions and topics.
    pub epoch: i32,
    /// A hash of the topics that the group subscribes to, so that a change of them is noticed (KIP-1101).
    #[wire(tag = 0)]
    pub metadata_hash: i64,
}

/// The topics of a consumer group, as Kafka 4.0 and earlier wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupPartitionMetadataValue<'a> {
    /// The topics.
    pub topics: Vec<SubscribedTopicMetadata<'a>>,
}

/// A topic that a consumer group subscribes to.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct SubscribedTopicMetadata<'a> {
    /// Its id.
    pub topic_id: Uuid,
    /// Its name.
    pub topic_name: Str<'a>,
    /// How many partitions it has.
    pub num_partitions: i32,
    /// The racks of its partitions; empty since 4.0.
    pub partition_metadata: Vec<SubscribedPartitionMetadata<'a>>,
}

/// A partition of such a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct SubscribedPartitionMetadata<'a> {
    /// Its number.
    pub partition: i32,
    /// Its racks.
    pub racks: Vec<Str<'a>>,
}

/// A member of a consumer group: its identity and what it subscribes to.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupMemberMetadataValue<'a> {
    /// The instance id of a static member.
    pub instance_id: Option<Str<'a>>,
    /// Its rack, if it has one.
    pub rack_id: Option<Str<'a>>,
    /// What its client calls itself.
    pub client_id: Str<'a>,
    /// Where its connection came from.
    pub client_host: Str<'a>,
    /// The topics that it subscribes to by name.
    pub subscribed_topic_names: Vec<Str<'a>>,
    /// The regular expression (RE2) that it subscribes to.
    pub subscribed_topic_regex: Option<Str<'a>>,
    /// How long to wait for it to revoke partitions.
    #[wire(default = -1)]
    pub rebalance_timeout_ms: i32,
    /// The assignor that it wants.
    pub server_assignor: Option<Str<'a>>,
    /// What a member that speaks the classic protocol joined with.
    #[wire(tag = 0)]
    pub classic_member_metadata: Option<ClassicMemberMetadata<'a>>,
}

/// What a member that speaks the classic protocol joined with.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ClassicMemberMetadata<'a> {
    /// How long to wait for a heartbeat.
    pub session_timeout_ms: i32,
    /// Its protocols, what it likes best first.
    pub supported_protocols: Vec<ClassicProtocol<'a>>,
}

nullable_struct!(ClassicMemberMetadata<'a>);

/// A protocol of a member that speaks the classic protocol.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ClassicProtocol<'a> {
    /// Its name.
    pub name: Str<'a>,
    /// The subscription, in the embedded consumer protocol.
    pub metadata: &'a [u8],
}

/// The group epoch that the target assignment was made for.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupTargetAssignmentMetadataValue {
    /// The epoch.
    pub assignment_epoch: i32,
    /// When it was made, in ms since 1970 (KIP-1263).
    #[wire(tag = 0)]
    pub assignment_timestamp: i64,
}

/// What a member is to own.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupTargetAssignmentMemberValue {
    /// The partitions.
    pub topic_partitions: Vec<TargetTopicPartitions>,
}

/// Partitions of a topic that a member is to own.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct TargetTopicPartitions {
    /// The topic.
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// What a member owns.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupCurrentMemberAssignmentValue {
    /// The epoch that the member is expected to have.
    pub member_epoch: i32,
    /// The epoch before, which it has if the answer with the new one was lost.
    pub previous_member_epoch: i32,
    /// 0 stable, 1 it has partitions to revoke, 2 it waits for partitions that others have to release, 127 unknown.
    pub state: i8,
    /// The partitions that it owns.
    pub assigned_partitions: Vec<CurrentTopicPartitions>,
    /// The partitions that it has to revoke.
    pub partitions_pending_revocation: Vec<CurrentTopicPartitions>,
}

/// Partitions of a topic that a member owns.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct CurrentTopicPartitions {
    /// The topic.
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<i32>,
    /// The epochs at which each of them was assigned, to fence commits of an older owner (KIP-1251).
    #[wire(tag = 0)]
    pub assignment_epochs: Option<Vec<i32>>,
}

/// What a regular expression matched.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct ConsumerGroupRegularExpressionValue<'a> {
    /// The topics.
    pub topics: Vec<Str<'a>>,
    /// The version of the cluster's metadata that they come from.
    pub version: i64,
    /// When they were looked for, in ms since 1970.
    pub timestamp: i64,
}
