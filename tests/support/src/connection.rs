//! One socket that speaks frames, for what no client would send. Names itself `ottla` when asked to.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ottla_wire::message::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_wire::{ErrorCode, Request, RequestHeader, decode_response, encode_request};

use crate::{Broker, wait};

/// A connection to a broker. Reads give up after [`wait::LONG`], so that a broker that stays silent fails its test.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
    bytes_received: u64,
}

impl Connection {
    /// Connects.
    pub fn to(broker: &Broker) -> Connection {
        Connection::open(broker.address()).expect("the broker accepts a connection")
    }

    /// Connects to an address.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(wait::LONG))?;
        stream.set_write_timeout(Some(wait::LONG))?;
        Ok(Connection { stream, correlation_id: 0, bytes_received: 0 })
    }

    /// Connects as one of Ottla's own clients does: it may use keys above 20000 and sees placements.
    pub fn as_ottla(broker: &Broker) -> Connection {
        let mut connection = Connection::to(broker);
        let name =
            ApiVersionsRequest { client_software_name: "ottla".into(), client_software_version: "0.0.0-test".into() };
        let error = connection.call(3, &name, |response: ApiVersionsResponse<'_>| response.error_code);
        assert_eq!(error, ErrorCode::None);
        connection
    }

    /// How long reads wait from here on.
    pub fn set_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("a time that is not zero");
    }

    /// Our end of the connection.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket")
    }

    /// Bytes the broker has sent on this connection, as far as they were read.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Bytes with their length in front.
    pub fn send_frame(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = (bytes.len() as i32).to_be_bytes();
        self.stream.write_all(&[&length, bytes].concat())
    }

    /// The next frame, without its length.
    pub fn receive_frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        self.bytes_received += 4 + frame.len() as u64;
        Ok(frame)
    }

    /// Sends a request in `version`, hands the answer to `read`, and returns what that makes of it.
    ///
    /// # Panics
    /// When there is no answer, or one that cannot be read.
    pub fn call<'r, R, T>(&mut self, version: i16, request: &R, read: impl FnOnce(R::Response<'_>) -> T) -> T
    where
        R: Request<'r>,
    {
        self.correlation_id += 1;
        let header = RequestHeader::of::<R>(version, self.correlation_id, Some("ottla-tests".into()));
        let mut bytes = Vec::new();
        encode_request(&header, request, &mut bytes);
        self.send(&bytes).expect("the broker takes the request");
        let frame = self.receive_frame().expect("the broker answers");
        let (correlation_id, response) = decode_response(version, &frame).expect("the answer can be read");
        assert_eq!(correlation_id, self.correlation_id);
        read(response)
    }

    /// Waits until the broker has closed this connection; what it sent before that is dropped.
    ///
    /// # Panics
    /// When it stays open for [`wait::LONG`].
    pub fn expect_closed(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the broker neither closed the connection nor answered: {error}"),
            }
        }
    }

    /// Says that nothing more will come from here.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).ok();
    }
}
