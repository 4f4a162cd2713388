//! At most one connection per address and channel, made when first wanted and made again, with pauses, when it broke.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Connection;
use super::connect::connect;
use crate::config::ClientConfig;
use crate::core::address::Address;
use crate::core::backoff::Backoff;
use crate::error::ConnectionError;

/// Tells connections to the same address apart: a long poll must not hold up what comes after it.
pub(crate) type Channel = u8;

/// The connections of one client.
pub(super) struct Pool {
    config: Arc<ClientConfig>,
    runtime: Handle,
    slots: Mutex<HashMap<(Address, Channel), Arc<Slot>>>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Slot {
    /// Held while connecting, so that all that wait get the same connection.
    connecting: tokio::sync::Mutex<Attempts>,
    ready: Mutex<Option<Connection>>,
}

#[derive(Default)]
struct Attempts {
    failures: u32,
    not_before: Option<Instant>,
}

impl Slot {
    fn open(&self) -> Option<Connection> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.as_ref().filter(|connection| connection.is_open()).cloned()
    }
}

impl Pool {
    pub(super) fn new(config: Arc<ClientConfig>, runtime: Handle) -> Self {
        Self { config, runtime, slots: Mutex::default(), closed: AtomicBool::new(false) }
    }

    fn slot(&self, address: &Address, channel: Channel) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry((address.clone(), channel)).or_default())
    }

    /// The connection, if there is a live one.
    pub(super) fn open(&self, address: &Address, channel: Channel) -> Option<Connection> {
        self.slot(address, channel).open()
    }

    /// The connection, made now if need be. After a failure, waits out the pause before it tries again.
    pub(super) async fn connection(&self, address: &Address, channel: Channel) -> Result<Connection, ConnectionError> {
        let slot = self.slot(address, channel);
        if let Some(connection) = slot.open() {
            return Ok(connection);
        }
        let mut attempts = slot.connecting.lock().await;
        if let Some(connection) = slot.open() {
            return Ok(connection);
        }
        if let Some(not_before) = attempts.not_before {
            tokio::time::sleep_until(not_before).await;
        }
        match connect(address, &self.config, &self.runtime).await {
            Ok(connection) => {
                if attempts.failures > 0 {
                    tracing::info!(%address, "reached again");
                }
                *attempts = Attempts::default();
                *slot.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
                if self.closed.load(Ordering::Acquire) {
                    connection.sever("closed by this client");
                }
                Ok(connection)
            }
            Err(error) => {
                attempts.failures = attempts.failures.saturating_add(1);
                let backoff = Backoff::new(self.config.reconnect_backoff_ms, self.config.reconnect_backoff_ms_max);
                let pause_ms = backoff.pause_ms(attempts.failures, u64::from(attempts.failures));
                attempts.not_before = Some(Instant::now() + Duration::from_millis(pause_ms));
                let error = error.after(attempts.failures);
                // Once per outage: those behind it say the same.
                if attempts.failures == 1 {
                    tracing::warn!("{error}; trying on");
                } else {
                    tracing::debug!("{error}");
                }
                Err(error)
            }
        }
    }

    /// Forgets addresses at which no broker is any more, as far as nothing is under way there.
    pub(super) fn retain(&self, is_known: impl Fn(&Address) -> bool) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|(address, _), slot| {
            let busy = Arc::strong_count(slot) > 1 || slot.open().is_some_and(|open| open.in_flight() > 0);
            is_known(address) || busy
        });
    }

    /// Ends every connection.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let slots = std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in slots.into_values().filter_map(|slot| slot.open()) {
            connection.sever("closed by this client");
        }
    }
}
