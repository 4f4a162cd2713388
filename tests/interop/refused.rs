//! What a serializer refuses, as the Python clients tell it: which record, and why.

use std::collections::HashSet;

use ottla_tests::client::{Client, Report, Sending};
use ottla_tests::{Broker, Record, package_index};

const ORDER: &str = r#"{"type":"object","required":["id","amount"],"additionalProperties":false,
    "properties":{"id":{"type":"string"},"amount":{"type":"integer","minimum":1}}}"#;

/// A topic whose values have to be orders.
fn orders() -> Broker {
    let broker = Broker::start();
    broker.push_ready_made("json-schema");
    broker.create_topic("orders", 1, &[("ottla.serializer", "json-schema"), ("ottla.serializer.config", ORDER)]);
    broker
}

fn order(number: usize, value: &str) -> Record {
    Record::to(0, format!("k{number}"), value)
}

/// Sends two orders and a record that is none, in one batch; then orders alone.
fn refuses_the_batch(client: Client, reason: Option<&str>) {
    let broker = orders();
    let sending = Sending { linger_ms: 500, ..Sending::default() };
    let good = r#"{"id":"a","amount":3}"#;
    let records = [order(0, good), order(1, r#"{"id":"a","amount":0}"#), order(2, good)];
    let reports = client.produce(&broker.bootstrap(), "orders", &sending, &records);
    let failures: Vec<&String> = reports
        .iter()
        .filter_map(|report| match report {
            Report::Failed(told) => Some(told),
            Report::Delivered { .. } => None,
        })
        .collect();
    assert_eq!(failures.len(), 3, "all of the batch: {reports:?}");
    if let Some(reason) = reason {
        assert!(failures.iter().any(|told| told.contains(reason)), "{failures:?}");
    }
    assert!(Client::Kcat.consume(&broker.bootstrap(), "orders").is_empty(), "nothing of the batch is stored");
    let reports = client.produce(&broker.bootstrap(), "orders", &sending, &[order(3, good), order(4, good)]);
    assert!(reports.iter().all(|report| matches!(report, Report::Delivered { .. })), "{reports:?}");
    assert_eq!(Client::Kcat.consume(&broker.bootstrap(), "orders").len(), 2);
}

#[test]
fn our_wheel_is_told_the_reason_of_the_record() {
    refuses_the_batch(Client::Ottla, Some("/amount: is 0, at least 1 is wanted"));
}

#[test]
fn kafka_python_gets_an_error_for_the_batch() {
    refuses_the_batch(Client::KafkaPython, None);
}

/// Every hundredth of the package index as JSON is no package: it has no name.
fn packages() -> Vec<Record> {
    let stanzas = package_index::load().records.into_iter().take(20_000).enumerate();
    let json = |(number, record): (usize, Record)| {
        let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
        let name = if number % 100 == 7 { String::new() } else { field("Package:") };
        let value = serde_json::json!({ "package": name, "section": field("Section:"), "number": number });
        Record::to(0, format!("{number}"), value.to_string())
    };
    stanzas.map(json).collect()
}

fn number_of(record: &Record) -> usize {
    String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).parse().expect("its number")
}

/// Each record is in exactly one place, the topic or an error to its producer, and none that does not fit is in the topic.
fn accounts_for_every_package(client: Client, codec: &str) {
    let broker = Broker::start();
    broker.push_ready_made("json-schema");
    let schema = r#"{"type":"object","required":["package"],"properties":{"package":{"type":"string","minLength":1}}}"#;
    broker.create_topic("packages", 1, &[("ottla.serializer", "json-schema"), ("ottla.serializer.config", schema)]);
    let sent = packages();
    let sending = Sending { codec, linger_ms: 0, ..Sending::default() };
    let reports = client.produce(&broker.bootstrap(), "packages", &sending, &sent);
    assert_eq!(reports.len(), sent.len());
    let stored = Client::KafkaPython.consume(&broker.bootstrap(), "packages");
    let numbers: Vec<usize> = stored.iter().map(number_of).collect();
    let distinct: HashSet<usize> = numbers.iter().copied().collect();
    assert_eq!(distinct.len(), numbers.len(), "none twice");
    assert!(numbers.iter().all(|number| number % 100 != 7), "a record without a name is stored");
    let delivered = reports.iter().filter(|report| matches!(report, Report::Delivered { .. })).count();
    assert_eq!(delivered, numbers.len(), "what was acknowledged is stored, and what was refused is not");
    assert!(delivered <= sent.len() - sent.len() / 100);
    for (record, report) in sent.iter().zip(&reports) {
        let is_delivered = matches!(report, Report::Delivered { .. });
        assert_eq!(is_delivered, distinct.contains(&number_of(record)), "{report:?}");
    }
}

#[test]
fn of_the_package_index_what_does_not_fit_comes_back_to_our_wheel_and_the_rest_is_stored_once() {
    accounts_for_every_package(Client::Ottla, "zstd");
}
