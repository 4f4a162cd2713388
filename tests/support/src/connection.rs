//! One socket that speaks frames, for what no client would send: several requests may be under way, and every failure is
//! an error where the test wants one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ottla_wire::message::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_wire::{ErrorCode, Message, Request, RequestHeader, decode_response, encode_request};

use crate::{Broker, wait};

/// A whole request, its length in front.
pub fn request_frame<'a, M: Message<'a>>(version: i16, correlation_id: i32, request: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_request(&RequestHeader::of::<M>(version, correlation_id, Some("ottla-tests".into())), request, &mut bytes);
    bytes
}

/// A connection to a broker. Reads give up after [`wait::LONG`], so that a broker that stays silent fails its test.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    sent: i32,
    received: i32,
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
        Ok(Connection { stream, sent: 0, received: 0, bytes_received: 0 })
    }

    /// Connects as one of Ottla's own clients does: it may use keys above 20000 and sees placements.
    pub fn as_ottla(broker: &Broker) -> Connection {
        let mut connection = Connection::to(broker);
        connection.name_as_ottla().expect("the broker takes the name");
        connection
    }

    /// Names itself as one of Ottla's own clients.
    pub fn name_as_ottla(&mut self) -> io::Result<()> {
        let name =
            ApiVersionsRequest { client_software_name: "ottla".into(), client_software_version: "0.0.0-test".into() };
        let error = self.try_call(3, &name, |response: ApiVersionsResponse<'_>| response.error_code)?;
        if error == ErrorCode::None { Ok(()) } else { Err(io::Error::other(error.to_string())) }
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

    /// Sends a request in `version`.
    pub fn send_request<'r, R: Request<'r>>(&mut self, version: i16, request: &R) -> io::Result<()> {
        self.sent += 1;
        self.send(&request_frame(version, self.sent, request))
    }

    /// Receives the answer to the request `R` that is next in turn, hands it to `read`, and returns what that makes of it.
    pub fn receive_response<'r, R: Request<'r>, T>(
        &mut self,
        version: i16,
        read: impl FnOnce(R::Response<'_>) -> T,
    ) -> io::Result<T> {
        let frame = self.receive_frame()?;
        let (correlation_id, response) = decode_response(version, &frame).map_err(io::Error::other)?;
        self.received += 1;
        if correlation_id != self.received {
            return Err(io::Error::other(format!("answer {correlation_id} instead of {}", self.received)));
        }
        Ok(read(response))
    }

    /// Sends a request and receives its answer.
    pub fn try_call<'r, R: Request<'r>, T>(
        &mut self,
        version: i16,
        request: &R,
        read: impl FnOnce(R::Response<'_>) -> T,
    ) -> io::Result<T> {
        self.send_request(version, request)?;
        self.receive_response::<R, T>(version, read)
    }

    /// The same, where the broker has to answer.
    ///
    /// # Panics
    /// When there is no answer, or one that cannot be read.
    pub fn call<'r, R: Request<'r>, T>(
        &mut self,
        version: i16,
        request: &R,
        read: impl FnOnce(R::Response<'_>) -> T,
    ) -> T {
        self.try_call(version, request, read).expect("the broker answers")
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
