//! The broker as a whole: everything a request handler may need, shared by all connections, and its start and stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_log::{LogDir, LogOptions, RecoveryReport};
use tokio::net::TcpListener;

use crate::config::{Config, HostPort};
use crate::connection::BufferPool;
use crate::listener::{self, BindError};
use crate::meta::{LocalStore, MetaError, MetadataStore};
use crate::producer_ids::ProducerIds;
use crate::request::Peer;
use crate::shutdown::Shutdown;
use crate::topics::{TopicTable, TopicsOpenError};

/// One running broker.
pub struct Broker {
    /// What the operator chose.
    pub config: Config,
    /// The number of this node.
    pub node_id: i32,
    /// The id of the cluster, the same for as long as the data directory lives.
    pub cluster_id: String,
    /// Topics, settings, ids and plugins as they are stored.
    pub meta: Arc<dyn MetadataStore>,
    /// The partitions' logs.
    pub log: Arc<LogDir>,
    /// The topics.
    pub topics: TopicTable,
    /// Ids for idempotent producers.
    pub producer_ids: ProducerIds,
    /// Says that the broker stops.
    pub shutdown: Shutdown,
    /// Receive buffers between two uses.
    pub buffers: BufferPool,
    /// Where the broker listens, the port filled in.
    listening_on: SocketAddr,
}

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made.
    #[error("cannot use {path}: {source}", path = path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The logs cannot be opened.
    #[error("cannot open the log: {0}")]
    Log(#[from] ottla_log::OpenError),
    /// The metadata cannot be opened.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A topic cannot be opened.
    #[error(transparent)]
    Topics(#[from] TopicsOpenError),
}

/// Why the broker did not stop cleanly. The next start recovers.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The log could not be closed with its marker.
    #[error("the log was not shut down cleanly: {0}")]
    Log(#[from] ottla_log::ShutdownError),
}

impl Broker {
    /// Takes the address, then opens the data directory: an address in use is known before recovery takes its time.
    /// Nobody is served before [`serve`](Self::serve). Blocks on the disk; needs a tokio runtime for the listener.
    pub fn open(config: Config, accept_open: bool) -> Result<(Arc<Self>, TcpListener, RecoveryReport), StartError> {
        let addr = listener::listen_address(&config, accept_open)?;
        let listener = listener::bind(addr)?;
        let listening_on = listener.local_addr().map_err(|source| BindError::Refused { addr, source })?;
        let (log, report) = open_log(&config)?;
        let meta: Arc<dyn MetadataStore> = Arc::new(LocalStore::open(&config.data_dir.join("metadata.redb"))?);
        let log = Arc::new(log);
        let broker = Self {
            node_id: config.node_id,
            cluster_id: meta.cluster_id().to_owned(),
            topics: TopicTable::open(&config, Arc::clone(&meta), Arc::clone(&log))?,
            producer_ids: ProducerIds::open(Arc::clone(&meta))?,
            shutdown: Shutdown::default(),
            buffers: BufferPool::default(),
            meta,
            log,
            listening_on,
            config,
        };
        Ok((Arc::new(broker), listener, report))
    }

    /// Serves clients until [`Shutdown::begin`].
    pub async fn serve(self: &Arc<Self>, listener: TcpListener) {
        listener::serve(listener, Arc::clone(self)).await;
    }

    /// Flushes everything and leaves the clean-shutdown marker. Blocks on the disk.
    pub fn close(&self) -> Result<(), StopError> {
        self.log.close()?;
        Ok(())
    }

    /// Where the broker listens, the port filled in.
    pub fn listening_on(&self) -> SocketAddr {
        self.listening_on
    }

    /// The address that `peer` is told to connect to.
    pub fn advertised_to(&self, peer: &Peer) -> HostPort {
        let port = self.listening_on.port();
        match &self.config.advertised {
            Some(advertised) => {
                let port = if advertised.port == 0 { port } else { advertised.port };
                HostPort { host: advertised.host.clone(), port }
            }
            // Listening everywhere: the address over which this client came is one that it can reach.
            None if self.listening_on.ip().is_unspecified() => {
                HostPort { host: peer.local_addr.ip().to_canonical().to_string(), port }
            }
            None => HostPort { host: self.listening_on.ip().to_string(), port },
        }
    }
}

fn open_log(config: &Config) -> Result<(LogDir, RecoveryReport), StartError> {
    let path = config.data_dir.join("log");
    std::fs::create_dir_all(&path).map_err(|source| StartError::DataDir { path: path.clone(), source })?;
    Ok(LogDir::open(&path, LogOptions::default())?)
}
