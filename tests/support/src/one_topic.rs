//! One topic spoken to by frames, as the tests of disks need it.

use std::io::{Read, Write};
use std::net::TcpStream;

use ottla_wire::ErrorCode;
use ottla_wire::message::{FetchPartition, FetchRecords, FetchRequest, FetchTopic};

use crate::Broker;
use crate::admin::Answer;
use crate::batch::{Sender, batch};
use crate::connection::Connection;

/// The topic.
pub const TOPIC: &str = "on-disk";

/// Sends one record with acks=all; the error, and what the broker says about it.
pub fn produce(broker: &Broker, value: &[u8]) -> (ErrorCode, String) {
    send(broker, &batch(&[(b"k", value)], None))
}

/// Sends records of an idempotent producer.
pub fn produce_as(broker: &Broker, sender: Sender, values: &[&[u8]]) -> (ErrorCode, String) {
    let records: Vec<(&[u8], &[u8])> = values.iter().map(|value| (&b"k"[..], *value)).collect();
    send(broker, &batch(&records, Some(sender)))
}

fn send(broker: &Broker, records: &[u8]) -> (ErrorCode, String) {
    let Answer { code, message } = Connection::to(broker).produce(TOPIC, 0, records).expect("the broker answers");
    (code, message)
}

/// A fetch of a partition from an offset on.
pub fn fetch_request(partition: i32, fetch_offset: i64) -> FetchRequest<'static> {
    let partition =
        FetchPartition { partition, fetch_offset, partition_max_bytes: 8 << 20, ..FetchPartition::default() };
    let topic = FetchTopic { topic: TOPIC.into(), partitions: vec![partition], ..FetchTopic::default() };
    FetchRequest { topics: vec![topic], ..FetchRequest::default() }
}

/// The error, or the bytes of records from an offset on.
pub fn fetch(broker: &Broker, partition: i32, offset: i64) -> Result<Vec<u8>, ErrorCode> {
    Connection::to(broker).call(11, &fetch_request(partition, offset), |response| {
        let partition = &response.responses[0].partitions[0];
        match (partition.error_code, &partition.records) {
            (ErrorCode::None, FetchRecords::Bytes(bytes)) => Ok(bytes.to_vec()),
            (ErrorCode::None, _) => Ok(Vec::new()),
            (error, _) => Err(error),
        }
    })
}

/// Where a broker serves its metrics, as it prints it.
pub fn metrics_address(broker: &Broker) -> String {
    let line = broker.wait_for_line(0, &["metrics", "http://"]);
    let (_, address) = line.split_once("http://").expect("an address");
    address.split('/').next().expect("an address").to_owned()
}

/// Asks for a page: status line and body.
pub fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("the metrics are served");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.lines().next().expect("a status").to_owned(), body.to_owned())
}

/// The value of a metric, over all of its labels.
pub fn metric(broker: &Broker, name: &str) -> f64 {
    let (status, page) = get(&metrics_address(broker), "/metrics");
    assert!(status.contains(" 200 "), "{status}");
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let values = samples.filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with(['{', ' ']) {
            return None;
        }
        line.rsplit(' ').next()?.parse::<f64>().ok()
    });
    let values: Vec<f64> = values.collect();
    assert!(!values.is_empty(), "no {name} in\n{page}");
    values.iter().sum()
}
