//! What one client, or one topic, does to take everything from the others. Each attack makes what it needs first, then
//! goes on until it is told to stop.

#![allow(clippy::wildcard_imports, reason = "each attack is a module of this file and uses the file's names")]
#![allow(clippy::unnecessary_wraps, reason = "the table's signature")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ottla_tests::Broker;
use ottla_tests::batch::{batch, seal};
use ottla_tests::connection::Connection;
use ottla_tests::guest::Guest;
use ottla_wire::message::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic, MetadataRequest, MetadataRequestTopic,
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use ottla_wire::record::{BatchBuilder, Codec};
use ottla_wire::{ErrorCode, Request, RequestHeader, decode_response, encode_request};

use super::bystander::Question;

/// One way to take everything.
pub(super) struct Attack {
    /// The number in the list of attacks, and what it does.
    pub(super) name: &'static str,
    /// Makes topics and plugins.
    pub(super) prepare: fn(&Broker),
    /// Goes on until `stop`. Returns what the broker had to do and did not do.
    pub(super) strike: fn(&Broker, &AtomicBool) -> Result<(), String>,
    /// What it asks for so much of that a bystander who asks for the same has to queue.
    pub(super) of_kind: Option<Question>,
    /// The broken promise that this attack has to notice.
    pub(super) noticed_by: Option<&'static str>,
}

/// All of them; the first seven with the sizes at which they were found.
pub(super) const ALL: &[Attack] = &[
    Attack { strike: repeated_names::strike, ..Attack::of("1 repeated names", repeated_names::prepare) },
    Attack { strike: searches::strike, of_kind: Some(Question::Search), ..Attack::of("2 searches", searches::prepare) },
    Attack {
        strike: unread_answers::strike,
        noticed_by: Some("TurnWithoutEnd"),
        ..Attack::of("3 unread answers", unread_answers::prepare)
    },
    Attack { strike: packed_batches::strike, ..Attack::of("4 packed batches", |_| ()) },
    Attack { strike: slow_plugins::strike, ..Attack::of("5 slow plugins", slow_plugins::prepare) },
    Attack {
        strike: full_lanes::strike,
        noticed_by: Some("NoLaneShare"),
        ..Attack::of("6 full lanes", full_lanes::prepare)
    },
    Attack {
        strike: topic_changes::strike,
        of_kind: Some(Question::CreateTopic),
        noticed_by: Some("NoThreadBound"),
        ..Attack::of("8 topic changes", |_| ())
    },
    Attack {
        strike: large_requests::strike,
        noticed_by: Some("NoMemoryBound"),
        ..Attack::of("large requests", |_| ())
    },
];

impl Attack {
    const fn of(name: &'static str, prepare: fn(&Broker)) -> Self {
        Self { name, prepare, strike: |_, _| Ok(()), of_kind: None, noticed_by: None }
    }
}

const STEP: Duration = Duration::from_millis(10);

fn wait_for(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(STEP);
    }
}

fn frame<'r, R: Request<'r>>(version: i16, request: &R) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_request(&RequestHeader::of::<R>(version, 1, Some("attack".into())), request, &mut bytes);
    bytes
}

fn produce(records: &[u8], topics: impl Iterator<Item = String>) -> ProduceRequest<'_> {
    let data = |name: String| {
        let partition = PartitionProduceData { index: 0, records: Some(records) };
        TopicProduceData { name: name.into(), partition_data: vec![partition], ..TopicProduceData::default() }
    };
    ProduceRequest { acks: 1, timeout_ms: 30_000, topic_data: topics.map(data).collect(), ..ProduceRequest::default() }
}

/// A batch of few bytes that unpacks to `bytes`.
fn bomb(bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder.append(1_700_000_000_000, None, Some(&vec![0; bytes]), [].into_iter()).expect("a record");
    let mut batch = Vec::new();
    builder.finish(&mut batch).expect("a batch");
    batch
}

/// Opens `count` connections, sends `frame` on each `times` times without reading, and waits for the end.
fn send_unread(broker: &Broker, count: usize, times: usize, frame: &[u8], stop: &AtomicBool) -> Result<(), String> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::to(broker);
        // The broker may stop reading: what it does not take is not sent.
        connection.send(&frame.repeat(times)).map_err(|error| error.to_string())?;
        open.push(connection);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    wait_for(stop);
    Ok(())
}

/// Runs `count` clients, each of which asks again as soon as it was answered.
fn ask_again(
    broker: &Broker,
    count: usize,
    frame_of: impl Fn(usize) -> Vec<u8> + Sync,
    stop: &AtomicBool,
) -> Result<(), String> {
    thread::scope(|scope| {
        for client in 0..count {
            let frame_of = &frame_of;
            scope.spawn(move || {
                let mut connection = Connection::to(broker);
                connection.set_patience(Duration::from_millis(500));
                let frame = frame_of(client);
                while !stop.load(Ordering::Relaxed) && connection.send(&frame).is_ok() {
                    while !stop.load(Ordering::Relaxed) {
                        match connection.receive_frame() {
                            Ok(_) => break,
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                            Err(_) => return,
                        }
                    }
                }
            });
        }
    });
    Ok(())
}

/// Metadata that names one topic of a thousand partitions fifty thousand times.
mod repeated_names {
    use super::*;

    const TOPIC: &str = "named";
    const NAMES: usize = 50_000;
    /// The topic once, generously.
    const ANSWER_BYTES_MAX: usize = 1 << 20;

    pub(super) fn prepare(broker: &Broker) {
        broker.create_topic(TOPIC, 1_000, &[]);
    }

    pub(super) fn strike(broker: &Broker, stop: &AtomicBool) -> Result<(), String> {
        let topic = MetadataRequestTopic { name: Some(TOPIC.into()), topic_id: uuid::Uuid::nil() };
        let request = MetadataRequest { topics: Some(vec![topic; NAMES]), ..MetadataRequest::default() };
        let mut connection = Connection::to(broker);
        while !stop.load(Ordering::Relaxed) {
            connection.send(&frame(1, &request)).map_err(|error| error.to_string())?;
            let bytes = connection.receive_frame().map_err(|error| error.to_string())?.len();
            if bytes > ANSWER_BYTES_MAX {
                return Err(format!("the answer has {bytes} bytes"));
            }
        }
        Ok(())
    }
}

/// 640 searches by time at once, each of which unpacks 60 MiB.
mod searches {
    use super::*;

    const TOPIC: &str = "packed";

    pub(super) fn prepare(broker: &Broker) {
        broker.create_topic(TOPIC, 1, &[]);
        let batch = bomb(60 << 20);
        let request = produce(&batch, std::iter::once(TOPIC.to_owned()));
        Connection::to(broker).call(8, &request, |response| {
            assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::None);
        });
    }

    pub(super) fn strike(broker: &Broker, stop: &AtomicBool) -> Result<(), String> {
        let partition = ListOffsetsPartition { timestamp: 1_000, ..ListOffsetsPartition::default() };
        let topic = ListOffsetsTopic { name: TOPIC.into(), partitions: vec![partition] };
        let request = ListOffsetsRequest { topics: vec![topic], ..ListOffsetsRequest::default() };
        send_unread(broker, 10, 64, &frame(7, &request), stop)
    }
}

/// Metadata of 20 000 partitions, asked for 64 times by each of 60 connections that never read.
mod unread_answers {
    use super::*;

    pub(super) fn prepare(broker: &Broker) {
        for topic in ["wide-1", "wide-2"] {
            broker.create_topic(topic, 10_000, &[]);
        }
    }

    pub(super) fn strike(broker: &Broker, stop: &AtomicBool) -> Result<(), String> {
        let everything = MetadataRequest { topics: None, ..MetadataRequest::default() };
        send_unread(broker, 60, 64, &frame(1, &everything), stop)
    }
}

/// A hundred connections whose batches have to be unpacked on arrival, because they do not say how new their records are.
mod packed_batches {
    use super::super::bystander::PLAIN;
    use super::*;

    pub(super) fn strike(broker: &Broker, stop: &AtomicBool) -> Result<(), String> {
        let mut batch = bomb(31 << 20);
        batch[35..43].fill(0);
        seal(&mut batch);
        let frame = frame(8, &produce(&batch, std::iter::once(PLAIN.to_owned())));
        ask_again(broker, 100, |_| frame.clone(), stop)
    }
}

/// A plugin that computes for about 50 ms on each batch.
fn slow_plugin() -> Vec<u8> {
    let answer = "(i32.store (i32.const 3000) (i32.const 0))
        (loop $spin
          (i32.store (i32.const 3000) (i32.add (i32.load (i32.const 3000)) (i32.const 1)))
          (br_if $spin (i32.lt_u (i32.load (i32.const 3000)) (i32.const 30000000))))
        (i32.const 0)";
    Guest::answers(format!("(block (result i32) {answer})")).component()
}

/// 560 topics with a plugin of 50 ms.
mod slow_plugins {
    use super::*;

    const TOPICS: usize = 560;
    const CONNECTIONS: usize = 56;

    fn name(topic: usize) -> String {
        format!("slow-{topic}")
    }

    pub(super) fn prepare(broker: &Broker) {
        broker.push_plugin("slow", &slow_plugin()).expect("a plugin");
        for topic in 0..TOPICS {
            broker.create_topic(&name(topic), 1, &[("ottla.partitioner", "slow")]);
        }
    }

    pub(super) fn strike(broker: &Broker, stop: &AtomicBool) -> Result<(), String> {
        let batch = batch(&[(b"k", b"v")], None);
        let each = TOPICS / CONNECTIONS;
        let request = |client: usize| frame(8, &produce(&batch, (client * each..(client + 1) * each).map(name)));
        ask_again(broker, CONNECTIONS, request, stop)
    }
}

/// One topic with a slow plugin gets more than there is room for; a topic with a quick one must not be refused for it.
mod full_lanes {
    use super::*;

    const BATCH_BYTES: usize = 300 << 10;
    const BATCHES: usize = 179;
    /// How many of them are under way at a time. One alone a topic always gets in: that would show the floor, not the share.
    const TOGETHER: usize = 8;

    pub(super) fn prepare(broker: &Broker) {
        broker.push_plugin("slow", &slow_plugin()).expect("a plugin");
        broker.push_plugin("quick", &Guest::round_robin().component()).expect("a plugin");
        let page_cache = ("ottla.durability", "page-cache");
        broker.create_topic("slow", 8, &[("ottla.partitioner", "slow"), page_cache]);
        broker.create_topic("quick", 4, &[("ottla.partitioner", "quick"), page_cache]);
    }

    pub(super) fn strike(broker: &Broker, stop: &AtomicBool) -> Result<(), String> {
        let batch = batch(&[(b"k", &vec![7; BATCH_BYTES])], None);
        let refused = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| flood(broker, &batch, stop));
            }
            // Once the slow topic has taken what it can.
            thread::sleep(Duration::from_millis(500));
            let mut connection = Connection::to(broker);
            let request = frame(8, &produce(&batch, std::iter::once("quick".to_owned())));
            for number in 0..BATCHES + TOGETHER {
                if number >= TOGETHER {
                    let answer = connection.receive_frame().expect("an answer");
                    refused.fetch_add(u64::from(is_refused(&answer)), Ordering::Relaxed);
                }
                if number < BATCHES {
                    connection.send(&request).expect("a request");
                }
            }
            wait_for(stop);
        });
        match refused.into_inner() {
            0 => Ok(()),
            refused => Err(format!("{refused} of {BATCHES} batches of another topic with a plugin were refused")),
        }
    }

    fn is_refused(answer: &[u8]) -> bool {
        decode_response(8, answer).is_ok_and(|(_, response): (i32, ProduceResponse<'_>)| {
            response.responses[0].partition_responses[0].error_code != ErrorCode::None
        })
    }

    /// Keeps 32 batches for the slow topic under way.
    fn flood(broker: &Broker, batch: &[u8], stop: &AtomicBool) {
        let frame = frame(8, &produce(batch, std::iter::once("slow".to_owned())));
        let mut connection = Connection::to(broker);
        connection.set_patience(Duration::from_millis(500));
        let mut under_way = 0;
        while !stop.load(Ordering::Relaxed) {
            if under_way < 32 {
                if connection.send(&frame).is_err() {
                    return;
                }
                under_way += 1;
                continue;
            }
            match connection.receive_frame() {
                Ok(answer) => {
                    under_way -= 1;
                    if is_refused(&answer) {
                        // As a client does.
                        thread::sleep(STEP);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// 530 clients that create topics, each one after the other.
mod topic_changes {
    use super::*;

    pub(super) fn strike(broker: &Broker, stop: &AtomicBool) -> Result<(), String> {
        let address = broker.address();
        thread::scope(|scope| {
            for client in 0..530 {
                scope.spawn(move || {
                    let Ok(mut socket) = Connection::open(address) else { return };
                    socket.set_patience(Duration::from_mins(1));
                    for number in 0.. {
                        let name = format!("changed-{client}-{number}");
                        if stop.load(Ordering::Relaxed) || socket.create_topic(&name, 1, &[]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Ok(())
    }
}

/// Forty connections that each send 40 MiB of a request of 90 MiB, and no more.
mod large_requests {
    use std::io::Write;
    use std::net::TcpStream;

    use super::*;

    const CONNECTIONS: usize = 40;
    const ANNOUNCED_BYTES: i32 = 90 << 20;
    const SENT_BYTES: usize = 40 << 20;

    pub(super) fn strike(broker: &Broker, stop: &AtomicBool) -> Result<(), String> {
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| {
                    let Ok(mut stream) = TcpStream::connect(broker.address()) else { return };
                    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
                    let (chunk, mut sent) = (vec![7; 64 << 10], 0);
                    let _ = stream.write_all(&ANNOUNCED_BYTES.to_be_bytes());
                    while sent < SENT_BYTES && !stop.load(Ordering::Relaxed) {
                        match stream.write(&chunk) {
                            Ok(bytes) => sent += bytes,
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                            // The broker may have closed it.
                            Err(_) => return,
                        }
                    }
                    wait_for(stop);
                });
            }
        });
        Ok(())
    }
}
