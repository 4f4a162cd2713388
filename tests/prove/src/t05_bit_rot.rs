//! T5: one bit flips in a file at rest. The broker starts, damaged batches answer an error and are never delivered,
//! and everything else is there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use ottla_tests::Broker;
use ottla_tests::connection::Connection;
use ottla_wire::ErrorCode;

use crate::content::first_batch;
use crate::image::{Image, quick_directory};
use crate::metadata::COPIES;
use crate::report::Outcome;
use crate::run::Setting;
use crate::seed::Seed;
use crate::workload::{Producer, Stopped};

const TOPIC: &str = "t";
const PARTITIONS: i32 = 12;
/// Small segments, so that most are closed and are read with their index files.
const SEGMENT_BYTES: &str = "40000";
const BATCHES: usize = 120;
/// Starts on the same data with other damage each time; then other data is made.
const STARTS: u64 = 20;

/// A data directory at rest, and what it holds.
struct Rest {
    image: Image,
    /// The batches of each partition, in order.
    batches: Vec<Vec<Batch>>,
}

struct Batch {
    first: i64,
    next: i64,
    bytes: Vec<u8>,
}

pub(crate) fn run(setting: &Setting) -> Outcome {
    let mut outcome = Outcome::default();
    let mut kinds = Kinds::default();
    setting.each(&mut outcome, STARTS * PARTITIONS as u64, |seed, cases, outcome| {
        let mut random = Seed::new(seed);
        let rest = Rest::new(setting, seed, outcome);
        for start in 1..=cases.div_ceil(PARTITIONS as u64) {
            if setting.is_decided(outcome) {
                return;
            }
            rest.start(setting, &mut random, (seed, start * PARTITIONS as u64), outcome, &mut kinds);
        }
    });
    let Kinds { log, index, state, metadata } = kinds;
    outcome
        .notes
        .push(format!("flipped: {log} in logs, {index} in indexes, {state} in state files, {metadata} in metadata"));
    outcome
}

#[derive(Default)]
struct Kinds {
    log: u64,
    index: u64,
    state: u64,
    metadata: u64,
}

impl Rest {
    fn new(setting: &Setting, seed: u64, outcome: &mut Outcome) -> Rest {
        let directory = quick_directory();
        let data = directory.path().join("data");
        // Made by a sound broker: the canary has to show itself when it reads.
        let mut broker = Setting { canary: None, ..setting.clone() }.broker().data_dir(&data).start();
        broker.create_topic(TOPIC, PARTITIONS, &[("internal.segment.bytes", SEGMENT_BYTES)]);
        for partition in 0..PARTITIONS {
            let mut producer = Producer::new(partition as u32, TOPIC, partition, 1_500, seed);
            let ended = producer.send(broker.address(), BATCHES);
            assert!(matches!(ended, Stopped::Told), "{ended:?}");
            outcome.acknowledged += producer.made();
        }
        let batches = (0..PARTITIONS).map(|partition| batches(&broker, partition)).collect();
        assert!(broker.terminate().success(), "a clean end");
        Rest { image: Image::of(&data), batches }
    }

    /// Flips one bit in each partition, starts, reads everything.
    fn start(
        &self,
        setting: &Setting,
        random: &mut Seed,
        (seed, cases): (u64, u64),
        outcome: &mut Outcome,
        kinds: &mut Kinds,
    ) {
        let directory = quick_directory();
        let data = directory.path().join("data");
        let mut image = self.image.clone();
        let mut flips = Vec::new();
        for partition in 0..PARTITIONS {
            let folder = PathBuf::from(format!("log/{TOPIC}-{partition}"));
            let files: Vec<PathBuf> = image.files.keys().filter(|path| path.starts_with(&folder)).cloned().collect();
            // Logs more often than the rest, which is small.
            let logs: Vec<_> = files.iter().filter(|path| path.extension().is_some_and(|it| it == "log")).collect();
            let path = if random.one_in(2) { (*random.pick(&logs)).clone() } else { random.pick(&files).clone() };
            match path.extension().and_then(|it| it.to_str()) {
                Some("log") => kinds.log += 1,
                Some("index") => kinds.index += 1,
                _ => kinds.state += 1,
            }
            flips.push(flip(&mut image, path, random));
        }
        if random.one_in(8) {
            kinds.metadata += 1;
            let copy = *random.pick(&COPIES);
            flips.push(flip(&mut image, PathBuf::from(copy), random));
            outcome.cases += 1;
        }
        image.restore(&data);
        outcome.cases += PARTITIONS as u64;
        let Ok(broker) = catch_unwind(AssertUnwindSafe(|| setting.broker().data_dir(&data).start())) else {
            outcome.violation(seed, cases, format!("the broker does not start, flipped: {flips:?}"));
            return;
        };
        for partition in 0..PARTITIONS {
            let flipped = &flips[partition as usize];
            if let Err(wrong) = self.read(&broker, partition, flipped) {
                outcome.violation(seed, cases, format!("{flipped:?}: {wrong}"));
            }
        }
    }

    fn read(&self, broker: &Broker, partition: i32, flipped: &Flip) -> Result<(), String> {
        let mut socket = Connection::open(broker.address()).map_err(|error| error.to_string())?;
        let truth = &self.batches[partition as usize];
        let damaged = self.damaged(partition, flipped);
        let (mut at, mut refused) = (0, Vec::new());
        while let Some(due) = truth.get(at) {
            let mut fetched = socket.fetch(TOPIC, partition, due.first, 0);
            if fetched.is_err() {
                // The header of an answer had left when the damage was found.
                socket = Connection::open(broker.address()).map_err(|error| error.to_string())?;
                fetched = socket.fetch(TOPIC, partition, due.first, 0);
            }
            let fetched = fetched.map_err(|error| format!("offset {}: {error}", due.first))?;
            if fetched.code != ErrorCode::None {
                if !matches!(fetched.code, ErrorCode::CorruptMessage | ErrorCode::KafkaStorageError) {
                    return Err(format!("offset {} answers {:?}", due.first, fetched.code));
                }
                refused.push(at);
                at += 1;
                continue;
            }
            let mut rest = fetched.bytes.as_slice();
            let before = at;
            while let Some(due) = truth.get(at).filter(|_| !rest.is_empty()) {
                match rest.strip_prefix(due.bytes.as_slice()) {
                    Some(behind) => rest = behind,
                    None if due.bytes.starts_with(rest) => break,
                    None => return Err(format!("other bytes than were sent from offset {} on", due.first)),
                }
                at += 1;
            }
            if at == before {
                return Err(format!("nothing at offset {} of {}", due.first, truth.last().map_or(0, |last| last.next)));
            }
        }
        match (damaged, refused.as_slice()) {
            (None, []) => Ok(()),
            (Some(damaged), [only]) if damaged == *only => Ok(()),
            // The bit may lie where it changes nothing.
            (Some(_), []) => Err("the damage was not noticed although every byte was compared".to_owned()),
            (damaged, refused) => Err(format!("batch {damaged:?} is damaged, {refused:?} are refused")),
        }
    }

    /// Which batch of the partition has the flipped bit.
    fn damaged(&self, partition: i32, flipped: &Flip) -> Option<usize> {
        let name = flipped.path.file_name()?.to_str()?;
        let base: i64 = name.strip_suffix(".log")?.parse().ok()?;
        let batches = &self.batches[partition as usize];
        let first = batches.iter().position(|batch| batch.first == base)?;
        let mut end = 0;
        batches[first..]
            .iter()
            .position(|batch| {
                end += batch.bytes.len();
                flipped.byte < end
            })
            .map(|place| first + place)
    }
}

/// A bit that was flipped.
#[derive(Debug)]
pub(crate) struct Flip {
    path: PathBuf,
    byte: usize,
    #[expect(dead_code, reason = "printed")]
    bit: u64,
}

fn flip(image: &mut Image, path: PathBuf, random: &mut Seed) -> Flip {
    let (mut byte, bit) = (0, random.within(0..8));
    if let Some(bytes) = image.files.get(&path).filter(|bytes| !bytes.is_empty()) {
        byte = random.within(0..bytes.len() as u64) as usize;
    }
    flip_at(image, path, byte, bit)
}

/// Flips one bit; a file that is not so long stays as it is.
pub(crate) fn flip_at(image: &mut Image, path: PathBuf, byte: usize, bit: u64) -> Flip {
    if let Some(flipped) = image.files.get_mut(&path).and_then(|bytes| bytes.get_mut(byte)) {
        *flipped ^= 1 << bit;
    }
    Flip { path, byte, bit }
}

/// Every batch of a partition of a sound broker.
fn batches(broker: &Broker, partition: i32) -> Vec<Batch> {
    let mut socket = Connection::open(broker.address()).expect("a connection");
    let (mut found, mut next) = (Vec::new(), 0);
    loop {
        let fetched = socket.fetch(TOPIC, partition, next, 0).expect("an answer");
        assert_eq!(fetched.code, ErrorCode::None);
        if next >= fetched.high_watermark {
            return found;
        }
        let mut rest = fetched.bytes.as_slice();
        while let Ok(raw) = first_batch(rest) {
            next = raw.last_offset + 1;
            found.push(Batch { first: raw.base_offset, next, bytes: raw.bytes.to_vec() });
            rest = &rest[raw.bytes.len()..];
        }
    }
}
