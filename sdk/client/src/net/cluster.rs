//! A cluster seen from one client: its metadata and the connections to its brokers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ottla_wire::Message;
use ottla_wire::message::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::pool::{Channel, Pool};
use super::{Connection, Reply};
use crate::config::ClientConfig;
use crate::core::address::Address;
use crate::core::backoff::scramble;
use crate::core::metadata::Metadata;
use crate::error::{ConfigError, ConnectionError};

/// Which topics to ask about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Topics<'a> {
    /// Every topic there is.
    All,
    /// These, which may be none.
    Named(&'a [Arc<str>]),
}

/// Shared by everything that belongs to one producer, consumer or admin.
pub(crate) struct Cluster {
    config: Arc<ClientConfig>,
    runtime: Handle,
    bootstrap: Vec<Address>,
    pool: Arc<Pool>,
    metadata: RwLock<Arc<Metadata>>,
    /// Spreads the choice among brokers.
    turn: AtomicU64,
}

/// The connection that everything takes which does not wait on purpose.
pub(crate) const MAIN_CHANNEL: Channel = 0;

/// How long one address may take before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(300);

impl Cluster {
    pub(crate) fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        let runtime = config.handle()?;
        let bootstrap = config.bootstrap.iter().map(|text| Address::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if bootstrap.is_empty() {
            return Err(ConfigError::NoBootstrap);
        }
        let config = Arc::new(config);
        let pool = Arc::new(Pool::new(Arc::clone(&config), runtime.clone()));
        // Different clients start at different brokers.
        let turn = AtomicU64::new(u64::from(std::process::id()));
        Ok(Self { config, runtime, bootstrap, pool, metadata: RwLock::default(), turn })
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.config.request_timeout_ms)
    }

    /// The newest metadata.
    pub(crate) fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.metadata.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The live connection to a broker, if there is one.
    pub(crate) fn open_connection(&self, node: i32, channel: Channel) -> Option<Connection> {
        self.pool.open(self.metadata().brokers.get(&node)?, channel)
    }

    /// A connection to this broker.
    pub(crate) async fn broker(&self, node: i32, channel: Channel) -> Result<Connection, ConnectionError> {
        let address = self.metadata().brokers.get(&node).cloned();
        let address = address.ok_or(ConnectionError::UnknownBroker { node })?;
        self.pool.connection(&address, channel).await
    }

    /// A connection to any broker: an open one if there is one, else the first address that answers.
    pub(crate) async fn any(&self) -> Result<Connection, ConnectionError> {
        let metadata = self.metadata();
        let mut addresses: Vec<&Address> = metadata.brokers.values().chain(&self.bootstrap).collect();
        let turn = scramble(self.turn.fetch_add(1, Ordering::Relaxed)) as usize;
        let known = metadata.brokers.len();
        // Brokers we were told of come before the bootstrap addresses, which may be a balancer or long gone.
        if let Some(brokers) = addresses.get_mut(..known).filter(|brokers| !brokers.is_empty()) {
            brokers.rotate_left(turn % known);
        }
        // Among open ones the least busy: one that answers nothing any more has requests waiting.
        let open = addresses.iter().filter_map(|address| self.pool.open(address, MAIN_CHANNEL));
        if let Some(connection) = open.min_by_key(Connection::in_flight) {
            return Ok(connection);
        }
        self.first_to_answer(addresses.into_iter().cloned().collect()).await
    }

    /// Connects to these in order; the next one is tried when one fails or takes longer than [`STAGGER`].
    async fn first_to_answer(&self, mut addresses: VecDeque<Address>) -> Result<Connection, ConnectionError> {
        let mut attempts = JoinSet::new();
        let mut failure = None;
        loop {
            if let Some(address) = addresses.pop_front() {
                let pool = Arc::clone(&self.pool);
                attempts.spawn_on(async move { pool.connection(&address, MAIN_CHANNEL).await }, &self.runtime);
            }
            let pause = if addresses.is_empty() { Duration::MAX } else { STAGGER };
            match tokio::time::timeout(pause, attempts.join_next()).await {
                Ok(Some(Ok(Ok(connection)))) => return Ok(connection),
                Ok(Some(Ok(Err(error)))) => failure = Some(error),
                Ok(None) => return Err(failure.unwrap_or(ConnectionError::UnknownBroker { node: -1 })),
                // Too slow; or a task that was ended with its runtime.
                Err(_) | Ok(Some(Err(_))) => {}
            }
        }
    }

    /// A connection to the controller, or, where the cluster names none, to any broker: `KRaft` brokers forward.
    pub(crate) async fn controller(&self) -> Result<Connection, ConnectionError> {
        if self.metadata().brokers.is_empty() {
            self.refresh(Topics::Named(&[]), false).await?;
        }
        let controller = self.metadata().controller;
        match self.broker(controller, MAIN_CHANNEL).await {
            Err(ConnectionError::UnknownBroker { .. }) => self.any().await,
            other => other,
        }
    }

    /// Asks any broker and returns its answer, undecoded.
    pub(crate) async fn ask<'a, M: Message<'a>>(&self, message: &M) -> Reply {
        self.any().await?.ask(message, i16::MAX, self.request_timeout()).await
    }

    /// Asks for metadata, takes it in and returns the new metadata.
    pub(crate) async fn refresh(&self, topics: Topics<'_>, create: bool) -> Result<Arc<Metadata>, ConnectionError> {
        let named = match topics {
            Topics::All => None,
            Topics::Named(names) => Some(names.iter().map(|name| named(name)).collect()),
        };
        let request =
            MetadataRequest { topics: named, allow_auto_topic_creation: create, ..MetadataRequest::default() };
        let answer = self.ask(&request).await?;
        let response: MetadataResponse<'_> = answer.decode()?;
        // Under the lock: two answers at a time would undo each other.
        let mut newest = self.metadata.write().unwrap_or_else(PoisonError::into_inner);
        let mut metadata = Metadata::clone(&newest);
        metadata.merge(&response);
        if matches!(topics, Topics::All) {
            metadata.retain_listed(&response);
        }
        let metadata = Arc::new(metadata);
        *newest = Arc::clone(&metadata);
        drop(newest);
        let known = |address: &Address| metadata.brokers.values().chain(&self.bootstrap).any(|known| known == address);
        self.pool.retain(known);
        Ok(metadata)
    }

    /// Ends every connection.
    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

fn named(name: &str) -> MetadataRequestTopic<'_> {
    MetadataRequestTopic { name: Some(name.into()), ..MetadataRequestTopic::default() }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.close();
    }
}

impl Connection {
    /// Sends in the highest version both sides speak and waits for the answer.
    pub(crate) async fn ask<'a, M: Message<'a>>(&self, message: &M, ceiling: i16, timeout: Duration) -> Reply {
        self.call(self.version_of(M::KEY, ceiling)?, message, timeout).await
    }
}
