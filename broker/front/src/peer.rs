//! The client at the other end of a connection, as far as it said.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crate::endpoint::{Endpoint, HostPort};

/// The name under which the project's own clients introduce themselves.
pub const OTTLA_SOFTWARE_NAME: &str = "ottla";

/// The other end of one connection.
#[derive(Debug)]
pub struct Peer {
    /// Where it connects from.
    pub addr: SocketAddr,
    /// The address of this broker that it connected to.
    pub local_addr: SocketAddr,
    /// The endpoint of this server by which it came.
    pub endpoint: Arc<Endpoint>,
    software: OnceLock<Software>,
    client_id: OnceLock<Box<str>>,
}

/// What a client says it is (KIP-511), from ApiVersions v3 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// For example `librdkafka`, `apache-kafka-java`, `ottla`.
    pub name: Box<str>,
    /// Its version, in a form of its own choice.
    pub version: Box<str>,
}

impl Peer {
    /// A peer that has said nothing yet.
    pub fn new(addr: SocketAddr, local_addr: SocketAddr, endpoint: Arc<Endpoint>) -> Self {
        Self { addr, local_addr, endpoint, software: OnceLock::new(), client_id: OnceLock::new() }
    }

    /// The address of this server that the peer is told to connect to.
    pub fn told_address(&self) -> HostPort {
        self.endpoint.told(self.local_addr)
    }

    /// Remembers what the client says it is. The first introduction counts: answers in flight rely on it.
    pub fn introduce(&self, name: &str, version: &str) {
        let _ = self.software.set(Software { name: name.into(), version: version.into() });
    }

    /// Remembers the client id of the first request that carried one.
    pub fn name_client(&self, client_id: &str) {
        if self.client_id.get().is_none() {
            let _ = self.client_id.set(client_id.into());
        }
    }

    /// What the client said it is.
    pub fn software(&self) -> Option<&Software> {
        self.software.get()
    }

    /// The name of its software, empty when it did not say.
    pub fn software_name(&self) -> &str {
        self.software.get().map_or("", |software| &software.name)
    }

    /// The client id, empty when it did not say.
    pub fn client_id(&self) -> &str {
        self.client_id.get().map_or("", |id| id)
    }

    /// Whether this is one of the project's own clients, which understand its own keys and tags.
    pub fn is_ottla(&self) -> bool {
        self.software_name() == OTTLA_SOFTWARE_NAME
    }
}

/// The address, and what the client says of itself: `127.0.0.1:4711 (my-app, librdkafka 2.3.0)`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addr, .. } = self;
        match (self.client_id(), self.software()) {
            ("", None) => write!(f, "{addr}"),
            (id, None) => write!(f, "{addr} ({id})"),
            ("", Some(Software { name, version })) => write!(f, "{addr} ({name} {version})"),
            (id, Some(Software { name, version })) => write!(f, "{addr} ({id}, {name} {version})"),
        }
    }
}
