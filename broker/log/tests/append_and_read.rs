//! Reads return what was appended: offsets, bytes, ranges, rolls.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ottla_log::{AppendError, Durability, LocateError, Offset, PartitionOptions};
use ottla_wire::record::batches;
use support::{batch, create, name, open, read_all, tags, wait_durable};
use uuid::Uuid;

#[test]
fn appended_batches_are_read_back_byte_for_byte_across_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..3 {
        let (log, report) = open(directory.path());
        assert_eq!((report.clean, report.partitions_scanned), (true, 0), "round {round}");
        let options = PartitionOptions { segment_bytes: 16 << 10, ..PartitionOptions::default() };
        let partition = log.partition(&name("t", 0)).unwrap_or_else(|| create(&log, "t", options));
        assert_eq!(read_all(&partition), expected);
        for tag in 0..40 {
            let mut bytes = batch(3, round * 100 + tag, 300);
            let appended = partition.append(&mut bytes).unwrap();
            assert_eq!(appended.last_offset.0, appended.base_offset.0 + 2);
            expected.extend(bytes);
        }
        assert_eq!(partition.end_offset(), Offset((round as i64 + 1) * 120));
        assert_eq!(read_all(&partition), expected);
        wait_durable(&partition, partition.end_offset());
        log.shutdown().unwrap();
        assert!(matches!(partition.append(&mut batch(1, 0, 10)), Err(AppendError::Closed)));
    }
    let offsets: Vec<_> = tags(&expected).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, (0..120).map(|at| at * 3).collect::<Vec<_>>());
    let segments = std::fs::read_dir(directory.path().join("t-0")).unwrap().flatten();
    let segments = segments.filter(|entry| entry.path().extension().is_some_and(|it| it == "log")).count();
    assert!(segments > 5, "{segments}");
}

#[test]
fn ranges_hold_whole_batches_and_end_at_the_watermark() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let options = PartitionOptions { segment_bytes: 100 << 10, ..PartitionOptions::default() };
    let partition = create(&log, "t", options);
    let mut sizes = Vec::new();
    for tag in 0..300 {
        let mut bytes = batch(1 + tag as usize % 4, tag, 50 + (tag as usize * 37) % 2000);
        sizes.push((partition.append(&mut bytes).unwrap(), bytes.len()));
    }
    let end = partition.end_offset();
    for (appended, bytes) in &sizes {
        for offset in appended.base_offset.0..appended.end_offset.0 {
            for max_bytes in [0, 1, 500, 5_000, 50_000, u32::MAX] {
                for upto in [appended.end_offset, Offset((appended.end_offset.0 + 30).min(end.0)), end] {
                    let range = partition.locate(Offset(offset), max_bytes, upto).unwrap().unwrap();
                    assert_eq!(range.base_offset, appended.base_offset);
                    assert_eq!(
                        (range.position, range.segment.base_offset()),
                        (appended.position, appended.segment_base)
                    );
                    assert!(range.next_offset <= upto && range.bytes as usize >= *bytes);
                    assert!(range.bytes as usize == *bytes || range.bytes <= max_bytes);
                    let next = sizes.iter().find(|(next, _)| next.base_offset == range.next_offset);
                    if let Some((next, next_bytes)) = next {
                        // The range ends only at the watermark, the end of the segment or the limit.
                        assert!(
                            next.end_offset > upto
                                || next.segment_base != appended.segment_base
                                || u64::from(range.bytes) + *next_bytes as u64 > u64::from(max_bytes)
                        );
                    }
                }
            }
            // A batch is visible completely or not at all.
            if appended.end_offset.0 > offset + 1 {
                assert!(partition.locate(Offset(offset), 1, Offset(offset + 1)).unwrap().is_none());
            }
        }
    }
    assert!(partition.locate(end, 1, end).unwrap().is_none());
    assert!(matches!(partition.locate(Offset(end.0 + 1), 1, end), Err(LocateError::OutOfRange { .. })));
    assert!(matches!(partition.locate(Offset(-1), 1, end), Err(LocateError::OutOfRange { .. })));
}

#[test]
fn mapped_slices_hold_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", PartitionOptions::default());
    let mut expected = Vec::new();
    for tag in 0..200 {
        let mut bytes = batch(2, tag, 5000);
        partition.append(&mut bytes).unwrap();
        expected.extend(bytes);
        let range = partition.locate(Offset(0), u32::MAX, partition.end_offset()).unwrap().unwrap();
        let slice = range.segment.slice(range.position, range.bytes as usize).unwrap();
        assert_eq!(slice.as_ref(), expected);
        assert!(range.segment.slice(range.position, range.bytes as usize + 1).is_none());
        assert_eq!(range.segment.cold_bytes(0, u64::from(range.bytes)), Some(0));
    }
}

#[test]
fn buffers_of_one_append_lie_next_to_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", PartitionOptions::default());
    let mut buffers: Vec<Vec<u8>> = (0..50).map(|tag| [batch(2, tag, 100), batch(1, tag, 10)].concat()).collect();
    let mut pieces: Vec<&mut [u8]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
    let appended = partition.append_gathered(&mut pieces).unwrap();
    assert_eq!((appended.base_offset, appended.end_offset, appended.batches), (Offset(0), Offset(150), 100));
    assert_eq!(read_all(&partition), buffers.concat());
    for (at, buffer) in buffers.iter().enumerate() {
        let first = batches(buffer).next().unwrap().unwrap().header;
        assert_eq!(first.base_offset, Offset(at as i64 * 3));
        assert_eq!(first.partition_leader_epoch, partition.leader_epoch());
    }
}

#[test]
fn malformed_appends_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", PartitionOptions::default());
    let good = batch(1, 1, 100);
    let mut cut = [good.clone(), good[..good.len() - 1].to_vec()].concat();
    assert!(matches!(partition.append(&mut cut), Err(AppendError::Malformed { position }) if position == good.len()));
    assert!(matches!(partition.append(&mut []), Err(AppendError::Malformed { position: 0 })));
    let mut old = good.clone();
    old[16] = 1;
    assert!(matches!(partition.append(&mut old), Err(AppendError::Malformed { position: 0 })));
    assert_eq!(partition.end_offset(), Offset(0));
    partition.append(&mut good.clone()).unwrap();
    assert_eq!(tags(&read_all(&partition)), [(0, 1)]);
}

#[test]
fn page_cache_partitions_show_records_at_once_and_fsync_partitions_when_durable() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let options = PartitionOptions { durability: Durability::PageCache, ..PartitionOptions::default() };
    let quick = create(&log, "quick", options);
    let safe = create(&log, "safe", PartitionOptions::default());
    let seen = Arc::new(AtomicI64::new(0));
    let told = Arc::clone(&seen);
    safe.on_advance(Box::new(move |offset| assert!(told.swap(offset.0, Ordering::SeqCst) < offset.0)));
    for tag in 0..20 {
        let end = quick.append(&mut batch(1, tag, 10)).unwrap().end_offset;
        assert_eq!(quick.high_watermark(), end);
        safe.append(&mut batch(1, tag, 10)).unwrap();
        assert!(safe.high_watermark() <= safe.end_offset());
    }
    assert_eq!(quick.durable_offset(), Offset(0));
    while seen.load(Ordering::SeqCst) < 20 {
        std::thread::yield_now();
    }
    assert_eq!((safe.high_watermark(), safe.durable_offset()), (Offset(20), Offset(20)));
    let strict = PartitionOptions { durability: Durability::Fsync, ..options };
    quick.set_options(strict).unwrap();
    assert_eq!((quick.durable_offset(), quick.options()), (Offset(20), strict));
}

#[test]
fn partitions_are_created_and_deleted_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let partition = create(&log, "t", PartitionOptions::default());
    assert!(log.create_partition(&name("t", 0), Uuid::nil(), PartitionOptions::default()).is_err());
    partition.append(&mut batch(1, 1, 100)).unwrap();
    let range = partition.locate(Offset(0), 1, Offset(1)).unwrap().unwrap();
    log.delete_partition(&name("t", 0)).unwrap();
    assert!(log.delete_partition(&name("t", 0)).is_err());
    assert!(log.partition(&name("t", 0)).is_none());
    assert!(matches!(partition.append(&mut batch(1, 1, 100)), Err(AppendError::Deleted)));
    // A reader can finish with the range that it holds.
    let mut bytes = vec![0; range.bytes as usize];
    range.segment.read_exact_at(range.position, &mut bytes).unwrap();
    assert_eq!(tags(&bytes), [(0, 1)]);
    let again = log.create_partition(&name("t", 0), Uuid::from_u128(8), PartitionOptions::default()).unwrap();
    assert_eq!((again.end_offset(), again.topic_id()), (Offset(0), Uuid::from_u128(8)));
    log.shutdown().unwrap();
    let (log, report) = open(directory.path());
    assert_eq!((report.partitions, report.clean), (1, true));
    assert_eq!(log.partitions()[0].topic_id(), Uuid::from_u128(8));
}

#[test]
fn appended_bytes_include_those_of_deleted_partitions() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let gone = create(&log, "gone", PartitionOptions::default());
    let kept = create(&log, "kept", PartitionOptions::default());
    let bytes = gone.append(&mut batch(3, 1, 100)).unwrap().bytes + kept.append(&mut batch(3, 2, 100)).unwrap().bytes;
    assert_eq!(log.appended_bytes(), bytes);
    log.delete_partition(&name("gone", 0)).unwrap();
    assert_eq!(log.appended_bytes(), bytes);
}
