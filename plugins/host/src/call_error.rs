//! Why a call gave no answer.

use crate::instance::Stop;

/// Why a call gave no answer. The instance that failed is gone; the next call gets a fresh one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum CallError {
    #[error("the plugin failed: {reason}")]
    Trap { reason: String },
    #[error("the plugin did not finish within {allowed_ms} ms")]
    Deadline { allowed_ms: u64 },
    #[error("the plugin wanted {wanted_bytes} bytes of memory, {allowed_bytes} are allowed")]
    Memory { wanted_bytes: u64, allowed_bytes: u64 },
    #[error("all plugins together are at their {allowed_bytes} bytes of memory")]
    MemoryTotal { allowed_bytes: u64 },
    #[error("the plugin refused the batch: {reason}")]
    Refused { reason: String },
    #[error("the plugin answered for {found} records, {expected} were asked")]
    WrongCount { expected: usize, found: usize },
    #[error("the plugin sent record {record} to partition {partition} of {partition_count}")]
    OutOfRange { record: usize, partition: i32, partition_count: u32 },
    #[error("the plugin's answer breaks the contract: {what}")]
    WrongAnswer { what: String },
    #[error("the plugin refused its configuration: {reason}")]
    ConfigRefused { reason: String },
    #[error("the configuration has {bytes} bytes, {bytes_max} are allowed")]
    ConfigTooLarge { bytes: usize, bytes_max: usize },
    #[error("the configuration does not fit the schema of the plugin (config.schema of its manifest): {reason}")]
    ConfigMisfit { reason: String },
    #[error("the plugin needs the asset {name:?}, which the binding does not give it")]
    NoAsset { name: String },
    #[error("the assets of the binding have {bytes} bytes, {bytes_max} are allowed")]
    AssetsTooLarge { bytes: usize, bytes_max: usize },
    #[error("the plugin was busy for {waited_ms} ms")]
    Busy { waited_ms: u64 },
    #[error("too many plugin instances are alive ({instances_max})")]
    TooManyInstances { instances_max: u32 },
    #[error("the topic has no partitions")]
    NoPartitions,
    #[error("the columns hold other parts of the records than the plugin reads")]
    WrongColumns,
}

impl From<Stop> for CallError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Deadline { allowed } => Self::Deadline { allowed_ms: allowed.as_millis() as u64 },
            Stop::Memory { wanted_bytes, allowed_bytes } => Self::Memory { wanted_bytes, allowed_bytes },
            Stop::MemoryTotal { allowed_bytes } => Self::MemoryTotal { allowed_bytes },
            Stop::Trap { reason } | Stop::WrongTypes { reason } => Self::Trap { reason },
        }
    }
}
