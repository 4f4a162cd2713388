//! When the broker splits a batch among partitions, no client is told an offset that is not where its record is:
//! what it reports is negative, or nothing. One test per client.

use ottla_tests::client::{Client, Report, Sending};
use ottla_tests::{Broker, Record, section};

const PARTITIONS: i32 = 6;
/// The partition every record is sent to.
const ADDRESSED: i32 = 0;

#[test]
fn kcat_reports_no_false_offset() {
    reports_no_false_offset(Client::Kcat);
}

#[test]
fn confluent_kafka_reports_no_false_offset() {
    reports_no_false_offset(Client::Confluent);
}

#[test]
fn kafka_python_reports_no_false_offset() {
    reports_no_false_offset(Client::KafkaPython);
}

#[test]
fn aiokafka_reports_no_false_offset() {
    reports_no_false_offset(Client::Aiokafka);
}

#[test]
fn kafkajs_reports_no_false_offset() {
    reports_no_false_offset(Client::KafkaJs);
}

/// Ours learns where every record went, and says so.
#[test]
fn our_wheel_reports_true_places() {
    for idempotent in [false, true] {
        let (broker, sent) = routed();
        let sending = Sending { idempotent, ..Sending::default() };
        let reports = Client::Ottla.produce(&broker.bootstrap(), "routed", &sending, &sent);
        let received = Client::Kcat.consume(&broker.bootstrap(), "routed");
        assert_eq!(received.len(), sent.len());
        for (record, report) in sent.iter().zip(&reports) {
            let Report::Delivered { partition: Some(partition), offset: Some(offset) } = *report else {
                panic!("{report:?}");
            };
            let at = |found: &&Record| (found.partition, found.offset) == (partition, offset);
            let found = received.iter().find(at).unwrap_or_else(|| panic!("nothing is at {report:?}"));
            assert_eq!(found.content(), record.content());
        }
    }
}

/// Nothing moved, so nothing is hidden: a batch that is already where the plugin wants it keeps its offsets.
#[test]
fn a_batch_that_stays_has_true_offsets() {
    let (broker, records) = routed();
    let stanza = records[0].value.clone().expect("a value");
    let target = section::partition(&stanza, PARTITIONS);
    let records: Vec<_> = (0..20).map(|number| Record::to(target, format!("k{number}"), stanza.clone())).collect();
    let reports = Client::Confluent.produce(&broker.bootstrap(), "routed", &Sending::default(), &records);
    for (offset, report) in reports.iter().enumerate() {
        assert_eq!(*report, Report::Delivered { partition: Some(target), offset: Some(offset as i64) });
    }
}

fn reports_no_false_offset(client: Client) {
    for idempotent in [false, true] {
        let (broker, sent) = routed();
        // Long enough for one batch, as good as certainly; nothing below depends on it.
        let sending = Sending { idempotent, linger_ms: 300, codec: "gzip" };
        let reports = client.produce(&broker.bootstrap(), "routed", &sending, &sent);
        let received = Client::Kcat.consume(&broker.bootstrap(), "routed");

        assert_eq!(received.len(), sent.len(), "every record is there once");
        for record in &received {
            let value = record.value.as_deref().unwrap_or_default();
            assert_eq!(record.partition, section::partition(value, PARTITIONS), "the plugin names the partition");
        }
        assert!(!reports.is_empty());
        for report in &reports {
            let Report::Delivered { partition, offset } = report else { panic!("{report:?}") };
            assert_eq!(*partition, Some(ADDRESSED), "a stock client knows only where it sent the record");
            assert!(offset.is_none_or(|offset| offset < 0), "a plausible lie: {report:?}");
        }
    }
}

/// A broker with a routed topic, and records of which none belongs where it is sent.
fn routed() -> (Broker, Vec<Record>) {
    let broker = Broker::start();
    broker.push_ready_made("by-section");
    broker.create_topic("routed", PARTITIONS, &[("ottla.partitioner", "by-section")]);
    let stanzas = (0..200).map(|number| format!("Package: p{number}\nSection: section-{}\n", number % 23));
    let moves = |stanza: &String| section::partition(stanza.as_bytes(), PARTITIONS) != ADDRESSED;
    let records: Vec<_> = stanzas
        .filter(moves)
        .enumerate()
        .map(|(number, stanza)| Record::to(ADDRESSED, format!("k{number}"), stanza))
        .collect();
    assert!(records.len() > 100);
    (broker, records)
}
