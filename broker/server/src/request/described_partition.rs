//! A partition as Metadata and DescribeTopicPartitions describe it.

use ottla_wire::ErrorCode;

use crate::broker::Broker;
use crate::partition::Partition;

/// The leader of a partition whose log directory is offline.
const NO_LEADER: i32 = -1;

/// Who leads a partition and who holds it. This node does both, unless the log directory of the partition is offline.
pub(super) struct DescribedPartition {
    pub(super) error_code: ErrorCode,
    pub(super) leader_id: i32,
    pub(super) leader_epoch: i32,
    pub(super) replicas: Vec<i32>,
    pub(super) offline_replicas: Vec<i32>,
}

impl DescribedPartition {
    pub(super) fn of(broker: &Broker, partition: &Partition) -> Self {
        let offline = partition.log.is_offline();
        Self {
            error_code: if offline { ErrorCode::LeaderNotAvailable } else { ErrorCode::None },
            leader_id: if offline { NO_LEADER } else { broker.node_id },
            leader_epoch: partition.log.leader_epoch().get(),
            replicas: vec![broker.node_id],
            offline_replicas: if offline { vec![broker.node_id] } else { Vec::new() },
        }
    }
}
