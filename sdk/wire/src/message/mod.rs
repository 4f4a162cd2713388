//! Requests and responses: one file per API, plain structs in wire order.
//!
//! Field names are those of Kafka's schemas in `snake_case`, struct names are Kafka's. A field carries the versions that
//! have it; a field without versions is in all of them. Every struct has `Default` (the schema's defaults, `None` where
//! the schema says nothing about a nullable field), so that code names only what it means:
//! `MetadataResponse { brokers, topics, ..Default::default() }`.

mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod fetch_frame;
mod find_coordinator;
mod get_telemetry_subscriptions;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leader;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod plugin;
mod produce;
mod push_telemetry;
mod sync_group;

pub use alter_configs::*;
pub use alter_partition_reassignments::*;
pub use api_versions::*;
pub use consumer_group_describe::*;
pub use consumer_group_heartbeat::*;
pub use create_partitions::*;
pub use create_topics::*;
pub use delete_groups::*;
pub use delete_records::*;
pub use delete_topics::*;
pub use describe_cluster::*;
pub use describe_configs::*;
pub use describe_groups::*;
pub use describe_log_dirs::*;
pub use describe_producers::*;
pub use describe_topic_partitions::*;
pub use elect_leaders::*;
pub use fetch::*;
pub use fetch_frame::*;
pub use find_coordinator::*;
pub use get_telemetry_subscriptions::*;
pub use heartbeat::*;
pub use incremental_alter_configs::*;
pub use init_producer_id::*;
pub use join_group::*;
pub use leader::*;
pub use leave_group::*;
pub use list_config_resources::*;
pub use list_groups::*;
pub use list_offsets::*;
pub use list_partition_reassignments::*;
pub use metadata::*;
pub use offset_commit::*;
pub use offset_delete::*;
pub use offset_fetch::*;
pub use offset_for_leader_epoch::*;
pub use plugin::*;
pub use produce::*;
pub use push_telemetry::*;
pub use sync_group::*;

use crate::{ApiKey, VersionRange, Wire};

/// What authorized operations are when they were not asked for.
pub const OPERATIONS_NOT_ASKED_FOR: i32 = i32::MIN;

/// A request or a response as a whole.
pub trait Message<'a>: Wire<'a> + Default {
    /// The API it belongs to.
    const KEY: ApiKey;
    /// The versions it exists in.
    const VERSIONS: VersionRange;
    /// The first version with compact lengths and tagged fields.
    const FLEXIBLE_FROM: i16;
}

/// A request.
pub trait Request<'request>: Message<'request> {
    /// What answers it, borrowed from the response's own frame.
    type Response<'a>: Message<'a>;
}

/// Calls a macro with `Key: Request => Response` for every API, for code that has to treat all of them alike.
#[macro_export]
macro_rules! for_every_api {
    ($do:ident) => {
        $do! {
            Produce: ProduceRequest => ProduceResponse,
            Fetch: FetchRequest => FetchResponse,
            ListOffsets: ListOffsetsRequest => ListOffsetsResponse,
            Metadata: MetadataRequest => MetadataResponse,
            OffsetCommit: OffsetCommitRequest => OffsetCommitResponse,
            OffsetFetch: OffsetFetchRequest => OffsetFetchResponse,
            FindCoordinator: FindCoordinatorRequest => FindCoordinatorResponse,
            JoinGroup: JoinGroupRequest => JoinGroupResponse,
            Heartbeat: HeartbeatRequest => HeartbeatResponse,
            LeaveGroup: LeaveGroupRequest => LeaveGroupResponse,
            SyncGroup: SyncGroupRequest => SyncGroupResponse,
            DescribeGroups: DescribeGroupsRequest => DescribeGroupsResponse,
            ListGroups: ListGroupsRequest => ListGroupsResponse,
            ApiVersions: ApiVersionsRequest => ApiVersionsResponse,
            CreateTopics: CreateTopicsRequest => CreateTopicsResponse,
            DeleteTopics: DeleteTopicsRequest => DeleteTopicsResponse,
            DeleteRecords: DeleteRecordsRequest => DeleteRecordsResponse,
            InitProducerId: InitProducerIdRequest => InitProducerIdResponse,
            OffsetForLeaderEpoch: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse,
            DescribeConfigs: DescribeConfigsRequest => DescribeConfigsResponse,
            AlterConfigs: AlterConfigsRequest => AlterConfigsResponse,
            DescribeLogDirs: DescribeLogDirsRequest => DescribeLogDirsResponse,
            CreatePartitions: CreatePartitionsRequest => CreatePartitionsResponse,
            DeleteGroups: DeleteGroupsRequest => DeleteGroupsResponse,
            ElectLeaders: ElectLeadersRequest => ElectLeadersResponse,
            IncrementalAlterConfigs: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse,
            AlterPartitionReassignments: AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse,
            ListPartitionReassignments: ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse,
            OffsetDelete: OffsetDeleteRequest => OffsetDeleteResponse,
            DescribeCluster: DescribeClusterRequest => DescribeClusterResponse,
            DescribeProducers: DescribeProducersRequest => DescribeProducersResponse,
            ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse,
            ConsumerGroupDescribe: ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse,
            GetTelemetrySubscriptions: GetTelemetrySubscriptionsRequest => GetTelemetrySubscriptionsResponse,
            PushTelemetry: PushTelemetryRequest => PushTelemetryResponse,
            ListConfigResources: ListConfigResourcesRequest => ListConfigResourcesResponse,
            DescribeTopicPartitions: DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse,
            PushPlugin: PushPluginRequest => PushPluginResponse,
            DescribePlugins: DescribePluginsRequest => DescribePluginsResponse,
            ActivatePlugin: ActivatePluginRequest => ActivatePluginResponse,
            DeletePlugin: DeletePluginRequest => DeletePluginResponse,
        }
    };
}
