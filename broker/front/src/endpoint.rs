//! One address on which clients are served, and the address that they are told.

use std::fmt;
use std::net::SocketAddr;

use crate::metrics::EndpointMetrics;

/// A host and a port, written `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One of the addresses of a server.
#[derive(Debug)]
pub struct Endpoint {
    /// What the operator calls it.
    pub name: String,
    /// Where it listens, the port filled in.
    pub addr: SocketAddr,
    /// Where its clients are told to connect to; port 0 stands for the one listened on. None: see [`told`](Self::told).
    pub advertised: Option<HostPort>,
    /// What is counted of its connections.
    pub metrics: EndpointMetrics,
}

impl Endpoint {
    /// The address that a client is told which reached this server at `reached`: the advertised one, or the one listened
    /// on. Where that is every interface, the one that the client reached: it is one that it can reach.
    pub fn told(&self, reached: SocketAddr) -> HostPort {
        let port = self.addr.port();
        match &self.advertised {
            Some(HostPort { host, port: 0 }) => HostPort { host: host.clone(), port },
            Some(advertised) => advertised.clone(),
            None if self.is_everywhere() => HostPort { host: reached.ip().to_canonical().to_string(), port },
            None => HostPort { host: self.addr.ip().to_string(), port },
        }
    }

    /// Whether it listens on every interface, so that it has no single address of its own.
    pub fn is_everywhere(&self) -> bool {
        self.addr.ip().is_unspecified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listen: &str, advertised: Option<(&str, u16)>, reached: &str) -> String {
        let advertised = advertised.map(|(host, port)| HostPort { host: host.to_owned(), port });
        let metrics = EndpointMetrics::default();
        let endpoint = Endpoint { name: "PLAINTEXT".to_owned(), addr: listen.parse().unwrap(), advertised, metrics };
        endpoint.told(reached.parse().unwrap()).to_string()
    }

    #[test]
    fn a_client_is_told_an_address_that_it_can_reach() {
        let reached = "192.0.2.7:9092";
        assert_eq!(told("192.0.2.7:9092", None, reached), "192.0.2.7:9092");
        assert_eq!(told("0.0.0.0:9092", None, reached), "192.0.2.7:9092");
        assert_eq!(told("[::]:9092", None, "[::ffff:192.0.2.7]:9092"), "192.0.2.7:9092");
        assert_eq!(told("[::]:9092", None, "[2001:db8::7]:9092"), "[2001:db8::7]:9092");
        assert_eq!(told("0.0.0.0:9092", Some(("broker.example", 19092)), reached), "broker.example:19092");
        assert_eq!(told("0.0.0.0:9092", Some(("broker.example", 0)), reached), "broker.example:9092");
        assert_eq!(told("[::1]:9092", Some(("::1", 1)), "[::1]:9092"), "[::1]:1");
    }
}
