//! ConsumerGroupDescribe, key 69, versions 0-1, flexible from 0.
//!
//! KIP-848. v1 says which protocol each member speaks (KIP-1099).

use super::OPERATIONS_NOT_ASKED_FOR;
use crate::{ErrorCode, Str, Uuid, Wire};

/// `member_type` where the version does not say.
pub const MEMBER_TYPE_UNKNOWN: i8 = -1;
/// `member_type` of a member that speaks the classic protocol.
pub const MEMBER_TYPE_CLASSIC: i8 = 0;
/// `member_type` of a member that speaks the consumer protocol.
pub const MEMBER_TYPE_CONSUMER: i8 = 1;

/// Asks what KIP-848 groups are like.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 69, versions = 0..=1, flexible = 0.., response = ConsumerGroupDescribeResponse<'a>)]
pub struct ConsumerGroupDescribeRequest<'a> {
    /// The groups.
    pub group_ids: Vec<Str<'a>>,
    /// Whether to tell which operations are allowed.
    pub include_authorized_operations: bool,
}

/// What KIP-848 groups are like.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
#[wire(key = 69, versions = 0..=1, flexible = 0..)]
pub struct ConsumerGroupDescribeResponse<'a> {
    /// How long the request was held back by a quota.
    pub throttle_time_ms: i32,
    /// Groups.
    pub groups: Vec<DescribedConsumerGroup<'a>>,
}

/// A KIP-848 group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribedConsumerGroup<'a> {
    /// The error, if any.
    pub error_code: ErrorCode,
    /// The error in words.
    pub error_message: Option<Str<'a>>,
    /// The group.
    pub group_id: Str<'a>,
    /// Kafka's name of its state: `Empty`, `Assigning`, `Reconciling`, `Stable`, `Dead`.
    pub group_state: Str<'a>,
    /// Counts the changes of members and topics.
    pub group_epoch: i32,
    /// The group epoch that the target assignment was made for.
    pub assignment_epoch: i32,
    /// The assignor.
    pub assignor_name: Str<'a>,
    /// Its members.
    pub members: Vec<DescribedConsumerGroupMember<'a>>,
    /// A bit per operation allowed on the group.
    #[wire(default = OPERATIONS_NOT_ASKED_FOR)]
    pub authorized_operations: i32,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribedConsumerGroupMember<'a> {
    /// The member's id.
    pub member_id: Str<'a>,
    /// The instance id of a static member.
    pub instance_id: Option<Str<'a>>,
    /// The rack of the member, if it has one.
    pub rack_id: Option<Str<'a>>,
    /// The member's epoch.
    pub member_epoch: i32,
    /// What the client calls itself.
    pub client_id: Str<'a>,
    /// Where its connection comes from.
    pub client_host: Str<'a>,
    /// The topics subscribed to by name.
    pub subscribed_topic_names: Vec<Str<'a>>,
    /// The regular expression (RE2) of topics subscribed to.
    pub subscribed_topic_regex: Option<Str<'a>>,
    /// What it owns.
    pub assignment: DescribedConsumerGroupAssignment<'a>,
    /// What it is to own.
    pub target_assignment: DescribedConsumerGroupAssignment<'a>,
    /// One of the `MEMBER_TYPE_` constants.
    #[wire(versions = 1.., default = -1)]
    pub member_type: i8,
}

/// Partitions by topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribedConsumerGroupAssignment<'a> {
    /// Partitions by topic.
    pub topic_partitions: Vec<DescribedConsumerGroupTopicPartitions<'a>>,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct DescribedConsumerGroupTopicPartitions<'a> {
    /// Its id.
    pub topic_id: Uuid,
    /// Its name.
    pub topic_name: Str<'a>,
    /// Partitions.
    pub partitions: Vec<i32>,
}
