//! The tools that read a log directory without opening it, and the repair: on real directories, damaged on purpose.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ottla_log::inspect::{
    Found, IndexFault, PartitionFiles, PartitionReport, PartitionUsage, Problem, Repair, RepairError, RepairPlan,
    SegmentReader, verify,
};
use ottla_log::{CleanOptions, Durability, LogDir, Offset, OpenError, PartitionName, PartitionOptions};
use support::{batch, create, eager, image, name, open, quick_directory, wait_durable};

const SMALL: PartitionOptions =
    PartitionOptions { durability: Durability::Fsync, segment_bytes: 6000, index_interval_bytes: 500 };

/// A log of one partition and several segments, three records per batch, without a shutdown.
fn left_in_a_hurry(path: &Path, options: PartitionOptions, batches: u64) {
    let (log, _) = LogDir::open(path, eager()).unwrap();
    let partition = create(&log, "t", options);
    for tag in 0..batches {
        partition.append(&mut batch(3, tag, 80)).unwrap();
        // Every append gets a flush, and every flush writes a checkpoint.
        partition.flush().unwrap();
    }
}

fn closed(path: &Path, batches: u64) {
    let (log, _) = LogDir::open(path, eager()).unwrap();
    let partition = create(&log, "t", SMALL);
    for tag in 0..batches {
        wait_durable(&partition, partition.append(&mut batch(3, tag, 80)).unwrap().end_offset);
    }
    log.shutdown().unwrap();
}

fn look(path: &Path) -> PartitionFiles {
    PartitionFiles::open(&path.join("t-0")).unwrap()
}

fn check(path: &Path) -> PartitionReport {
    verify(&look(path), |_| ())
}

/// Offsets and positions of all sound batches, by segment.
fn batches(files: &PartitionFiles) -> Vec<(Offset, PathBuf, i64, u64, u64)> {
    let mut all = Vec::new();
    for base in &files.segments {
        let reader = SegmentReader::open(files, *base).unwrap().unwrap();
        let path = reader.path.clone();
        let walked = reader.walk(|found| {
            if let Found::Batch { position, header } = found {
                let end = position + header.total_bytes() as u64;
                all.push((*base, path.clone(), header.base_offset.0, position, end));
            }
            ControlFlow::Continue(())
        });
        walked.unwrap();
    }
    all
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn a_sound_log_has_no_problem_and_a_check_changes_no_byte() {
    let directory = quick_directory();
    closed(directory.path(), 60);
    let before = image(directory.path());
    let report = check(directory.path());
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!((report.batches, report.records, report.end, report.unfinished), (60, 180, Offset(180), None));
    assert!(report.segments > 2);
    let usage = PartitionUsage::of(&look(directory.path())).unwrap();
    assert_eq!((usage.data_bytes, usage.segments), (report.bytes, report.segments as u64));
    assert!(usage.index_bytes > 0 && usage.total_bytes() > usage.data_bytes);
    assert_eq!(image(directory.path()), before);
}

#[test]
fn a_log_in_use_can_be_checked_while_it_grows() {
    let directory = quick_directory();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", SMALL);
    let writer = {
        let partition = std::sync::Arc::clone(&partition);
        std::thread::spawn(move || {
            for tag in 0..400 {
                partition.append(&mut batch(3, tag, 80)).unwrap();
            }
        })
    };
    loop {
        let done = writer.is_finished();
        let report = check(directory.path());
        assert!(report.is_sound(), "{:?}", report.problems);
        if done {
            assert_eq!(report.end, partition.end_offset());
            break;
        }
    }
    writer.join().unwrap();
    assert!(PartitionUsage::of(&look(directory.path())).unwrap().reserved_bytes > 0);
    assert!(matches!(Repair::lock(directory.path()), Err(RepairError::Lock(OpenError::Locked { .. }))));
}

#[test]
fn a_flipped_bit_below_the_durable_offset_is_found_with_exactly_its_offsets() {
    let directory = quick_directory();
    closed(directory.path(), 40);
    let whole = batches(&look(directory.path()));
    let before = image(directory.path());
    for (at, (segment, path, offset, position, end)) in whole.iter().enumerate() {
        // Flips another byte each time: in the header, the length, the CRC, the records.
        flip(path, position + (at as u64 * 37) % (end - position));
        let report = check(directory.path());
        let damaged: Vec<_> =
            report.problems.iter().filter(|problem| !matches!(problem, Problem::Index { .. })).cloned().collect();
        let expected = Problem::Damaged { segment: *segment, offsets: *offset..offset + 3, positions: *position..*end };
        // Behind the last batch, nothing shows where the damage ends.
        match (&damaged[..], at + 1 == whole.len()) {
            ([Problem::Damaged { offsets, .. }], true) => assert_eq!(*offsets, *offset..offset + 3),
            (found, _) => assert_eq!(found, [expected], "byte {} of {}", position, path.display()),
        }
        support::restore(directory.path(), &before);
    }
    assert!(check(directory.path()).is_sound());
}

#[test]
fn truncated_and_removed_segments_are_reported_as_missing() {
    let directory = quick_directory();
    closed(directory.path(), 40);
    let whole = batches(&look(directory.path()));
    let before = image(directory.path());
    let first = &whole[0];
    let last_of_first = whole.iter().rfind(|it| it.0 == first.0).unwrap();
    fs::File::options().write(true).open(&first.1).unwrap().set_len(last_of_first.3).unwrap();
    let offsets = last_of_first.2..last_of_first.2 + 3;
    assert_eq!(check(directory.path()).problems, [Problem::Missing { offsets }]);
    support::restore(directory.path(), &before);

    let last = whole.last().unwrap();
    fs::File::options().write(true).open(&last.1).unwrap().set_len(last.3).unwrap();
    let offsets = last.2..last.2 + 3;
    assert_eq!(check(directory.path()).problems, [Problem::Missing { offsets }]);
    support::restore(directory.path(), &before);

    fs::remove_file(&first.1).unwrap();
    assert_eq!(
        check(directory.path()).problems,
        [Problem::Missing { offsets: 0..look(directory.path()).segments[0].0 }]
    );
}

#[test]
fn wrong_indexes_are_reported_and_missing_ones_are_not() {
    let directory = quick_directory();
    closed(directory.path(), 40);
    let path = directory.path().join("t-0/00000000000000000000.index");
    let whole = fs::read(&path).unwrap();
    let fault = || match &check(directory.path()).problems[..] {
        [Problem::Index { segment: Offset(0), fault }] => *fault,
        other => panic!("{other:?}"),
    };
    flip(&path, 30);
    assert_eq!(fault(), IndexFault::Damaged);
    // The same errors with a valid CRC: an entry's position, its timestamp, the end.
    let lie = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        let end = file.len() - 4;
        let crc = ottla_wire::record::crc32c(&file[..end]).to_be_bytes();
        file[end..].copy_from_slice(&crc);
        fs::write(&path, file).unwrap();
        fault()
    };
    let second_entry = 48 + 16;
    let position = u32::from_be_bytes(whole[second_entry + 4..second_entry + 8].try_into().unwrap());
    let lied = lie(second_entry + 4, &(position + 1).to_be_bytes());
    assert_eq!(lied, IndexFault::Entry { position: u64::from(position + 1) });
    assert!(matches!(lie(second_entry + 8, &1_i64.to_be_bytes()), IndexFault::Timestamp { .. }));
    assert!(matches!(lie(16, &1_000_000_i64.to_be_bytes()), IndexFault::Damaged | IndexFault::End { .. }));
    fs::remove_file(&path).unwrap();
    assert!(check(directory.path()).is_sound());
}

#[test]
fn damaged_state_files_are_reported() {
    let directory = quick_directory();
    closed(directory.path(), 5);
    let meta = directory.path().join("t-0/partition.meta");
    let (bytes, length) = (fs::read(&meta).unwrap(), fs::metadata(&meta).unwrap().len());
    flip(&meta, 21);
    assert!(check(directory.path()).is_sound(), "one copy suffices");
    flip(&meta, length / 2 + 21);
    assert!(matches!(&check(directory.path()).problems[..], [Problem::Meta { .. }]));
    fs::write(&meta, bytes).unwrap();
    fs::write(directory.path().join("t-0/checkpoint"), [7; 600]).unwrap();
    assert_eq!(check(directory.path()).problems, [Problem::Checkpoint]);
}

/// Appends half a batch behind the end of the log, as a crash leaves it.
fn tear(path: &Path) -> (PathBuf, u64) {
    let files = look(path);
    let base = *files.segments.last().unwrap();
    let reader = SegmentReader::open(&files, base).unwrap().unwrap();
    let (end, position) = reader.walk(|_| ControlFlow::Continue(())).unwrap();
    let mut torn = batch(3, 9999, 80);
    torn[..8].copy_from_slice(&end.0.to_be_bytes());
    torn.truncate(150);
    fs::File::options().write(true).open(&reader.path).unwrap().write_all_at(&torn, position).unwrap();
    (reader.path, position)
}

fn plan(path: &Path) -> RepairPlan {
    Repair::lock(path).unwrap().plan(&name("t", 0)).unwrap()
}

#[test]
fn a_repair_cuts_the_torn_end_and_changes_no_byte_below_it() {
    let mut outcomes: Vec<BTreeMap<PathBuf, Vec<u8>>> = Vec::new();
    let directory = quick_directory();
    left_in_a_hurry(directory.path(), SMALL, 40);
    let (path, position) = tear(directory.path());
    let torn = image(directory.path());
    let report = check(directory.path());
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.unfinished.unwrap().offset, Offset(120));
    for _ in 0..2 {
        support::restore(directory.path(), &torn);
        let RepairPlan::Cut(cut) = plan(directory.path()) else { panic!("nothing to cut") };
        assert_eq!((cut.end, cut.position, cut.durable, cut.sound_batches), (Offset(120), position, Offset(120), 0));
        assert_eq!(image(directory.path()), torn, "a plan changes nothing");
        let repair = Repair::lock(directory.path()).unwrap();
        repair.apply(&cut).unwrap();
        let repaired = image(directory.path());
        for (file, bytes) in &torn {
            if *file == path {
                assert_eq!(repaired[file], bytes[..position as usize]);
            } else if !file.ends_with("partition.meta") {
                assert_eq!(repaired[file], *bytes, "{}", file.display());
            }
        }
        assert!(matches!(repair.apply(&cut), Err(RepairError::Changed { .. })), "once is enough");
        assert_eq!(repair.plan(&cut.name).unwrap(), RepairPlan::Nothing);
        assert_eq!(image(directory.path()), repaired);
        outcomes.push(repaired);
    }
    assert_eq!(outcomes[0], outcomes[1], "two repairs of the same log give the same bytes");
    // The next start has nothing left to cut, and the epoch tells clients that saw more records.
    let (log, report) = open(directory.path());
    assert!(report.truncated.is_empty() && report.quarantined.is_empty(), "{report}");
    let partition = log.partition(&name("t", 0)).unwrap();
    assert_eq!((partition.end_offset(), partition.leader_epoch().0), (Offset(120), 1));
}

/// Wherever the end is torn and with any bytes there, the cut begins at or above the durable offset.
#[test]
fn no_repair_reaches_below_the_durable_offset() {
    let directory = quick_directory();
    left_in_a_hurry(directory.path(), SMALL, 30);
    let durable_end = look(directory.path()).durable_offset();
    let whole = batches(&look(directory.path()));
    let (path, position) = tear(directory.path());
    let torn = image(directory.path());
    for (_, damaged, offset, start, end) in &whole {
        flip(damaged, start + (end - start) / 2);
        let before = image(directory.path());
        let planned = plan(directory.path());
        match &planned {
            RepairPlan::Cut(cut) => {
                assert!(cut.end >= durable_end, "damage at {offset}: {cut:?}");
                Repair::lock(directory.path()).unwrap().apply(cut).unwrap();
            }
            RepairPlan::Nothing => {}
            RepairPlan::Unprovable { .. } => panic!("{planned:?}"),
        }
        let after = image(directory.path());
        for (file, bytes) in &before {
            let kept = if *file == path { position as usize } else { bytes.len() };
            if !file.ends_with("partition.meta") {
                assert_eq!(after[file][..kept], bytes[..kept], "{}", file.display());
            }
        }
        support::restore(directory.path(), &torn);
    }
}

#[test]
fn repair_changes_nothing_where_acknowledged_records_may_be_anywhere() {
    let directory = quick_directory();
    left_in_a_hurry(directory.path(), PartitionOptions { durability: Durability::PageCache, ..SMALL }, 10);
    tear(directory.path());
    let before = image(directory.path());
    assert!(matches!(plan(directory.path()), RepairPlan::Unprovable { reason, .. } if reason.contains("page-cache")));
    fs::remove_file(directory.path().join("t-0/partition.meta")).unwrap();
    assert!(
        matches!(plan(directory.path()), RepairPlan::Unprovable { reason, .. } if reason.contains("partition.meta"))
    );
    support::restore(directory.path(), &before);
    assert_eq!(image(directory.path()), before);
}

#[test]
fn a_bad_batch_before_sound_ones_is_reported_with_the_number_that_a_start_cuts() {
    let directory = quick_directory();
    let options = PartitionOptions { segment_bytes: 1 << 20, ..SMALL };
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", options);
    for tag in 0..10 {
        partition.append(&mut batch(3, tag, 80)).unwrap();
    }
    partition.flush().unwrap();
    drop((partition, log));
    // The checkpoint lags behind: the log writes it only now and then.
    let whole = batches(&look(directory.path()));
    flip(&whole[6].1, whole[6].3 + 70);
    let report = check(directory.path());
    assert_eq!(report.problems, [Problem::Interrupted { segment: Offset(0), offset: Offset(18), batches: 3 }]);
    let RepairPlan::Cut(cut) = plan(directory.path()) else { panic!("nothing to cut") };
    assert_eq!((cut.end, cut.sound_batches), (Offset(18), 3));
    fs::remove_file(directory.path().join("t-0/checkpoint")).unwrap();
    assert!(matches!(plan(directory.path()), RepairPlan::Unprovable { reason, .. } if reason.contains("checkpoint")));
}

#[test]
fn a_directory_that_is_no_partition_is_an_error() {
    let directory = quick_directory();
    assert!(PartitionFiles::open(directory.path()).is_err());
    assert!(PartitionFiles::all(&directory.path().join("nowhere")).is_err());
    assert!(Repair::lock(&directory.path().join("nowhere")).is_err());
    assert!(!directory.path().join("nowhere").exists());
    assert_eq!(PartitionFiles::all(directory.path()).unwrap().len(), 0);
    let _: PartitionName = name("t", 0);
}

#[test]
fn a_compacted_log_is_sound_and_its_empty_batches_are_no_damage() {
    let directory = quick_directory();
    let (log, _) = LogDir::open(directory.path(), eager()).unwrap();
    let partition = create(&log, "t", SMALL);
    for tag in 0..100 {
        partition.append(&mut batch(3, tag, 80)).unwrap();
    }
    partition.flush().unwrap();
    let options = CleanOptions {
        upto: partition.end_offset(),
        now_ms: i64::MAX / 2,
        delete_retention_ms: 0,
        min_compaction_lag_ms: 0,
        key_map_bytes_max: 1 << 20,
        unpacked_bytes_max: 1 << 20,
        io_bytes_per_second: 0,
        is_producer_end: &|_| false,
        should_stop: &|| false,
    };
    partition.compact(&options).unwrap();
    let report = check(directory.path());
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.end, Offset(300));
    assert!(report.records < 300, "nothing was compacted");
    let before = partition.delete_records(Offset(200)).unwrap();
    assert_eq!((before, look(directory.path()).log_start_offset()), (Offset(200), Offset(200)));
    assert!(check(directory.path()).is_sound());
    log.shutdown().unwrap();
    assert!(check(directory.path()).is_sound());
}

#[test]
fn an_unfinished_replacement_is_reported_as_no_loss() {
    let directory = quick_directory();
    closed(directory.path(), 120);
    let whole = check(directory.path());
    let files = look(directory.path());
    let segment = |base: Offset, suffix: &str| files.directory.join(format!("{:020}.{suffix}", base.0));
    let run: Vec<Offset> = files.segments[1..4].to_vec();
    let compacted: Vec<u8> = run.iter().flat_map(|base| fs::read(segment(*base, "log")).unwrap()).collect();
    let swap = files.directory.join(format!("{:020}-{:020}.swap", run[0].0, files.segments[4].0));
    // The `.swap` file counts as soon as it exists: none, some, or all of the replaced files may be gone.
    fs::write(&swap, compacted).unwrap();
    for base in [None, Some(run[1]), Some(run[2])] {
        if let Some(base) = base {
            fs::remove_file(segment(base, "log")).unwrap();
            fs::remove_file(segment(base, "index")).unwrap();
        }
        let report = check(directory.path());
        assert!(report.is_sound(), "{:?}", report.problems);
        assert_eq!((report.records, report.bytes, report.end), (whole.records, whole.bytes, whole.end));
        assert_eq!(report.segments, whole.segments - 2);
        let usage = PartitionUsage::of(&look(directory.path())).unwrap();
        assert_eq!((usage.data_bytes, usage.segments), (report.bytes, report.segments as u64));
    }
    // Damage in it is reported with its offsets.
    flip(&swap, 200);
    assert!(matches!(check(directory.path()).problems[..], [Problem::Damaged { segment, .. }] if segment == run[0]));
    flip(&swap, 200);
    let (log, report) = open(directory.path());
    assert!(report.quarantined.is_empty(), "{report}");
    assert_eq!(log.partition(&name("t", 0)).unwrap().end_offset(), whole.end);
}
