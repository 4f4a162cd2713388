//! Requests and responses: one file per API, plain structs in wire order.
//!
//! Field names are those of Kafka's schemas in `snake_case`, struct names are Kafka's. A field carries the versions that
//! have it; a field without versions is in all of them. Every struct has `Default` (the schema's defaults, `None` where
//! the schema says nothing about a nullable field), so that code names only what it means:
//! `MetadataResponse { brokers, topics, ..Default::default() }`.

mod api_versions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_configs;
mod describe_log_dirs;
mod fetch;
mod fetch_frame;
mod find_coordinator;
mod incremental_alter_configs;
mod init_producer_id;
mod leader;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod plugin;
mod produce;

pub use api_versions::*;
pub use create_topics::*;
pub use delete_records::*;
pub use delete_topics::*;
pub use describe_configs::*;
pub use describe_log_dirs::*;
pub use fetch::*;
pub use fetch_frame::*;
pub use find_coordinator::*;
pub use incremental_alter_configs::*;
pub use init_producer_id::*;
pub use leader::*;
pub use list_offsets::*;
pub use metadata::*;
pub use offset_for_leader_epoch::*;
pub use plugin::*;
pub use produce::*;

use crate::{ApiKey, VersionRange, Wire};

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
            FindCoordinator: FindCoordinatorRequest => FindCoordinatorResponse,
            ApiVersions: ApiVersionsRequest => ApiVersionsResponse,
            CreateTopics: CreateTopicsRequest => CreateTopicsResponse,
            DeleteTopics: DeleteTopicsRequest => DeleteTopicsResponse,
            DeleteRecords: DeleteRecordsRequest => DeleteRecordsResponse,
            InitProducerId: InitProducerIdRequest => InitProducerIdResponse,
            OffsetForLeaderEpoch: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse,
            DescribeConfigs: DescribeConfigsRequest => DescribeConfigsResponse,
            DescribeLogDirs: DescribeLogDirsRequest => DescribeLogDirsResponse,
            IncrementalAlterConfigs: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse,
            PushPlugin: PushPluginRequest => PushPluginResponse,
            DescribePlugins: DescribePluginsRequest => DescribePluginsResponse,
            ActivatePlugin: ActivatePluginRequest => ActivatePluginResponse,
            DeletePlugin: DeletePluginRequest => DeletePluginResponse,
        }
    };
}
