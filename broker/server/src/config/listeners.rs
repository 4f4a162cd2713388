//! Listeners as Kafka writes them: `NAME://HOST:PORT`, separated by commas.

use std::fmt;

use super::value::{SettingValue, ValueKind, spelled};
use super::{Config, HostPort, SettingsConflict};

/// The name of a listener that is written without one.
const NAME_DEFAULT: &str = "PLAINTEXT";

spelled! {
    /// What is spoken on a listener.
    SecurityProtocol {
        /// Kafka's protocol and nothing around it.
        Plaintext = "PLAINTEXT",
        /// TLS around it.
        Ssl = "SSL",
        /// Authentication before it.
        SaslPlaintext = "SASL_PLAINTEXT",
        /// Both.
        SaslSsl = "SASL_SSL",
    }
}

/// The name of a listener, in capitals as Kafka keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerName(String);

impl ListenerName {
    fn parse(text: &str) -> Result<Self, String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if text.is_empty() || !text.chars().all(is_part) {
            return Err(format!("{text:?} is no name of a listener, which has letters, digits, `_`, `-` and `.`"));
        }
        Ok(Self(text.to_ascii_uppercase()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address with the name of its listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAddress {
    /// The name.
    pub name: ListenerName,
    /// The address; no host stands for every interface.
    pub address: HostPort,
}

impl NamedAddress {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wanted = |why: &str| format!("{text:?} is not NAME://HOST:PORT, such as PLAINTEXT://127.0.0.1:9092{why}");
        let (name, address) = match text.split_once("://") {
            Some((name, address)) => (ListenerName::parse(name).map_err(|why| wanted(&format!(": {why}")))?, address),
            None => (ListenerName(NAME_DEFAULT.to_owned()), text),
        };
        let everywhere = if address == text { None } else { address.strip_prefix(':') };
        let address = match everywhere {
            Some(port) => HostPort { host: String::new(), port: port.parse().map_err(|_| wanted(""))? },
            None => HostPort::parse(address).map_err(|_| wanted(""))?,
        };
        Ok(Self { name, address })
    }

    fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let mut all: Vec<Self> = Vec::new();
        for part in text.split(',') {
            let next = Self::parse(part)?;
            if let Some(NamedAddress { name, .. }) = all.iter().find(|earlier| earlier.name == next.name) {
                return Err(format!(
                    "two listeners are called {name}: give each a name of its own, as in \
                     PLAINTEXT://127.0.0.1:9092,INTERNAL://127.0.0.1:9093"
                ));
            }
            all.push(next);
        }
        Ok(all)
    }
}

impl fmt::Display for NamedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.name, self.address)
    }
}

fn show_all(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Where a broker listens: at least one address, each name once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerList(Vec<NamedAddress>);

impl ListenerList {
    /// One listener with the usual name.
    pub fn on(host: &str, port: u16) -> Self {
        let address = HostPort { host: host.to_owned(), port };
        Self(vec![NamedAddress { name: ListenerName(NAME_DEFAULT.to_owned()), address }])
    }

    /// The listeners in the order that they were written.
    pub fn iter(&self) -> impl Iterator<Item = &NamedAddress> {
        self.0.iter()
    }
}

impl SettingValue for ListenerList {
    const KIND: ValueKind = ValueKind::List;
    fn parse(text: &str) -> Result<Self, String> {
        let all = NamedAddress::parse_all(text)?;
        for (at, NamedAddress { name, address }) in all.iter().enumerate() {
            let same = |other: &&NamedAddress| address.port != 0 && other.address == *address;
            if let Some(other) = all.iter().take(at).find(same) {
                return Err(format!("{} and {name} both listen on {address}: one port has one listener", other.name));
            }
        }
        Ok(Self(all))
    }
    fn show(&self) -> String {
        show_all(&self.0)
    }
}

/// The addresses that clients are told, by the name of the listener that they use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdvertisedList(Vec<NamedAddress>);

impl AdvertisedList {
    /// What clients of this listener are told; none where nothing is said of it.
    pub fn of(&self, listener: &ListenerName) -> Option<&HostPort> {
        self.0.iter().find(|advertised| advertised.name == *listener).map(|advertised| &advertised.address)
    }
}

impl SettingValue for AdvertisedList {
    const KIND: ValueKind = ValueKind::List;
    const OPTIONAL: bool = true;
    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let all = NamedAddress::parse_all(text)?;
        let is_nowhere = |host: &str| host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_unspecified());
        for advertised in &all {
            let host = advertised.address.host.as_str();
            if host.is_empty() || is_nowhere(host) {
                return Err(format!(
                    "{advertised} stands for every interface of this machine, and no client can connect to that: name a \
                     host that clients reach, or leave the listener out, and each client is told the address by which it came"
                ));
            }
        }
        Ok(Self(all))
    }
    fn show(&self) -> String {
        show_all(&self.0)
    }
}

/// What is spoken on which listener, written `NAME:PROTOCOL`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProtocolMap(Vec<(ListenerName, SecurityProtocol)>);

impl ProtocolMap {
    /// What is spoken on this listener: what the map says, or what the name says, or plain text.
    fn of(&self, listener: &ListenerName) -> SecurityProtocol {
        let mapped = self.0.iter().find(|(name, _)| name == listener).map(|(_, protocol)| *protocol);
        let by_name = || SecurityProtocol::parse(listener.as_str()).ok();
        mapped.or_else(by_name).unwrap_or(SecurityProtocol::Plaintext)
    }
}

impl SettingValue for ProtocolMap {
    const KIND: ValueKind = ValueKind::List;
    const OPTIONAL: bool = true;
    fn parse(text: &str) -> Result<Self, String> {
        let mut map: Vec<(ListenerName, SecurityProtocol)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wanted = || format!("{part:?} is not NAME:PROTOCOL, such as INTERNAL:PLAINTEXT");
            let (name, protocol) = part.split_once(':').ok_or_else(wanted)?;
            let name = ListenerName::parse(name.trim())?;
            if map.iter().any(|(earlier, _)| *earlier == name) {
                return Err(format!("{name} is there twice"));
            }
            map.push((name, SecurityProtocol::parse(protocol)?));
        }
        Ok(Self(map))
    }
    fn show(&self) -> String {
        let pairs: Vec<_> = self.0.iter().map(|(name, protocol)| format!("{name}:{}", protocol.as_str())).collect();
        show_all(&pairs)
    }
}

impl Config {
    /// Looks for listeners that the settings say different things of.
    pub(super) fn check_listeners(&self) -> Result<(), SettingsConflict> {
        let conflict = |name, value, why| SettingsConflict {
            name,
            value,
            other: "listeners",
            other_value: self.listeners.show(),
            why,
        };
        for NamedAddress { name, .. } in self.listeners.iter() {
            let protocol = self.listener_protocols.of(name);
            if protocol != SecurityProtocol::Plaintext {
                return Err(conflict(
                    "listener.security.protocol.map",
                    format!("{name}:{}", protocol.as_str()),
                    "TLS and SASL come later, and without them the listener would be open where the configuration says \
                     that it is not; PLAINTEXT is the only protocol yet",
                ));
            }
        }
        let is_listener = |name: &ListenerName| self.listeners.iter().any(|listener| listener.name == *name);
        match self.advertised_listeners.0.iter().find(|advertised| !is_listener(&advertised.name)) {
            Some(advertised) => Err(conflict(
                "advertised.listeners",
                advertised.to_string(),
                "an address is told to the clients of the listener of the same name, and there is none; name it after one \
                 that there is",
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::set_pair;

    fn config(pairs: &[&str]) -> Result<Config, String> {
        let mut config = Config::default();
        for pair in pairs {
            set_pair(&mut config, pair).map_err(|error| error.to_string())?;
        }
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn listeners_are_read_as_kafka_writes_them() {
        for (text, shown) in [
            ("127.0.0.1:9092", "PLAINTEXT://127.0.0.1:9092"),
            ("localhost:0", "PLAINTEXT://localhost:0"),
            ("PLAINTEXT://:9092", "PLAINTEXT://:9092"),
            ("internal://[::1]:9093", "INTERNAL://[::1]:9093"),
            (
                "PLAINTEXT://0.0.0.0:9092, INTERNAL://127.0.0.1:9093",
                "PLAINTEXT://0.0.0.0:9092,INTERNAL://127.0.0.1:9093",
            ),
            ("A://127.0.0.1:0,B://127.0.0.1:0", "A://127.0.0.1:0,B://127.0.0.1:0"),
            ("A://127.0.0.1:9092,B://[::1]:9092", "A://127.0.0.1:9092,B://[::1]:9092"),
        ] {
            let read = ListenerList::parse(text).unwrap();
            assert_eq!(read.show(), shown);
            assert_eq!(ListenerList::parse(shown), Ok(read));
        }
    }

    #[test]
    fn a_bad_listener_is_refused_with_what_would_be_right() {
        for (pair, words) in [
            ("listeners=", "is not NAME://HOST:PORT"),
            ("listeners=9092", "is not NAME://HOST:PORT"),
            ("listeners=:9092", "is not NAME://HOST:PORT"),
            ("listeners=PLAINTEXT://host", "is not NAME://HOST:PORT"),
            ("listeners=PLAINTEXT://host:99999", "is not NAME://HOST:PORT"),
            ("listeners=PLAINTEXT://::1:9092/", "is not NAME://HOST:PORT"),
            ("listeners=127.0.0.1:9092,", "is not NAME://HOST:PORT"),
            ("listeners=IN TERNAL://127.0.0.1:9092", "no name of a listener"),
            ("listeners=127.0.0.1:9092,127.0.0.1:9093", "two listeners are called PLAINTEXT"),
            ("listeners=A://127.0.0.1:9092,B://127.0.0.1:9092", "A and B both listen on 127.0.0.1:9092"),
            ("listeners=SSL://127.0.0.1:9092", "TLS and SASL come later"),
            ("advertised.listeners=PLAINTEXT://0.0.0.0:9092", "no client can connect to that"),
            ("advertised.listeners=PLAINTEXT://[::]:9092", "no client can connect to that"),
            ("advertised.listeners=PLAINTEXT://:9092", "no client can connect to that"),
            ("advertised.listeners=EXTERNAL://host:9092", "and there is none"),
            ("listener.security.protocol.map=PLAINTEXT:SSL", "TLS and SASL come later"),
            ("listener.security.protocol.map=PLAINTEXT:TLS", "none of: PLAINTEXT, SSL"),
            ("listener.security.protocol.map=PLAINTEXT", "is not NAME:PROTOCOL"),
            ("listener.security.protocol.map=A:SSL,a:SSL", "twice"),
        ] {
            let wrong = config(&[pair]).map(|_| pair).unwrap_err();
            assert!(wrong.contains(words) && wrong.contains(pair.split_once('=').unwrap().0), "{pair}: {wrong}");
        }
    }

    /// The lines of Kafka 4's own `server.properties`.
    #[test]
    fn the_listeners_of_a_stock_kafka_are_understood() {
        let config = config(&[
            "listeners=PLAINTEXT://:9092,CONTROLLER://:9093",
            "inter.broker.listener.name=PLAINTEXT",
            "advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
            "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL",
        ])
        .unwrap();
        let told = config.listeners.iter().map(|listener| config.advertised_listeners.of(&listener.name).unwrap());
        assert_eq!(told.map(ToString::to_string).collect::<Vec<_>>(), ["localhost:9092", "localhost:9093"]);
    }
}
