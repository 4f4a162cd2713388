//! rskafka: a small client in Rust, which has producers and consumers by partition and no groups.
//!
//! `client-rskafka produce|consume OPTIONS`, where the options are JSON and records have the format of `record_file.py`.

use std::collections::BTreeMap;
use std::fs;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use chrono::DateTime;
use rskafka::client::partition::{Compression, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use serde_json::Value;

const MAX_WAIT_MS: i32 = 1000;
const BYTES: std::ops::Range<i32> = 1..1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let [_, verb, options] = words.as_slice() else { bail!("produce|consume OPTIONS") };
    let options: Value = serde_json::from_str(options)?;
    let client = ClientBuilder::new(vec![text(&options, "bootstrap")?.to_owned()]).build().await?;
    match verb.as_str() {
        "produce" => produce(&client, &options).await,
        "consume" => consume(&client, &options).await,
        other => bail!("there is no verb {other}"),
    }
}

fn text<'a>(options: &'a Value, name: &str) -> Result<&'a str> {
    options[name].as_str().with_context(|| format!("{name} is missing"))
}

/// One request for each partition. Reports are a line for each record, in the order of sending.
async fn produce(client: &Client, options: &Value) -> Result<()> {
    let topic = text(options, "topic")?;
    let codec = match text(options, "codec")? {
        "none" => Compression::NoCompression,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        other => bail!("there is no codec {other}"),
    };
    let bytes = fs::read(text(options, "in")?)?;
    let mut by_partition: BTreeMap<i32, Vec<(usize, Record)>> = BTreeMap::new();
    let mut count = 0;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (partition, record) = read(&mut rest)?;
        by_partition.entry(partition.max(0)).or_default().push((count, record));
        count += 1;
    }
    let mut reports = vec!["missing".to_owned(); count];
    for (partition, records) in by_partition {
        let (places, records): (Vec<usize>, Vec<Record>) = records.into_iter().unzip();
        let to = client.partition_client(topic, partition, UnknownTopicHandling::Retry).await?;
        let offsets = to.produce(records, codec).await?;
        for (place, offset) in places.into_iter().zip(offsets) {
            reports[place] = format!("{partition} {offset}");
        }
    }
    let lines: String = reports.into_iter().map(|report| report + "\n").collect();
    fs::write(text(options, "out")?, lines)?;
    Ok(())
}

/// Every partition from its start to its high watermark.
async fn consume(client: &Client, options: &Value) -> Result<()> {
    let topic = text(options, "topic")?;
    let topics = client.list_topics().await?;
    let found = topics.into_iter().find(|found| found.name == topic).context("the topic is not there")?;
    let mut out = Vec::new();
    for partition in found.partitions {
        let from = client.partition_client(topic, partition, UnknownTopicHandling::Retry).await?;
        let mut next = 0;
        loop {
            let (records, high_watermark) = from.fetch_records(next, BYTES, MAX_WAIT_MS).await?;
            for found in records {
                write(&mut out, partition, found.offset, &found.record);
                next = found.offset + 1;
            }
            if next >= high_watermark {
                break;
            }
        }
    }
    fs::write(text(options, "out")?, out)?;
    Ok(())
}

fn read(rest: &mut &[u8]) -> Result<(i32, Record)> {
    let head = take(rest, 20)?;
    let number = |at: usize| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let mut part = |bytes: i32| match usize::try_from(bytes) {
        Ok(bytes) => take(rest, bytes).map(|part| Some(part.to_vec())),
        Err(_) => Ok(None),
    };
    let (key, value) = (part(number(12))?, part(number(16))?);
    let now_ms = UNIX_EPOCH.elapsed()?.as_millis() as i64;
    let timestamp = DateTime::from_timestamp_millis(now_ms).context("a time that cannot be written")?;
    Ok((number(0), Record { key, value, headers: BTreeMap::new(), timestamp }))
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8]> {
    let (part, tail) = rest.split_at_checked(bytes).context("the file of records ends early")?;
    *rest = tail;
    Ok(part)
}

fn write(out: &mut Vec<u8>, partition: i32, offset: i64, record: &Record) {
    let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(-1, |part| part.len() as i32);
    out.extend(partition.to_be_bytes());
    out.extend(offset.to_be_bytes());
    out.extend(length(&record.key).to_be_bytes());
    out.extend(length(&record.value).to_be_bytes());
    out.extend(record.key.iter().chain(&record.value).flatten());
}
