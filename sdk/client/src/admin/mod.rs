//! Administration: topics, their settings, groups, plugins. One call, one answer; nothing runs in the background.

mod configs;
mod groups;
mod plugins;
mod records;
mod topics;

use std::sync::Arc;

use ottla_wire::message::Request;
use ottla_wire::{ErrorCode, Message};
use tokio::runtime::Handle;

pub use self::configs::{ConfigChange, ConfigEntry, ConfigSource, ConfigTarget};
pub use self::groups::{GroupDescription, GroupListing, GroupMember};
pub use self::plugins::{PluginDescription, PluginVersion, PushProgress, PushedPlugin};
pub use self::records::TrimTo;
pub use self::topics::{
    Broker, ClusterDescription, CreatedTopic, NewTopic, PartitionDescription, TopicDescription, TopicListing,
};
use crate::config::ClientConfig;
use crate::error::{AdminError, ConfigError, ConnectionError};
use crate::net::{Answer, Cluster};

/// Creates, changes and describes topics and plugins.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ottla_client::{Admin, ClientConfig, NewTopic};
///
/// let admin = Admin::new(ClientConfig::new("127.0.0.1:9092"))?;
/// admin.create_topic(&NewTopic::new("packages").partitions(6)).await?;
/// # Ok(())
/// # }
/// ```
pub struct Admin {
    cluster: Arc<Cluster>,
}

impl Admin {
    /// An admin for these addresses. Nothing is connected before the first call.
    pub fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        Ok(Self { cluster: Arc::new(Cluster::new(config)?) })
    }

    /// The runtime that connections run on.
    pub fn runtime(&self) -> &Handle {
        self.cluster.runtime()
    }

    /// Asks the controller, once more if a connection that had been idle turned out to be gone.
    async fn ask_controller<'a, M: Message<'a> + Request<'a>>(&self, message: &M) -> Result<Answer, ConnectionError> {
        let timeout = self.cluster.request_timeout();
        let connection = self.cluster.controller().await?;
        let was_used = connection.was_used();
        match connection.ask(message, i16::MAX, timeout).await {
            Err(ConnectionError::Lost { .. }) if was_used => {
                self.cluster.controller().await?.ask(message, i16::MAX, timeout).await
            }
            other => other,
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.cluster.close();
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// The broker's no, if it is one.
fn check(subject: &str, code: ErrorCode, message: Option<&str>) -> Result<(), AdminError> {
    match code {
        ErrorCode::None => Ok(()),
        code => Err(AdminError::Refused {
            subject: subject.into(),
            code,
            message: message.filter(|message| !message.is_empty()).map(Arc::from),
        }),
    }
}

fn unanswered(answer: &Answer, subject: &str) -> AdminError {
    AdminError::Unanswered { address: Arc::clone(&answer.address), subject: subject.into() }
}
