//! The same error for everything that a request asks for.

use std::borrow::Cow;

use ottla_wire::ErrorCode;
use ottla_wire::message::{ConsumerGroupHeartbeatResponse, DeletableGroupResult, LeavingMember, OffsetDeleteResponse};

use super::super::effect::{Reply, Request, RequestId};
use super::super::offsets::Commit;
use super::super::reply::{JoinReply, LeaveReply, LeftMember, SyncReply};
use super::{Context, FAILED, LOADING, Text};

/// Answers a request with an error.
pub(super) fn refuse(cx: &mut Context, id: RequestId, request: &Request<'_>, error: ErrorCode) {
    let reply = match request {
        Request::JoinGroup(request, _) => Reply::JoinGroup(JoinReply::error(error, &request.member_id)),
        Request::SyncGroup(_) => Reply::SyncGroup(SyncReply::error(error)),
        // While it loads, nothing is known against the member.
        Request::Heartbeat(_) if error == LOADING => Reply::Heartbeat(ErrorCode::None),
        Request::Heartbeat(_) => Reply::Heartbeat(error),
        Request::LeaveGroup(_) => Reply::LeaveGroup(LeaveReply { error, members: Vec::new() }),
        Request::ConsumerGroupHeartbeat(..) => {
            Reply::ConsumerGroupHeartbeat(Box::new(ConsumerGroupHeartbeatResponse {
                error_code: error,
                ..Default::default()
            }))
        }
        Request::OffsetCommit(request) => return Commit { id, version: 0, request }.refuse(cx, error),
        Request::OffsetDelete(_) => {
            Reply::OffsetDelete(OffsetDeleteResponse { error_code: error, ..Default::default() })
        }
        Request::DeleteGroups(groups) => Reply::DeleteGroups(
            groups
                .iter()
                .map(|group_id| DeletableGroupResult {
                    group_id: Cow::Owned((*group_id).to_owned()),
                    error_code: error,
                })
                .collect(),
        ),
    };
    cx.reply(id, reply);
}

/// What a request for a member gets where there is no such group.
pub(super) fn unknown_member(cx: &mut Context, id: RequestId, request: &Request<'_>) {
    let is_nameless = matches!(request, Request::SyncGroup(request) if request.group_id.is_empty());
    let error = if is_nameless { ErrorCode::InvalidGroupId } else { ErrorCode::UnknownMemberId };
    refuse(cx, id, request, error);
}

/// The same error for every member that wants to leave.
pub(super) fn nobody_left(leaving: &[LeavingMember<'_>], error: ErrorCode) -> LeaveReply {
    let members = leaving.iter().map(|member| LeftMember {
        member_id: Text::from(&*member.member_id),
        instance_id: member.group_instance_id.as_deref().map(Text::from),
        error,
    });
    LeaveReply { error: ErrorCode::None, members: members.collect() }
}

/// An answer that waited for a write that failed.
pub(super) fn failed(reply: Reply) -> Reply {
    match reply {
        Reply::JoinGroup(reply) => Reply::JoinGroup(JoinReply::error(FAILED, &reply.member_id)),
        Reply::SyncGroup(_) => Reply::SyncGroup(SyncReply::error(FAILED)),
        Reply::Heartbeat(_) => Reply::Heartbeat(FAILED),
        Reply::LeaveGroup(_) => Reply::LeaveGroup(LeaveReply { error: FAILED, members: Vec::new() }),
        Reply::ConsumerGroupHeartbeat(_) => {
            let response = ConsumerGroupHeartbeatResponse { error_code: FAILED, ..Default::default() };
            Reply::ConsumerGroupHeartbeat(Box::new(response))
        }
        Reply::OffsetCommit(mut response) => {
            let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.filter(|partition| partition.error_code.is_none()).for_each(|partition| {
                partition.error_code = FAILED;
            });
            Reply::OffsetCommit(response)
        }
        Reply::OffsetDelete(_) => {
            Reply::OffsetDelete(OffsetDeleteResponse { error_code: FAILED, ..Default::default() })
        }
        Reply::DeleteGroups(mut results) => {
            results.iter_mut().filter(|result| result.error_code.is_none()).for_each(|result| {
                result.error_code = FAILED;
            });
            Reply::DeleteGroups(results)
        }
    }
}
