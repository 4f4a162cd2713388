//! Answers that hold bytes of the group, and how all answers are written.

use std::borrow::Cow;

use ottla_wire::message::{
    HeartbeatResponse, JoinGroupResponse, JoinGroupResponseMember, LeaveGroupResponse, LeavingMemberResponse,
    SyncGroupResponse,
};
use ottla_wire::{ApiVersion, ErrorCode, encode_response};

use super::effect::Reply;
use super::{Bytes, Text};

/// The answer to JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinReply {
    /// The error, if any.
    pub error: ErrorCode,
    /// The generation, or -1.
    pub generation: i32,
    /// The protocol type.
    pub protocol_type: Option<Text>,
    /// The protocol chosen.
    pub protocol: Option<Text>,
    /// The member that assigns, or empty.
    pub leader: Text,
    /// Whether the leader keeps the assignment there is (KIP-814).
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: Text,
    /// All members, for the leader alone.
    pub members: Vec<JoinedMember>,
}

/// A member, for the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Text,
    /// The instance id of a static member.
    pub instance_id: Option<Text>,
    /// What it joined with under the protocol chosen.
    pub metadata: Bytes,
}

/// The answer to SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncReply {
    /// The error, if any.
    pub error: ErrorCode,
    /// The protocol type.
    pub protocol_type: Option<Text>,
    /// The protocol chosen.
    pub protocol: Option<Text>,
    /// What the leader assigned to the member.
    pub assignment: Bytes,
}

/// The answer to LeaveGroup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaveReply {
    /// The error of the request as a whole, if any.
    pub error: ErrorCode,
    /// One answer per member.
    pub members: Vec<LeftMember>,
}

/// What became of one member that leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    /// Its id.
    pub member_id: Text,
    /// The instance id of a static member.
    pub instance_id: Option<Text>,
    /// The error, if any.
    pub error: ErrorCode,
}

impl JoinReply {
    pub(crate) fn error(error: ErrorCode, member_id: &str) -> Self {
        Self { error, generation: -1, member_id: Text::from(member_id), ..Self::default() }
    }

    /// As a message.
    pub fn message(&self) -> JoinGroupResponse<'_> {
        JoinGroupResponse {
            error_code: self.error,
            generation_id: self.generation,
            protocol_type: self.protocol_type.as_deref().map(Cow::Borrowed),
            protocol_name: self.protocol.as_deref().map(Cow::Borrowed),
            leader: Cow::Borrowed(&self.leader),
            skip_assignment: self.skip_assignment,
            member_id: Cow::Borrowed(&self.member_id),
            members: self
                .members
                .iter()
                .map(|member| JoinGroupResponseMember {
                    member_id: Cow::Borrowed(&member.member_id),
                    group_instance_id: member.instance_id.as_deref().map(Cow::Borrowed),
                    metadata: &member.metadata,
                })
                .collect(),
            throttle_time_ms: 0,
        }
    }
}

impl SyncReply {
    pub(crate) fn error(error: ErrorCode) -> Self {
        Self { error, ..Self::default() }
    }

    /// As a message.
    pub fn message(&self) -> SyncGroupResponse<'_> {
        SyncGroupResponse {
            error_code: self.error,
            protocol_type: self.protocol_type.as_deref().map(Cow::Borrowed),
            protocol_name: self.protocol.as_deref().map(Cow::Borrowed),
            assignment: &self.assignment,
            throttle_time_ms: 0,
        }
    }
}

impl LeaveReply {
    /// As a message. Below version 3 there is one member, and its error is that of the request.
    pub fn message(&self, version: ApiVersion) -> LeaveGroupResponse<'_> {
        let only = self.members.first().filter(|_| version.0 < 3 && self.error.is_none());
        LeaveGroupResponse {
            error_code: only.map_or(self.error, |member| member.error),
            members: self
                .members
                .iter()
                .map(|member| LeavingMemberResponse {
                    member_id: Cow::Borrowed(&member.member_id),
                    group_instance_id: member.instance_id.as_deref().map(Cow::Borrowed),
                    error_code: member.error,
                })
                .collect(),
            throttle_time_ms: 0,
        }
    }
}

impl Reply {
    /// The errors in it, for the metrics: of the request, of its members or of its partitions.
    pub fn errors(&self) -> Vec<ErrorCode> {
        let all: Vec<ErrorCode> = match self {
            Self::JoinGroup(reply) => vec![reply.error],
            Self::SyncGroup(reply) => vec![reply.error],
            Self::Heartbeat(error) => vec![*error],
            Self::LeaveGroup(reply) => {
                std::iter::once(reply.error).chain(reply.members.iter().map(|member| member.error)).collect()
            }
            Self::ConsumerGroupHeartbeat(response) => vec![response.error_code],
            Self::OffsetCommit(response) => {
                response.topics.iter().flat_map(|topic| &topic.partitions).map(|it| it.error_code).collect()
            }
            Self::OffsetDelete(response) => {
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                std::iter::once(response.error_code).chain(partitions.map(|it| it.error_code)).collect()
            }
            Self::DeleteGroups(results) => results.iter().map(|result| result.error_code).collect(),
        };
        all.into_iter().filter(|error| !error.is_none()).collect()
    }

    /// Appends the whole response, length included. `false` for [`Reply::DeleteGroups`]: only the driver has all its parts.
    pub fn encode(&self, correlation_id: i32, version: ApiVersion, out: &mut Vec<u8>) -> bool {
        match self {
            Self::JoinGroup(reply) => encode_response(correlation_id, version, &reply.message(), out),
            Self::SyncGroup(reply) => encode_response(correlation_id, version, &reply.message(), out),
            Self::Heartbeat(error_code) => {
                let response = HeartbeatResponse { error_code: *error_code, throttle_time_ms: 0 };
                encode_response(correlation_id, version, &response, out);
            }
            Self::LeaveGroup(reply) => encode_response(correlation_id, version, &reply.message(version), out),
            Self::ConsumerGroupHeartbeat(response) => encode_response(correlation_id, version, &**response, out),
            Self::OffsetCommit(response) => encode_response(correlation_id, version, response, out),
            Self::OffsetDelete(response) => encode_response(correlation_id, version, response, out),
            Self::DeleteGroups(_) => return false,
        }
        true
    }
}
