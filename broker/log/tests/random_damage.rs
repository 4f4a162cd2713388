//! With any bytes on the disk, a start ends with a log that keeps its promises.

mod support;

use std::fs;
use std::ops::Range;

use ottla_log::{LocateError, LogDir, LogOptions, Offset, PartitionLog, PartitionOptions};
use ottla_wire::record::BatchHeader;
use proptest::prelude::*;
use support::{batch, create, eager, name, quick_directory};

/// Damage to a file of a closed log.
#[derive(Clone, Debug)]
enum Damage {
    Flip { at: prop::sample::Index, mask: u8 },
    Fill { at: prop::sample::Index, bytes: usize, with: u8 },
    Cut { at: prop::sample::Index },
    Grow { bytes: usize, with: u8 },
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 1..=255_u8).prop_map(|(at, mask)| Damage::Flip { at, mask }),
        2 => (any::<prop::sample::Index>(), 1..600_usize, prop_oneof![Just(0), any::<u8>()])
            .prop_map(|(at, bytes, with)| Damage::Fill { at, bytes, with }),
        1 => any::<prop::sample::Index>().prop_map(|at| Damage::Cut { at }),
        1 => (1..600_usize, any::<u8>()).prop_map(|(bytes, with)| Damage::Grow { bytes, with }),
    ]
}

/// Applies the damage; returns the range of changed bytes.
fn apply(damage: &Damage, bytes: &mut Vec<u8>) -> Range<usize> {
    let length = bytes.len();
    match damage {
        Damage::Flip { at, mask } => {
            let at = at.index(length);
            bytes[at] ^= mask;
            at..at + 1
        }
        Damage::Fill { at, bytes: count, with } => {
            let at = at.index(length);
            let end = (at + count).min(length);
            bytes[at..end].fill(*with);
            at..end
        }
        Damage::Cut { at } => {
            bytes.truncate(at.index(length).max(1));
            bytes.len()..length
        }
        Damage::Grow { bytes: count, with } => {
            bytes.resize(length + count, *with);
            length..length
        }
    }
}

/// Reads every offset of every batch: the bytes are as written, or the read is refused. Returns which batches were
/// served.
fn served(partition: &PartitionLog, batches: &[Vec<u8>]) -> Vec<bool> {
    let (mut next, end) = (0, partition.end_offset());
    let mut served = Vec::new();
    for batch in batches {
        let count = i64::from(BatchHeader::parse(batch).unwrap().last_offset_delta) + 1;
        let answers: Vec<bool> = (next..(next + count).min(end.0))
            .map(|offset| match partition.read_batches(Offset(offset), 1, end) {
                Ok(Some((bytes, range))) => {
                    assert_eq!((&bytes, range.base_offset.0), (batch, next));
                    true
                }
                Ok(None) => panic!("{offset} is below the end"),
                Err(LocateError::Corrupt { from, to }) => {
                    assert!(from.0 <= offset && offset < to.0);
                    false
                }
                Err(error) => panic!("{error}"),
            })
            .collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        served.push(answers.first().copied().unwrap_or(false));
        next += count;
    }
    served
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_damage_costs_only_what_it_hits(
        sizes in prop::collection::vec((1..4_usize, 1..400_usize), 2..14),
        durable in any::<prop::sample::Index>(),
        damages in prop::collection::vec(damage(), 1..4),
        keep_indexes in any::<bool>(),
    ) {
        let directory = quick_directory();
        let durable = durable.index(sizes.len() + 1);
        let mut batches: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(tag, (records, bytes))| batch(*records, tag as u64, *bytes)).collect();
        let checkpoint = {
            let (log, _) = LogDir::open(directory.path(), eager()).unwrap();
            let partition = create(&log, "t", PartitionOptions::default());
            for batch in &mut batches[..durable] {
                partition.append(batch).unwrap();
            }
            partition.flush().unwrap();
            let checkpoint = fs::read(directory.path().join("t-0/checkpoint")).ok();
            for batch in &mut batches[durable..] {
                partition.append(batch).unwrap();
            }
            checkpoint
        };
        if let Some(checkpoint) = checkpoint {
            fs::write(directory.path().join("t-0/checkpoint"), checkpoint).unwrap();
        } else {
            let _ = fs::remove_file(directory.path().join("t-0/checkpoint"));
        }
        let segment = directory.path().join("t-0/00000000000000000000.log");
        let written = batches.concat();
        let mut bytes = fs::read(&segment).unwrap();
        bytes.truncate(written.len());
        for damage in &damages {
            apply(damage, &mut bytes);
        }
        fs::write(&segment, &bytes).unwrap();

        // A batch is intact if its bytes are unchanged and in place.
        let ends: Vec<usize> = batches.iter().scan(0, |end, it| { *end += it.len(); Some(*end) }).collect();
        let intact: Vec<bool> = batches.iter().zip(&ends)
            .map(|(batch, end)| bytes.get(end - batch.len()..*end) == Some(batch.as_slice())).collect();
        let sound = intact.iter().take_while(|it| **it).count();

        let (log, report) = LogDir::open(directory.path(), LogOptions::default()).unwrap();
        let partition = log.partition(&name("t", 0)).unwrap();
        let first = served(&partition, &batches);
        for (at, intact) in intact.iter().enumerate() {
            if at < durable {
                // Below the durable offset exactly the damaged batches are lost.
                prop_assert_eq!(first[at], *intact, "batch {} of {}", at, durable);
            } else if at >= sound && sound >= durable {
                prop_assert!(!first[at], "batch {} behind a torn one at {}", at, sound);
            }
        }
        prop_assert!(report.quarantined.is_empty() == intact[..durable].iter().all(|it| *it));
        let mut more = batch(1, 500, 100);
        let position = partition.append(&mut more).unwrap().base_offset;
        prop_assert_eq!(partition.end_offset().0, position.0 + 1);
        partition.flush().unwrap();
        if keep_indexes {
            log.shutdown().unwrap();
        } else {
            drop(log);
        }
        let (log, _) = LogDir::open(directory.path(), LogOptions::default()).unwrap();
        let partition = log.partition(&name("t", 0)).unwrap();
        let kept: Vec<Vec<u8>> = batches.iter().take(first.len()).cloned().collect();
        let second = served(&partition, &kept[..first.iter().rposition(|it| *it).map_or(0, |at| at + 1)]);
        prop_assert!(second.iter().zip(&first).all(|(a, b)| a == b));
        let (bytes, _) = partition.read_batches(position, 1, partition.end_offset()).unwrap().unwrap();
        prop_assert_eq!(bytes, more);
    }
}
