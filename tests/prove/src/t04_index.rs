//! T4: the index is never evidence. With any bytes in its files, every answer is that of a full scan.

use std::path::{Path, PathBuf};

use ottla_log::{Offset, PartitionOptions};

use crate::content::{Entry, Identity, batch, entries, first_batch};
use crate::image::{Image, open, partition, quick_directory, read_all, settle};
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;

/// Large enough for the active segment to leave an index file, too.
const SEGMENT_BYTES: u64 = 300 << 10;
const LOG_BYTES: usize = 900 << 10;
/// Cases that share one log.
const ROUND: u64 = 100;
const QUERIES: usize = 12;
/// Bytes of an index file before its entries, and of an entry.
const HEAD_BYTES: usize = 48;
const ENTRY_BYTES: usize = 16;

/// A log at rest, and everything it can be asked.
struct Truth {
    image: Image,
    bytes: Vec<u8>,
    /// Where each batch begins, its offsets.
    batches: Vec<(usize, i64, i64)>,
    records: Vec<Entry>,
    indexes: Vec<PathBuf>,
}

pub(crate) fn run(setting: &Setting) -> Outcome {
    let mut outcome = Outcome::default();
    let directory = quick_directory();
    setting.each(&mut outcome, ROUND, |seed, cases, outcome| {
        let mut random = Seed::new(seed);
        let truth = Truth::new(&mut random);
        for case in 1..=cases {
            truth.image.restore(directory.path());
            let done = truth.damage(directory.path(), &mut random);
            outcome.cases += 1;
            if let Err(wrong) = truth.ask(directory.path(), &mut random) {
                outcome.violation(seed, case, format!("{done}: {wrong}"));
                if setting.is_decided(outcome) {
                    break;
                }
            }
        }
    });
    outcome
}

impl Truth {
    fn new(random: &mut Seed) -> Truth {
        let directory = quick_directory();
        let (mut bytes, mut batches, mut records) = (Vec::new(), Vec::new(), Vec::new());
        let log = open(directory.path());
        let options = PartitionOptions {
            segment_bytes: SEGMENT_BYTES,
            index_interval_bytes: *random.pick(&[256, 1024, 4096]),
            ..PartitionOptions::default()
        };
        let partition = partition(&log, options);
        let mut number = 0;
        while bytes.len() < LOG_BYTES {
            let count = 1 + random.within(0..5) as u32;
            // Rising as a whole, not from batch to batch; no two records have the same one.
            let timestamp = 1_000_000 + (number as i64) * 16 + random.within(0..40) as i64 * 16_000;
            let mut made = batch(Identity { tag: 1, number }, count, *random.pick(&[10, 200, 3_000]), timestamp, None);
            number += u64::from(count);
            partition.append(&mut made).expect("an append");
            let raw = first_batch(&made).expect("a batch");
            batches.push((bytes.len(), raw.base_offset, raw.last_offset));
            records.extend(entries(&raw).expect("records"));
            bytes.extend_from_slice(&made);
        }
        settle(&partition);
        drop(partition);
        log.shutdown().expect("a clean end");
        let image = Image::of(directory.path());
        let indexes: Vec<_> =
            image.files.keys().filter(|path| path.extension().is_some_and(|it| it == "index")).cloned().collect();
        assert!(indexes.len() >= 3, "only {} index files", indexes.len());
        Truth { image, bytes, batches, records, indexes }
    }

    /// Does something to one or several index files; says what.
    fn damage(&self, directory: &Path, random: &mut Seed) -> String {
        let mut done = Vec::new();
        for _ in 0..=random.within(0..3) {
            let which = random.pick(&self.indexes);
            let path = directory.join(which);
            let whole = &self.image.files[which];
            let other = &self.image.files[random.pick(&self.indexes)];
            let (name, bytes) = match random.within(0..10) {
                0 => ("deleted", None),
                1 => ("zeroed", Some(vec![0; whole.len()])),
                2 => ("empty", Some(Vec::new())),
                3 => {
                    let mut noise = vec![0; whole.len()];
                    random.fill(&mut noise);
                    ("random", Some(noise))
                }
                4 => {
                    let mut bytes = whole.clone();
                    let at = random.within(0..bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << random.within(0..8);
                    ("one bit", Some(bytes))
                }
                5 => ("cut off", Some(whole[..random.within(0..whole.len() as u64) as usize].to_vec())),
                6 => ("of another segment", Some(other.clone())),
                7 => ("of another segment under this one's offset", Some(resealed(whole, other))),
                8 => ("of a longer segment", Some(longer(whole, random))),
                _ => ("with entries that lead elsewhere", Some(self.lying(whole, random))),
            };
            match bytes {
                None => std::fs::remove_file(&path).unwrap_or_default(),
                Some(bytes) => std::fs::write(&path, bytes).expect("a file to write"),
            }
            done.push(format!("{} {name}", which.display()));
        }
        done.join(", ")
    }

    /// An index whose CRC holds and whose entries name positions of other batches.
    fn lying(&self, whole: &[u8], random: &mut Seed) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        let entries = u32::from_be_bytes(*whole[40..].first_chunk().expect("a count")) as usize;
        if entries < 3 {
            return bytes;
        }
        // Rising, so that it looks like an index: entries get the place of the batch behind theirs, all
        // of them or some.
        let base = i64::from_be_bytes(*whole[8..].first_chunk().expect("a base"));
        let begins = self.batches.iter().find(|(_, first, _)| *first == base).map_or(0, |(at, _, _)| *at);
        let some = random.one_in(2);
        for entry in 1..entries - 1 {
            if some && !random.one_in(8) {
                continue;
            }
            let at = HEAD_BYTES + entry * ENTRY_BYTES + 4;
            let position = |at: usize| u32::from_be_bytes(*bytes[at..].first_chunk().expect("a position")) as usize;
            let (old, next) = (position(at) + begins, position(at + ENTRY_BYTES) + begins);
            let behind = self.batches.partition_point(|(at, ..)| *at <= old);
            if let Some((place, ..)) = self.batches.get(behind).filter(|(place, ..)| !some || *place < next) {
                bytes[at..at + 4].copy_from_slice(&((place - begins) as u32).to_be_bytes());
            }
        }
        reseal(&mut bytes);
        bytes
    }

    /// Asks the opened log and compares with what a scan of everything says.
    fn ask(&self, directory: &Path, random: &mut Seed) -> Result<(), String> {
        let log = open(directory);
        let partition = partition(&log, PartitionOptions::default());
        let end = partition.end_offset();
        let expected_end = self.records.len() as i64;
        if end.0 != expected_end {
            return Err(format!("the log ends at {} instead of {expected_end}", end.0));
        }
        for _ in 0..QUERIES {
            let offset = random.within(0..expected_end as u64) as i64;
            let max_bytes = *random.pick(&[1, 500, 10_000, 1 << 20]);
            let place = self.batches.partition_point(|(_, _, last)| *last < offset);
            let begin = self.batches[place].0;
            match partition.read_batches(Offset(offset), max_bytes, end) {
                Ok(Some((found, _))) if !found.is_empty() && self.bytes[begin..].starts_with(&found) => {}
                Ok(found) => {
                    let bytes = found.map(|(bytes, _)| bytes.len());
                    return Err(format!("{bytes:?} wrong bytes at offset {offset}"));
                }
                Err(error) => return Err(format!("offset {offset}: {error}")),
            }
            let timestamp = random.pick(&self.records).timestamp + random.within(0..3) as i64 - 1;
            let truth = self.records.iter().find(|record| record.timestamp >= timestamp);
            let found = partition.find_by_timestamp(timestamp, end).map_err(|error| format!("{timestamp}: {error}"))?;
            let truth = truth.map(|record| (Offset(record.offset), record.timestamp));
            if found != truth {
                return Err(format!("time {timestamp}: {found:?} instead of {truth:?}"));
            }
        }
        let latest = self.records.iter().map(|record| record.timestamp).max();
        let found = partition.max_timestamp(end).map_err(|error| error.to_string())?;
        if found.map(|(_, timestamp)| timestamp) != latest {
            return Err(format!("the greatest timestamp is {found:?} instead of {latest:?}"));
        }
        if random.one_in(4) && read_all(&partition)? != self.bytes {
            return Err("not every byte is there".to_owned());
        }
        Ok(())
    }
}

/// `other` with the base offset of `whole`, its CRC right.
fn resealed(whole: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = other.to_vec();
    bytes[8..16].copy_from_slice(&whole[8..16]);
    reseal(&mut bytes);
    bytes
}

/// An index that says it ends later, as that of a longer segment would.
fn longer(whole: &[u8], random: &mut Seed) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let by = random.within(1..5_000) as i64;
    for at in [16, 24] {
        let old = i64::from_be_bytes(*bytes[at..].first_chunk().expect("a number"));
        bytes[at..at + 8].copy_from_slice(&(old + by).to_be_bytes());
    }
    reseal(&mut bytes);
    bytes
}

fn reseal(bytes: &mut [u8]) {
    let body = bytes.len() - 4;
    let crc = crc_fast::crc32_iscsi(&bytes[..body]);
    bytes[body..].copy_from_slice(&crc.to_be_bytes());
}
