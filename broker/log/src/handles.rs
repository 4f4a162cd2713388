//! The budget of open segments: one for the whole process, derived from its limits of open files and of mappings. When
//! the budget is used up, the log closes the least recently used segment (clock algorithm) and opens it again when
//! needed.
//!
//! Promises: a segment is closed only if no reader holds it, all its bytes are durable, and the knowledge about it is
//! on the disk or kept outside of it. The budget holds no lock while it closes or writes a file.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::partition::{PartitionLog, Slot};

/// The budget if the limits of the process are unlimited.
const OPEN_MAX: usize = 1 << 20;
const OPEN_MIN: usize = 16;
/// The kernel's default limit of mappings.
const MAPS_DEFAULT: usize = 65_530;
/// How long a caller waits for a segment to become closable, and the time between two attempts.
const TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(1);
/// Most segments checked before the caller waits.
const ATTEMPTS_MAX: usize = 4096;

/// The budget of open segments, and all open segments in clock order.
#[derive(Debug)]
pub(crate) struct Handles {
    max: usize,
    /// Open segments, including those that a partition has closed while readers still hold them.
    open: AtomicUsize,
    clock: Mutex<VecDeque<Entry>>,
}

/// An open segment and its partition.
#[derive(Debug)]
struct Entry {
    partition: Weak<PartitionLog>,
    slot: Weak<Slot>,
}

/// The result of an attempt to close a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseResult {
    /// The segment is closed now, or was closed before.
    Closed,
    /// It was used since the last attempt, or is in use.
    Busy,
    /// It has bytes that are not durable yet.
    Dirty,
}

/// The right to have one segment open; dropping it gives the right back.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Handles>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Handles {
    /// The budget of a directory that may have `max` segments open; 0 for the shared budget of the process.
    pub(crate) fn of(max: usize) -> Arc<Self> {
        static AUTOMATIC: OnceLock<Arc<Handles>> = OnceLock::new();
        match max {
            0 => Arc::clone(AUTOMATIC.get_or_init(|| Arc::new(Self::new(automatic_max())))),
            max => Arc::new(Self::new(max)),
        }
    }

    fn new(max: usize) -> Self {
        Self { max, open: AtomicUsize::new(0), clock: Mutex::default() }
    }

    /// How many segments are open.
    pub(crate) fn open_segments(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Makes room for one more open segment. If none can be closed, it exceeds the budget by some segments, then waits
    /// for the flusher.
    pub(crate) fn admit(self: &Arc<Self>) -> io::Result<Permit> {
        let mut begun = None;
        loop {
            if self.take(self.max) || (self.close_one() && self.take(self.max)) || self.take(self.overdraft_max()) {
                return Ok(Permit(Arc::clone(self)));
            }
            if begun.get_or_insert_with(Instant::now).elapsed() > TIMEOUT {
                return Err(io::Error::from_raw_os_error(libc::EMFILE));
            }
            std::thread::sleep(POLL);
        }
    }

    fn overdraft_max(&self) -> usize {
        self.max + self.max / 4 + 8
    }

    fn take(&self, max: usize) -> bool {
        let more = |open| (open < max).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Adds an open segment to the clock.
    pub(crate) fn enter(&self, partition: &Weak<PartitionLog>, slot: &Arc<Slot>) {
        self.clock().push_back(Entry { partition: Weak::clone(partition), slot: Arc::downgrade(slot) });
    }

    /// Goes round the clock until it has closed a segment. Returns false if it could close none.
    fn close_one(&self) -> bool {
        // The first turn clears the marks of use, the second turn closes.
        let attempts = (self.clock().len() * 2).min(ATTEMPTS_MAX);
        for _ in 0..attempts {
            let Some(entry) = self.clock().pop_front() else { return false };
            // The partition is gone, and its segments with it.
            let (Some(partition), Some(slot)) = (entry.partition.upgrade(), entry.slot.upgrade()) else { continue };
            match partition.close_slot(&slot) {
                CloseResult::Closed => return true,
                CloseResult::Busy => {}
                CloseResult::Dirty => partition.flush_soon(),
            }
            self.clock().push_back(entry);
        }
        false
    }

    fn clock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.clock.lock()
    }
}

/// Half of the files and half of the mappings that the process may have: connections need the rest.
fn automatic_max() -> usize {
    raise_descriptor_limit();
    let files = getrlimit(Resource::Nofile).current.map_or(OPEN_MAX, |limit| limit as usize);
    (files / 2).min(maps_max()).clamp(OPEN_MIN, OPEN_MAX)
}

/// How many segments may be mapped at the same time.
pub(crate) fn maps_max() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
        text.trim().parse().unwrap_or(MAPS_DEFAULT) / 2
    })
}

/// Raises the soft limit of open files to the hard limit.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
}
