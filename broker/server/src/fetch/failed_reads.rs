//! What of a partition could not be read: ranges whose bytes the disk refused when they were to be sent.
//!
//! By then the head of the answer had left, so nobody could be told. The next fetch is: it gets an error for as long as
//! reading the range again fails, which is tried once a second and off the network threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ottla_log::FileRange;

/// Between two attempts to read a range again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Most ranges that are remembered; the oldest makes room.
const RANGES_MAX: usize = 64;
/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

/// The ranges of one partition.
#[derive(Debug, Default)]
pub struct FailedReads {
    any: AtomicBool,
    ranges: Mutex<Vec<Failed>>,
}

#[derive(Debug)]
struct Failed {
    range: FileRange,
    at: Instant,
}

/// What is known of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// Nothing speaks against it.
    Yes,
    /// It has failed a moment ago.
    No,
    /// It has failed, and should be tried again by somebody who may wait.
    Maybe,
}

impl FailedReads {
    /// Remembers a range that could not be read.
    pub fn note(&self, range: &FileRange) {
        let mut ranges = self.ranges();
        ranges.retain(|failed| !is_same(&failed.range, range));
        if ranges.len() >= RANGES_MAX {
            ranges.remove(0);
        }
        ranges.push(Failed { range: range.clone(), at: Instant::now() });
        self.any.store(true, Ordering::Release);
    }

    /// What is known of a range, without waiting for anything.
    pub fn look_up(&self, range: &FileRange) -> Readable {
        if !self.any.load(Ordering::Acquire) {
            return Readable::Yes;
        }
        let ranges = self.ranges();
        let mut overlapping = ranges.iter().filter(|failed| overlaps(&failed.range, range)).peekable();
        if overlapping.peek().is_none() {
            Readable::Yes
        } else if overlapping.any(|failed| failed.at.elapsed() < RETRY_INTERVAL) {
            Readable::No
        } else {
            Readable::Maybe
        }
    }

    /// Reads what has failed in `range` again. True: it can be read now. Blocks on the disk.
    pub fn try_again(&self, range: &FileRange) -> bool {
        let overlapping = |failed: &&Failed| overlaps(&failed.range, range);
        let failed: Vec<FileRange> = self.ranges().iter().filter(overlapping).map(|it| it.range.clone()).collect();
        let mut all = true;
        for failed in failed {
            let works = read(&failed);
            all &= works;
            let mut ranges = self.ranges();
            if works {
                ranges.retain(|it| !is_same(&it.range, &failed));
                self.any.store(!ranges.is_empty(), Ordering::Release);
            } else if let Some(it) = ranges.iter_mut().find(|it| is_same(&it.range, &failed)) {
                it.at = Instant::now();
            }
        }
        all
    }

    fn ranges(&self) -> MutexGuard<'_, Vec<Failed>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same(one: &FileRange, other: &FileRange) -> bool {
    one.base_offset == other.base_offset && one.next_offset == other.next_offset
}

fn overlaps(one: &FileRange, other: &FileRange) -> bool {
    one.base_offset < other.next_offset && other.base_offset < one.next_offset
}

fn read(range: &FileRange) -> bool {
    let mut buffer = vec![0; READ_BYTES.min(range.bytes as usize)];
    let end = range.position + u64::from(range.bytes);
    let mut position = range.position;
    while position < end {
        let bytes = buffer.len().min((end - position) as usize);
        let Some(piece) = buffer.get_mut(..bytes) else { return false };
        if range.segment.read_exact_at(position, piece).is_err() {
            return false;
        }
        position += bytes as u64;
    }
    true
}
