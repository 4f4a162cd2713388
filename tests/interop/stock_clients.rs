//! Stock clients, unmodified and from their own packages, produce and consume by partition with every codec they have.

use std::collections::BTreeMap;

use ottla_tests::client::{Client, Report, Sending};
use ottla_tests::{Broker, Record, wait};

const ALL_CODECS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];
const PARTITIONS: i32 = 4;
const READERS: [Client; 6] =
    [Client::Kcat, Client::Confluent, Client::KafkaPython, Client::Aiokafka, Client::Rskafka, Client::Ottla];

#[test]
fn kcat_produces_and_consumes_with_every_codec() {
    round_trips(Client::Kcat, Client::Kcat, ALL_CODECS);
}

#[test]
fn confluent_kafka_produces_and_consumes_with_every_codec() {
    round_trips(Client::Confluent, Client::Confluent, ALL_CODECS);
}

#[test]
fn kafka_python_produces_and_consumes_with_every_codec() {
    round_trips(Client::KafkaPython, Client::KafkaPython, ALL_CODECS);
}

#[test]
fn aiokafka_produces_and_consumes_with_every_codec() {
    round_trips(Client::Aiokafka, Client::Aiokafka, ALL_CODECS);
}

/// It consumes only in groups, so kcat reads what it sent.
#[test]
fn kafkajs_produces_with_none_and_gzip() {
    round_trips(Client::KafkaJs, Client::Kcat, &["none", "gzip"]);
}

#[test]
fn rskafka_produces_and_consumes_with_every_codec() {
    round_trips(Client::Rskafka, Client::Rskafka, ALL_CODECS);
}

#[test]
fn our_wheel_produces_and_consumes_with_every_codec() {
    round_trips(Client::Ottla, Client::Ottla, ALL_CODECS);
}

/// What one client compressed, another one reads: the broker hands batches on as they came.
#[test]
fn clients_read_each_other() {
    let broker = Broker::start();
    broker.create_topic("shared", PARTITIONS, &[]);
    let writers = [
        (Client::Kcat, "snappy"),
        (Client::Confluent, "lz4"),
        (Client::KafkaPython, "zstd"),
        (Client::Aiokafka, "snappy"),
        (Client::Ottla, "lz4"),
        (Client::KafkaJs, "gzip"),
        (Client::Rskafka, "lz4"),
    ];
    let mut sent = Vec::new();
    for (number, (writer, codec)) in writers.into_iter().enumerate() {
        let records = records(&format!("writer-{number}"));
        writer.produce(&broker.bootstrap(), "shared", &Sending { codec, ..Sending::default() }, &records);
        sent.extend(records);
    }
    for reader in READERS {
        let received = reader.consume(&broker.bootstrap(), "shared");
        assert_same_by_partition(&sent, &received, &format!("{reader:?}"));
    }
}

/// A topic appears when a producer first names it.
#[test]
fn the_first_record_creates_its_topic() {
    let broker = Broker::start();
    for client in
        [Client::Kcat, Client::Confluent, Client::KafkaPython, Client::Aiokafka, Client::KafkaJs, Client::Ottla]
    {
        let topic = format!("new-{client:?}");
        let records = [Record::new("k", "v")];
        client.produce(&broker.bootstrap(), &topic, &Sending::default(), &records);
        let received = Client::Kcat.consume(&broker.bootstrap(), &topic);
        assert_eq!(received.len(), 1, "{client:?}");
        assert_eq!(received[0].content(), records[0].content(), "{client:?}");
    }
}

/// Compaction leaves gaps between records and batches without any: no client stops at them, and each finds the last record
/// of every key at the offset it was sent to.
#[test]
fn every_client_reads_what_compaction_left() {
    const KEYS: usize = 50;
    let broker = Broker::builder().set("log.cleaner.backoff.ms", "50").start();
    let compacted =
        [("cleanup.policy", "compact"), ("internal.segment.bytes", "20000"), ("min.cleanable.dirty.ratio", "0")];
    for codec in ALL_CODECS {
        let topic = format!("compacted-{codec}");
        broker.create_topic(&topic, 1, &compacted);
        let sent: Vec<Record> = (0..3000_usize)
            .map(|number| {
                // Long stretches of the same key, so that whole batches go.
                let key = format!("key {}", number * KEYS / 3000 * 7 % KEYS);
                // Nothing that a codec makes small: the segments are to fill up.
                let noise =
                    (0..8).fold(number as u64 + 1, |noise, _| noise.wrapping_mul(0x5851_F42D_4C95_7F2D) ^ noise >> 29);
                Record::to(0, key, format!("{codec} {number} {noise:x} {:x}", noise.wrapping_mul(noise | 1)))
            })
            .collect();
        for part in sent.chunks(300) {
            Client::Confluent.produce(&broker.bootstrap(), &topic, &Sending { codec, ..Sending::default() }, part);
        }
        wait::until_true("compaction has taken most records", || {
            Client::Kcat.consume(&broker.bootstrap(), &topic).len() < sent.len() / 4
        });
        let mut last = BTreeMap::new();
        for (offset, record) in sent.iter().enumerate() {
            last.insert(record.key.clone(), offset as i64);
        }
        for reader in READERS {
            let received = reader.consume(&broker.bootstrap(), &topic);
            let offsets: Vec<i64> = received.iter().map(|record| record.offset).collect();
            assert!(offsets.is_sorted_by(|one, next| one < next), "{reader:?} {codec}: {offsets:?}");
            for record in &received {
                assert!(
                    record.content() == sent[record.offset as usize].content(),
                    "{reader:?} {codec} {}",
                    record.offset
                );
            }
            let missing: Vec<_> = last.values().filter(|offset| offsets.binary_search(offset).is_err()).collect();
            assert!(missing.is_empty(), "{reader:?} {codec}: {missing:?}");
        }
    }
}

fn round_trips(writer: Client, reader: Client, codecs: &[&str]) {
    let broker = Broker::start();
    for (number, codec) in codecs.iter().enumerate() {
        let topic = format!("codec-{codec}");
        broker.create_topic(&topic, PARTITIONS, &[]);
        let sent = records(codec);
        let sending = Sending { codec, idempotent: number % 2 == 0, ..Sending::default() };
        let reports = writer.produce(&broker.bootstrap(), &topic, &sending, &sent);
        assert_reports(writer, &reports, &sent);
        let received = reader.consume(&broker.bootstrap(), &topic);
        assert_same_by_partition(&sent, &received, codec);
    }
}

/// Keys and values of every size that matters, with newlines and without, spread over the partitions in an uneven way.
fn records(label: &str) -> Vec<Record> {
    (0..200_usize)
        .map(|number| {
            let line = format!("{label} {number}: what was sent is what comes back\n");
            let value = line.repeat([0, 1, 1, 3, 60][number % 5]);
            Record::to((number * number % 7) as i32 % PARTITIONS, format!("{label}-{}", number % 13), value)
        })
        .collect()
}

/// Every record was reported where it was sent, at the offset that counting gives.
fn assert_reports(writer: Client, reports: &[Report], sent: &[Record]) {
    let mut expected: Vec<Report> = Vec::new();
    for partition in 0..PARTITIONS {
        let count = sent.iter().filter(|record| record.partition == partition).count() as i64;
        // KafkaJS reports a batch and not its records.
        let offsets = if writer == Client::KafkaJs { 0..count.min(1) } else { 0..count };
        expected.extend(offsets.map(|offset| Report::Delivered { partition: Some(partition), offset: Some(offset) }));
    }
    let mut reports = reports.to_vec();
    reports.sort_by_key(|report| match report {
        Report::Delivered { partition, offset } => (*partition, *offset),
        Report::Failed(_) => (None, None),
    });
    assert_eq!(reports, expected);
}

/// The same records in the same order on the same partitions, at ascending offsets.
fn assert_same_by_partition(sent: &[Record], received: &[Record], what: &str) {
    for partition in 0..PARTITIONS {
        let of = |records: &'_ [Record]| -> Vec<Record> {
            records.iter().filter(|record| record.partition == partition).cloned().collect()
        };
        let (sent, received) = (of(sent), of(received));
        assert_eq!(sent.len(), received.len(), "{what}: records on partition {partition}");
        for (index, (sent, received)) in sent.iter().zip(&received).enumerate() {
            assert_eq!(received.offset, index as i64, "{what}: partition {partition}");
            assert!(sent.content() == received.content(), "{what}: partition {partition} offset {index}");
        }
    }
}
