//! DeleteGroups, versions 0-2.
//!
//! Behaviour: a group goes with all its offsets, if it has no members (NON_EMPTY_GROUP); answered once that survives a
//! power cut.
//! Not supported: nothing is missing.

use std::sync::Arc;

use ottla_coordinator::group::{Client, Reply, Request};
use ottla_wire::message::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::coordinated::host;
use super::{Answer, CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves DeleteGroups.
pub(super) fn begin(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Answer, CloseReason> {
    let request: DeleteGroupsRequest<'_> = decoded(head, frame)?;
    let group_ids: Vec<&str> = request.groups_names.iter().map(|group_id| &**group_id).collect();
    let host = host(peer);
    let submit = |part: Vec<&str>| {
        let client = Client { id: peer.client_id(), host: &host };
        let any = part.first().copied().unwrap_or_default();
        broker.groups.submit(any, head.version, client, Request::DeleteGroups(part))
    };
    let replies: Vec<_> = broker.groups.parts(&group_ids).into_iter().map(submit).collect();
    let broker = Arc::clone(broker);
    Ok(Box::pin(async move {
        let mut response = DeleteGroupsResponse::default();
        for reply in replies {
            match reply.await {
                Ok(Reply::DeleteGroups(results)) => response.results.extend(results),
                Ok(_) => return CloseReason::Internal("a reply to another request".to_owned()).into(),
                Err(stopped) => return CloseReason::Internal(stopped.to_string()).into(),
            }
        }
        for result in response.results.iter().filter(|result| !result.error_code.is_none()) {
            broker.metrics.note_error(head.key, result.error_code);
        }
        Response::of(head, &response).into()
    }))
}
