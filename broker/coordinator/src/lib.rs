//! Consumer groups, committed offsets and fetch sessions as state machines: input and time in, effects out. No log, no
//! socket, no clock, no thread, no randomness: what a machine needs of the world comes with its input. That is why all of it
//! can be read as text (`tests/golden/*.txt`) and tried at random (`tests/coordinator/properties.rs`).
//!
//! * [`group`]: the group coordinator, one [`Shard`](group::Shard) per partition of `__consumer_offsets`.
//! * [`fetch_session`]: the sessions of Fetch (KIP-227).
//! * [`sequence`]: which batches of idempotent producers a partition has taken (KIP-98).
//!
//! # How to drive a shard
//!
//! One shard, one lock. [`partition_of`](group::partition_of) says which shard has a group.
//!
//! **Start.** [`Shard::new`](group::Shard::new), then [`replay`](group::Shard::replay) every record of the partition in the order
//! of its offsets, then [`loaded`](group::Shard::loaded). In between the lock need not be held for long: requests that arrive are
//! answered `COORDINATOR_LOAD_IN_PROGRESS` (heartbeats: no error), and other shards serve. A record that does not read changes
//! nothing: log it and go on. Members have their full session timeout from `loaded` on.
//!
//! **Inputs**, each by [`step`](group::Shard::step) with the time in ms since 1970 (it goes into records, and must not go back):
//!
//! | input | when |
//! |---|---|
//! | [`Request`](group::Input::Request) | a request for one group arrived. The driver numbers it. Joins and first heartbeats bring a random UUID |
//! | [`Durable`](group::Input::Durable) | an append is fsynced, with all before it. Say only the last one of several |
//! | [`Failed`](group::Input::Failed) | an append was refused, or its fsync failed |
//! | [`Topics`](group::Input::Topics) | a topic was created, deleted or grew. One [`Topics`](group::Topics) is shared by all shards |
//! | [`Wake`](group::Input::Wake) | the time of the last `WakeAt` has come |
//!
//! **Effects**, to be carried out in their order before the next input:
//!
//! | effect | what the driver does |
//! |---|---|
//! | [`Append`](group::Effect::Append) | appends the records as one batch, all or none, in the order of the write ids, without producer id; says `Durable` when it is fsynced. Many appends may share one fsync |
//! | [`Reply`](group::Effect::Reply) | answers the request, with [`Reply::encode`](group::Reply::encode). If its connection is gone, nothing |
//! | [`WakeAt`](group::Effect::WakeAt) | arms one timer per shard; a later `WakeAt` replaces it. An early or extra `Wake` does no harm |
//! | [`Event`](group::Effect::Event) | a line in the log, a counter |
//!
//! A reply never comes before what it says is durable: commits, assignments, epochs. A request is answered once and only once,
//! at once or after other inputs; JoinGroup and SyncGroup may wait for minutes. A request that waits holds no thread.
//!
//! **When a write fails** the shard answers all that waits with `NOT_COORDINATOR` and refuses what comes. Throw it away and
//! load a new one, unless the log directory is offline: then leave it as it is. Clients look for the coordinator again and
//! join as after a restart.
//!
//! **Reads** need no input: [`fetch_offsets`](group::Shard::fetch_offsets) (sees what is durable),
//! [`describe`](group::Shard::describe), [`describe_consumer`](group::Shard::describe_consumer), [`list`](group::Shard::list).
//! OffsetFetch, DescribeGroups, ConsumerGroupDescribe, ListGroups and DeleteGroups name several groups: split them by shard and
//! put the answers together. Below version 8 of OffsetFetch make one group of the request's fields, with `member_epoch` -1.
//!
//! **What the driver checks itself**: authorization, quotas, and that the broker serves the version. Everything else, Kafka's
//! error codes included, is the shard's.
//!
//! # How to drive fetch sessions
//!
//! One [`FetchSessions`](fetch_session::FetchSessions), one lock, not held while a fetch waits:
//! [`begin`](fetch_session::FetchSessions::begin) says which partitions a request means, the fetch reads them (a plan that
//! [`is_incremental`](fetch_session::Plan::is_incremental) waits for `min_bytes` as ever),
//! [`finish`](fetch_session::FetchSessions::finish) says which of them are answered and under which session id. Their errors are
//! those of the whole response, with session id 0.

#![forbid(unsafe_code)]

pub mod fetch_session;
pub mod group;
pub mod sequence;
