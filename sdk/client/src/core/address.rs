//! `HOST:PORT`, as users write it and brokers announce it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::error::ConfigError;

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

impl Address {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host:port`, `1.2.3.4:port` and `[::1]:port`. A bare host gets Kafka's port, 9092.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::BadAddress(text.to_owned());
        let (host, port) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or_else(bad)?;
                (host, rest.strip_prefix(':'))
            }
            None if text.matches(':').count() > 1 => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Ok(9092), |port| port.parse().map_err(|_| bad()))?;
        if host.is_empty() || port == 0 || host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(bad());
        }
        Ok(Self::new(host, port))
    }

    /// Whether it can only mean this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        &*self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, shown) in [
            ("127.0.0.1:9092", "127.0.0.1:9092"),
            ("broker", "broker:9092"),
            ("broker.example:19092", "broker.example:19092"),
            ("[::1]:9092", "[::1]:9092"),
            ("[::1]", "[::1]:9092"),
            ("::1", "[::1]:9092"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", ":9092", "broker:", "broker:0", "broker:70000", "broker:x", "http://broker:9092", "[::1:9092"]
        {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn loopback_is_recognised() {
        assert!(Address::new("localhost", 1).is_loopback());
        assert!(Address::new("::1", 1).is_loopback());
        assert!(!Address::new("10.0.0.1", 1).is_loopback());
    }
}
