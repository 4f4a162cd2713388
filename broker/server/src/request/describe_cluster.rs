//! DescribeCluster, versions 0-2.
//!
//! Behaviour: this broker, which is all of the cluster and its controller. Clients that ask for controllers, which have no
//! endpoint of their own here, get MISMATCHED_ENDPOINT_TYPE, as from any broker of Kafka.

use std::borrow::Cow;
use std::sync::Arc;

use ottla_wire::message::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse, ENDPOINT_BROKER, ENDPOINT_CONTROLLER,
    OPERATIONS_NOT_ASKED_FOR,
};
use ottla_wire::{ErrorCode, Str};

use super::operation::CLUSTER_OPERATIONS;
use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;

/// Serves DescribeCluster.
pub(super) fn respond(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: DescribeClusterRequest = decoded(head, frame)?;
    let refusal = match request.endpoint_type {
        ENDPOINT_BROKER => None,
        ENDPOINT_CONTROLLER => Some((
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                .to_owned(),
        )),
        other => Some((ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}"))),
    };
    if let Some((error_code, message)) = refusal {
        let error_message = Some(Str::Owned(message));
        return Ok(Response::of(head, &DescribeClusterResponse { error_code, error_message, ..Default::default() }));
    }
    let address = peer.told_address();
    let response = DescribeClusterResponse {
        endpoint_type: ENDPOINT_BROKER,
        cluster_id: Cow::Borrowed(&broker.cluster_id),
        controller_id: broker.node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: broker.node_id,
            host: Cow::Borrowed(&address.host),
            port: i32::from(address.port),
            rack: None,
            is_fenced: false,
        }],
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            OPERATIONS_NOT_ASKED_FOR
        },
        ..Default::default()
    };
    Ok(Response::of(head, &response))
}
