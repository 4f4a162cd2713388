//! FindCoordinator, versions 0-6.
//!
//! Behaviour: there are no groups, transactions or share groups yet, so no key has a coordinator, and each is refused
//! with a code that clients do not retry and a message that says what to do instead.
//! Not supported: groups, transactions, share groups.

use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    COORDINATOR_GROUP, COORDINATOR_SHARE, COORDINATOR_TRANSACTION, Coordinator, FindCoordinatorRequest,
    FindCoordinatorResponse,
};

use super::{CloseReason, Frame, Peer, Reply, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves FindCoordinator.
#[expect(clippy::needless_pass_by_value, reason = "the table's signature")]
pub(super) fn handle(_broker: &Arc<Broker>, _peer: &Arc<Peer>, head: RequestHead, frame: Frame) -> Reply {
    respond(head, &frame).into()
}

fn respond(head: RequestHead, frame: &[u8]) -> Result<Response, CloseReason> {
    let request: FindCoordinatorRequest<'_> = decoded(head, frame)?;
    let (error_code, message) = refusal(request.key_type);
    let refuse = |key| Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code,
        error_message: Some(message.into()),
        ..Default::default()
    };
    let response = FindCoordinatorResponse {
        error_code,
        error_message: Some(message.into()),
        node_id: -1,
        port: -1,
        coordinators: request.coordinator_keys.into_iter().map(refuse).collect(),
        ..Default::default()
    };
    Ok(Response::of(head, &response))
}

/// Never COORDINATOR_NOT_AVAILABLE: clients ask again for ever.
fn refusal(key_type: i8) -> (ErrorCode, &'static str) {
    match key_type {
        COORDINATOR_GROUP => (
            ErrorCode::GroupAuthorizationFailed,
            "this broker has no consumer groups yet: assign partitions instead of subscribing",
        ),
        COORDINATOR_TRANSACTION => (
            ErrorCode::TransactionalIdAuthorizationFailed,
            "this broker has no transactions yet: leave transactional.id unset",
        ),
        COORDINATOR_SHARE => (ErrorCode::GroupAuthorizationFailed, "this broker has no share groups"),
        _ => (ErrorCode::InvalidRequest, "the key type is none of 0 (group), 1 (transaction) and 2 (share group)"),
    }
}
