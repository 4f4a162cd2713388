//! A member of a classic group.

use super::super::effect::RequestId;
use super::super::{Bytes, Text};

/// A way to assign partitions that a member knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: Text,
    pub(crate) metadata: Bytes,
}

/// A member of a classic group.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// The instance id of a static member.
    pub(crate) instance_id: Option<Text>,
    pub(crate) client_id: Text,
    pub(crate) client_host: Text,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocol_type: Text,
    /// What it likes best first.
    pub(crate) protocols: Vec<Protocol>,
    /// What the leader of this generation assigned.
    pub(crate) assignment: Bytes,
    /// A JoinGroup that waits for the others.
    pub(crate) joining: Option<RequestId>,
    /// A SyncGroup that waits for the leader.
    pub(crate) syncing: Option<RequestId>,
    /// Whether it has not been in a generation yet: then its session may end while it waits.
    pub(crate) is_new: bool,
}

impl Member {
    /// What it joined with under a protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> Option<&[u8]> {
        self.protocols.iter().find(|own| &*own.name == protocol).map(|own| &*own.metadata)
    }

    pub(crate) fn shared_metadata(&self, protocol: &str) -> Bytes {
        let own = self.protocols.iter().find(|own| &*own.name == protocol);
        own.map(|own| Bytes::clone(&own.metadata)).unwrap_or_default()
    }

    /// Whether silence is fine: a member that waits for the others sends no heartbeats.
    pub(crate) fn may_be_silent(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}
