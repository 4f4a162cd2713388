//! Committed offsets and classic groups: keys 0 to 2.

use crate::{Str, Uuid, Wire};

/// The partition that an offset was committed for.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetCommitKey<'a> {
    /// The group.
    pub group: Str<'a>,
    /// The topic.
    pub topic: Str<'a>,
    /// The partition.
    pub partition: i32,
}

/// A committed offset. v1 says when it expires, v3 has the leader epoch, v4 is flexible and has the topic's id.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct OffsetCommitValue<'a> {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The epoch of the last record read, or -1.
    #[wire(versions = 3.., default = -1)]
    pub leader_epoch: i32,
    /// A note of the client.
    pub metadata: Str<'a>,
    /// When it was committed, in ms since 1970.
    pub commit_timestamp: i64,
    /// When it expires, in ms since 1970, or -1 where the broker decides.
    #[wire(versions = 1..=1, default = -1)]
    pub expire_timestamp: i64,
    /// The topic's id, where it was known.
    #[wire(versions = 4.., tag = 0)]
    pub topic_id: Uuid,
}

/// A classic group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct GroupMetadataKey<'a> {
    /// The group.
    pub group: Str<'a>,
}

/// A generation of a classic group, as its leader assigned it, or the group without members. v1 rebalance timeouts, v2 the
/// time of the last change, v3 static members, v4 is flexible.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct GroupMetadataValue<'a> {
    /// `consumer`, or empty where only offsets were committed.
    pub protocol_type: Str<'a>,
    /// The generation.
    pub generation: i32,
    /// The protocol chosen.
    pub protocol: Option<Str<'a>>,
    /// The member that assigned.
    pub leader: Option<Str<'a>>,
    /// When the group got into its state, in ms since 1970, or -1.
    #[wire(versions = 2.., default = -1)]
    pub current_state_timestamp: i64,
    /// The members.
    pub members: Vec<GroupMetadataMember<'a>>,
}

/// A member of a classic group.
#[derive(Debug, Clone, PartialEq, Eq, Wire)]
pub struct GroupMetadataMember<'a> {
    /// Its id.
    pub member_id: Str<'a>,
    /// The instance id of a static member.
    #[wire(versions = 3..)]
    pub group_instance_id: Option<Str<'a>>,
    /// What its client calls itself.
    pub client_id: Str<'a>,
    /// Where its connection came from.
    pub client_host: Str<'a>,
    /// How long to wait for it to rejoin, in ms, or -1: as its session timeout.
    #[wire(versions = 1.., default = -1)]
    pub rebalance_timeout: i32,
    /// How long to wait for a heartbeat, in ms.
    pub session_timeout: i32,
    /// What it joined with under the protocol chosen.
    pub subscription: &'a [u8],
    /// What the leader assigned to it.
    pub assignment: &'a [u8],
}
