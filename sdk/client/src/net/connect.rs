//! From an address to a usable connection, with errors that say what to do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;

use super::frames::FrameReader;
use super::handshake::shake_hands;
use super::{Connection, Wire};
use crate::config::ClientConfig;
use crate::core::address::Address;
use crate::error::ConnectionError;

/// Connects and introduces us, all within `connect_timeout_ms`.
pub(super) async fn connect(
    address: &Address,
    config: &ClientConfig,
    runtime: &Handle,
) -> Result<Connection, ConnectionError> {
    let shown: Arc<str> = address.to_string().into();
    let limit = Duration::from_millis(config.connect_timeout_ms);
    let attempt = async {
        let reached = config.network.connect(&address.host, address.port).await;
        let Wire { read, mut write } = reached.map_err(|error| unreachable(address, &shown, &error))?;
        let mut frames = FrameReader::new(read, config.response_bytes_max);
        let offer = shake_hands(&mut frames, &mut write, &shown, &config.client_id).await?;
        let client_id = Arc::from(config.client_id.as_str());
        Ok(Connection::start(runtime, frames, write, offer, Arc::clone(&shown), client_id))
    };
    timeout(limit, attempt).await.unwrap_or_else(|_| {
        Err(ConnectionError::Unreachable {
            address: Arc::clone(&shown),
            reason: format!("no answer within {} ms", config.connect_timeout_ms).into(),
            hint: "; is a firewall in between, or something else than a broker listening?".into(),
        })
    })
}

fn unreachable(address: &Address, shown: &Arc<str>, error: &io::Error) -> ConnectionError {
    let (reason, hint) = match error.kind() {
        io::ErrorKind::ConnectionRefused if address.is_loopback() => {
            ("connection refused".to_owned(), "; is the broker running? start it with `ottla serve`")
        }
        io::ErrorKind::ConnectionRefused => {
            ("connection refused".to_owned(), "; is the broker running there, and does it listen beyond loopback?")
        }
        io::ErrorKind::TimedOut => ("no answer".to_owned(), "; is a firewall in between?"),
        _ if error.raw_os_error().is_none() => (error.to_string(), "; check the name"),
        _ => (error.to_string(), ""),
    };
    ConnectionError::Unreachable { address: Arc::clone(shown), reason: reason.into(), hint: hint.into() }
}
