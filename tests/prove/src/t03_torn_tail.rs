//! T3: every length of the last 64 KiB, every subset of the last eight sectors, tails of zeros and of bytes from another
//! time. What comes back is the longest prefix of whole batches that are all there, the same one each time, and nothing
//! of what was cut returns behind later appends.

use std::path::{Path, PathBuf};

use ottla_log::PartitionOptions;

use crate::content::{Identity, batch, seal};
use crate::image::{Image, PARTITION, open, partition, quick_directory, read_all, settle};
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;

const SECTOR_BYTES: usize = 512;
/// How many of the last sectors may be missing, each for itself.
const TORN_SECTORS: usize = 8;
/// The last so many bytes were on their way when the power went.
const TAIL_BYTES: usize = 64 << 10;
const LENGTHS: u64 = TAIL_BYTES as u64 + 1;
const SUBSETS: u64 = 1 << TORN_SECTORS;
const SEGMENT: &str = "00000000000000000000.log";
const CHECKPOINT: &str = "checkpoint";

/// A log in the moment before its power went.
struct Log {
    image: Image,
    /// Every batch as it was appended.
    batches: Vec<Vec<u8>>,
    /// All of them one after the other.
    bytes: Vec<u8>,
    /// How many of them were durable before the tail was begun.
    durable_bytes: usize,
}

pub(crate) fn run(setting: &Setting) -> Outcome {
    let mut outcome = Outcome::default();
    let lengths = LENGTHS.min((setting.cases * 54 / 100).max(1));
    let logs = ((setting.cases.saturating_sub(lengths)) * 42 / 46 / SUBSETS).max(1);
    let stale = setting.cases.saturating_sub(lengths + logs * SUBSETS).max(1);
    let directory = quick_directory();
    let mut judge = Judge { setting, outcome: &mut outcome, directory: directory.path(), seed: setting.seed };

    let log = Log::new(setting.seed, TAIL_BYTES);
    for step in 0..lengths {
        // The longest and the shortest are always among them.
        let missing = (step * (LENGTHS - 1)).checked_div(lengths - 1).unwrap_or(0) as usize;
        let kept = log.bytes.len() - missing;
        judge.judge(&log, &log.bytes[..kept], || format!("{missing} bytes are missing at the end"));
    }
    for number in 0..logs {
        let seed = Seed::of_case(setting.seed, number);
        let log = Log::new(seed, 2 * TORN_SECTORS * SECTOR_BYTES);
        let mut random = Seed::new(seed);
        judge.seed = seed;
        let other = log.stale(&mut random);
        for lost in 0..SUBSETS {
            let mut bytes = log.bytes.clone();
            let first = bytes.len().div_ceil(SECTOR_BYTES) - TORN_SECTORS;
            for sector in (0..TORN_SECTORS).filter(|sector| lost >> sector & 1 == 1) {
                let begin = (first + sector) * SECTOR_BYTES;
                let end = (begin + SECTOR_BYTES).min(bytes.len());
                if number % 2 == 0 {
                    bytes[begin..end].fill(0);
                } else {
                    bytes[begin..end].copy_from_slice(&other[begin..end]);
                }
            }
            let mut reserved = bytes;
            reserved.resize(reserved.len() + (number as usize % 3) * 4096, 0);
            judge.judge(&log, &reserved, || format!("sectors {lost:08b} of the last {TORN_SECTORS} are missing"));
        }
    }
    for number in 0..stale {
        let seed = Seed::of_case(setting.seed, number);
        let log = if number % 16 == 0 || number == 0 { Log::new(seed, 16 << 10) } else { Log::new(seed, 4 << 10) };
        let mut random = Seed::new(seed);
        judge.seed = seed;
        let other = log.stale(&mut random);
        let cut = random.within(log.durable_bytes as u64..log.bytes.len() as u64) as usize;
        // The end of a batch is where an old one could pass for the next.
        let cut = if number % 2 == 0 { log.end_before(cut) } else { cut };
        let bytes = [&log.bytes[..cut], &other[cut..]].concat();
        judge.judge(&log, &bytes, || format!("bytes of another time from {cut} on"));
    }
    outcome
        .notes
        .push(format!("{lengths} lengths, {logs} logs with {SUBSETS} subsets of sectors, {stale} stale tails"));
    outcome
}

impl Log {
    fn new(seed: u64, tail_bytes: usize) -> Log {
        let mut random = Seed::new(seed);
        let directory = quick_directory();
        let (mut batches, mut bytes) = (Vec::new(), Vec::new());
        let log = open(directory.path());
        let partition = partition(&log, PartitionOptions::default());
        let mut number = 0;
        let mut append = |random: &mut Seed, bytes: &mut Vec<u8>| {
            let (count, filler) = (1 + random.within(0..4) as u32, *random.pick(&[0, 40, 300, 2_000]));
            let mut made = batch(Identity { tag: 1, number }, count, filler, 1_000 + number as i64, None);
            number += u64::from(count);
            partition.append(&mut made).expect("an append");
            bytes.extend_from_slice(&made);
            batches.push(made);
        };
        for _ in 0..5 {
            append(&mut random, &mut bytes);
        }
        settle(&partition);
        // What the durable offset was before the tail was begun: the tail may be gone.
        let checkpoint = std::fs::read(directory.path().join(PARTITION).join(CHECKPOINT)).expect("a checkpoint");
        let durable = bytes.len();
        while bytes.len() < durable + tail_bytes {
            append(&mut random, &mut bytes);
        }
        settle(&partition);
        drop(partition);
        drop(log);
        let mut image = Image::of(directory.path());
        image.files.insert(PathBuf::from(PARTITION).join(CHECKPOINT), checkpoint);
        Log { image, batches, bytes, durable_bytes: durable }
    }

    /// As many bytes as the log has, of an earlier use of the same disk space: batches with other offsets or none.
    fn stale(&self, random: &mut Seed) -> Vec<u8> {
        let mut stale = Vec::new();
        while stale.len() < self.bytes.len() {
            match random.within(0..3) {
                0 => stale.extend_from_slice(random.pick::<Vec<u8>>(&self.batches)),
                1 => {
                    let mut future = random.pick::<Vec<u8>>(&self.batches).clone();
                    future[..8].copy_from_slice(&(1_000_000_i64 + stale.len() as i64).to_be_bytes());
                    stale.extend(future);
                }
                _ => {
                    let mut noise = vec![0; 700];
                    random.fill(&mut noise);
                    stale.extend(noise);
                }
            }
        }
        stale.truncate(self.bytes.len());
        stale
    }

    /// The end of the last batch at or before `position`.
    fn end_before(&self, position: usize) -> usize {
        let ends = self.batches.iter().scan(0, |end, batch| {
            *end += batch.len();
            Some(*end)
        });
        ends.take_while(|end| *end <= position).last().unwrap_or(0)
    }

    /// How many batches stand at the front of `bytes`, whole and as they were.
    fn whole(&self, bytes: &[u8]) -> usize {
        let (mut rest, mut whole) = (bytes, 0);
        while let Some(behind) = self.batches.get(whole).and_then(|batch| rest.strip_prefix(batch.as_slice())) {
            (rest, whole) = (behind, whole + 1);
        }
        whole
    }
}

struct Judge<'a> {
    setting: &'a Setting,
    outcome: &'a mut Outcome,
    directory: &'a Path,
    seed: u64,
}

impl Judge<'_> {
    fn judge(&mut self, log: &Log, segment: &[u8], what: impl Fn() -> String) {
        if self.setting.is_decided(self.outcome) {
            return;
        }
        let mut image = log.image.clone();
        image.files.insert(PathBuf::from(PARTITION).join(SEGMENT), segment.to_vec());
        image.restore(self.directory);
        let whole = log.whole(segment);
        self.outcome.cases += 1;
        if let Err(wrong) = recovered(self.directory, log, whole) {
            let cases = self.setting.cases;
            self.outcome.violation(self.seed, cases, format!("{}: {wrong}", what()));
        }
    }
}

/// Opens the log three times: it is the prefix, it stays the prefix, and what is appended follows it directly.
fn recovered(directory: &Path, log: &Log, whole: usize) -> Result<(), String> {
    let expected = log.batches[..whole].concat();
    let path = directory.join(PARTITION).join(SEGMENT);
    let look = |expected: &[u8], when: &str| -> Result<Vec<u8>, String> {
        let log = open(directory);
        let partition = partition(&log, PartitionOptions::default());
        let found = read_all(&partition).map_err(|error| format!("{when}: {error}"))?;
        if found != expected {
            return Err(format!("{when}: {} bytes instead of {}", found.len(), expected.len()));
        }
        let file = std::fs::read(&path).map_err(|error| error.to_string())?;
        if file.iter().skip(found.len()).any(|byte| *byte != 0) {
            return Err(format!("{when}: something still stands behind the end"));
        }
        Ok(file)
    };
    let first = look(&expected, "after the first start")?;
    let second = look(&expected, "after the second start")?;
    if first != second {
        return Err("the second start changed the file".to_owned());
    }
    // As long as the batch that was lost, so that the bytes behind that one would now stand in the right place.
    let mut next = log.batches.get(whole).or(log.batches.last()).cloned().unwrap_or_default();
    next[34] ^= 1;
    seal(&mut next);
    {
        let log = open(directory);
        let partition = partition(&log, PartitionOptions::default());
        partition.append(&mut next).map_err(|error| format!("the append afterwards: {error}"))?;
        settle(&partition);
    }
    look(&[expected, next].concat(), "after the append").map(|_| ())
}
