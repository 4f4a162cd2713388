//! The machine's package index travels through a topic that a plugin routes: every record arrives exactly once, unchanged,
//! on the partition that the plugin names, in the order of its key. Sent by kcat and by our Python client, read by three.

use std::collections::HashMap;

use ottla_tests::client::{Client, Report, Sending};
use ottla_tests::record::content_hash;
use ottla_tests::{Broker, Record, package_index, section};

const PARTITIONS: i32 = 6;

#[test]
fn sent_by_kcat_every_package_arrives_once_where_the_plugin_says() {
    travels(Client::Kcat, &Sending { codec: "lz4", ..Sending::default() });
}

#[test]
fn sent_by_our_python_client_every_package_arrives_once_where_the_plugin_says() {
    travels(Client::Ottla, &Sending { codec: "zstd", ..Sending::default() });
}

fn travels(sender: Client, sending: &Sending<'_>) {
    let sent = package_index::load().records;
    let broker = Broker::start();
    broker.push_ready_made("by-section");
    broker.create_topic("packages", PARTITIONS, &[("ottla.partitioner", "by-section")]);

    let reports = sender.produce(&broker.bootstrap(), "packages", sending, &sent);
    assert_eq!(reports.len(), sent.len());
    let failed: Vec<_> = reports.iter().filter(|report| matches!(report, Report::Failed(_))).collect();
    assert!(failed.is_empty(), "{} records failed: {:?}", failed.len(), failed[0]);
    assert_eq!(broker.end_offsets("packages", PARTITIONS).iter().sum::<i64>(), sent.len() as i64);

    let (hash, order) = (content_hash(&sent), order_by_key_and_partition(&sent, named_partition));
    for reader in [Client::Kcat, Client::KafkaPython, Client::Ottla] {
        let received = reader.consume(&broker.bootstrap(), "packages");
        assert_eq!(received.len(), sent.len(), "{reader:?}: every record exactly once");
        assert_eq!(content_hash(&received), hash, "{reader:?}: bytes equal");
        for record in &received {
            assert_eq!(record.partition, named_partition(record), "{reader:?}: {:?}", record.key);
        }
        let received = order_by_key_and_partition(&received, |record| record.partition);
        assert!(received == order, "{reader:?}: order kept per key");
    }
}

fn named_partition(record: &Record) -> i32 {
    section::partition(record.value.as_deref().unwrap_or_default(), PARTITIONS)
}

/// A key whose stanzas differ in their section lives on several partitions; its order is that of each of them.
fn order_by_key_and_partition(records: &[Record], partition: fn(&Record) -> i32) -> HashMap<(&[u8], i32), Vec<&[u8]>> {
    let mut order: HashMap<_, Vec<_>> = HashMap::new();
    for record in records {
        let key = record.key.as_deref().unwrap_or_default();
        let value = record.value.as_deref().unwrap_or_default();
        order.entry((key, partition(record))).or_default().push(value);
    }
    order
}
