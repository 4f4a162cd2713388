//! Many threads at once: offsets have no gap, the durable offset is never ahead, listeners see it rise.

mod support;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_log::{Durability, LocateError, Offset, PartitionOptions};
use ottla_wire::record::batches;
use support::{batch, create, name, open, read_all, tags};
use uuid::Uuid;

/// Stops the reader if an appending thread fails the test.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn offsets_are_dense_and_watermarks_rise_under_many_appenders() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    for durability in [Durability::Fsync, Durability::PageCache] {
        let options = PartitionOptions { durability, segment_bytes: 60_000, ..PartitionOptions::default() };
        let partition = log.create_partition(&name(&format!("{durability:?}"), 0), Uuid::nil(), options).unwrap();
        let told = Arc::new(Mutex::new(vec![0]));
        let (listener, watched) = (Arc::clone(&told), Arc::downgrade(&partition));
        partition.on_advance(Box::new(move |offset| {
            listener.lock().unwrap().push(offset.0);
            let partition = watched.upgrade().unwrap();
            assert!(offset <= partition.end_offset());
            if durability == Durability::Fsync {
                assert!(offset <= partition.durable_offset());
            }
        }));
        let stop = AtomicBool::new(false);
        let mut appended: Vec<(i64, i64)> = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                // A consumer at the end of the log sees whole batches below the watermark, without gaps.
                let mut next = Offset(0);
                loop {
                    let stopped = stop.load(Ordering::Acquire);
                    let watermark = partition.high_watermark();
                    match partition.read_batches(next, 20_000, watermark) {
                        Ok(Some((bytes, range))) => {
                            assert!(range.base_offset == next && range.next_offset <= watermark);
                            assert!(batches(&bytes).all(|batch| batch.unwrap().check_crc().is_ok()));
                            next = range.next_offset;
                        }
                        Ok(None) if stopped => break assert_eq!(next, partition.end_offset()),
                        Ok(None) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            let _guard = StopOnDrop(&stop);
            let appenders: Vec<_> = (0..8)
                .map(|thread| {
                    let partition = &partition;
                    scope.spawn(move || {
                        let mut mine = Vec::new();
                        for at in 0..150 {
                            let mut bytes = batch(1 + at % 4, thread * 1000 + at as u64, 60 + at);
                            let appended = partition.append(&mut bytes).unwrap();
                            assert!(partition.durable_offset() <= partition.end_offset());
                            assert!(partition.high_watermark() <= partition.end_offset());
                            mine.push((appended.base_offset.0, appended.end_offset.0));
                        }
                        mine
                    })
                })
                .collect();
            let appended = appenders.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            partition.flush().unwrap();
            stop.store(true, Ordering::Release);
            reader.join().unwrap();
            appended
        });
        appended.sort_unstable();
        assert_eq!(appended[0].0, 0);
        assert!(appended.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert_eq!(partition.end_offset().0, appended.last().unwrap().1);
        assert_eq!(partition.durable_offset(), partition.end_offset());
        assert!(told.lock().unwrap().windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(*told.lock().unwrap().last().unwrap(), partition.end_offset().0);
        let found: Vec<_> = tags(&read_all(&partition)).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(found, appended.iter().map(|(base, _)| *base).collect::<Vec<_>>());
    }
    log.shutdown().unwrap();
    let (log, report) = open(directory.path());
    assert!(report.clean && report.partitions_scanned == 0);
    for partition in log.partitions() {
        assert_eq!(tags(&read_all(&partition)).len(), 1200);
    }
}

#[test]
fn partitions_flush_in_parallel() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let partitions: Vec<_> = (0..40)
        .map(|index| log.create_partition(&name("t", index), Uuid::nil(), PartitionOptions::default()).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for chunk in partitions.chunks(5) {
            scope.spawn(move || {
                for at in 0..20 {
                    for partition in chunk {
                        let end = partition.append(&mut batch(1, at, 50)).unwrap().end_offset;
                        support::wait_durable(partition, end);
                    }
                }
            });
        }
    });
    assert!(partitions.iter().all(|partition| partition.high_watermark() == Offset(20)));
}

#[test]
fn deletion_and_recreation_race_with_appends_and_reads() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let stop = AtomicBool::new(false);
    let current = Mutex::new(create(&log, "t", PartitionOptions::default()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    let partition = current.lock().unwrap().clone();
                    let mut bytes = batch(1, u64::from(partition.topic_id().as_u128() as u32), 100);
                    if partition.append(&mut bytes).is_err() {
                        assert!(partition.is_deleted());
                        continue;
                    }
                    match partition.read_batches(Offset(0), 1, partition.end_offset()) {
                        Ok(Some((bytes, _))) => {
                            // A read never returns bytes of another partition with the same name.
                            let expected = u64::from(partition.topic_id().as_u128() as u32);
                            assert!(tags(&bytes).iter().all(|(_, tag)| *tag == expected));
                        }
                        Ok(None) => panic!("an append is there"),
                        Err(LocateError::Io { .. }) => assert!(partition.is_deleted()),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for round in 0..15 {
            log.delete_partition(&name("t", 0)).unwrap();
            let options = PartitionOptions::default();
            let next = log.create_partition(&name("t", 0), Uuid::from_u128(100 + round), options).unwrap();
            *current.lock().unwrap() = next;
        }
        stop.store(true, Ordering::Release);
    });
    log.shutdown().unwrap();
    let (log, report) = open(directory.path());
    assert!(report.clean && log.offline_reason().is_none());
    assert_eq!(log.partitions()[0].topic_id(), Uuid::from_u128(114));
}
