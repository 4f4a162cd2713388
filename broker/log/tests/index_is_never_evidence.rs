//! Indexes are derived data: they can be deleted, zeroed, corrupted or swapped, and no answer changes.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ottla_log::{LogDir, LogOptions, Offset, PartitionLog, PartitionOptions};
use ottla_wire::record::Codec;
use support::{batch, batch_at, create, image, name, open, quick_directory, restore};

/// Every answer that may use an index, as text.
fn answers(partition: &PartitionLog) -> Vec<String> {
    let end = partition.end_offset();
    let mut answers = Vec::new();
    for offset in 0..end.0 {
        for max_bytes in [1, 700, 5000] {
            let range = partition.locate(Offset(offset), max_bytes, end).unwrap().unwrap();
            let segment = range.segment.base_offset();
            answers.push(format!("{offset} {segment:?} {} {} {:?}", range.position, range.bytes, range.next_offset));
        }
    }
    for timestamp in (900..1300).step_by(7) {
        answers.push(format!("{timestamp} {:?}", partition.find_by_timestamp(timestamp, end).unwrap()));
    }
    for upto in [1, end.0 / 2, end.0] {
        answers.push(format!("{upto} {:?}", partition.max_timestamp(Offset(upto)).unwrap()));
    }
    let mut headers = 0;
    let scanned = partition.scan_batches(Offset(end.0 / 3), |_| headers += 1).unwrap();
    answers.push(format!("{scanned:?} {headers}"));
    answers
}

/// Small segments and a dense index, timestamps up and down.
fn fill(directory: &Path) -> (Vec<String>, BTreeMap<PathBuf, Vec<u8>>) {
    let (log, _) = open(directory);
    let options = PartitionOptions { segment_bytes: 4000, index_interval_bytes: 300, ..PartitionOptions::default() };
    let partition = create(&log, "t", options);
    for tag in 0..120_u64 {
        let time = 1000 + (tag as i64 * 61) % 251;
        partition.append(&mut batch_at(Codec::None, &[time, time - 30, time + 11], tag, 40)).unwrap();
    }
    let answers = answers(&partition);
    log.shutdown().unwrap();
    (answers, image(directory))
}

fn check(directory: &Path, expected: &[String], what: &str) {
    let (log, _) = LogDir::open(directory, LogOptions::default()).unwrap();
    let partition = log.partition(&name("t", 0)).unwrap();
    assert!(answers(&partition) == expected, "{what}");
}

fn indexes(files: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<PathBuf> {
    files.keys().filter(|path| path.extension().is_some_and(|it| it == "index")).cloned().collect()
}

#[test]
fn deleted_zeroed_and_random_indexes_change_no_answer() {
    let directory = quick_directory();
    let (expected, files) = fill(directory.path());
    let indexes = indexes(&files);
    assert!(indexes.len() > 5);
    check(directory.path(), &expected, "untouched");
    for clean in [true, false] {
        for (what, damage) in damages() {
            restore(directory.path(), &files);
            if !clean {
                fs::remove_file(directory.path().join("clean-shutdown")).unwrap();
            }
            for (at, index) in indexes.iter().enumerate() {
                let other = &files[&indexes[(at + 1) % indexes.len()]];
                match damage(&files[index], other) {
                    Some(bytes) => fs::write(index, bytes).unwrap(),
                    None => fs::remove_file(index).unwrap(),
                }
            }
            check(directory.path(), &expected, what);
            check(directory.path(), &expected, "once more");
        }
    }
}

type Damage = fn(&[u8], &[u8]) -> Option<Vec<u8>>;

fn damages() -> [(&'static str, Damage); 7] {
    [
        ("deleted", |_, _| None),
        ("empty", |_, _| Some(Vec::new())),
        ("zeroed", |bytes, _| Some(vec![0; bytes.len()])),
        ("noise", |bytes, _| Some((0..bytes.len()).map(|at| ((at * 7919) >> 3) as u8).collect())),
        ("half", |bytes, _| Some(bytes[..bytes.len() / 2].to_vec())),
        ("another segment's", |_, other| Some(other.to_vec())),
        ("another's under this name", |bytes, other| {
            // The index of another segment, with the right base offset and a valid checksum.
            let mut forged = other[..other.len() - 4].to_vec();
            forged[8..16].copy_from_slice(&bytes[8..16]);
            Some(sealed(forged))
        }),
    ]
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc_fast::crc32_iscsi(&bytes);
    bytes.extend(crc.to_be_bytes());
    bytes
}

#[test]
fn wrong_entries_with_a_valid_checksum_change_no_answer() {
    /// Position and length of the entries: see the layout in `index.rs`.
    const COUNT_AT: usize = 40;
    const ENTRIES_AT: usize = 48;
    const ENTRY_BYTES: usize = 16;
    let directory = quick_directory();
    let (expected, files) = fill(directory.path());
    let at = |entry: usize| ENTRIES_AT + entry * ENTRY_BYTES + 4;
    let position = |bytes: &[u8], entry: usize| u32::from_be_bytes(bytes[at(entry)..][..4].try_into().unwrap());
    let count = |bytes: &[u8]| u32::from_be_bytes(bytes[COUNT_AT..][..4].try_into().unwrap()) as usize;
    for (step, shift) in [(1, 1), (2, 60), (1, 3), (3, 200)] {
        restore(directory.path(), &files);
        for index in indexes(&files) {
            let bytes = &files[&index];
            let mut forged = bytes[..bytes.len() - 4].to_vec();
            for entry in (1..count(bytes)).step_by(step) {
                forged[at(entry)..][..4].copy_from_slice(&(position(bytes, entry) + shift).to_be_bytes());
            }
            fs::write(&index, sealed(forged)).unwrap();
        }
        check(directory.path(), &expected, "lying positions");
    }
    // Every entry points at the batch of the next one: the header there is sound, but it is another batch. The last
    // entry is removed, because it would point into the middle of a batch.
    restore(directory.path(), &files);
    for index in indexes(&files) {
        let bytes = &files[&index];
        let left = count(bytes) - 1;
        let mut forged = bytes[..at(left) - 4].to_vec();
        forged[COUNT_AT..][..4].copy_from_slice(&(left as u32).to_be_bytes());
        for entry in 1..left {
            forged[at(entry)..][..4].copy_from_slice(&position(bytes, entry + 1).to_be_bytes());
        }
        fs::write(&index, sealed(forged)).unwrap();
    }
    check(directory.path(), &expected, "positions of other batches");
}

#[test]
fn random_single_corruptions_change_no_answer() {
    let directory = quick_directory();
    let (expected, files) = fill(directory.path());
    let indexes = indexes(&files);
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for round in 0..150 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let index = &indexes[random as usize % indexes.len()];
        let mut bytes = files[index].clone();
        let at = (random >> 16) as usize % bytes.len();
        bytes[at] = bytes[at].wrapping_add(1 + (random >> 40) as u8 % 255);
        restore(directory.path(), &files);
        fs::write(index, bytes).unwrap();
        check(directory.path(), &expected, &format!("round {round}"));
    }
}

#[test]
fn a_search_by_time_finds_the_exact_record() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let options = PartitionOptions { segment_bytes: 20_000, index_interval_bytes: 500, ..PartitionOptions::default() };
    let partition = create(&log, "t", options);
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let mut times = Vec::new();
    for tag in 0..200_u64 {
        let base = 10_000 + (tag as i64 * 7919) % 3001;
        let batch: Vec<i64> = (0..=tag as i64 % 9).map(|at| base + (at * 37) % 50 - 20).collect();
        partition.append(&mut batch_at(codecs[tag as usize % 5], &batch, tag, 30)).unwrap();
        times.extend(batch);
    }
    for upto in [Offset(300), partition.end_offset()] {
        let below = partition.high_below(upto, &times);
        for timestamp in (9_900..13_200).step_by(3) {
            let expected = below.iter().position(|time| *time >= timestamp);
            let expected = expected.map(|at| (Offset(at as i64), below[at]));
            assert_eq!(partition.find_by_timestamp(timestamp, upto).unwrap(), expected, "{timestamp}");
        }
        let greatest = below.iter().max().unwrap();
        let first = below.iter().position(|time| time == greatest).unwrap();
        assert_eq!(partition.max_timestamp(upto).unwrap(), Some((Offset(first as i64), *greatest)));
    }
    assert_eq!(partition.find_by_timestamp(0, Offset(0)).unwrap(), None);
    assert_eq!(partition.max_timestamp(Offset(0)).unwrap(), None);
}

trait HighBelow {
    /// The times of records in batches that end at or below `upto`.
    fn high_below(&self, upto: Offset, times: &[i64]) -> Vec<i64>;
}

impl HighBelow for PartitionLog {
    fn high_below(&self, upto: Offset, times: &[i64]) -> Vec<i64> {
        let mut end = 0;
        self.scan_batches(Offset(0), |header| {
            if header.next_offset() <= upto {
                end = header.next_offset().0;
            }
        })
        .unwrap();
        times[..end as usize].to_vec()
    }
}

#[test]
fn partition_without_batches_answers_nothing() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", PartitionOptions::default());
    let end = partition.end_offset();
    assert!(partition.locate(end, 1, end).unwrap().is_none());
    assert_eq!(partition.find_by_timestamp(i64::MIN, end).unwrap(), None);
    assert_eq!(partition.scan_batches(end, |_| panic!("no batch")).unwrap().batches, 0);
    partition.append(&mut batch(1, 1, 1)).unwrap();
    assert_eq!(partition.find_by_timestamp(i64::MIN, partition.end_offset()).unwrap(), Some((Offset(0), 1001)));
}
