//! What goes in and what comes out of a [`Shard`](super::Shard).

use std::sync::Arc;

use ottla_wire::message::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, DeletableGroupResult, HeartbeatRequest,
    JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, SyncGroupRequest,
};
use ottla_wire::{ErrorCode, Uuid};

use super::{Bytes, JoinReply, LeaveReply, SyncReply, Text, Topics};

/// The driver's number for a request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Numbers what the shard asked to append, in order, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// The client of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client<'a> {
    /// The client id in the request's header.
    pub id: &'a str,
    /// The address it comes from, as Kafka prints it: `/127.0.0.1`.
    pub host: &'a str,
}

/// A request for one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// JoinGroup, with an id that no other member has, for a member that has none.
    JoinGroup(JoinGroupRequest<'a>, Uuid),
    /// SyncGroup.
    SyncGroup(SyncGroupRequest<'a>),
    /// Heartbeat.
    Heartbeat(HeartbeatRequest<'a>),
    /// LeaveGroup.
    LeaveGroup(LeaveGroupRequest<'a>),
    /// ConsumerGroupHeartbeat, with an id that no other member has, for a member that has none.
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest<'a>, Uuid),
    /// OffsetCommit.
    OffsetCommit(OffsetCommitRequest<'a>),
    /// OffsetDelete.
    OffsetDelete(OffsetDeleteRequest<'a>),
    /// The part of DeleteGroups that this shard is for.
    DeleteGroups(Vec<&'a str>),
}

/// What happened.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one input at a time, and most are requests")]
pub enum Input<'a> {
    /// A request arrived.
    Request {
        /// The driver's number for it, which comes back with the reply.
        id: RequestId,
        /// The version of its API.
        version: i16,
        /// Its client.
        client: Client<'a>,
        /// What it asks for.
        request: Request<'a>,
    },
    /// All records up to and with this write are durable.
    Durable(WriteId),
    /// A write was refused, or its durability is in doubt. The shard answers all that waits and refuses what comes.
    Failed,
    /// The topics are other ones now, and these were deleted.
    Topics {
        /// All topics.
        topics: Arc<Topics>,
        /// The names of those that are gone.
        deleted: Vec<Text>,
    },
    /// Time passed: [`Effect::WakeAt`] is due.
    Wake,
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Append these records as one batch, all or none, then say [`Input::Durable`] or [`Input::Failed`].
    Append {
        /// Its number.
        write: WriteId,
        /// The records.
        records: Vec<Record>,
    },
    /// Answer a request.
    Reply {
        /// Which one.
        request: RequestId,
        /// With what.
        reply: Reply,
    },
    /// Say [`Input::Wake`] at this time. The last one counts.
    WakeAt {
        /// In the clock of `now_ms`.
        at_ms: i64,
    },
    /// Something for the log and the metrics.
    Event(Event),
}

/// A record of `__consumer_offsets`. Without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Option<Vec<u8>>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To JoinGroup.
    JoinGroup(JoinReply),
    /// To SyncGroup.
    SyncGroup(SyncReply),
    /// To Heartbeat.
    Heartbeat(ErrorCode),
    /// To LeaveGroup.
    LeaveGroup(LeaveReply),
    /// To ConsumerGroupHeartbeat.
    ConsumerGroupHeartbeat(Box<ConsumerGroupHeartbeatResponse<'static>>),
    /// To OffsetCommit.
    OffsetCommit(OffsetCommitResponse<'static>),
    /// To OffsetDelete.
    OffsetDelete(OffsetDeleteResponse<'static>),
    /// To DeleteGroups: the driver puts the parts of all shards together.
    DeleteGroups(Vec<DeletableGroupResult<'static>>),
}

/// Something worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The group.
    pub group: Text,
    /// What happened to it.
    pub kind: EventKind,
    /// Why, in words; reasons of clients (KIP-800) included.
    pub reason: String,
}

/// What happened to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A classic group waits for its members to rejoin, or the epoch of a consumer group rose.
    Rebalance,
    /// A classic group has this generation now.
    Generation(i32),
    /// A member was removed.
    MemberRemoved,
    /// The group speaks the consumer protocol from now on.
    Upgraded,
    /// The group speaks the classic protocol from now on.
    Downgraded,
    /// Offsets expired.
    OffsetsExpired(usize),
}

/// Shares bytes of a request, for as long as the group needs them.
pub(crate) fn shared(bytes: &[u8]) -> Bytes {
    Arc::from(bytes)
}
