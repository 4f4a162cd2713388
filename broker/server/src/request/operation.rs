//! What a request does to what it names, in the words of Kafka's access control: each API has one, which an authoriser
//! will ask about, and Metadata answers the sets of them.

/// An operation; the numbers are those of Kafka's `AclOperation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

/// What a client may do to a topic, where there is no authoriser.
pub(super) const TOPIC_OPERATIONS: i32 = Operation::bits(&[
    Operation::Read,
    Operation::Write,
    Operation::Create,
    Operation::Delete,
    Operation::Alter,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
]);
/// The same of the cluster.
pub(super) const CLUSTER_OPERATIONS: i32 = Operation::bits(&[
    Operation::Create,
    Operation::Alter,
    Operation::Describe,
    Operation::ClusterAction,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
    Operation::IdempotentWrite,
]);

impl Operation {
    /// A set as Metadata carries it: one bit each, by Kafka's numbers.
    pub(super) const fn bits(operations: &[Self]) -> i32 {
        let (mut bits, mut at) = (0, 0);
        while at < operations.len() {
            bits |= 1 << operations[at] as i32;
            at += 1;
        }
        bits
    }
}
