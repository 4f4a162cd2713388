//! More segments than the process may have open files: the log closes some when others need a handle, and no read or
//! append fails.

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ottla_log::{Disk, Durability, LogDir, LogOptions, Offset, PartitionLog, PartitionOptions, RealDisk};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{batch, eager, name, quick_directory, read_all, tags};
use uuid::Uuid;

/// Set in the child process: the number of partitions.
const CHILD: &str = "OTTLA_TEST_FEW_HANDLES";
const SEGMENTS: i64 = 10;

fn small() -> PartitionOptions {
    PartitionOptions { segment_bytes: 1, ..PartitionOptions::default() }
}

fn few(open_segments_max: usize) -> LogOptions {
    LogOptions { open_segments_max, ..eager() }
}

/// Checks one record, read as a consumer does.
fn check(log: &PartitionLog, offset: i64) {
    let (bytes, range) = log.read_batches(Offset(offset), 1, log.end_offset()).unwrap().unwrap();
    assert_eq!(tags(&bytes), [(offset, offset as u64)]);
    assert_eq!(range.next_offset, Offset(offset + 1));
}

#[test]
fn partitions_with_ten_segments_each_live_with_few_file_handles() {
    // The full size is 10 000: `OTTLA_TEST_PARTITIONS=10000 cargo test --release -p ottla-log few_file_handles --
    // --nocapture`
    let partitions = std::env::var("OTTLA_TEST_PARTITIONS").unwrap_or_else(|_| "300".to_owned());
    let handles = if partitions.len() > 4 { 1024 } else { 128 };
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_with_few_handles", "--nocapture"])
        .env(CHILD, format!("{partitions} {handles}"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&child.stderr));
    println!("{said}");
}

#[test]
fn child_with_few_handles() {
    let Ok(sizes) = std::env::var(CHILD) else { return };
    let (partitions, handles) = sizes.split_once(' ').unwrap();
    let (partitions, handles): (i32, u64) = (partitions.parse().unwrap(), handles.parse().unwrap());
    setrlimit(Resource::Nofile, Rlimit { current: Some(handles), maximum: Some(handles) }).unwrap();
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let directory = quick_directory();
    let begun = Instant::now();
    let said = |what: &str| println!("{:>8} ms  {what}; {} files open", begun.elapsed().as_millis(), files());
    let mut peak = 0;
    {
        let (log, _) = LogDir::open(directory.path(), LogOptions::default()).unwrap();
        for index in 0..partitions {
            log.create_partition(&name("t", index), Uuid::nil(), small()).unwrap();
        }
        said("created");
        let all = log.partitions();
        for round in 0..SEGMENTS {
            for partition in &all {
                partition.append(&mut batch(1, round as u64, 50)).unwrap();
            }
            peak = peak.max(files());
        }
        said("appended, one record per segment");
        drop(log);
    }
    for clean in [false, true] {
        let (log, report) = LogDir::open(directory.path(), LogOptions::default()).unwrap();
        said(if clean { "opened after a clean shutdown" } else { "opened after a crash" });
        assert_eq!((report.partitions, report.clean), (partitions as usize, clean));
        let all = log.partitions();
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..all.len() * 3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            check(&all[(random >> 33) as usize % all.len()], ((random >> 20) as i64 & 0xFFFF) % SEGMENTS);
            peak = peak.max(log.open_segments());
        }
        said("read at random");
        if clean {
            for round in 0..2 {
                for partition in &all {
                    partition.append(&mut batch(1, (SEGMENTS + round) as u64, 50)).unwrap();
                }
            }
            said("appended round-robin");
            for partition in all.iter().step_by(7) {
                check(partition, SEGMENTS);
            }
        }
        assert!(files() as u64 <= handles && log.open_segments() as u64 <= handles * 3 / 4);
        log.shutdown().unwrap();
        said("shut down");
    }
    println!("{peak} segments open at most");
}

#[test]
fn segments_are_closed_least_recently_used_first_and_open_again() {
    let directory = quick_directory();
    let (log, _) = LogDir::open(directory.path(), few(4)).unwrap();
    let partition = log.create_partition(&name("t", 0), Uuid::nil(), small()).unwrap();
    for tag in 0..40 {
        partition.append(&mut batch(1, tag, 50)).unwrap();
        partition.flush().unwrap();
        assert!(log.open_segments() <= 4, "{}", log.open_segments());
    }
    for round in 0..3 {
        for offset in 0..40 {
            check(&partition, (offset * 7 + round) % 40);
            assert!(log.open_segments() <= 4);
        }
    }
    assert_eq!(tags(&read_all(&partition)).len(), 40);
}

#[test]
fn a_segment_in_use_stays_open() {
    let directory = quick_directory();
    let (log, _) = LogDir::open(directory.path(), few(4)).unwrap();
    let partition = log.create_partition(&name("t", 0), Uuid::nil(), small()).unwrap();
    for tag in 0..30 {
        partition.append(&mut batch(1, tag, 50)).unwrap();
        partition.flush().unwrap();
    }
    let range = partition.locate(Offset(3), 1, partition.end_offset()).unwrap().unwrap();
    let slice = range.segment.slice(range.position, range.bytes as usize).unwrap();
    for offset in 0..30 {
        check(&partition, offset);
    }
    let again = partition.locate(Offset(3), 1, partition.end_offset()).unwrap().unwrap();
    assert!(Arc::ptr_eq(&range.segment, &again.segment), "one file has one segment");
    let segment = Arc::downgrade(&range.segment);
    assert_eq!(tags(slice.as_ref()), [(3, 3)]);
    drop((range, again));
    for offset in 0..30 {
        check(&partition, offset);
    }
    assert!(segment.upgrade().is_some(), "a mapped slice keeps it");
    drop(slice);
    for offset in (4..30).chain(4..30) {
        check(&partition, offset);
    }
    assert!(segment.upgrade().is_none());
}

#[test]
fn idle_active_segments_are_closed_and_take_appends_again() {
    for durability in [Durability::Fsync, Durability::PageCache] {
        let directory = quick_directory();
        let (log, _) = LogDir::open(directory.path(), few(4)).unwrap();
        let options = PartitionOptions { durability, ..PartitionOptions::default() };
        let all: Vec<_> =
            (0..40).map(|index| log.create_partition(&name("t", index), Uuid::nil(), options).unwrap()).collect();
        let mut expected = Vec::new();
        for round in 0..12 {
            expected.push((round, round as u64));
            for partition in &all {
                partition.append(&mut batch(1, round as u64, 2000)).unwrap();
            }
            assert!(log.open_segments() <= 13);
            for partition in &all {
                assert_eq!(tags(&read_all(partition)), expected);
            }
        }
        let reserved = log.preallocated_bytes();
        let lengths: u64 = std::fs::read_dir(directory.path())
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::metadata(entry.path().join("00000000000000000000.log")).ok())
            .map(|file| file.len())
            .sum();
        let bytes: u64 = all.iter().map(|partition| read_all(partition).len() as u64).sum();
        assert!(lengths - bytes <= reserved, "what is reserved stays accounted for");
        log.shutdown().unwrap();
        let (log, report) = LogDir::open(directory.path(), few(4)).unwrap();
        assert!(report.clean && report.partitions_scanned == 0);
        for partition in log.partitions() {
            assert_eq!(tags(&read_all(&partition)), expected);
            partition.append(&mut batch(1, 12, 10)).unwrap();
        }
    }
}

#[test]
fn readers_and_writers_of_many_segments_work_with_few_open_ones() {
    let directory = quick_directory();
    let (log, _) = LogDir::open(directory.path(), few(6)).unwrap();
    let options = PartitionOptions { segment_bytes: 2000, ..PartitionOptions::default() };
    let all: Vec<_> =
        (0..6).map(|index| log.create_partition(&name("t", index), Uuid::nil(), options).unwrap()).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (all, done) = (&all, &done);
            scope.spawn(move || {
                let mut random = 77_u64 + reader;
                while !done.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let partition = &all[(random >> 40) as usize % all.len()];
                    let end = partition.end_offset().0;
                    if end > 0 {
                        check(partition, (random >> 33) as i64 % end);
                    }
                }
            });
        }
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let all = &all;
                scope.spawn(move || {
                    for tag in 0..400 {
                        for partition in all.iter().skip(writer).step_by(2) {
                            partition.append(&mut batch(1, tag, 100)).unwrap();
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    for partition in &all {
        assert_eq!(tags(&read_all(partition)), (0..400).map(|at| (at, at as u64)).collect::<Vec<_>>());
    }
}

/// Set in the child process of the next test.
const STARVED: &str = "OTTLA_TEST_NO_HANDLES";

#[test]
fn sync_waits_for_a_file_handle_and_takes_nothing_offline() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_without_handles", "--nocapture"])
        .env(STARVED, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&child.stderr));
}

#[test]
fn child_without_handles() {
    if std::env::var(STARVED).is_err() {
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
    let directory = quick_directory();
    let (log, _) = LogDir::open(directory.path(), LogOptions::default()).unwrap();
    let partition = log.create_partition(&name("t", 0), Uuid::nil(), PartitionOptions::default()).unwrap();
    partition.append(&mut batch(1, 0, 50)).unwrap();
    partition.flush().unwrap();
    let mut hoard: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(std::fs::File::open(directory.path()).is_err());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| {
            let synced = RealDisk.sync_dir(directory.path());
            done.store(true, Ordering::SeqCst);
            synced
        });
        // Gives the thread time to start waiting.
        (0..1000).for_each(|_| std::thread::yield_now());
        assert!(!done.load(Ordering::SeqCst));
        hoard.clear();
        syncing.join().unwrap().unwrap();
    });
    assert!(!partition.is_offline());
}
