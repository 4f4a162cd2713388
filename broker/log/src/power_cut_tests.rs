//! Random power cuts: no durable record is ever lost, and the rest is a prefix of what was appended.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use ottla_wire::record::batches;
use uuid::Uuid;

use crate::{
    Durability, FaultyDisk, Journal, JournalOpenError, LocateError, LogDir, LogOptions, Offset, PartitionLog,
    PartitionName, PartitionOptions,
};

const PARTITIONS: i32 = 3;

fn batch(tag: u64, value_bytes: usize) -> Vec<u8> {
    let mut value = tag.to_be_bytes().to_vec();
    value.resize(8 + value_bytes, tag as u8 | 1);
    crate::test_batches::batch_of(&value)
}

fn tags(partition: &PartitionLog) -> Result<Vec<u64>, LocateError> {
    let (mut tags, mut next) = (Vec::new(), Offset(0));
    while let Some((bytes, range)) = partition.read_batches(next, u32::MAX, partition.end_offset())? {
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.check_crc().unwrap();
            let records = batch.records(1 << 20).unwrap();
            let value = records.iter().next().unwrap().unwrap().value.unwrap().to_vec();
            tags.push(u64::from_be_bytes(*value.first_chunk().unwrap()));
        }
        next = range.next_offset;
    }
    Ok(tags)
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// The records appended to one partition, and how many of them the log reported durable.
#[derive(Default)]
struct History {
    appended: Vec<u64>,
    durable: usize,
}

/// One life of a log: recovery, checks, appends, power cut. Returns the number of lost records that had to stay.
fn live(path: &Path, history: &mut [History], seed: u64, loses_cache: bool) -> usize {
    let disk = FaultyDisk::new();
    let mut random = Rng(seed.wrapping_mul(0x9E37_79B9).wrapping_add(1));
    let options = LogOptions { checkpoint_interval_bytes: 1 + random.below(4000), ..LogOptions::default() };
    let (log, report) = LogDir::open_on(disk.clone(), path, options).unwrap();
    let (journal, entries) = match Journal::open_on(disk.clone(), &path.join("journal"), None) {
        // The journal reports that it is incomplete: the expected result for a disk that lies.
        Err(JournalOpenError::Corrupt { .. }) if loses_cache => return 1,
        opened => opened.unwrap(),
    };
    let entries = entries.collect::<Result<Vec<_>, _>>().unwrap().len();
    if loses_cache {
        disk.lose_cache();
    }
    let mut lost = 0;
    let mut partitions = Vec::new();
    for (index, history) in history.iter_mut().enumerate() {
        let name = PartitionName::new("t", index as i32).unwrap();
        let durability = if index == 2 { Durability::PageCache } else { Durability::Fsync };
        let options =
            PartitionOptions { durability, segment_bytes: 2000 + 1000 * index as u64, ..PartitionOptions::default() };
        let partition = match log.partition(&name) {
            Some(partition) => partition,
            // The partition does not exist, so nothing of it can have been durable.
            None => log.create_partition(&name, Uuid::nil(), options).unwrap(),
        };
        if report.quarantined.iter().any(|(damaged, _)| *damaged == name) {
            lost += 1;
            continue;
        }
        let found = match tags(&partition) {
            Err(LocateError::Corrupt { .. }) if loses_cache => {
                lost += 1;
                continue;
            }
            read => read.unwrap(),
        };
        lost += history.durable.saturating_sub(found.len());
        assert!(history.appended.starts_with(&found) || loses_cache, "seed {seed}: no prefix: {found:?}");
        history.appended = found;
        history.durable = partition.durable_offset().0 as usize;
        partitions.push((partition, history));
    }
    lost += usize::from(synced_entries(path) > entries);
    for step in 0..random.below(60) {
        if partitions.is_empty() {
            break;
        }
        let at = random.below(partitions.len() as u64) as usize;
        let Some((partition, history)) = partitions.get_mut(at) else { continue };
        let tag = seed << 16 | step;
        let bytes = [10, 100, 700, 1500][random.below(4) as usize];
        partition.append(&mut batch(tag, bytes)).unwrap();
        history.appended.push(tag);
        if random.below(4) == 0 {
            partition.flush().unwrap();
        }
        if random.below(8) == 0 {
            journal.append(&[IoSlice::new(&tag.to_be_bytes())]).unwrap();
            journal.sync().unwrap();
            std::fs::write(path.with_extension("entries"), (entries + 1).to_string()).unwrap();
        }
    }
    // The durable offsets are read before the cut: everything below them has to survive.
    for (partition, history) in &mut partitions {
        history.durable = partition.durable_offset().0 as usize;
    }
    disk.power_cut(seed ^ 0xC07).unwrap();
    drop((partitions, log));
    lost
}

/// A directory in memory if the system has one: no call syncs it anyway.
fn quick_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A lower bound of the number of journal entries that were synced.
fn synced_entries(path: &Path) -> usize {
    std::fs::read_to_string(path.with_extension("entries")).map_or(0, |text| text.parse().unwrap())
}

fn lives(seeds: std::ops::Range<u64>, loses_cache: bool) -> usize {
    let mut lost = 0;
    for seed in seeds {
        let directory = quick_directory();
        let path = directory.path().join("log");
        let mut history: Vec<_> = (0..PARTITIONS).map(|_| History::default()).collect();
        for life in 0..6 {
            lost += live(&path, &mut history, seed * 10 + life, loses_cache);
        }
    }
    lost
}

#[test]
fn power_cuts_take_nothing_that_was_durable_and_leave_a_prefix() {
    let seeds = std::env::var("OTTLA_TEST_SEEDS").map_or(60, |seeds| seeds.parse().unwrap());
    assert_eq!(lives(0..seeds, false), 0);
}

#[test]
fn a_disk_that_loses_its_cache_is_detected() {
    assert!(lives(0..20, true) > 0, "a power cut that takes nothing would prove nothing");
}

#[test]
fn power_cut_leaves_the_same_for_the_same_seed() {
    let image = |seed| {
        let directory = tempfile::tempdir().unwrap();
        let disk: Arc<FaultyDisk> = FaultyDisk::new();
        let (log, _) = LogDir::open_on(disk.clone(), directory.path(), LogOptions::default()).unwrap();
        let options = PartitionOptions { durability: Durability::PageCache, ..PartitionOptions::default() };
        let name = PartitionName::new("t", 0).unwrap();
        let partition = log.create_partition(&name, Uuid::nil(), options).unwrap();
        for tag in 0..20 {
            partition.append(&mut batch(tag, 300)).unwrap();
        }
        disk.power_cut(seed).unwrap();
        std::fs::read(directory.path().join("t-0/00000000000000000000.log")).unwrap()
    };
    assert_eq!(image(5), image(5));
    assert!((0..8).map(image).collect::<std::collections::HashSet<_>>().len() > 2);
}
