//! Helpers of the log's tests: batches with known content, and partitions for them.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::{LogDir, LogOptions, Offset, PartitionLog, PartitionName, PartitionOptions, RecoveryReport};
use ottla_wire::record::{BatchBuilder, Codec, batches};
use uuid::Uuid;

/// A batch of records whose values identify them; one record per timestamp.
pub fn batch_at(codec: Codec, timestamps: &[i64], tag: u64, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for (at, timestamp) in timestamps.iter().enumerate() {
        let mut value = format!("{tag}/{at} ").into_bytes();
        let filler = (0..).map(|byte: usize| (byte.wrapping_mul(31).wrapping_add(tag as usize * 7 + at)) as u8);
        let missing = value_bytes.saturating_sub(value.len());
        value.extend(filler.take(missing));
        builder.append(*timestamp, Some(b"key"), Some(&value), std::iter::empty()).unwrap();
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).unwrap();
    bytes
}

/// An uncompressed batch of `records` records.
pub fn batch(records: usize, tag: u64, value_bytes: usize) -> Vec<u8> {
    batch_at(Codec::None, &vec![1_000 + tag as i64; records], tag, value_bytes)
}

/// A directory in memory if the system has one, for tests that open a log thousands of times.
pub fn quick_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Options that persist the durable offset with every flush.
pub fn eager() -> LogOptions {
    LogOptions { checkpoint_interval_bytes: 1, ..LogOptions::default() }
}

/// Every file below `directory`, with its content.
pub fn image(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(path).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                files.insert(entry.path(), std::fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

/// Makes `directory` hold exactly these files again.
pub fn restore(directory: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in image(directory).keys().filter(|path| !files.contains_key(*path)) {
        std::fs::remove_file(path).unwrap();
    }
    for (path, bytes) in files {
        std::fs::write(path, bytes).unwrap();
    }
}

pub fn name(topic: &str, index: i32) -> PartitionName {
    PartitionName::new(topic, index).unwrap()
}

pub fn open(path: &Path) -> (LogDir, RecoveryReport) {
    LogDir::open(path, LogOptions::default()).unwrap()
}

pub fn create(log: &LogDir, topic: &str, options: PartitionOptions) -> Arc<PartitionLog> {
    log.create_partition(&name(topic, 0), Uuid::from_u128(7), options).unwrap()
}

/// All bytes from the start of the log to its end, read as a consumer does.
pub fn read_all(log: &PartitionLog) -> Vec<u8> {
    let (mut bytes, mut offset) = (Vec::new(), log.log_start_offset());
    while let Some((more, range)) = log.read_batches(offset, 64 << 10, log.end_offset()).unwrap() {
        assert_eq!(more.len(), range.bytes as usize);
        bytes.extend(more);
        offset = range.next_offset;
    }
    assert_eq!(offset, log.end_offset());
    bytes
}

/// Base offset and tag of the first record of every batch in `bytes`; each batch's CRC is checked.
pub fn tags(bytes: &[u8]) -> Vec<(i64, u64)> {
    let mut found = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        let records = batch.records(64 << 20).unwrap();
        let value = records.iter().next().unwrap().unwrap().value.unwrap().to_vec();
        let tag = value.split(|byte| *byte == b'/').next().unwrap();
        found.push((batch.header.base_offset.0, std::str::from_utf8(tag).unwrap().parse().unwrap()));
    }
    found
}

/// Waits until everything appended is durable.
pub fn wait_durable(log: &PartitionLog, offset: Offset) {
    while log.durable_offset() < offset {
        assert!(!log.is_offline(), "{:?}", log.offline_reason());
        std::thread::yield_now();
    }
}
