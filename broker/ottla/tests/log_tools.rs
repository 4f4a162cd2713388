//! `ottla log`: what it says about files, with and without a broker on them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use ottla_broker::broker::Broker;
use ottla_broker::config::{Config, TopicSettings};
use ottla_broker::topics::NewTopic;
use ottla_log::{LogDir, LogOptions, PartitionName, PartitionOptions};
use ottla_wire::Uuid;
use ottla_wire::record::{BatchBuilder, Codec, Header};
use serde_json::Value;
use tempfile::TempDir;

fn log(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.arg("log").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    said(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A broker in this process that holds a data directory and has a topic `t` of two partitions.
async fn broker_with_a_topic(data_dir: &TempDir) -> Arc<Broker> {
    let config = Config { data_dir: data_dir.path().to_owned(), ..Config::default() };
    let opening = move || {
        let settings = TopicSettings::defaults(&config);
        let (broker, _) = Broker::open(config, Vec::new()).unwrap();
        broker.topics.create(NewTopic { name: "t".to_owned(), partition_count: 2, settings }).unwrap();
        broker
    };
    tokio::task::spawn_blocking(opening).await.unwrap()
}

/// Appends a batch to partition 0 and waits until it can be read.
async fn append(broker: &Broker, mut batch: Vec<u8>) {
    let topic = broker.topics.get("t").unwrap();
    let partition = topic.partition(0).unwrap();
    let appended = partition.log.append(&mut batch).unwrap();
    partition.watermark.wait_for(appended.end_offset).await.unwrap();
}

/// A batch of records with these values, one millisecond apart from `timestamp` on.
fn batch(codec: Codec, timestamp: i64, values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for (value, timestamp) in values.iter().zip(timestamp..) {
        builder.append(timestamp, None, Some(value), std::iter::empty()).unwrap();
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn the_files_can_be_looked_at_while_a_broker_uses_them() {
    let directory = tempfile::tempdir().unwrap();
    let broker = broker_with_a_topic(&directory).await;
    append(&broker, batch(Codec::Zstd, 1_700_000_000_000, &[b"one", b"two"])).await;
    let mut builder = BatchBuilder::new(Codec::None);
    let headers = [Header { key: b"who", value: Some(b"me") }];
    builder.append(1_700_000_000_500, Some(b"\xffkey"), None, headers.into_iter()).unwrap();
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    append(&broker, bytes).await;
    let data_dir = directory.path().to_str().unwrap().to_owned();

    let dumped = log(&["dump", "t:0", "--records", "--json", "--data-dir", &data_dir]);
    let dumped = lines(&dumped);
    assert_eq!(dumped.len(), 5, "{dumped:?}");
    assert_eq!(
        (&dumped[0]["offset"], &dumped[0]["codec"], &dumped[0]["records"]),
        (&0.into(), &"zstd".into(), &2.into())
    );
    assert_eq!((&dumped[2]["record"], &dumped[2]["value"]), (&1.into(), &"two".into()));
    assert_eq!((&dumped[4]["key"], &dumped[4]["value"]), (&"\\xffkey".into(), &Value::Null));
    assert_eq!((&dumped[4]["headers"][0]["key"], &dumped[4]["headers"][0]["value"]), (&"who".into(), &"me".into()));
    let from = said(&log(&["dump", "--records", "--from", "1", "--data-dir", &data_dir]));
    assert!(from.contains("1  2023-11-14 22:13:20  null = \"two\"") && !from.contains("\"one\""), "{from}");

    let verified = log(&["verify", "--data-dir", &data_dir]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    assert!(
        said(&verified).contains("2 partitions, 3 records") && said(&verified).contains("all whole"),
        "{verified:?}"
    );
    let used = lines(&log(&["du", "--json", "--data-dir", &data_dir]));
    assert_eq!(used.len(), 2);
    assert!(used.iter().all(|partition| partition["topic"] == "t"));
    assert!(used[0]["data_bytes"].as_u64().unwrap() > 100 && used[1]["data_bytes"] == 0, "{used:?}");

    let refused = log(&["repair", "--yes", "--data-dir", &data_dir]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another process uses"), "{refused:?}");
    for what in ["nobody", "t:7", "./no/such/place"] {
        assert_eq!(log(&["verify", what, "--data-dir", &data_dir]).status.code(), Some(4), "{what}");
    }
    assert_eq!(log(&["verify", "t:x", "--data-dir", &data_dir]).status.code(), Some(2));
}

/// A partition with three batches, left without a shutdown; where its segment is.
fn left(data_dir: &Path) -> std::path::PathBuf {
    let options = LogOptions { checkpoint_interval_bytes: 1, ..LogOptions::default() };
    let (log, _) = LogDir::open(&data_dir.join("log"), options).unwrap();
    let name = PartitionName::new("t", 0).unwrap();
    let partition = log.create_partition(&name, Uuid::from_u128(7), PartitionOptions::default()).unwrap();
    for value in [b"one", b"two", b"six"] {
        partition.append(&mut batch(Codec::None, 1000, &[value])).unwrap();
        partition.flush().unwrap();
    }
    data_dir.join("log/t-0/00000000000000000000.log")
}

#[test]
fn damage_is_named_with_its_offsets_and_no_repair_touches_it() {
    let directory = tempfile::tempdir().unwrap();
    let segment = left(directory.path());
    let data_dir = directory.path().to_str().unwrap();
    File::options().write(true).open(&segment).unwrap().write_all_at(b"?", 65).unwrap();
    let damaged = std::fs::read(&segment).unwrap();

    let verified = log(&["verify", "--data-dir", data_dir]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(said(&verified).contains("t-0: records 0 to 0 are damaged"), "{verified:?}");
    assert!(said(&verified).contains("1 problems in 1 of them"), "{verified:?}");
    let json = lines(&log(&["verify", &format!("{data_dir}/log/t-0"), "--json"]));
    assert_eq!((&json[0]["problems"][0]["kind"], &json[0]["problems"][0]["to"]), (&"damaged".into(), &1.into()));
    let dumped = said(&log(&["dump", segment.to_str().unwrap(), "--records"]));
    assert!(dumped.contains("DAMAGED") && dumped.contains("\"two\"") && !dumped.contains("\"one\""), "{dumped}");

    let repaired = log(&["repair", "--yes", "--data-dir", data_dir]);
    assert_eq!((repaired.status.code(), said(&repaired).trim()), (Some(0), "nothing to repair"));
    assert_eq!(std::fs::read(&segment).unwrap(), damaged);
}

#[test]
fn an_unfinished_end_is_cut_only_when_somebody_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let segment = left(directory.path());
    let data_dir = directory.path().to_str().unwrap();
    let dumped = lines(&log(&["dump", "--json", "--data-dir", data_dir]));
    let last = dumped.last().unwrap();
    let end = last["position"].as_u64().unwrap() + last["bytes"].as_u64().unwrap();
    File::options().write(true).open(&segment).unwrap().write_all_at(&[0, 0, 0, 0, 0, 0, 0, 3, 9, 9], end).unwrap();
    let torn = std::fs::read(&segment).unwrap();

    let verified = log(&["verify", "--data-dir", data_dir]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    assert!(said(&verified).contains("ends at offset 3"), "{verified:?}");
    let looked = log(&["repair", "--dry-run", "--data-dir", data_dir]);
    assert!(looked.status.success() && said(&looked).contains("would cut"), "{looked:?}");
    let unasked = log(&["repair", "--data-dir", data_dir]);
    assert_eq!(unasked.status.code(), Some(2), "{unasked:?}");
    assert_eq!(std::fs::read(&segment).unwrap(), torn);

    let repaired = log(&["repair", "--yes", "--data-dir", data_dir]);
    assert!(repaired.status.success() && said(&repaired).contains("behind offset 3"), "{repaired:?}");
    assert_eq!(std::fs::read(&segment).unwrap(), torn[..end as usize]);
    assert!(said(&log(&["verify", "--data-dir", data_dir])).contains("all whole"));
}
