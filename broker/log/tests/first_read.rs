//! Bits that flip on the disk: the log checks bytes that this process has not seen before it delivers them, and a
//! flipped bit costs one batch.

#![allow(clippy::single_range_in_vec_init, reason = "lists of lost ranges that happen to hold one")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::{LocateError, LogDir, LogOptions, Offset, PartitionLog, PartitionOptions};
use ottla_wire::record::BatchHeader;
use support::{batch, create, image, name, open, quick_directory, read_all, restore, tags};

const RECORDS: i64 = 2;

/// A log of three segments after a clean shutdown: its files, and the positions of its batches.
struct AtRest {
    directory: tempfile::TempDir,
    files: BTreeMap<PathBuf, Vec<u8>>,
    batches: Vec<Vec<u8>>,
    /// Segment, position and first offset of every batch.
    places: Vec<(PathBuf, usize, i64)>,
}

impl AtRest {
    fn new(count: u64, segment_bytes: u64, value_bytes: usize) -> Self {
        let directory = quick_directory();
        let (log, _) = open(directory.path());
        let options = PartitionOptions { segment_bytes, index_interval_bytes: 500, ..PartitionOptions::default() };
        let partition = create(&log, "t", options);
        let (mut batches, mut places) = (Vec::new(), Vec::new());
        for tag in 0..count {
            let mut bytes = batch(RECORDS as usize, tag, value_bytes);
            let appended = partition.append(&mut bytes).unwrap();
            let file = format!("t-0/{:020}.log", appended.segment_base.0);
            places.push((directory.path().join(file), appended.position as usize, appended.base_offset.0));
            batches.push(bytes);
        }
        log.shutdown().unwrap();
        let files = image(directory.path());
        Self { directory, files, batches, places }
    }

    /// Restores the files and flips one bit of one batch.
    fn flip(&self, batch: usize, byte: usize, bit: u8) {
        restore(self.directory.path(), &self.files);
        let (path, position, _) = &self.places[batch];
        let mut bytes = self.files[path].clone();
        bytes[position + byte] ^= 1 << bit;
        fs::write(path, bytes).unwrap();
    }

    fn start(&self, options: LogOptions) -> (LogDir, Arc<PartitionLog>) {
        start(self.directory.path(), options)
    }

    /// Reads everything as a consumer does and continues behind damage: returns the lost offsets and checks all others.
    fn consume(&self, partition: &PartitionLog, max_bytes: u32) -> Vec<std::ops::Range<i64>> {
        let (mut next, mut lost, end) = (Offset(0), Vec::new(), partition.end_offset());
        while next < end {
            match deliver(partition, next, max_bytes) {
                Ok((bytes, to)) => {
                    let (from, upto) = ((next.0 / RECORDS) as usize, (to.0 / RECORDS) as usize);
                    assert_eq!(bytes, self.batches[from..upto].concat());
                    next = to;
                }
                Err(LocateError::Corrupt { from, to }) => {
                    lost.push(from.0..to.0);
                    next = to;
                }
                Err(error) => panic!("{error}"),
            }
        }
        lost
    }
}

fn start(path: &Path, options: LogOptions) -> (LogDir, Arc<PartitionLog>) {
    let (log, _) = LogDir::open(path, options).unwrap();
    let partition = log.partition(&name("t", 0)).unwrap();
    (log, partition)
}

/// Reads as a server does: locates, checks if needed, and reads the bytes from the file.
fn deliver(partition: &PartitionLog, offset: Offset, max_bytes: u32) -> Result<(Vec<u8>, Offset), LocateError> {
    let end = partition.end_offset();
    let mut range = partition.locate(offset, max_bytes, end)?.unwrap();
    if !range.is_checked()
        && let Err(LocateError::Corrupt { .. }) = partition.check(&range)
    {
        range = partition.locate(offset, max_bytes, end)?.unwrap();
        partition.check(&range)?;
    }
    assert!(range.is_checked() || !partition.quarantined().is_empty());
    let mut bytes = vec![0; range.bytes as usize];
    range.segment.read_exact_at(range.position, &mut bytes).unwrap();
    Ok((bytes, range.next_offset))
}

#[test]
fn every_flipped_bit_is_found_at_the_first_read_and_costs_one_batch() {
    let log = AtRest::new(24, 1500, 60);
    for batch in 0..24 {
        for byte in (0..log.batches[batch].len()).step_by(3) {
            log.flip(batch, byte, (byte % 8) as u8);
            let (directory, partition) = log.start(LogOptions::default());
            let first = log.places[batch].2;
            let max_bytes = [1, 700, u32::MAX][byte % 3];
            let lost = log.consume(&partition, max_bytes);
            assert_eq!(lost, [first..first + RECORDS], "byte {byte} of batch {batch}");
            assert_eq!(partition.quarantined().len(), 1);
            // A second read finds no new damage, and a clean restart forgets none.
            assert_eq!(log.consume(&partition, max_bytes), lost);
            directory.shutdown().unwrap();
            let (_directory, partition) = log.start(LogOptions::default());
            assert_eq!(log.consume(&partition, max_bytes), lost);
        }
    }
}

#[test]
fn whole_segments_of_many_chunks_are_checked_piece_by_piece() {
    let log = AtRest::new(60, 1 << 20, 10_000);
    for batch in [0, 3, 7, 30, 44, 59] {
        log.flip(batch, log.batches[batch].len() - 1, 2);
        for max_bytes in [1, 50_000, 300_000] {
            let (_directory, partition) = log.start(LogOptions::default());
            let first = log.places[batch].2;
            assert_eq!(log.consume(&partition, max_bytes), [first..first + RECORDS]);
        }
    }
    restore(log.directory.path(), &log.files);
    let (_directory, partition) = log.start(LogOptions::default());
    assert!(log.consume(&partition, 1).is_empty());
    // Now every byte was read once.
    let range = partition.locate(Offset(0), u32::MAX, partition.end_offset()).unwrap().unwrap();
    assert!(range.is_checked());
}

#[test]
fn bytes_that_this_process_wrote_or_scanned_need_no_check() {
    let log = AtRest::new(10, 1500, 60);
    fs::remove_file(log.directory.path().join("clean-shutdown")).unwrap();
    let (_directory, partition) = log.start(LogOptions::default());
    let end = partition.end_offset();
    let scanned = partition.locate(Offset(end.0 - 1), 1, end).unwrap().unwrap();
    assert!(scanned.is_checked());
    partition.append(&mut batch(2, 77, 60)).unwrap();
    let appended = partition.locate(end, 1, partition.end_offset()).unwrap().unwrap();
    assert!(appended.is_checked());
    let old = partition.locate(Offset(0), 1, end).unwrap().unwrap();
    assert!(!old.is_checked());
    partition.check(&old).unwrap();
    assert!(old.is_checked());
}

#[test]
fn checks_and_damage_are_remembered_when_segments_are_closed() {
    let log = AtRest::new(60, 700, 60);
    log.flip(5, 70, 1);
    let (directory, partition) = log.start(LogOptions { open_segments_max: 4, ..LogOptions::default() });
    let first = log.places[5].2;
    assert_eq!(log.consume(&partition, 1), [first..first + RECORDS]);
    assert!(directory.open_segments() <= 4);
    // All segments were closed and opened again since; the log still knows which batches are sound.
    for offset in (0..partition.end_offset().0).filter(|offset| !(first..first + RECORDS).contains(offset)) {
        let range = partition.locate(Offset(offset), 1, partition.end_offset()).unwrap().unwrap();
        assert!(range.is_checked(), "{offset}");
    }
    assert_eq!(log.consume(&partition, 1), [first..first + RECORDS]);
    assert_eq!(partition.quarantined().len(), 1);
}

#[test]
fn damage_found_in_the_active_segment_does_not_end_the_log_after_a_crash() {
    let log = AtRest::new(12, 1 << 20, 60);
    log.flip(4, 80, 3);
    let lost = [log.places[4].2..log.places[4].2 + RECORDS];
    {
        let (_directory, partition) = log.start(LogOptions::default());
        assert_eq!(log.consume(&partition, u32::MAX), lost);
        partition.append(&mut batch(RECORDS as usize, 99, 10)).unwrap();
        partition.flush().unwrap();
    }
    let (_directory, partition) = log.start(LogOptions::default());
    assert_eq!(partition.end_offset(), Offset(13 * RECORDS));
    let (bytes, _) = partition.read_batches(Offset(12 * RECORDS), 1, partition.end_offset()).unwrap().unwrap();
    assert_eq!(tags(&bytes), [(12 * RECORDS, 99)]);
}

#[test]
fn damage_at_the_end_of_the_active_segment_is_not_appended_to() {
    let log = AtRest::new(12, 1 << 20, 60);
    log.flip(11, 80, 3);
    {
        let (_directory, partition) = log.start(LogOptions::default());
        assert_eq!(log.consume(&partition, u32::MAX), [11 * RECORDS..12 * RECORDS]);
        for tag in 50..53 {
            partition.append(&mut batch(RECORDS as usize, tag, 10)).unwrap();
        }
        partition.flush().unwrap();
    }
    let (_directory, partition) = log.start(LogOptions::default());
    let (bytes, _) = partition.read_batches(Offset(12 * RECORDS), u32::MAX, partition.end_offset()).unwrap().unwrap();
    let expected: Vec<_> = (0..3).map(|at| (12 * RECORDS + at * RECORDS, 50 + at as u64)).collect();
    assert_eq!(tags(&bytes), expected);
}

#[test]
fn a_disk_that_fails_during_a_read_makes_the_next_read_fail() {
    let log = AtRest::new(24, 1500, 60);
    let (_directory, partition) = log.start(LogOptions::default());
    let end = partition.end_offset();
    let range = partition.locate(Offset(0), 1, end).unwrap().unwrap();
    partition.report_read_error(&range, &io::Error::from_raw_os_error(5));
    assert!(matches!(partition.locate(Offset(1), 1, end), Err(LocateError::Io { .. })));
    assert!(partition.read_failure().is_some());
    // Other segments are not affected.
    let last = partition.locate(Offset(end.0 - 1), 1, end).unwrap().unwrap();
    assert_eq!(
        BatchHeader::parse(&{
            let mut bytes = vec![0; last.bytes as usize];
            last.segment.read_exact_at(last.position, &mut bytes).unwrap();
            bytes
        })
        .unwrap()
        .base_offset,
        last.base_offset
    );
}

#[test]
fn offsets_of_closed_segments_are_cold() {
    let log = AtRest::new(24, 1500, 60);
    let (_directory, partition) = log.start(LogOptions::default());
    assert!(partition.is_cold(Offset(0)));
    assert!(!partition.is_cold(partition.end_offset()));
    assert_eq!(read_all(&partition), log.batches.concat());
    assert!(!partition.is_cold(Offset(0)));
}
