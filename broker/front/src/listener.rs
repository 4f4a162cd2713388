//! Takes addresses, accepts connections, holds their number to the limits, and waits for them to finish when the server
//! stops.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::complaints;
use crate::connection;
use crate::front::Front;
use crate::metrics::Counted;
use crate::peer::Peer;
use crate::service::Service;
use crate::settings::FrontSettings;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// Rest after a failed accept. It fails for want of file descriptors or memory, and trying at once would spin.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Why an address is not listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The host has no address.
    #[error("cannot find the address of {listen}: {source}")]
    Unresolvable {
        /// Host and port as they were given.
        listen: String,
        /// What the system said.
        source: io::Error,
    },
    /// Others could reach an address, and nothing protects the broker from them.
    #[error(
        "{addr} can be reached from other machines, and anyone who reaches the broker may read, write and delete \
         everything: there is no TLS and no authentication yet. Listen on 127.0.0.1, or say \
         --i-accept-an-open-broker if that is what you want"
    )]
    OpenToOthers {
        /// The address.
        addr: SocketAddr,
    },
    /// The system refused the address.
    #[error("cannot listen on {addr}: {source}")]
    Refused {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Finds the address to listen on, IPv4 first because some clients know nothing else. An address that others can
/// reach is refused unless `accept_open` says that this is wanted.
pub fn listen_address(host: &str, port: u16, accept_open: bool) -> Result<SocketAddr, BindError> {
    let unresolvable = |source| BindError::Unresolvable { listen: format!("{host}:{port}"), source };
    let found: Vec<_> = (host, port).to_socket_addrs().map_err(unresolvable)?.collect();
    let addr = found.iter().find(|addr| addr.is_ipv4()).or(found.first()).copied();
    let addr = addr.ok_or_else(|| unresolvable(io::ErrorKind::NotFound.into()))?;
    if addr.ip().is_loopback() || accept_open { Ok(addr) } else { Err(BindError::OpenToOthers { addr }) }
}

/// Takes the address.
pub fn bind(addr: SocketAddr) -> Result<TcpListener, BindError> {
    let bound = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        // A restarted broker gets its port back although old connections linger in the kernel.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bound().map_err(|source| BindError::Refused { addr, source })
}

impl<S: Service> Front<S> {
    /// Serves until the server stops and every connection has sent its replies, or the grace period is over.
    pub async fn serve(self, listener: TcpListener) {
        let front = Arc::new(self);
        let places = Arc::new(Places::new(&front.settings));
        let mut connections = JoinSet::new();
        let mut stop = front.stop.clone();
        let mut complaints = tokio::time::interval(complaints::INTERVAL);
        loop {
            tokio::select! {
                _ = complaints.tick() => front.complaints.report(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, addr)) => admit(stream, addr, &front, &places, &mut connections),
                    Err(error) => {
                        tracing::error!("cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_REST).await;
                    }
                },
                Some(ended) = connections.join_next() => report(ended),
                () = stop.begun() => break,
            }
        }
        drop(listener);
        let drain = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        let grace = front.settings.shutdown_grace;
        if tokio::time::timeout(grace, drain).await.is_err() {
            tracing::warn!("{} connections did not finish within {} ms", connections.len(), grace.as_millis());
            connections.shutdown().await;
        }
    }
}

fn admit<S: Service>(
    stream: TcpStream,
    addr: SocketAddr,
    front: &Arc<Front<S>>,
    places: &Arc<Places>,
    connections: &mut JoinSet<()>,
) {
    let metrics = &front.metrics;
    let place = match places.take(addr.ip().to_canonical()) {
        Ok(place) => place,
        Err(full) => {
            // Dropping the stream closes it: there is no way to say more before a request was read.
            metrics.connections_refused.inc();
            if front.complaints.allow("refused connections", addr.ip().to_canonical()) {
                tracing::warn!("refused a connection from {addr}: {full}");
            }
            return;
        }
    };
    let local_addr = match stream.local_addr().and_then(|local| stream.set_nodelay(true).map(|()| local)) {
        Ok(local_addr) => local_addr,
        Err(error) => {
            tracing::debug!("{addr} went away at once: {error}");
            return;
        }
    };
    let peer = Arc::new(Peer::new(addr, local_addr));
    metrics.connections_accepted.inc();
    let open = Counted::by(&metrics.connections_open);
    let front = Arc::clone(front);
    connections.spawn(async move {
        connection::run(stream, peer, front).await;
        drop(open);
        drop(place);
    });
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection ended by a defect of the server: {error}");
    }
}

/// Counts the connections.
struct Places {
    total_max: usize,
    per_ip_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
}

/// Why there is no place for another connection.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Full {
    #[error("max.connections = {0} are open")]
    Total(usize),
    #[error("max.connections.per.ip = {0} are open from there")]
    PerIp(usize),
}

/// A connection's place; dropping it frees the place.
struct Place {
    places: Arc<Places>,
    ip: IpAddr,
}

impl Places {
    fn new(settings: &FrontSettings) -> Self {
        let FrontSettings { connections_max, connections_per_ip_max, .. } = *settings;
        Self { total_max: connections_max, per_ip_max: connections_per_ip_max, taken: Mutex::default() }
    }

    fn take(self: &Arc<Self>, ip: IpAddr) -> Result<Place, Full> {
        let mut taken = self.taken.lock();
        if taken.total >= self.total_max {
            return Err(Full::Total(self.total_max));
        }
        let from_there = taken.per_ip.entry(ip).or_default();
        if *from_there >= self.per_ip_max {
            return Err(Full::PerIp(self.per_ip_max));
        }
        *from_there += 1;
        taken.total += 1;
        Ok(Place { places: Arc::clone(self), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.total = taken.total.saturating_sub(1);
        if let Some(from_there) = taken.per_ip.get_mut(&self.ip) {
            *from_there = from_there.saturating_sub(1);
            if *from_there == 0 {
                taken.per_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_others_can_reach_wants_the_long_flag() {
        for open in ["0.0.0.0", "::", "192.0.2.1"] {
            let refused = listen_address(open, 9092, false).unwrap_err().to_string();
            assert!(refused.contains("--i-accept-an-open-broker"), "{refused}");
            assert!(listen_address(open, 9092, true).is_ok());
        }
        for closed in ["127.0.0.1", "::1", "localhost", "127.8.8.8"] {
            assert!(listen_address(closed, 9092, false).is_ok(), "{closed}");
        }
    }

    #[test]
    fn places_are_counted_in_total_and_per_address_and_given_back() {
        let places = Arc::new(Places { total_max: 3, per_ip_max: 2, taken: Mutex::default() });
        let [one, two]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let first = places.take(one).ok().unwrap();
        let _second = places.take(one).ok().unwrap();
        assert_eq!(places.take(one).err(), Some(Full::PerIp(2)));
        let _third = places.take(two).ok().unwrap();
        assert_eq!(places.take(two).err(), Some(Full::Total(3)));
        drop(first);
        assert!(places.take(one).is_ok());
    }
}
