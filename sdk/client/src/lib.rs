//! The client core: producer, consumer and admin in Rust, under every Ottla binding.
//!
//! What it promises: nothing that a broker sends makes it panic or take unbounded memory; every record handed over is
//! settled exactly once; `send` costs no allocation per record. What it never does: know of any binding, block a runtime
//! thread, talk to a broker while holding a lock.
//!
//! The modules, in the order in which a record meets them:
//!
//! 1. [`config`]: settings with their defaults.
//! 2. [`producer`]: `send`, deliveries, the task that moves batches.
//! 3. [`consumer`]: assignment, `poll`, the tasks that fetch.
//! 4. [`admin`]: topics, settings, plugins.
//! 5. `core`: decisions without sockets and clocks (batches, sequences, leaders, positions), tested as conversations.
//! 6. `net`: frames, handshake, connections, the cluster.
//! 7. [`error`]: one enum per operation.

#![forbid(unsafe_code)]

pub mod admin;
pub mod config;
pub mod consumer;
mod core;
pub mod error;
mod net;
pub mod producer;

pub use admin::{
    Admin, Broker, ClusterDescription, ConfigChange, ConfigEntry, ConfigSource, ConfigTarget, CreatedTopic,
    GroupDescription, GroupListing, GroupMember, NewTopic, PartitionDescription, PluginDescription, PluginVersion,
    PushProgress, PushedPlugin, TopicDescription, TopicListing, TrimTo,
};
pub use config::{
    Acks, ClientConfig, ConsumerConfig, GroupConfig, GroupProtocol, Isolation, OffsetReset, ProducerConfig,
};
pub use consumer::{
    Assignment, Chunk, Consumer, Event, Headers, Record, RecordRef, Records, StartFrom, TimestampType, TopicPartition,
};
pub use error::{
    AdminError, Classify, ConfigError, ConnectionError, ConsumeError, ProduceError, RecordError, SendError,
};
pub use net::{Connecting, Network, Outlet, Wire};
pub use ottla_wire::ErrorCode;
pub use ottla_wire::record::Codec;
pub use producer::{
    Ack, AckBatch, Delivery, DeliverySink, Header, Placement, Producer, ProducerRecord, UnseenFailures,
};

pub use crate::core::assignor::Assignor;
pub use crate::core::murmur2::{murmur2, partition_of_key};
pub use crate::core::trouble::Trouble;
