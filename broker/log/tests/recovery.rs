//! Recovery after a crash: an exact prefix above the durable offset, no loss below it.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ottla_log::{Durability, LeaderEpoch, LocateError, LogDir, LogOptions, Offset, PartitionLog, PartitionOptions};
use support::{batch, create, eager, image, name, open, quick_directory, read_all, restore, tags, wait_durable};

const SEGMENT: &str = "00000000000000000000.log";

/// A partition after a crash: everything is written, nothing is closed.
struct Crashed {
    directory: tempfile::TempDir,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Bytes of every batch, as appended.
    batches: Vec<Vec<u8>>,
    /// End of every batch in the segment.
    ends: Vec<usize>,
}

impl Crashed {
    /// Appends `batches`; the first `durable` of them are below the persisted durable offset.
    fn new(batches: Vec<Vec<u8>>, durable: usize, options: PartitionOptions) -> Self {
        let directory = quick_directory();
        let mut batches = batches;
        {
            let (log, _) = LogDir::open(directory.path(), eager()).unwrap();
            let partition = create(&log, "t", options);
            for batch in &mut batches[..durable] {
                partition.append(batch).unwrap();
            }
            partition.flush().unwrap();
            let checkpoint = fs::read(directory.path().join("t-0/checkpoint"));
            for batch in &mut batches[durable..] {
                partition.append(batch).unwrap();
            }
            wait_durable(
                &partition,
                if options.durability == Durability::Fsync { partition.end_offset() } else { Offset(0) },
            );
            drop(log);
            match checkpoint {
                Ok(checkpoint) => fs::write(directory.path().join("t-0/checkpoint"), checkpoint).unwrap(),
                Err(_) => drop(fs::remove_file(directory.path().join("t-0/checkpoint"))),
            }
        }
        let ends = batches
            .iter()
            .scan(0, |end, batch| Some(std::mem::replace(end, *end + batch.len()) + batch.len()))
            .collect();
        let files = image(directory.path());
        Self { directory, files, batches, ends }
    }

    fn segment(&self) -> PathBuf {
        self.path("t-0").join(SEGMENT)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Restores the disk of the crash, with these bytes in the segment.
    fn with_segment(&self, bytes: &[u8]) {
        restore(self.directory.path(), &self.files);
        fs::write(self.segment(), bytes).unwrap();
    }

    fn written(&self) -> Vec<u8> {
        self.batches.concat()
    }

    /// The number of batches that are whole in the first `length` bytes.
    fn whole_in(&self, length: usize) -> usize {
        self.ends.iter().filter(|end| **end <= length).count()
    }

    fn prefix(&self, count: usize) -> Vec<u8> {
        self.batches[..count].concat()
    }
}

fn start(directory: &Path) -> (LogDir, std::sync::Arc<PartitionLog>, ottla_log::RecoveryReport) {
    let (log, report) = LogDir::open(directory, LogOptions::default()).unwrap();
    let partition = log.partition(&name("t", 0)).unwrap();
    (log, partition, report)
}

fn sample(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|tag| batch(1 + tag as usize % 3, tag, 20 + tag as usize * 13 % 90)).collect()
}

#[test]
fn every_length_of_a_torn_tail_recovers_the_exact_prefix() {
    let crashed = Crashed::new(sample(24), 2, PartitionOptions::default());
    let written = crashed.written();
    let durable = crashed.ends[1];
    for length in durable..=written.len() {
        for filler in [None, Some(0), Some(0xFF)] {
            let mut bytes = written[..length].to_vec();
            if let Some(filler) = filler {
                bytes.resize(written.len() + 300, filler);
            }
            crashed.with_segment(&bytes);
            let (log, partition, report) = start(crashed.directory.path());
            // The bytes behind the cut may equal the old ones by chance: a batch ends with a zero.
            let sound = crashed.ends.iter().filter(|end| bytes.get(..**end) == Some(&written[..**end])).count();
            // A torn batch may begin with zeros, the upper bytes of its offset: zeros alone show no torn batch.
            let torn = bytes[crashed.prefix(sound).len()..].iter().any(|byte| *byte != 0);
            assert_eq!(read_all(&partition), crashed.prefix(sound), "length {length}, then {filler:?}");
            assert_eq!(report.truncated.len(), usize::from(torn), "length {length}, then {filler:?}");
            assert!(report.quarantined.is_empty());
            // A cut changes the history, so the epoch rises.
            assert_eq!(partition.leader_epoch(), LeaderEpoch(i32::from(torn)));
            let kept = if torn { crashed.prefix(sound).len() } else { bytes.len() };
            assert_eq!(fs::metadata(crashed.segment()).unwrap().len() as usize, kept);
            drop(log);
        }
    }
}

#[test]
fn second_start_changes_no_byte() {
    let crashed = Crashed::new(sample(24), 2, PartitionOptions::default());
    let written = crashed.written();
    for length in (crashed.ends[1]..=written.len()).step_by(11) {
        let mut bytes = written[..length].to_vec();
        bytes.resize(written.len(), 0xA5);
        crashed.with_segment(&bytes);
        drop(start(crashed.directory.path()));
        let once = image(crashed.directory.path());
        drop(start(crashed.directory.path()));
        assert!(once == image(crashed.directory.path()), "length {length}");
        let (log, _, _) = start(crashed.directory.path());
        log.shutdown().unwrap();
        let closed = image(crashed.directory.path());
        let (log, partition, report) = start(crashed.directory.path());
        assert!(report.clean && report.partitions_scanned == 0);
        assert_eq!(read_all(&partition), crashed.prefix(crashed.whole_in(length)));
        log.shutdown().unwrap();
        assert!(closed == image(crashed.directory.path()), "length {length}");
    }
}

#[test]
fn batches_behind_a_hole_never_come_back() {
    // The log lost its middle: recovery cuts off the later batches for good, even if new batches fill the hole exactly.
    let same = |tag| batch(1, tag, 100);
    let crashed = Crashed::new((0..10).map(same).collect(), 2, PartitionOptions::default());
    for hole in 2..9 {
        for filler in [0, 0x11] {
            let mut bytes = crashed.written();
            bytes[crashed.ends[hole - 1]..crashed.ends[hole]].fill(filler);
            crashed.with_segment(&bytes);
            let (log, partition, report) = start(crashed.directory.path());
            assert_eq!(report.truncated[0].end_offset, Offset(hole as i64));
            partition.append(&mut same(77)).unwrap();
            drop(log);
            let (_log, partition, _) = start(crashed.directory.path());
            let mut expected: Vec<_> = (0..hole as u64).map(|tag| (tag as i64, tag)).collect();
            expected.push((hole as i64, 77));
            assert_eq!(tags(&read_all(&partition)), expected);
        }
    }
}

/// A change to the bytes of one batch.
type Damage = fn(&mut [u8]);

/// Checks that reads of exactly `damaged` answer an error and that every other batch is served.
fn assert_only_damaged(partition: &PartitionLog, crashed: &Crashed, damaged: std::ops::Range<i64>) {
    let end = partition.end_offset();
    let mut offset = 0;
    for batch in &crashed.batches {
        let records = ottla_wire::record::BatchHeader::parse(batch).unwrap().record_count;
        for at in offset..offset + i64::from(records) {
            for max_bytes in [1, 200, u32::MAX] {
                let read = partition.read_batches(Offset(at), max_bytes, end);
                if damaged.contains(&at) {
                    let (from, to) = (Offset(damaged.start), Offset(damaged.end));
                    assert!(matches!(read, Err(LocateError::Corrupt { from: f, to: t }) if (f, t) == (from, to)));
                } else {
                    let (bytes, range) = read.unwrap().unwrap();
                    assert!(bytes.starts_with(batch));
                    assert!(range.next_offset.0 <= damaged.start || range.base_offset.0 >= damaged.end);
                }
            }
        }
        offset += i64::from(records);
    }
}

#[test]
fn damage_below_the_durable_offset_is_quarantined_and_costs_no_other_batch() {
    let crashed = Crashed::new(sample(12), 12, PartitionOptions::default());
    let starts: Vec<usize> = std::iter::once(0).chain(crashed.ends.iter().copied()).collect();
    let offsets: Vec<i64> = std::iter::once(0)
        .chain(crashed.batches.iter().scan(0, |next, batch| {
            *next += i64::from(ottla_wire::record::BatchHeader::parse(batch).unwrap().record_count);
            Some(*next)
        }))
        .collect();
    let kinds: [(&str, Damage); 9] = [
        ("leader epoch", |batch| batch[15] ^= 1),
        ("payload bit", |batch| batch[70] ^= 1),
        ("length too long", |batch| batch[11] ^= 0x20),
        ("length absurd", |batch| batch[8] = 0x7F),
        ("length negative", |batch| batch[8] = 0xFF),
        ("magic", |batch| batch[16] = 1),
        ("base offset", |batch| batch[7] ^= 0x40),
        ("all zero", |batch| batch.fill(0)),
        ("noise", |batch| batch.fill(0x5A)),
    ];
    for (index, batch) in crashed.batches.iter().enumerate() {
        for (what, damage) in kinds {
            let mut bytes = crashed.written();
            damage(&mut bytes[starts[index]..starts[index] + batch.len()]);
            crashed.with_segment(&bytes);
            let (log, partition, report) = start(crashed.directory.path());
            let damaged = offsets[index]..offsets[index + 1];
            assert!(report.truncated.is_empty(), "{what} in batch {index}");
            assert_eq!(report.quarantined.len(), 1, "{what} in batch {index}");
            assert_eq!(report.quarantined[0].1.offsets, damaged, "{what} in batch {index}");
            assert_eq!(partition.end_offset().0, offsets[12]);
            assert_only_damaged(&partition, &crashed, damaged.clone());
            // The log continues behind the damage, and the next starts, clean or not, still know it.
            let mut more = support::batch(2, 99, 50);
            let appended = partition.append(&mut more).unwrap();
            assert_eq!(appended.base_offset.0, offsets[12]);
            partition.flush().unwrap();
            drop(log);
            let (log, partition, _) = start(crashed.directory.path());
            assert_only_damaged(&partition, &crashed, damaged.clone());
            log.shutdown().unwrap();
            let (_log, partition, report) = start(crashed.directory.path());
            assert!(report.clean);
            assert_only_damaged(&partition, &crashed, damaged.clone());
            let (bytes, _) = partition.read_batches(Offset(offsets[12]), 1, partition.end_offset()).unwrap().unwrap();
            assert_eq!(bytes, more);
            let scanned = partition.scan_batches(Offset(0), |_| {}).unwrap();
            assert_eq!((scanned.batches, scanned.damaged), (12, vec![damaged]));
        }
    }
}

#[test]
fn batches_longer_than_any_buffer_are_checked_too() {
    let crashed = Crashed::new((0..4).map(|tag| batch(3, tag, 1 << 20)).collect(), 2, PartitionOptions::default());
    let (first, third) = (crashed.ends[0], crashed.ends[2]);
    for (at, truncated, quarantined) in
        [(third - 1, 1, 0), (third + 70, 1, 0), (first - 1, 0, 1), (first + 2_000_000, 0, 1)]
    {
        let mut bytes = crashed.written();
        bytes[at] ^= 1;
        crashed.with_segment(&bytes);
        let (_log, partition, report) = start(crashed.directory.path());
        assert_eq!((report.truncated.len(), report.quarantined.len()), (truncated, quarantined), "byte {at}");
        assert_eq!(partition.end_offset().0, if quarantined == 1 { 12 } else { crashed.whole_in(at) as i64 * 3 });
    }
    crashed.with_segment(&crashed.written());
    assert_eq!(read_all(&start(crashed.directory.path()).1), crashed.written());
}

#[test]
fn batch_inside_a_record_is_not_taken_for_one_behind_damage() {
    // The value of a record is a batch itself, with a fitting offset: the search follows the length of the damaged
    // batch.
    let mut decoy = batch(1, 66, 100);
    decoy[..8].copy_from_slice(&2_i64.to_be_bytes());
    let mut builder = ottla_wire::record::BatchBuilder::new(ottla_wire::record::Codec::None);
    builder.append(1, None, Some(&decoy), std::iter::empty()).unwrap();
    let mut carrier = Vec::new();
    builder.finish(&mut carrier).unwrap();
    let crashed =
        Crashed::new(vec![batch(1, 0, 10), carrier, batch(1, 2, 10), batch(1, 3, 10)], 4, PartitionOptions::default());
    let mut bytes = crashed.written();
    bytes[crashed.ends[0] + 61] ^= 1;
    crashed.with_segment(&bytes);
    let (_log, partition, report) = start(crashed.directory.path());
    assert_eq!(report.quarantined[0].1.offsets, 1..2);
    assert_only_damaged(&partition, &crashed, 1..2);
}

#[test]
fn a_missing_durable_end_is_quarantined_and_the_log_continues_behind_it() {
    let crashed = Crashed::new((0..6).map(|tag| batch(2, tag, 100)).collect(), 6, PartitionOptions::default());
    for (cut, filler) in [(crashed.ends[3], None), (crashed.ends[3] + 5, None), (crashed.ends[3], Some(0)), (0, None)] {
        let mut bytes = crashed.written()[..cut].to_vec();
        if let Some(filler) = filler {
            bytes.resize(crashed.written().len(), filler);
        }
        crashed.with_segment(&bytes);
        let damaged = crashed.whole_in(cut) as i64 * 2..12;
        for round in 0..3 {
            let (log, partition, report) = start(crashed.directory.path());
            assert!(report.truncated.is_empty());
            if round == 0 {
                assert_eq!(report.quarantined[0].1.offsets, damaged);
            }
            assert_eq!(partition.end_offset(), Offset(12 + round));
            assert_only_damaged(&partition, &crashed, damaged.clone());
            partition.append(&mut batch(1, 50, 10)).unwrap();
            partition.flush().unwrap();
            if round == 1 {
                log.shutdown().unwrap();
            }
        }
    }
}

#[test]
fn page_cache_partition_raises_its_epoch_after_every_crash() {
    let options = PartitionOptions { durability: Durability::PageCache, ..PartitionOptions::default() };
    let crashed = Crashed::new(sample(5), 5, options);
    let end = {
        let (log, partition, report) = start(crashed.directory.path());
        assert_eq!((partition.leader_epoch(), report.epochs_raised), (LeaderEpoch(1), 1));
        assert_eq!(partition.epoch_end_offset(LeaderEpoch(0)), Some((LeaderEpoch(0), partition.end_offset())));
        partition.append(&mut batch(1, 9, 10)).unwrap();
        assert_eq!(partition.epoch_of(Offset(0)), Some(LeaderEpoch(0)));
        assert_eq!(partition.epoch_of(Offset(partition.end_offset().0 - 1)), Some(LeaderEpoch(1)));
        let end = partition.end_offset();
        log.shutdown().unwrap();
        end
    };
    let (log, partition, report) = start(crashed.directory.path());
    assert_eq!((partition.leader_epoch(), report.epochs_raised), (LeaderEpoch(1), 0));
    assert_eq!(partition.epoch_end_offset(LeaderEpoch(1)), Some((LeaderEpoch(1), end)));
    assert_eq!(partition.epoch_end_offset(LeaderEpoch(2)), None);
    drop(log);
    // There was no append, so the marker is still true.
    let (_log, partition, report) = start(crashed.directory.path());
    assert!(report.clean);
    assert_eq!(partition.leader_epoch(), LeaderEpoch(1));
}

#[test]
fn the_first_append_removes_the_marker() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", PartitionOptions::default());
    log.shutdown().unwrap();
    drop(partition);
    let marker = directory.path().join("clean-shutdown");
    assert!(marker.exists());
    let (log, partition, report) = start(directory.path());
    assert!(report.clean && marker.exists());
    partition.append(&mut batch(1, 1, 1)).unwrap();
    assert!(!marker.exists());
    drop(log);
    assert!(!start(directory.path()).2.clean);
}

#[test]
fn lost_segments_are_errors_or_the_end_by_the_durable_offset() {
    let options = PartitionOptions { segment_bytes: 600, ..PartitionOptions::default() };
    let crashed = Crashed::new((0..30).map(|tag| batch(1, tag, 80)).collect(), 15, options);
    let segments: Vec<PathBuf> =
        crashed.files.keys().filter(|path| path.extension().is_some_and(|it| it == "log")).cloned().collect();
    let base = |path: &Path| path.file_stem().unwrap().to_str().unwrap().parse::<i64>().unwrap();
    assert!(segments.len() > 6);
    for (index, lost) in segments.iter().enumerate() {
        restore(crashed.directory.path(), &crashed.files);
        fs::remove_file(lost).unwrap();
        let (log, partition, report) = start(crashed.directory.path());
        let next = segments.get(index + 1).map_or(30, |next| base(next));
        if base(lost) >= 15 {
            assert_eq!(partition.end_offset().0, base(lost));
            assert_eq!(read_all(&partition), crashed.prefix(base(lost) as usize));
            assert_eq!(report.truncated.len(), usize::from(index + 1 < segments.len()));
        } else if next <= 15 {
            assert_eq!(partition.end_offset(), Offset(30));
            assert_only_damaged(&partition, &crashed, base(lost)..next);
        } else {
            // The segment held the durable offset: recovery reports the durable part as lost and drops the rest.
            assert_eq!(partition.end_offset(), Offset(15));
            for at in base(lost)..15 {
                assert!(matches!(
                    partition.locate(Offset(at), 1, Offset(15)),
                    Err(LocateError::Corrupt { to: Offset(15), .. })
                ));
            }
        }
        drop(log);
    }
}

#[test]
fn recovery_removes_unfinished_and_deleted_partitions() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    create(&log, "t", PartitionOptions::default());
    drop(log);
    fs::create_dir_all(directory.path().join(".new/8a3d")).unwrap();
    fs::write(directory.path().join(".new/8a3d/partition.meta.tmp"), "half").unwrap();
    fs::create_dir_all(directory.path().join(".trash/77")).unwrap();
    fs::write(directory.path().join(".trash/77/00000000000000000000.log"), "x").unwrap();
    fs::create_dir_all(directory.path().join("plugins")).unwrap();
    let (log, report) = open(directory.path());
    assert_eq!((report.partitions, report.leftovers_removed), (1, 2));
    while fs::read_dir(directory.path().join(".trash")).unwrap().next().is_some() {
        std::thread::yield_now();
    }
    assert!(directory.path().join("plugins").exists());
    assert!(fs::read_dir(directory.path().join(".new")).unwrap().next().is_none());
    assert_eq!(log.partitions().len(), 1);
}

#[test]
fn damaged_meta_is_rebuilt_from_the_batches() {
    let crashed = Crashed::new(sample(6), 6, PartitionOptions::default());
    fs::write(crashed.path("t-0/partition.meta"), "rubbish").unwrap();
    let (log, partition, report) = start(crashed.directory.path());
    assert_eq!(report.meta_rebuilt, [name("t", 0)]);
    assert_eq!(read_all(&partition), crashed.written());
    assert!(partition.topic_id().is_nil() && partition.leader_epoch() == LeaderEpoch(1));
    partition.set_topic_id(uuid::Uuid::from_u128(9)).unwrap();
    drop(log);
    let (_log, partition, report) = start(crashed.directory.path());
    assert!(report.meta_rebuilt.is_empty());
    assert_eq!(partition.topic_id(), uuid::Uuid::from_u128(9));
}

#[test]
fn directory_belongs_to_one_process() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let second = LogDir::open(directory.path(), LogOptions::default());
    assert!(matches!(second, Err(ottla_log::OpenError::Locked { .. })));
    drop(log);
    open(directory.path());
}
