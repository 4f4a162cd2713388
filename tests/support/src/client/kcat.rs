//! kcat. Keys and values with newlines travel with delimiters that occur in neither.

use std::collections::BTreeMap;
use std::process::Command;

use super::process::run;
use super::{Report, Sending};
use crate::Record;

/// Between key and value, and after each record: control characters that text does not have.
const KEY_ENDS: u8 = 0x01;
const RECORD_ENDS: u8 = 0x02;

pub(super) fn produce(bootstrap: &str, topic: &str, sending: &Sending<'_>, records: &[Record]) -> Vec<Report> {
    let mut by_partition: BTreeMap<i32, Vec<u8>> = BTreeMap::new();
    for record in records {
        let (key, value) = (record.key.as_deref().unwrap_or_default(), record.value.as_deref().unwrap_or_default());
        let delimiter = |byte: &u8| matches!(*byte, KEY_ENDS | RECORD_ENDS);
        assert!(!key.iter().chain(value).any(delimiter), "a record holds a byte that ends records");
        let input = by_partition.entry(record.partition).or_default();
        input.extend_from_slice(key);
        input.push(KEY_ENDS);
        input.extend_from_slice(value);
        input.push(RECORD_ENDS);
    }
    let mut reports = Vec::new();
    for (partition, input) in by_partition {
        let mut command = Command::new("kcat");
        command.args(["-P", "-vvv", "-b", bootstrap, "-t", topic, "-z", sending.codec, "-K", "\\x01", "-D", "\\x02"]);
        command.args(["-X", "acks=all", "-X", "topic.produce.offset.report=true"]);
        command.args(["-X", &format!("enable.idempotence={}", sending.idempotent)]);
        command.args(["-X", &format!("linger.ms={}", sending.linger_ms)]);
        if partition >= 0 {
            command.args(["-p", &partition.to_string()]);
        }
        let finished = run(command, &input).success();
        reports.extend(finished.stderr.lines().filter_map(report));
    }
    reports
}

pub(super) fn consume(bootstrap: &str, topic: &str) -> Vec<Record> {
    let mut command = Command::new("kcat");
    command.args(["-C", "-q", "-e", "-b", bootstrap, "-t", topic, "-o", "beginning"]);
    command.args(["-f", "%p %o %K %S\\n%k%s\\n"]);
    let finished = run(command, &[]).success();
    let mut rest = finished.stdout.as_slice();
    let mut records = Vec::new();
    while !rest.is_empty() {
        records.push(record(&mut rest).expect("kcat prints whole records"));
    }
    records
}

/// `partition offset key-length value-length`, a newline, key, value, a newline; −1 is null.
fn record(rest: &mut &[u8]) -> Option<Record> {
    let line_bytes = rest.iter().position(|&byte| byte == b'\n')?;
    let (line, tail) = rest.split_at(line_bytes);
    *rest = &tail[1..];
    let mut numbers = std::str::from_utf8(line).ok()?.split(' ').map(str::parse::<i64>);
    let mut number = || numbers.next()?.ok();
    let (partition, offset, key_bytes, value_bytes) = (number()?, number()?, number()?, number()?);
    let mut part = |bytes: i64| {
        let bytes = usize::try_from(bytes).ok()?;
        let (part, tail) = rest.split_at_checked(bytes)?;
        *rest = tail;
        Some(part.to_vec())
    };
    let (key, value) = (part(key_bytes), part(value_bytes));
    *rest = rest.strip_prefix(b"\n")?;
    Some(Record { partition: partition as i32, offset, key, value })
}

/// `% Message delivered to partition 1 (offset 0) on broker 1`, or `% Delivery failed for message: …`.
fn report(line: &str) -> Option<Report> {
    let line = line.strip_prefix("% ")?;
    if let Some(rest) = line.strip_prefix("Message delivered to partition ") {
        let partition = rest.split(' ').next()?.parse().ok()?;
        let offset = rest.split_once("(offset ").and_then(|(_, rest)| rest.split(')').next()?.parse().ok());
        return Some(Report::Delivered { partition: Some(partition), offset });
    }
    line.starts_with("Delivery failed").then(|| Report::Failed(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_output_is_read_with_newlines_and_nulls() {
        let mut output = b"3 17 1 4\nka\nb\n\n0 5 -1 0\n\n".as_slice();
        let first = record(&mut output).unwrap();
        assert_eq!(first, Record { partition: 3, offset: 17, ..Record::new("k", "a\nb\n") });
        let second = record(&mut output).unwrap();
        assert_eq!((second.key, second.value), (None, Some(Vec::new())));
        assert!(output.is_empty());
    }

    #[test]
    fn its_reports_are_read() {
        let delivered = report("% Message delivered to partition 1 (offset -3) on broker 1");
        assert_eq!(delivered, Some(Report::Delivered { partition: Some(1), offset: Some(-3) }));
        assert!(matches!(report("% Delivery failed for message: Broker: x"), Some(Report::Failed(_))));
        assert_eq!(report("% Enable message offset reporting"), None);
    }
}
