//! The front with a service of a few lines behind it: what it promises without any broker.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_front::{
    Bounds, CloseReason, EndpointMetrics, Front, FrontMetrics, FrontSettings, Listener, Memory, Peer, Piece, Pool,
    PoolOptions, Reply, Response, Service, Shutdown, Taken, Turn, Use,
};
use ottla_log::{FileRange, LogDir, LogOptions, Offset, PartitionName, PartitionOptions};
use ottla_wire::Uuid;
use ottla_wire::record::{BatchBuilder, Codec};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Long enough for a slow machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_mins(1);

/// Answers each frame with itself. The first letter of a frame says when.
struct Echo {
    /// What happened, in order.
    events: Mutex<Vec<String>>,
    /// The kinds of the requests whose replies left, in order: their sizes.
    timed: Mutex<Vec<usize>>,
    /// A permit for each reply that may come.
    released: Arc<Semaphore>,
    /// What is answered to `file`.
    range: Option<FileRange>,
}

impl Default for Echo {
    fn default() -> Self {
        Self { events: Mutex::default(), timed: Mutex::default(), released: Arc::new(Semaphore::new(0)), range: None }
    }
}

impl Echo {
    fn note(&self, what: &str, frame: &[u8]) {
        self.events.lock().push(format!("{what} {}", String::from_utf8_lossy(frame)));
    }
}

fn response(body: &[u8]) -> Response {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    Response { head: Bytes::from(frame), rest: Vec::new() }
}

impl Service for Echo {
    type Joined = Vec<BytesMut>;

    fn take(self: &Arc<Self>, peer: &Arc<Peer>, frame: BytesMut, turn: &mut Turn<Vec<BytesMut>>) {
        let bytes = frame.len();
        let request = Taken::at(turn.begun(), bytes).of_kind(Some(bytes));
        self.note("took", &frame);
        if frame.starts_with(b"joined") {
            turn.join(bytes).push(frame);
            return;
        }
        self.finish(peer, turn);
        let service = Arc::clone(self);
        let reply = match &*frame {
            b"file" => {
                let range = self.range.clone().expect("a range");
                let head = Bytes::from(range.bytes.to_be_bytes().to_vec());
                Reply::Ready(Response { head, rest: vec![Piece::File(range)] })
            }
            b"close" => Reply::Close(CloseReason::UnknownApi(99)),
            b"silent" => Reply::Silent,
            other if other.starts_with(b"later") || other.starts_with(b"exclusive") => {
                let reply = Reply::later(async move {
                    service.released.acquire().await.expect("open").forget();
                    service.note("answered", &frame);
                    response(&frame)
                });
                return turn.push(if bytes > 8 { reply.exclusive() } else { reply }, request);
            }
            other if other.starts_with(b"ordered") => Reply::Exclusive(Box::pin(async move {
                service.note("sent on its way", &frame);
                Reply::later(async move {
                    service.released.acquire().await.expect("open").forget();
                    response(&frame)
                })
            })),
            other => response(other).into(),
        };
        turn.push(reply, request);
    }

    fn answered(&self, kind: usize, took: Duration) {
        assert!(took < PATIENCE);
        self.timed.lock().push(kind);
    }

    fn finish(self: &Arc<Self>, _peer: &Arc<Peer>, turn: &mut Turn<Vec<BytesMut>>) {
        let Some(joined) = turn.take_joined() else { return };
        for frame in &joined {
            let text = format!("{} of {}", String::from_utf8_lossy(frame), joined.len());
            turn.push(response(text.as_bytes()).into(), Taken::at(turn.begun(), frame.len()));
        }
    }
}

fn settings() -> FrontSettings {
    FrontSettings {
        connections_max: 10,
        connections_per_ip_max: 10,
        frame_bytes_max: 1 << 20,
        pending_requests_max: 64,
        pending_bytes_max: 1 << 20,
        idle: PATIENCE,
        memory_patience: PATIENCE,
        shutdown_grace: PATIENCE,
        sendfile_min_bytes: 256 << 10,
        sendfile_step_bytes: 1 << 20,
    }
}

const MEMORY_BYTES: usize = 64 << 20;

fn bounds(memory: &Arc<Memory>) -> Bounds {
    let reads = PoolOptions { name: "reads", threads_max: 2, queue_max: usize::MAX, yields: false };
    Bounds { memory: Arc::clone(memory), reads: Arc::new(Pool::new(reads)) }
}

struct Running {
    service: Arc<Echo>,
    metrics: FrontMetrics,
    connections: EndpointMetrics,
    memory: Arc<Memory>,
    stop: Shutdown,
    addr: std::net::SocketAddr,
    second: std::net::SocketAddr,
    serving: JoinHandle<()>,
}

fn start(service: Echo, settings: FrontSettings) -> Running {
    let (service, stop, metrics) = (Arc::new(service), Shutdown::default(), FrontMetrics::default());
    let memory = Memory::new(MEMORY_BYTES);
    let listen = |name| Listener::bind(name, ([127, 0, 0, 1], 0).into(), None).unwrap();
    let listeners = vec![listen("FIRST"), listen("SECOND")];
    let (addr, second) = (listeners[0].addr(), listeners[1].addr());
    let connections = listeners[0].endpoint.metrics.clone();
    let front = Front::new(Arc::clone(&service), settings, bounds(&memory), &metrics, stop.watch());
    let serving = tokio::spawn(front.serve(listeners));
    Running { service, metrics, connections, memory, stop, addr, second, serving }
}

impl Running {
    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.addr).await.unwrap())
    }

    async fn client_of_second(&self) -> Client {
        Client(TcpStream::connect(self.second).await.unwrap())
    }
}

struct Client(TcpStream);

impl Client {
    /// Sends frames in one write, so that they are read together.
    async fn send(&mut self, frames: &[&str]) {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            bytes.extend_from_slice(frame.as_bytes());
        }
        self.0.write_all(&bytes).await.unwrap();
    }

    async fn receive_bytes(&mut self) -> Option<Vec<u8>> {
        let receive = async {
            let length = self.0.read_u32().await.ok()?;
            let mut body = vec![0; length as usize];
            self.0.read_exact(&mut body).await.ok()?;
            Some(body)
        };
        tokio::time::timeout(PATIENCE, receive).await.expect("no answer")
    }

    /// The next reply; nothing when the connection ended.
    async fn receive(&mut self) -> Option<String> {
        self.receive_bytes().await.map(|body| String::from_utf8(body).unwrap())
    }
}

#[tokio::test]
async fn replies_leave_in_the_order_of_their_requests() {
    let front = start(Echo::default(), settings());
    let mut client = front.client().await;
    client.send(&["later 1", "silent", "now 2", "later 3", "now 4"]).await;
    front.service.released.add_permits(2);
    for expected in ["later 1", "now 2", "later 3", "now 4"] {
        assert_eq!(client.receive().await.as_deref(), Some(expected));
    }
    assert_eq!(
        *front.service.events.lock(),
        [
            "took later 1",
            "took silent",
            "took now 2",
            "took later 3",
            "took now 4",
            "answered later 1",
            "answered later 3"
        ]
    );
}

#[tokio::test]
async fn a_peer_of_another_protocol_is_told_so_in_its_own() {
    let front = start(Echo::default(), settings());
    for (sent, answer) in [
        (&b"GET /metrics HTTP/1.1\r\n\r\n"[..], &b"HTTP/1.1 400 Bad Request\r\n"[..]),
        (&[0x16, 0x03, 0x01, 0x00, 0xc4, 0x01], &[0x15, 0x03, 0x01, 0x00, 0x02, 0x02]),
    ] {
        let mut client = front.client().await;
        client.0.write_all(sent).await.unwrap();
        let mut received = Vec::new();
        client.0.read_to_end(&mut received).await.unwrap();
        assert!(received.starts_with(answer), "{}", String::from_utf8_lossy(&received));
    }
}

#[tokio::test]
async fn each_request_is_timed_until_its_reply_leaves() {
    let front = start(Echo::default(), settings());
    let mut client = front.client().await;
    client.send(&["later 1", "silent", "now 22"]).await;
    front.service.released.add_permits(1);
    for expected in ["later 1", "now 22"] {
        assert_eq!(client.receive().await.as_deref(), Some(expected));
    }
    assert_eq!(*front.service.timed.lock(), [7, 6, 6]);
    client.send(&["close"]).await;
    assert_eq!(client.receive().await, None);
    assert_eq!(front.service.timed.lock().len(), 3, "the end of the connection is no reply");
}

#[tokio::test]
async fn a_request_behind_an_exclusive_one_is_taken_when_that_is_answered() {
    let front = start(Echo::default(), settings());
    let mut client = front.client().await;
    client.send(&["exclusive 1", "now 2"]).await;
    front.service.released.add_permits(1);
    assert_eq!(client.receive().await.as_deref(), Some("exclusive 1"));
    assert_eq!(client.receive().await.as_deref(), Some("now 2"));
    assert_eq!(*front.service.events.lock(), ["took exclusive 1", "answered exclusive 1", "took now 2"]);
}

/// Waits until the service has seen something.
async fn seen(front: &Running, event: &str) {
    let wait = async {
        while !front.service.events.lock().iter().any(|it| it == event) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {event}"));
}

#[tokio::test]
async fn an_exclusive_request_that_is_on_its_way_holds_no_later_one_back() {
    let front = start(Echo::default(), settings());
    let mut client = front.client().await;
    client.send(&["later 1", "ordered 2", "now 3"]).await;
    seen(&front, "took now 3").await;
    assert_eq!(
        *front.service.events.lock(),
        ["took later 1", "took ordered 2", "sent on its way ordered 2", "took now 3"]
    );
    front.service.released.add_permits(2);
    for expected in ["later 1", "ordered 2", "now 3"] {
        assert_eq!(client.receive().await.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn no_answers_are_made_behind_many_bytes_that_have_not_left() {
    let front = start(Echo::default(), settings());
    let mut client = front.client().await;
    let large = "x".repeat(100_000);
    client.send(&["later 1", &large, "now 2", "now 3"]).await;
    seen(&front, &format!("took {large}")).await;
    front.service.released.add_permits(1);
    for expected in ["later 1", &large, "now 2", "now 3"] {
        assert_eq!(client.receive().await.as_deref(), Some(expected));
    }
    let events = front.service.events.lock();
    let at = |event: &str| events.iter().position(|it| it == event).unwrap();
    assert!(at("took now 2") > at("answered later 1"), "{} events", events.len());
}

#[tokio::test]
async fn a_connection_that_waits_for_memory_goes_on_when_there_is_some() {
    let front = start(Echo::default(), settings());
    let mut held = front.memory.charge(Use::Lanes);
    held.set(MEMORY_BYTES);
    let (mut large, mut small) = (front.client().await, front.client().await);
    large.send(&[&"x".repeat(1 << 20)]).await;
    small.send(&["now 1"]).await;
    assert_eq!(small.receive().await.as_deref(), Some("now 1"), "small requests need no memory");
    drop(held);
    assert_eq!(large.receive().await, Some("x".repeat(1 << 20)));
}

#[tokio::test]
async fn a_connection_that_waits_for_memory_too_long_is_closed() {
    let front = start(Echo::default(), FrontSettings { memory_patience: Duration::from_millis(10), ..settings() });
    let mut held = front.memory.charge(Use::Lanes);
    held.set(MEMORY_BYTES);
    let mut large = front.client().await;
    let _ = large.0.write_all(&(1_u32 << 20).to_be_bytes()).await;
    let _ = large.0.write_all(&vec![7; 1 << 19]).await;
    assert_eq!(large.receive().await, None);
    drop(held);
    assert_eq!(front.memory.free(), MEMORY_BYTES, "it gave back what it held");
}

#[tokio::test]
async fn requests_that_arrive_together_are_joined_up_to_one_that_is_not() {
    let front = start(Echo::default(), settings());
    let mut client = front.client().await;
    client.send(&["joined 1", "joined 2", "now 3", "joined 4"]).await;
    for expected in ["joined 1 of 2", "joined 2 of 2", "now 3", "joined 4 of 1"] {
        assert_eq!(client.receive().await.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_connection_ends_behind_the_replies_to_earlier_requests() {
    let front = start(Echo::default(), settings());
    let mut client = front.client().await;
    client.send(&["joined 1", "close", "now 3"]).await;
    assert_eq!(client.receive().await.as_deref(), Some("joined 1 of 1"));
    assert_eq!(client.receive().await, None);
    assert_eq!(*front.service.events.lock(), ["took joined 1", "took close"]);
}

#[tokio::test]
async fn a_frame_above_the_limit_ends_its_connection_and_no_other() {
    let front = start(Echo::default(), FrontSettings { frame_bytes_max: 100, ..settings() });
    let (mut greedy, mut other) = (front.client().await, front.client().await);
    greedy.send(&["joined 1", &"x".repeat(101), "now 3"]).await;
    assert_eq!(greedy.receive().await.as_deref(), Some("joined 1 of 1"));
    assert_eq!(greedy.receive().await, None);
    other.send(&[&"x".repeat(100)]).await;
    assert_eq!(other.receive().await, Some("x".repeat(100)));
}

#[tokio::test]
async fn no_more_requests_are_taken_than_may_be_pending() {
    let front = start(Echo::default(), FrontSettings { pending_requests_max: 2, ..settings() });
    let mut client = front.client().await;
    client.send(&["later 1", "later 2", "now 3", "now 4"]).await;
    front.service.released.add_permits(2);
    for expected in ["later 1", "later 2", "now 3", "now 4"] {
        assert_eq!(client.receive().await.as_deref(), Some(expected));
    }
    let events = front.service.events.lock();
    let at = |event: &str| events.iter().position(|it| it == event).unwrap();
    assert!(at("took now 3") > at("answered later 1"), "{events:?}");
}

#[tokio::test]
async fn a_stop_sends_the_replies_that_are_pending_and_takes_no_request_more() {
    let front = start(Echo::default(), settings());
    let mut client = front.client().await;
    client.send(&["now 1", "later 2"]).await;
    assert_eq!(client.receive().await.as_deref(), Some("now 1"));
    front.stop.begin();
    client.send(&["now 3"]).await;
    front.service.released.add_permits(1);
    assert_eq!(client.receive().await.as_deref(), Some("later 2"));
    assert_eq!(client.receive().await, None);
    tokio::time::timeout(PATIENCE, front.serving).await.expect("still serving").unwrap();
    assert_eq!(front.connections.connections_open.get(), 0);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_closed_and_counted() {
    let front = start(Echo::default(), FrontSettings { connections_max: 1, ..settings() });
    let mut first = front.client().await;
    first.send(&["now 1"]).await;
    assert_eq!(first.receive().await.as_deref(), Some("now 1"));
    assert_eq!(front.client().await.receive().await, None);
    assert_eq!((front.connections.connections_accepted.get(), front.connections.connections_refused.get()), (1, 1));
    assert_eq!(front.connections.connections_open.get(), 1);
}

#[tokio::test]
async fn the_limit_on_connections_counts_those_of_all_listeners() {
    let front = start(Echo::default(), FrontSettings { connections_max: 1, ..settings() });
    let mut first = front.client_of_second().await;
    first.send(&["now 1"]).await;
    assert_eq!(first.receive().await.as_deref(), Some("now 1"));
    assert_eq!(front.client().await.receive().await, None);
    assert_eq!((front.connections.connections_accepted.get(), front.connections.connections_refused.get()), (0, 1));
}

#[tokio::test]
async fn records_leave_from_the_mapping_and_from_the_file_alike() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = LogDir::open(directory.path(), LogOptions::default()).unwrap();
    let name = PartitionName::new("t", 0).unwrap();
    let partition = log.create_partition(&name, Uuid::from_u128(1), PartitionOptions::default()).unwrap();
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(1, None, Some(&[7; 10_000]), std::iter::empty()).unwrap();
    let mut batch = Vec::new();
    builder.finish(&mut batch).unwrap();
    partition.append(&mut batch).unwrap();
    let range = partition.locate(Offset(0), u32::MAX, Offset(1)).unwrap().unwrap();
    for sendfile_min_bytes in [0, u32::MAX] {
        let echo = Echo { range: Some(range.clone()), ..Echo::default() };
        let front = start(echo, FrontSettings { sendfile_min_bytes, sendfile_step_bytes: 4096, ..settings() });
        let mut client = front.client().await;
        client.send(&["file", "now 2"]).await;
        assert!(client.receive_bytes().await.as_deref() == Some(&batch[..]), "{sendfile_min_bytes}");
        assert_eq!(client.receive().await.as_deref(), Some("now 2"));
        assert_eq!(front.metrics.sent_record_bytes.get(), batch.len() as u64);
    }
}
