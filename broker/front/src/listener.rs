//! Takes addresses, accepts connections, holds their number to the limits, and waits for them to finish when the server
//! stops.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::complaints;
use crate::connection;
use crate::endpoint::{Endpoint, HostPort};
use crate::front::Front;
use crate::metrics::{Counted, EndpointMetrics};
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
        listen: HostPort,
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
    #[error("cannot listen on {addr}: {source}{}", advice(source))]
    Refused {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do where the system refuses an address.
fn advice(refusal: &io::Error) -> &'static str {
    match refusal.kind() {
        io::ErrorKind::AddrInUse => {
            ". Another program listens there, perhaps a broker that runs already: stop it, or choose another port with \
             --listen HOST:PORT"
        }
        io::ErrorKind::AddrNotAvailable => ". It is no address of this machine: `ip addr` shows those that are",
        io::ErrorKind::PermissionDenied => {
            ". Ports below 1024 are for root: choose another one with --listen HOST:PORT"
        }
        _ => "",
    }
}

/// Finds the address to listen on, IPv4 first because some clients know nothing else; no host is every interface. An
/// address that others can reach is refused unless `accept_open` says that this is wanted.
pub fn listen_address(listen: &HostPort, accept_open: bool) -> Result<SocketAddr, BindError> {
    let HostPort { host, port } = listen;
    let unresolvable = |source| BindError::Unresolvable { listen: listen.clone(), source };
    let host = if host.is_empty() { every_interface() } else { host };
    let found: Vec<_> = (host, *port).to_socket_addrs().map_err(unresolvable)?.collect();
    let addr = found.iter().find(|addr| addr.is_ipv4()).or(found.first()).copied();
    let addr = addr.ok_or_else(|| unresolvable(io::ErrorKind::NotFound.into()))?;
    if addr.ip().is_loopback() || accept_open { Ok(addr) } else { Err(BindError::OpenToOthers { addr }) }
}

/// The address of every interface: that of IPv6, which takes IPv4 as well, where the machine has it.
fn every_interface() -> &'static str {
    if Socket::new(Domain::IPV6, Type::STREAM, None).is_ok() { "::" } else { "0.0.0.0" }
}

/// An endpoint whose address is taken.
#[derive(Debug)]
pub struct Listener {
    /// What its connections know of it.
    pub endpoint: Arc<Endpoint>,
    socket: TcpListener,
}

impl Listener {
    /// Takes the address. Needs a tokio runtime.
    pub fn bind(name: &str, addr: SocketAddr, advertised: Option<HostPort>) -> Result<Self, BindError> {
        let socket = bind(addr)?;
        let addr = socket.local_addr().map_err(|source| BindError::Refused { addr, source })?;
        let endpoint = Endpoint { name: name.to_owned(), addr, advertised, metrics: EndpointMetrics::default() };
        Ok(Self { endpoint: Arc::new(endpoint), socket })
    }

    /// Where it listens, the port filled in.
    pub fn addr(&self) -> SocketAddr {
        self.endpoint.addr
    }

    /// The socket, to be served by something else than a front.
    pub fn into_socket(self) -> TcpListener {
        self.socket
    }
}

fn bind(addr: SocketAddr) -> Result<TcpListener, BindError> {
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
    /// Serves until the server stops and every connection has sent its replies, or the grace period is over. The limits on
    /// connections count those of all listeners together.
    pub async fn serve(self, listeners: Vec<Listener>) {
        let front = Arc::new(self);
        let places = Arc::new(Places::new(&front.settings));
        let mut connections = JoinSet::new();
        let mut stop = front.stop.clone();
        let mut complaints = tokio::time::interval(complaints::INTERVAL);
        let mut first = 0;
        loop {
            tokio::select! {
                _ = complaints.tick() => front.complaints.report(),
                accepted = accept(&listeners, &mut first) => match accepted {
                    Ok((stream, addr, endpoint)) => admit(stream, addr, endpoint, &front, &places, &mut connections),
                    Err(error) => {
                        tracing::error!("cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_REST).await;
                    }
                },
                Some(ended) = connections.join_next() => report(ended),
                () = stop.begun() => break,
            }
        }
        drop(listeners);
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

/// The next connection of any of the listeners. Each time another one is the `first` that is asked, so that one with many
/// connections keeps none from the others.
async fn accept(listeners: &[Listener], first: &mut usize) -> io::Result<(TcpStream, SocketAddr, Arc<Endpoint>)> {
    std::future::poll_fn(|context| {
        let (head, tail) = listeners.split_at(*first % listeners.len().max(1));
        for listener in tail.iter().chain(head) {
            if let Poll::Ready(accepted) = listener.socket.poll_accept(context) {
                *first = first.wrapping_add(1);
                let with_endpoint = |(stream, addr)| (stream, addr, Arc::clone(&listener.endpoint));
                return Poll::Ready(accepted.map(with_endpoint));
            }
        }
        Poll::Pending
    })
    .await
}

fn admit<S: Service>(
    stream: TcpStream,
    addr: SocketAddr,
    endpoint: Arc<Endpoint>,
    front: &Arc<Front<S>>,
    places: &Arc<Places>,
    connections: &mut JoinSet<()>,
) {
    let metrics = endpoint.metrics.clone();
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
    let peer = Arc::new(Peer::new(addr, local_addr, endpoint));
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
        let listen_address = |host: &str, accept_open| {
            super::listen_address(&HostPort { host: host.to_owned(), port: 9092 }, accept_open)
        };
        for open in ["0.0.0.0", "::", "", "192.0.2.1"] {
            let refused = listen_address(open, false).unwrap_err().to_string();
            assert!(refused.contains("--i-accept-an-open-broker"), "{refused}");
            assert!(listen_address(open, true).is_ok());
        }
        for closed in ["127.0.0.1", "::1", "localhost", "127.8.8.8"] {
            assert!(listen_address(closed, false).is_ok(), "{closed}");
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
