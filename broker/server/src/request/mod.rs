//! From a frame to a reply: ONE table says which function serves which API; which versions are served is the table of
//! [`ottla_wire::api`]. One file per API beside this one; the head of each says versions, behaviour and what is missing.

mod activate_plugin;
mod api_versions;
mod create_topics;
mod delete_plugin;
mod delete_records;
mod delete_topics;
mod describe_configs;
mod describe_log_dirs;
mod describe_plugins;
mod fetch;
mod find_coordinator;
mod incremental_alter_configs;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;
mod push_plugin;

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use ottla_front::{CloseReason, Peer, Piece, Reply, RequestHead, Response, Service, Turn};
use ottla_wire::api::Audience;
use ottla_wire::{ApiKey, ApiVersion, Message, decode_request, split_request};

use crate::broker::Broker;

/// The body of a request, without its header. Handlers own it: produce assigns offsets in place.
pub type Frame = BytesMut;

/// Serves one API. Runs in the order of arrival on a thread that serves connections: what may block or wait goes into
/// [`Reply::Later`] or [`Reply::Exclusive`].
pub type Handler = fn(&Arc<Broker>, &Arc<Peer>, RequestHead, Frame) -> Reply;

/// The table.
fn handler(key: ApiKey) -> Handler {
    match key {
        ApiKey::Produce => produce::handle,
        ApiKey::Fetch => fetch::handle,
        ApiKey::ListOffsets => list_offsets::handle,
        ApiKey::Metadata => metadata::handle,
        ApiKey::FindCoordinator => find_coordinator::handle,
        ApiKey::ApiVersions => api_versions::handle,
        ApiKey::CreateTopics => create_topics::handle,
        ApiKey::DeleteTopics => delete_topics::handle,
        ApiKey::DeleteRecords => delete_records::handle,
        ApiKey::InitProducerId => init_producer_id::handle,
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::handle,
        ApiKey::DescribeConfigs => describe_configs::handle,
        ApiKey::DescribeLogDirs => describe_log_dirs::handle,
        ApiKey::IncrementalAlterConfigs => incremental_alter_configs::handle,
        ApiKey::PushPlugin => push_plugin::handle,
        ApiKey::DescribePlugins => describe_plugins::handle,
        ApiKey::ActivatePlugin => activate_plugin::handle,
        ApiKey::DeletePlugin => delete_plugin::handle,
    }
}

/// Produce requests that follow each other in one turn go to the log together; each other request is handled by itself.
impl Service for Broker {
    type Joined = produce::Joined;

    fn take(self: &Arc<Self>, peer: &Arc<Peer>, frame: BytesMut, turn: &mut Turn<produce::Joined>) {
        let bytes = frame.len();
        let opened = open(peer, frame);
        if let Ok((head, _)) = &opened {
            self.metrics.note_request(head.key);
        }
        match opened {
            Ok((head, body)) if head.key == ApiKey::Produce => {
                if !turn.join(body.len()).add(self, head, body) {
                    self.finish(peer, turn);
                }
            }
            Ok((head, body)) => {
                self.finish(peer, turn);
                turn.push(handler(head.key)(self, peer, head, body), bytes);
            }
            Err(refused) => {
                self.finish(peer, turn);
                turn.push(*refused, bytes);
            }
        }
    }

    fn finish(self: &Arc<Self>, peer: &Arc<Peer>, turn: &mut Turn<produce::Joined>) {
        if let Some(joined) = turn.take_joined() {
            for (reply, bytes) in joined.send(self, peer) {
                turn.push(reply, bytes);
            }
        }
    }
}

/// Reads the header of a frame. What no handler gets to see has its reply at once.
fn open(peer: &Peer, mut frame: BytesMut) -> Result<(RequestHead, Frame), Box<Reply>> {
    let refuse = |reason: CloseReason| Err(Box::new(reason.into()));
    let (head, served, body_bytes) = match split_request(&frame) {
        Ok((header, body)) => {
            if let Some(client_id) = &header.client_id {
                peer.name_client(client_id);
            }
            let Some(key) = header.key().filter(|key| key.api().audience == Audience::Everyone || peer.is_ottla())
            else {
                return refuse(CloseReason::UnknownApi(header.api_key));
            };
            let head = RequestHead { key, version: header.api_version, correlation_id: header.correlation_id };
            (head, key.api().served.contains(header.api_version), body.len())
        }
        Err(error) => return refuse(CloseReason::Undecodable(error)),
    };
    if !served {
        // A client that knows newer versions than the broker finds out with this request; all others had a chance to.
        return match head.key {
            ApiKey::ApiVersions => Err(Box::new(api_versions::unsupported(head).into())),
            key => refuse(CloseReason::UnsupportedVersion { api: key.name(), version: head.version }),
        };
    }
    frame.advance(frame.len() - body_bytes);
    tracing::trace!(peer = %peer.addr, api = head.key.name(), version = head.version, bytes = frame.len(), "request");
    Ok((head, frame))
}

/// The body as a message; what does not decode closes the connection.
fn decoded<'a, M: Message<'a>>(head: RequestHead, frame: &'a [u8]) -> Result<M, CloseReason> {
    Ok(decode_request(ApiVersion(head.version), frame)?)
}
