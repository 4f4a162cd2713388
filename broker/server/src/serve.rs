//! The addresses of a broker, and serving on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ottla_front::{BindError, Bounds, Endpoint, Front, FrontSettings, Listener, listen_address};

use crate::broker::Broker;
use crate::config::Config;
use crate::config::listeners::NamedAddress;
use crate::monitoring;

/// How long a connection may wait for memory.
const MEMORY_PATIENCE: Duration = Duration::from_secs(10);

/// The addresses on which a broker will serve. They are taken before the data directory is opened, so that an address in
/// use is known before recovery takes its time.
#[derive(Debug)]
pub struct Listeners {
    clients: Vec<Listener>,
    metrics: Option<Listener>,
}

impl Listeners {
    /// Takes `listeners` and `metrics.listener` of the settings. Addresses that others can reach are refused unless
    /// `accept_open` says that this is wanted. Needs a tokio runtime.
    pub fn bind(config: &Config, accept_open: bool) -> Result<Self, BindError> {
        let clients = config.listeners.iter().map(|NamedAddress { name, address }| {
            let advertised = config.advertised_listeners.of(name).cloned();
            Listener::bind(name.as_str(), listen_address(address, accept_open)?, advertised)
        });
        let metrics = config
            .metrics_listen
            .as_ref()
            .map(|address| Listener::bind("metrics", listen_address(address, accept_open)?, None));
        Ok(Self { clients: clients.collect::<Result<_, _>>()?, metrics: metrics.transpose()? })
    }

    /// Where clients are served, in the order of the setting.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.clients.iter().map(|listener| Arc::clone(&listener.endpoint)).collect()
    }

    /// Where metrics are served, the port filled in.
    pub fn metrics_on(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(Listener::addr)
    }
}

/// Serves clients and metrics until the broker's stop begins and every reply was sent, or the grace period is over.
pub async fn serve(broker: Arc<Broker>, listeners: Listeners) {
    // First: the page of metrics counts groups, too.
    broker.groups.begin();
    if let Some(listener) = listeners.metrics {
        tokio::spawn(monitoring::http::serve(listener.into_socket(), Arc::clone(&broker)));
    }
    let (settings, metrics) = (front_settings(&broker.config), &broker.metrics.front);
    let stop = broker.shutdown.watch();
    let bounds = Bounds { memory: Arc::clone(&broker.memory), reads: Arc::clone(&broker.pools.reads) };
    Front::new(Arc::clone(&broker), settings, bounds, metrics, stop).serve(listeners.clients).await;
    broker.groups.ended().await;
}

fn front_settings(config: &Config) -> FrontSettings {
    FrontSettings {
        connections_max: config.connections_max,
        connections_per_ip_max: config.connections_per_ip_max,
        frame_bytes_max: config.request_max_bytes,
        pending_requests_max: config.connection_requests_max,
        pending_bytes_max: config.connection_request_bytes_max,
        idle: Duration::from_millis(config.connection_idle_ms),
        memory_patience: MEMORY_PATIENCE,
        shutdown_grace: Duration::from_millis(config.shutdown_grace_ms),
        sendfile_min_bytes: config.sendfile_min_bytes,
        sendfile_step_bytes: config.deliver_step_bytes,
    }
}
