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
mod peer;
mod produce;
mod push_plugin;
mod reply;

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use ottla_wire::api::Audience;
use ottla_wire::{Api, ApiKey, ApiVersion, Message, decode_request, split_request};

use crate::broker::Broker;

pub use peer::{OTTLA_SOFTWARE_NAME, Peer, Software};
pub use reply::{CloseReason, Piece, Reply, Response};

/// The part of a request header that handlers need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// Which API.
    pub key: ApiKey,
    /// In which version: always one that is served.
    pub version: i16,
    /// The client's number for the request, which its answer carries.
    pub correlation_id: i32,
}

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
        ApiKey::AlterConfigs
        | ApiKey::AlterPartitionReassignments
        | ApiKey::ConsumerGroupDescribe
        | ApiKey::ConsumerGroupHeartbeat
        | ApiKey::CreatePartitions
        | ApiKey::DeleteGroups
        | ApiKey::DescribeCluster
        | ApiKey::DescribeGroups
        | ApiKey::DescribeProducers
        | ApiKey::DescribeTopicPartitions
        | ApiKey::ElectLeaders
        | ApiKey::GetTelemetrySubscriptions
        | ApiKey::Heartbeat
        | ApiKey::JoinGroup
        | ApiKey::LeaveGroup
        | ApiKey::ListGroups
        | ApiKey::ListPartitionReassignments
        | ApiKey::OffsetCommit
        | ApiKey::OffsetDelete
        | ApiKey::OffsetFetch
        | ApiKey::PushTelemetry
        | ApiKey::SyncGroup => not_served,
    }
}

/// What the codec knows and no handler serves: [`open`] has refused it before.
#[expect(clippy::needless_pass_by_value, reason = "the table's signature")]
fn not_served(_: &Arc<Broker>, _: &Arc<Peer>, head: RequestHead, _: Frame) -> Reply {
    CloseReason::UnknownApi(head.key.code()).into()
}

/// The requests of one connection that one read brought, handled in their order. Produce requests that follow each other
/// go to the log together.
pub struct Turn<'a> {
    broker: &'a Arc<Broker>,
    peer: &'a Arc<Peer>,
    joined: produce::Joined,
    replies: Vec<(Reply, usize)>,
}

impl<'a> Turn<'a> {
    /// A turn in which nothing has been handled.
    pub fn new(broker: &'a Arc<Broker>, peer: &'a Arc<Peer>) -> Self {
        Self { broker, peer, joined: produce::Joined::default(), replies: Vec::new() }
    }

    /// Requests that have been handled and have no reply yet.
    pub fn waiting(&self) -> usize {
        self.joined.len()
    }

    /// The bytes of those requests.
    pub fn waiting_bytes(&self) -> usize {
        self.joined.bytes()
    }

    /// Handles one frame, the 4-byte length taken off.
    pub fn handle(&mut self, frame: BytesMut) {
        let bytes = frame.len();
        let opened = open(self.peer, frame);
        if let Ok((head, _)) = &opened {
            self.broker.metrics.note_request(head.key);
        }
        match opened {
            Ok((head, body)) if head.key == ApiKey::Produce => {
                if !self.joined.add(self.broker, head, body) {
                    self.finish();
                }
            }
            Ok((head, body)) => {
                self.finish();
                let reply = handler(head.key)(self.broker, self.peer, head, body);
                self.replies.push((reply, bytes));
            }
            Err(refused) => {
                self.finish();
                self.replies.push((*refused, bytes));
            }
        }
    }

    /// Ends the connection behind what has been handled.
    pub fn close(&mut self, reason: CloseReason) {
        self.finish();
        self.replies.push((Reply::Close(reason), 0));
    }

    /// Makes every reply due that is not.
    pub fn finish(&mut self) {
        if self.joined.len() > 0 {
            let joined = std::mem::take(&mut self.joined);
            self.replies.extend(joined.send(self.broker, self.peer));
        }
    }

    /// Takes the replies that are due, in the order of their requests, each with the bytes of its request.
    pub fn replies(&mut self) -> impl Iterator<Item = (Reply, usize)> {
        self.replies.drain(..)
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
            let offered = |api: &Api| api.is_served() && (api.audience == Audience::Everyone || peer.is_ottla());
            let Some(key) = header.key().filter(|key| offered(key.api())) else {
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
