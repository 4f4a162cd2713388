//! InitProducerId, versions 0-5.
//!
//! Behaviour: a new id with epoch 0; from v3 on a producer that names its id and epoch gets the next epoch of that id,
//! or a new id when this broker never gave out that one or its epochs are used up.
//! Not supported: transactional ids, answered with UNSUPPORTED_VERSION.

use std::sync::Arc;

use bytes::BytesMut;
use ottla_wire::message::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_wire::{ApiVersion, ErrorCode, ProducerEpoch, ProducerId, decode_request};

use super::{Peer, Reply, RequestHead, Response};
use crate::broker::Broker;
use crate::producer_ids::ProducerIdError;

/// Serves InitProducerId.
#[expect(clippy::needless_pass_by_value, reason = "the table's signature")]
pub(super) fn handle(broker: &Arc<Broker>, _peer: &Arc<Peer>, head: RequestHead, frame: BytesMut) -> Reply {
    let request = match decode_request::<InitProducerIdRequest<'_>>(ApiVersion(head.version), &frame) {
        Ok(request) => request,
        Err(error) => return Reply::Close(error.into()),
    };
    if request.transactional_id.is_some() {
        return refused(head, ErrorCode::UnsupportedVersion).into();
    }
    let (id, epoch) = (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch));
    if let Some(epoch) = broker.producer_ids.next_epoch(id, epoch) {
        return given(head, id, epoch).into();
    }
    if let Some(id) = broker.producer_ids.next_reserved() {
        return given(head, id, ProducerEpoch(0)).into();
    }
    // A block is used up: the next one is reserved on the disk.
    let broker = Arc::clone(broker);
    let reserving = tokio::task::spawn_blocking(move || broker.producer_ids.next());
    Reply::later(async move {
        match reserving.await {
            Ok(Ok(id)) => given(head, id, ProducerEpoch(0)),
            Ok(Err(error)) => {
                tracing::error!(%error, "no producer id could be reserved");
                refused(
                    head,
                    match error {
                        ProducerIdError::Meta(_) => ErrorCode::CoordinatorNotAvailable,
                        ProducerIdError::UsedUp => ErrorCode::UnknownServerError,
                    },
                )
            }
            Err(_) => refused(head, ErrorCode::CoordinatorNotAvailable),
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
