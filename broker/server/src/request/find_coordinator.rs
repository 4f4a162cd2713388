//! FindCoordinator, versions 0-6.
//!
//! Behaviour: the coordinator of a group is this node. The first one that is asked for creates `__consumer_offsets`; while
//! that cannot be done the answer is COORDINATOR_NOT_AVAILABLE, which clients retry.
//! Transactions and share groups are refused with a code that clients do not retry and a message that says what to do.
//! Not supported: transactions, share groups.

use std::sync::Arc;

use ottla_wire::message::{
    COORDINATOR_GROUP, COORDINATOR_SHARE, COORDINATOR_TRANSACTION, Coordinator, FindCoordinatorRequest,
    FindCoordinatorResponse,
};
use ottla_wire::{ErrorCode, Str};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// What a client is told where the log directory of its group's shard is offline.
const OFFLINE: &str =
    "the log directory that has the offsets of this group is offline: the broker's log says why and what to do";

/// Serves FindCoordinator where groups have their topic.
pub(super) fn respond_now(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Option<Response>, CloseReason> {
    let request: FindCoordinatorRequest<'_> = decoded(head, frame)?;
    let waits = request.key_type == COORDINATOR_GROUP && !broker.groups.has_topic();
    Ok((!waits).then(|| answer(broker, peer, head, request)))
}

/// Serves any FindCoordinator.
pub(super) fn respond(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    Ok(answer(broker, peer, head, decoded(head, frame)?))
}

fn answer(broker: &Broker, peer: &Peer, head: RequestHead, request: FindCoordinatorRequest<'_>) -> Response {
    let address = peer.told_address();
    let refusal = match request.key_type {
        COORDINATOR_GROUP => without_topic(broker),
        other => Some(refusal(other)),
    };
    let find = |key: &str| {
        let offline = || {
            let offline = request.key_type == COORDINATOR_GROUP && broker.groups.offline_reason(key).is_some();
            offline.then_some((ErrorCode::CoordinatorNotAvailable, OFFLINE))
        };
        match refusal.or_else(offline) {
            None => Coordinator {
                node_id: broker.node_id,
                host: Str::Owned(address.host.clone()),
                port: i32::from(address.port),
                ..Default::default()
            },
            Some((error_code, message)) => {
                broker.metrics.note_error(head.key, error_code);
                let error_message = Some(message.into());
                Coordinator { node_id: -1, port: -1, error_code, error_message, ..Default::default() }
            }
        }
    };
    // One key up to version 3, any number later: the struct writes what its version has.
    let found = find(&request.key);
    let coordinators = request.coordinator_keys.into_iter();
    let response = FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        coordinators: coordinators.map(|key| Coordinator { key: key.clone(), ..find(&key) }).collect(),
        ..Default::default()
    };
    Response::of(head, &response)
}

/// Creates the topic of groups if need be.
fn without_topic(broker: &Broker) -> Option<(ErrorCode, &'static str)> {
    if broker.groups.has_topic() {
        return None;
    }
    let error = broker.groups.create_topic(&broker.settings().config).err()?;
    tracing::error!("__consumer_offsets cannot be created, and without it there are no groups: {error}");
    Some((ErrorCode::CoordinatorNotAvailable, "__consumer_offsets cannot be created: the broker's log says why"))
}

/// Never COORDINATOR_NOT_AVAILABLE: clients ask again for ever.
fn refusal(key_type: i8) -> (ErrorCode, &'static str) {
    match key_type {
        COORDINATOR_TRANSACTION => (
            ErrorCode::TransactionalIdAuthorizationFailed,
            "this broker has no transactions yet: leave transactional.id unset",
        ),
        COORDINATOR_SHARE => (ErrorCode::GroupAuthorizationFailed, "this broker has no share groups"),
        _ => (ErrorCode::InvalidRequest, "the key type is none of 0 (group), 1 (transaction) and 2 (share group)"),
    }
}
