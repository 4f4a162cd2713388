//! The journal: entries come back in order and complete, a torn end is cut off, damage is reported.

mod support;

use std::fs;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_log::{Journal, JournalOpenError};

fn payload(at: u64) -> Vec<u8> {
    (0..(at * 37) % 300).map(|byte| (byte * at) as u8).collect()
}

fn append(journal: &Journal, at: u64) {
    let payload = payload(at);
    let (head, tail) = payload.split_at(payload.len() / 2);
    let position = journal.append(&[IoSlice::new(head), IoSlice::new(tail)]).unwrap();
    assert_eq!(position.sequence, at);
}

fn entries(directory: &Path) -> Vec<(u64, Vec<u8>)> {
    let (_, entries) = Journal::open(directory).unwrap();
    entries.map(|entry| entry.unwrap()).map(|entry| (entry.position.sequence, entry.payload)).collect()
}

fn expected(range: std::ops::Range<u64>) -> Vec<(u64, Vec<u8>)> {
    range.map(|at| (at, payload(at))).collect()
}

fn only_file(directory: &Path) -> PathBuf {
    fs::read_dir(directory).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn entries_come_back_in_order_across_restarts() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let (journal, before) = Journal::open(directory.path()).unwrap();
        assert_eq!(before.count() as u64, round * 50);
        for at in round * 50..(round + 1) * 50 {
            append(&journal, at);
            if at % 7 == 0 {
                assert_eq!(journal.sync().unwrap(), at + 1);
            }
        }
    }
    assert_eq!(entries(directory.path()), expected(0..200));
}

#[test]
fn torn_tail_is_cut_at_every_length() {
    let directory = support::quick_directory();
    let mut ends = vec![0];
    {
        let (journal, _) = Journal::open(directory.path()).unwrap();
        for at in 0..30 {
            append(&journal, at);
            ends.push(journal.end().offset);
        }
    }
    let path = only_file(directory.path());
    let whole = fs::read(&path).unwrap();
    for length in (0..=whole.len()).rev() {
        for filler in [None, Some(0), Some(0xFF)] {
            let mut image = whole[..length].to_vec();
            if let Some(filler) = filler {
                image.resize(whole.len() + 100, filler);
            }
            fs::write(&path, &image).unwrap();
            let sound = ends.iter().filter(|end| **end <= length as u64).count() as u64 - 1;
            let found = Journal::open(directory.path()).unwrap();
            assert_eq!(found.0.report().entries, sound, "length {length}");
            assert_eq!(fs::metadata(&path).unwrap().len(), ends[sound as usize]);
            if length % 50 == 0 {
                assert_eq!(found.1.map(|it| it.unwrap().payload).collect::<Vec<_>>().len() as u64, sound);
                append(&found.0, sound);
                drop(found.0);
                assert_eq!(entries(directory.path()), expected(0..sound + 1));
            }
        }
    }
}

#[test]
fn damage_below_the_durable_end_is_reported_and_nothing_is_cut() {
    let directory = support::quick_directory();
    let mut ends = Vec::new();
    {
        let (journal, _) = Journal::open(directory.path()).unwrap();
        for at in 0..20 {
            append(&journal, at);
            ends.push(journal.end().offset);
        }
        journal.sync().unwrap();
    }
    let path = only_file(directory.path());
    let whole = fs::read(&path).unwrap();
    for at in 0..ends[19] as usize {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(&path, &damaged).unwrap();
        let sequence = ends.iter().position(|end| (at as u64) < *end).unwrap() as u64;
        match Journal::open(directory.path()) {
            Err(JournalOpenError::Corrupt { sequence: found, .. }) => assert_eq!(found, sequence),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(entries(directory.path()), expected(0..20));
}

#[test]
fn hole_in_an_unsynced_tail_is_a_torn_tail() {
    // A power cut may keep a later page and lose an earlier one: neither entry was acknowledged.
    let directory = tempfile::tempdir().unwrap();
    let (mut hole, mut synced) = (0, 0);
    {
        let (journal, _) = Journal::open(directory.path()).unwrap();
        for at in 0..20 {
            append(&journal, at);
            if at == 9 {
                journal.sync().unwrap();
                synced = journal.end().offset;
            }
            if at == 12 {
                hole = journal.end().offset;
            }
        }
    }
    let path = only_file(directory.path());
    let mut image = fs::read(&path).unwrap();
    image[synced as usize + 3..hole as usize].fill(0);
    fs::write(&path, &image).unwrap();
    assert_eq!(entries(directory.path()), expected(0..10));
}

#[test]
fn files_roll_and_are_removed_from_the_front() {
    let directory = tempfile::tempdir().unwrap();
    let big = vec![7; 10 << 20];
    {
        let (journal, _) = Journal::open(directory.path()).unwrap();
        let positions: Vec<_> = (0..20).map(|_| journal.append(&[IoSlice::new(&big)]).unwrap()).collect();
        assert_eq!(positions[5].segment, 0);
        assert_eq!((positions[6].segment, positions[6].offset), (6, 0));
        assert_eq!(journal.sync().unwrap(), 20);
        assert_eq!(journal.remove_before(positions[12].segment).unwrap(), 2);
        let fresh = journal.start_segment().unwrap();
        assert_eq!((fresh, journal.start_segment().unwrap()), (20, 20));
    }
    let sequences: Vec<_> = entries(directory.path()).into_iter().map(|(sequence, _)| sequence).collect();
    assert_eq!(sequences, (12..20).collect::<Vec<_>>());
    let (journal, _) = Journal::open(directory.path()).unwrap();
    assert_eq!(journal.remove_before(u64::MAX).unwrap(), 2);
    assert_eq!(journal.append(&[IoSlice::new(b"x")]).unwrap().sequence, 20);
    drop(journal);
    assert_eq!(entries(directory.path()), [(20, b"x".to_vec())]);
    // A file that is missing between durable ones is damage too.
    let (journal, _) = Journal::open(directory.path()).unwrap();
    for _ in 0..2 {
        journal.append(&[IoSlice::new(b"y")]).unwrap();
        journal.sync().unwrap();
        journal.start_segment().unwrap();
    }
    journal.sync().unwrap();
    drop(journal);
    fs::remove_file(directory.path().join("00000000000000000022.journal")).unwrap();
    assert!(matches!(Journal::open(directory.path()), Err(JournalOpenError::Corrupt { sequence: 22, .. })));
}

#[test]
fn appends_from_many_threads_are_each_durable_once_the_sequence_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path()).unwrap();
    let journal = Arc::new(journal);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                journal.sync().unwrap();
            }
        });
        let appenders: Vec<_> = (0..4_u64)
            .map(|thread| {
                let journal = &journal;
                scope.spawn(move || {
                    for at in 0..25_u64 {
                        let position = journal.append(&[IoSlice::new(&[thread as u8, at as u8])]).unwrap();
                        while journal.durable_sequence() <= position.sequence {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        for appender in appenders {
            appender.join().unwrap();
        }
        stop.store(true, Ordering::Release);
        syncing.join().unwrap();
    });
    drop(journal);
    let mut next = [0; 4];
    for (_, payload) in entries(directory.path()) {
        assert_eq!(payload[1], next[payload[0] as usize]);
        next[payload[0] as usize] += 1;
    }
    assert_eq!(next, [25; 4]);
}
