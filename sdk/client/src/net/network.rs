//! How addresses are reached: TCP, unless the configuration brings something else (a tunnel, or a network that a test makes
//! up).

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

/// A way to reach brokers.
pub trait Network: fmt::Debug + Send + Sync {
    /// Opens a connection. The caller gives up after `connect_timeout_ms`.
    fn connect(&self, host: &str, port: u16) -> Connecting;
}

/// A connection that is being opened.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

/// Both directions of a connection. It ends when both are dropped.
pub struct Wire {
    /// From the broker.
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    /// To the broker.
    pub write: Box<dyn Outlet>,
}

/// The way to a broker.
pub trait Outlet: AsyncWrite + Send + Unpin {
    /// What was written and has not left yet is of no use: it is dropped with the connection instead of being sent.
    fn discard(&self) {}
}

/// TCP, without waiting for more bytes before sending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp;

impl Network for Tcp {
    fn connect(&self, host: &str, port: u16) -> Connecting {
        let host = host.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            // A request waits for its answer, never for the next request.
            stream.set_nodelay(true)?;
            let (read, write) = stream.into_split();
            Ok(Wire { read: Box::new(read), write: Box::new(write) })
        })
    }
}

impl Outlet for OwnedWriteHalf {
    fn discard(&self) {
        // The system drops its buffer when the socket is closed; where it cannot, the bytes are sent.
        let _ = self.as_ref().set_zero_linger();
    }
}
