//! InitProducerId, versions 0-5.
//!
//! Behaviour: a new id with epoch 0; from v3 on a producer that names its id and epoch gets the next epoch of that id,
//! or a new id when this broker never gave out that one or its epochs are used up.
//! Not supported: transactional ids, answered with UNSUPPORTED_VERSION.

use std::sync::Arc;

use ottla_wire::message::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_wire::{ErrorCode, ProducerEpoch, ProducerId};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::producer_ids::ProducerIdError;

/// Serves InitProducerId as long as the block of ids that is reserved on the disk is not used up.
pub(super) fn respond_now(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Option<Response>, CloseReason> {
    let request: InitProducerIdRequest<'_> = decoded(head, frame)?;
    if request.transactional_id.is_some() {
        return Ok(Some(refused(head, ErrorCode::UnsupportedVersion)));
    }
    let (id, epoch) = (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch));
    if let Some(epoch) = broker.producer_ids.next_epoch(id, epoch) {
        return Ok(Some(given(head, id, epoch)));
    }
    Ok(broker.producer_ids.next_reserved().map(|id| given(head, id, ProducerEpoch(0))))
}

/// Gives an id for which the next block may have to be reserved.
#[expect(clippy::unnecessary_wraps, reason = "the table's signature")]
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    _frame: &[u8],
) -> Result<Response, CloseReason> {
    Ok(match broker.producer_ids.next() {
        Ok(id) => given(head, id, ProducerEpoch(0)),
        Err(error) => {
            tracing::error!(%error, "no producer id could be reserved");
            let error_code = match error {
                ProducerIdError::Meta(_) => ErrorCode::CoordinatorNotAvailable,
                ProducerIdError::UsedUp => ErrorCode::UnknownServerError,
            };
            refused(head, error_code)
        }
    })
}

fn given(head: RequestHead, id: ProducerId, epoch: ProducerEpoch) -> Response {
    let answer = InitProducerIdResponse {
        producer_id: id.get(),
        producer_epoch: epoch.get(),
        ..InitProducerIdResponse::default()
    };
    Response::of(head, &answer)
}

fn refused(head: RequestHead, error_code: ErrorCode) -> Response {
    let answer = InitProducerIdResponse { error_code, producer_epoch: -1, ..InitProducerIdResponse::default() };
    Response::of(head, &answer)
}
