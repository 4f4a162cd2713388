//! Batches as other clients write them, captured from the clients themselves: all have to read as the same records.
//!
//! The three records: a key, a value and a header twice; 200 times `x` without a key; a key without a value, with a
//! header without a value.

use ottla_wire::record::{Batch, BatchBuilder, Codec, Header};
use ottla_wire::{Offset, ProducerEpoch, ProducerId, Sequence};

const UNPACKED_BYTES_MAX: usize = 1 << 20;
const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

struct Expected {
    key: Option<&'static [u8]>,
    value: Option<&'static [u8]>,
    headers: &'static [Header<'static>],
}

const RECORDS: [Expected; 3] = [
    Expected {
        key: Some(b"k"),
        value: Some(b"v"),
        headers: &[Header { key: b"trace", value: Some(b"1") }, Header { key: b"trace", value: Some(b"2") }],
    },
    Expected { key: None, value: Some(&[b'x'; 200]), headers: &[] },
    Expected { key: Some(b"k2"), value: None, headers: &[Header { key: b"h", value: None }] },
];

fn vectors(file: &str) -> Vec<(Codec, Vec<u8>)> {
    let path = format!("{}/vectors/batch_v2_{file}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (codec, hex) = line.split_once(' ').unwrap();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (Codec::from_name(codec).unwrap(), (0..hex.len()).step_by(2).map(byte).collect())
        })
        .collect()
}

fn check(file: &str, codecs: usize) {
    let vectors = vectors(file);
    assert_eq!(vectors.len(), codecs);
    for (codec, bytes) in vectors {
        let batch = Batch::parse(&bytes).unwrap();
        assert_eq!(batch.bytes.len(), bytes.len(), "{file} {codec:?}");
        batch.check_crc().unwrap();
        batch.header.check_as_produced().unwrap();
        assert_eq!(batch.header.codec(), Ok(codec));
        assert_eq!(batch.header.max_timestamp, BASE_TIMESTAMP + 2, "{file} {codec:?}");
        let records = batch.records(UNPACKED_BYTES_MAX).unwrap();
        let read: Vec<_> = records.iter().map(Result::unwrap).collect();
        assert_eq!(read.len(), RECORDS.len());
        for (index, (read, expected)) in read.iter().zip(&RECORDS).enumerate() {
            assert_eq!(batch.header.offset_of(read), Offset(index as i64));
            assert_eq!(batch.header.timestamp_of(read), BASE_TIMESTAMP + index as i64);
            assert_eq!((read.key, read.value), (expected.key, expected.value), "{file} {codec:?}");
            // KafkaJS cannot write a header without a value; its vector has an empty one.
            let headers = read
                .headers
                .iter()
                .map(|header| Header { value: header.value.filter(|value| !value.is_empty()), ..header });
            assert!(headers.eq(expected.headers.iter().copied()), "{file} {codec:?}");
        }
    }
}

#[test]
fn batches_of_the_java_client_are_read() {
    check("java", 5);
}

#[test]
fn batches_of_librdkafka_are_read() {
    check("librdkafka", 5);
}

#[test]
fn batches_of_kafka_python_are_read() {
    check("kafka_python", 5);
}

#[test]
fn batches_of_aiokafka_are_read() {
    check("aiokafka", 5);
}

#[test]
fn batches_of_kafkajs_are_read() {
    // It has no Zstandard.
    check("kafkajs", 4);
}

#[test]
fn our_batch_is_the_java_clients_byte_for_byte() {
    for (codec, theirs) in vectors("java").into_iter().filter(|(codec, _)| *codec == Codec::None) {
        let mut builder = BatchBuilder::new(codec).producer(ProducerId(7), ProducerEpoch(1), Sequence(5));
        for (timestamp, record) in (BASE_TIMESTAMP..).zip(&RECORDS) {
            builder.append(timestamp, record.key, record.value, record.headers.iter().copied()).unwrap();
        }
        let mut ours = Vec::new();
        builder.finish(&mut ours).unwrap();
        assert_eq!(ours, theirs);
    }
}
