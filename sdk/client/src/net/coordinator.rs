//! FindCoordinator: which broker keeps a group.

use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{COORDINATOR_GROUP, FindCoordinatorRequest, FindCoordinatorResponse};

use super::Cluster;
use super::cluster::Topics;
use crate::error::ConnectionError;

/// A broker's answer.
pub(crate) enum Coordinator {
    /// The node that keeps the group.
    Node(i32),
    /// No, and why.
    Refused(ErrorCode, Option<Arc<str>>),
}

impl Cluster {
    /// Asks any broker, once.
    pub(crate) async fn find_coordinator(&self, group: &str) -> Result<Coordinator, ConnectionError> {
        let request = FindCoordinatorRequest {
            key: group.into(),
            key_type: COORDINATOR_GROUP,
            coordinator_keys: vec![group.into()],
        };
        let answer = self.ask(&request).await?;
        let response: FindCoordinatorResponse<'_> = answer.decode()?;
        let (node, code, message) = match response.coordinators.first() {
            Some(found) => (found.node_id, found.error_code, found.error_message.as_deref()),
            None => (response.node_id, response.error_code, response.error_message.as_deref()),
        };
        if !code.is_none() {
            return Ok(Coordinator::Refused(code, message.map(Arc::from)));
        }
        if !self.metadata().brokers.contains_key(&node) {
            self.refresh(Topics::Named(&[]), false).await?;
        }
        Ok(Coordinator::Node(node))
    }
}
