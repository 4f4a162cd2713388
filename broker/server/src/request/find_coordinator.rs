//! FindCoordinator, versions 0-6.
//!
//! Behaviour: the coordinator of a group is this node. There are no groups yet, so joining one is what a client finds
//! impossible, and says so; one that assigns partitions itself, but has a group id because its library insists on it
//! (every one on librdkafka), is not disturbed. An error here would reach such a consumer as a failed poll.
//! Transactions and share groups are refused with a code that clients do not retry and a message that says what to do.
//! Not supported: transactions, share groups.

use std::borrow::Cow;
use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{
    COORDINATOR_GROUP, COORDINATOR_SHARE, COORDINATOR_TRANSACTION, Coordinator, FindCoordinatorRequest,
    FindCoordinatorResponse,
};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves FindCoordinator.
pub(super) fn respond(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: FindCoordinatorRequest<'_> = decoded(head, frame)?;
    let address = broker.advertised_to(peer);
    let found = match refusal(request.key_type) {
        None => Coordinator {
            node_id: broker.node_id,
            host: Cow::Borrowed(&address.host),
            port: i32::from(address.port),
            ..Default::default()
        },
        Some((error_code, message)) => {
            Coordinator { node_id: -1, port: -1, error_code, error_message: Some(message.into()), ..Default::default() }
        }
    };
    // One key up to version 3, any number later: the struct writes what its version has.
    let response = FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message.clone(),
        node_id: found.node_id,
        host: found.host.clone(),
        port: found.port,
        coordinators: request.coordinator_keys.into_iter().map(|key| Coordinator { key, ..found.clone() }).collect(),
        ..Default::default()
    };
    Ok(Response::of(head, &response))
}

/// Never COORDINATOR_NOT_AVAILABLE: clients ask again for ever.
fn refusal(key_type: i8) -> Option<(ErrorCode, &'static str)> {
    match key_type {
        COORDINATOR_GROUP => None,
        COORDINATOR_TRANSACTION => Some((
            ErrorCode::TransactionalIdAuthorizationFailed,
            "this broker has no transactions yet: leave transactional.id unset",
        )),
        COORDINATOR_SHARE => Some((ErrorCode::GroupAuthorizationFailed, "this broker has no share groups")),
        _ => {
            Some((ErrorCode::InvalidRequest, "the key type is none of 0 (group), 1 (transaction) and 2 (share group)"))
        }
    }
}
