//! Bad input gets a clear error or a closed connection with a log line, costs little memory, and the next client
//! is served.

use std::io::Write;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use ottla_tests::admin::push_chunk;
use ottla_tests::batch::{CRC_POSITION, batch, with_codec};
use ottla_tests::client::{Client, Sending, run};
use ottla_tests::connection::Connection;
use ottla_tests::guest::{Guest, INTERFACE};
use ottla_tests::produce::produce_request;
use ottla_tests::{Broker, Record, artifact};
use ottla_wire::ErrorCode;
use ottla_wire::message::ApiVersionsRequest;

const MEMORY_GROWTH_BYTES_MAX: u64 = 64 << 20;

#[test]
fn a_random_byte_stream_is_closed() {
    costs_only_its_sender(|broker| {
        for seed in 1..=32 {
            let before = broker.log_lines().len();
            let mut connection = Connection::to(broker);
            // The broker may have hung up before all of it is sent.
            connection.send(&random_bytes(seed, 1 << 18)).ok();
            connection.finish_sending();
            connection.expect_closed();
            expect_log_line(broker, before, &connection);
        }
    });
}

#[test]
fn a_length_of_two_gibibytes_is_closed() {
    costs_only_its_sender(|broker| {
        for length in [i32::MAX, i32::MIN, -1, 1 << 30] {
            let before = broker.log_lines().len();
            let mut connection = Connection::to(broker);
            connection.send(&length.to_be_bytes()).expect("four bytes are taken");
            connection.send(&vec![0; 1 << 16]).ok();
            connection.expect_closed();
            expect_log_line(broker, before, &connection);
        }
    });
}

#[test]
fn a_declared_array_of_two_to_the_31_is_closed() {
    // Metadata, Produce and Fetch, in classic versions (a count of i32::MAX) and flexible ones (a varint of 2^31 + 1).
    let classic: &[u8] = &[0x7f, 0xff, 0xff, 0xff];
    let flexible: &[u8] = &[0x81, 0x80, 0x80, 0x80, 0x08];
    let produce = |prefix: &[u8], count: &[u8]| [prefix, &[0xff, 0xff], &30_000_i32.to_be_bytes(), count].concat();
    let fetch = |count: &[u8]| {
        let waits = [500_i32.to_be_bytes(), 1_i32.to_be_bytes(), i32::MAX.to_be_bytes()].concat();
        [&waits, [0].as_slice(), &0_i32.to_be_bytes(), &(-1_i32).to_be_bytes(), count].concat()
    };
    let requests = [
        (3, 4, classic.to_vec()),
        (3, 9, flexible.to_vec()),
        (0, 7, produce(&[0xff, 0xff], classic)),
        (0, 9, produce(&[0], flexible)),
        (1, 11, [(-1_i32).to_be_bytes().as_slice(), &fetch(classic)].concat()),
        (1, 13, [(-1_i32).to_be_bytes().as_slice(), &fetch(flexible)].concat()),
        (19, 4, classic.to_vec()),
        (19, 7, flexible.to_vec()),
    ];
    costs_only_its_sender(|broker| {
        for (key, version, body) in &requests {
            let before = broker.log_lines().len();
            let mut connection = Connection::to(broker);
            connection.send_frame(&request(*key, *version, body)).expect("the request is taken");
            connection.expect_closed();
            expect_log_line(broker, before, &connection);
        }
    });
}

#[test]
fn unknown_keys_and_versions_are_closed() {
    costs_only_its_sender(|broker| {
        // Unknown keys, keys of later releases, keys of ours for a client that is not ours, unknown versions.
        for (key, version) in
            [(9_999, 0), (-1, 0), (i16::MAX, 3), (75, 0), (20_000, 0), (20_002, 0), (3, 99), (0, 2), (1, -1)]
        {
            let before = broker.log_lines().len();
            let mut connection = Connection::to(broker);
            connection.send_frame(&request(key, version, &[0; 64])).expect("the request is taken");
            connection.expect_closed();
            expect_log_line(broker, before, &connection);
        }
    });
}

/// The one exception: a client from the future asks what we speak, and is told so in the oldest words.
#[test]
fn an_unknown_version_of_api_versions_is_answered() {
    costs_only_its_sender(|broker| {
        let mut connection = Connection::to(broker);
        connection.send_frame(&request(18, 99, &[0; 16])).expect("the request is taken");
        let answer = connection.receive_frame().expect("an answer");
        let error = i16::from_be_bytes([answer[4], answer[5]]);
        assert_eq!(error, ErrorCode::UnsupportedVersion.code());
        let error = connection.call(0, &ApiVersionsRequest::default(), |response| response.error_code);
        assert_eq!(error, ErrorCode::None, "the connection stays open");
    });
}

#[test]
fn a_half_sent_frame_holds_nobody_up_and_ends_with_its_connection() {
    costs_only_its_sender(|broker| {
        let mut halves: Vec<_> = (0..50).map(|_| Connection::to(broker)).collect();
        for connection in &mut halves {
            // Says that 50 MiB will come, and sends a little.
            connection.send(&(50_i32 << 20).to_be_bytes()).expect("the length is taken");
            connection.send(&request(0, 7, &[0; 1000])).expect("the beginning is taken");
        }
        assert_next_client_is_served(broker);
        for connection in &mut halves {
            connection.finish_sending();
            connection.expect_closed();
        }
        expect_log_line(broker, 0, &halves[0]);
    });
}

#[test]
fn a_wrong_crc_is_a_corrupt_message_and_the_connection_goes_on() {
    costs_only_its_sender(|broker| {
        broker.create_topic("crc", 1, &[]);
        let mut connection = Connection::to(broker);
        let good = batch(&[(b"k", b"v")], None);
        let mut wrong_crc = good.clone();
        wrong_crc[CRC_POSITION] ^= 1;
        let mut flipped_bit = good.clone();
        *flipped_bit.last_mut().expect("a batch has bytes") ^= 0x10;
        for bad in [wrong_crc, flipped_bit] {
            assert_eq!(produce(&mut connection, "crc", &bad), ErrorCode::CorruptMessage);
        }
        assert_eq!(produce(&mut connection, "crc", &good), ErrorCode::None);
        assert_eq!(broker.end_offsets("crc", 1), [1]);
    });
}

#[test]
fn batches_that_lie_about_themselves_are_refused() {
    costs_only_its_sender(|broker| {
        broker.push_ready_made("by-section");
        broker.create_topic("plain", 1, &[]);
        broker.create_topic("routed", 4, &[("ottla.partitioner", "by-section")]);
        let good = batch(&[(b"k", b"v"), (b"k", b"w")], None);
        let changed = |position: usize, bytes: &[u8]| {
            let mut batch = good.clone();
            batch[position..position + bytes.len()].copy_from_slice(bytes);
            ottla_tests::batch::seal(&mut batch);
            batch
        };
        let lies = [
            ("cut off", good[..good.len() - 3].to_vec()),
            ("half a header", good[..30].to_vec()),
            ("a length beyond the end", changed(8, &1_000_000_i32.to_be_bytes())),
            ("a negative length", changed(8, &(-5_i32).to_be_bytes())),
            ("2^31 - 1 records", changed(57, &i32::MAX.to_be_bytes())),
            ("a negative number of records", changed(57, &(-1_i32).to_be_bytes())),
            ("a last offset delta that does not fit", changed(23, &77_i32.to_be_bytes())),
            ("magic 1", changed(16, &[1])),
            ("an unknown codec", changed(21, &7_i16.to_be_bytes())),
            ("a control batch", changed(21, &0x20_i16.to_be_bytes())),
            ("garbage behind the batch", [good.as_slice(), &[0xab; 100]].concat()),
            ("nothing", Vec::new()),
        ];
        for topic in ["plain", "routed"] {
            for (what, lie) in &lies {
                let error = produce(&mut Connection::to(broker), topic, lie);
                assert_ne!(error, ErrorCode::None, "{topic}: {what}");
                assert_ne!(error, ErrorCode::UnknownServerError, "{topic}: {what}");
            }
        }
        assert_eq!(broker.end_offsets("plain", 1), [0]);
        assert_eq!(broker.end_offsets("routed", 4), [0; 4]);
    });
}

/// 512 MiB of zeros in a few MiB. A plugin has to look inside; the broker stops unpacking at its limit.
#[test]
fn a_compression_bomb_does_not_unpack() {
    costs_only_its_sender(|broker| {
        broker.push_ready_made("by-section");
        broker.create_topic("bombed", 4, &[("ottla.partitioner", "by-section"), ("max.message.bytes", "10000000")]);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
        let zeros = vec![0; 1 << 20];
        for _ in 0..512 {
            encoder.write_all(&zeros).expect("a Vec takes everything");
        }
        let bomb = with_codec(1, 1, &encoder.finish().expect("a Vec takes everything"));
        let error = produce(&mut Connection::to(broker), "bombed", &bomb);
        assert_ne!(error, ErrorCode::None);
        assert_ne!(error, ErrorCode::UnknownServerError);
        assert_eq!(broker.end_offsets("bombed", 4), [0; 4]);
    });
}

#[test]
fn a_wasm_file_that_is_no_component_is_refused() {
    costs_only_its_sender(|broker| {
        let core_module = Guest::round_robin().module(INTERFACE);
        let component = Guest::round_robin().component();
        for (what, bytes) in [
            ("text", b"this is a text\n".to_vec()),
            ("nothing but the magic number", b"\0asm".to_vec()),
            ("a core module", core_module),
            ("half a component", component[..component.len() / 2].to_vec()),
            ("random bytes", random_bytes(7, 100_000)),
            ("random bytes behind a component's header", [&component[..8], &random_bytes(8, 100_000)].concat()),
        ] {
            let refused = broker.push_plugin("no-component", &bytes).expect_err(what);
            assert_ne!(refused.code, ErrorCode::UnknownServerError, "{what}: {refused:?}");
            assert!(!refused.message.is_empty(), "{what}: {refused:?}");
        }
    });
}

#[test]
fn an_import_that_is_not_granted_is_refused_by_its_name() {
    costs_only_its_sender(|broker| {
        let greedy = Guest { wants_clock: true, ..Guest::round_robin() }.component();
        let refused = broker.push_plugin("greedy", &greedy).expect_err("the broker does not grant it");
        assert!(refused.message.contains("test:greedy/clock"), "{refused:?}");
    });
}

/// Refused by what it says it is, before it is sent.
#[test]
fn a_plugin_declared_as_100_mb_is_refused_at_its_first_chunk() {
    costs_only_its_sender(|broker| {
        let mut connection = Connection::as_ottla(broker);
        let chunk = random_bytes(3, 1 << 20);
        let digest = "0".repeat(64);
        for declared in [100_000_000, i64::MAX, 0, -1] {
            let refused = push_chunk(&mut connection, "large", &digest, declared, 0, &chunk).expect_err("too large");
            assert_ne!(refused.code, ErrorCode::UnknownServerError, "{refused:?}");
            assert!(!refused.message.is_empty(), "{declared}: {refused:?}");
        }
    });
}

/// A chunk out of place, a digest that does not fit the bytes, more bytes than declared.
#[test]
fn uploads_that_contradict_themselves_are_refused() {
    costs_only_its_sender(|broker| {
        let component = Guest::round_robin().component();
        let total = component.len() as i64;
        let wrong_digest = "ab".repeat(32);
        for (what, digest, declared, offset) in [
            ("a wrong digest", wrong_digest.as_str(), total, 0),
            ("no digest", "", total, 0),
            ("a chunk out of place", wrong_digest.as_str(), total * 3, total * 2),
            ("a negative offset", wrong_digest.as_str(), total, -1),
            ("more bytes than declared", wrong_digest.as_str(), total - 1, 0),
        ] {
            let mut connection = Connection::as_ottla(broker);
            let refused = push_chunk(&mut connection, "liar", digest, declared, offset, &component).expect_err(what);
            assert_ne!(refused.code, ErrorCode::UnknownServerError, "{what}: {refused:?}");
            assert!(!refused.message.is_empty(), "{what}: {refused:?}");
        }
    });
}

#[test]
fn the_command_line_says_why_a_plugin_is_refused() {
    costs_only_its_sender(|broker| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("text.wasm");
        std::fs::write(&path, "this is a text\n").expect("a file");
        let mut command = Command::new(artifact::ottla());
        command.args(["--bootstrap", &broker.bootstrap(), "plugin", "push", "--name", "text"]).arg(&path);
        let finished = run(command, &[]);
        assert!(!finished.status.success());
        assert!(finished.stderr.contains("not a WebAssembly"), "{}", finished.stderr);
    });
}

/// Runs `attack` against a broker of its own, then asks for the three things that must hold.
fn costs_only_its_sender(attack: impl FnOnce(&Broker)) {
    let broker = Broker::start();
    assert_next_client_is_served(&broker);
    broker.reset_peak_memory();
    let before = broker.peak_memory_bytes();
    attack(&broker);
    let grown = broker.peak_memory_bytes().saturating_sub(before);
    assert!(grown <= MEMORY_GROWTH_BYTES_MAX, "memory grew by {} MiB", grown >> 20);
    assert_next_client_is_served(&broker);
}

fn assert_next_client_is_served(broker: &Broker) {
    let record = Record::to(0, "key", "the next client");
    let sending = Sending { linger_ms: 0, ..Sending::default() };
    Client::Kcat.produce(&broker.bootstrap(), "served", &sending, std::slice::from_ref(&record));
    let received = Client::Kcat.consume(&broker.bootstrap(), "served");
    assert_eq!(received.last().map(Record::content), Some(record.content()));
}

/// A closed connection comes with a line that names it.
fn expect_log_line(broker: &Broker, after: usize, connection: &Connection) {
    broker.wait_for_line(after, &[&connection.local_address().port().to_string()]);
}

fn produce(connection: &mut Connection, topic: &str, records: &[u8]) -> ErrorCode {
    connection.call(8, &produce_request(topic, 0, records), |response| {
        response.responses[0].partition_responses[0].error_code
    })
}

/// A request by hand: any key, any version, any body.
fn request(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let flexible = matches!((key, version), (3 | 0, 9..) | (1, 12..) | (19, 5..) | (18, 3..));
    let mut bytes = Vec::new();
    bytes.extend(key.to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(7_i32.to_be_bytes());
    bytes.extend([0, 1, b'x']);
    bytes.extend(flexible.then_some(0));
    bytes.extend(body);
    bytes
}

/// The same bytes for the same seed.
fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}
